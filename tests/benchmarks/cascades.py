"""Do cascades pay? AutoMix, FrugalGPT, cascade routing and one-shot routing on real tables.

    OMP_NUM_THREADS=1 python tests/benchmarks/cascades.py --json [--quick]

Everything is fitted, thresholded and selected on training rows and reported on held-out rows with
95 % bootstrap intervals. Costs include every rejected answer and every verification.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import adaptive_k
import guarantee
from cascade_noise import noisy_routerbench
from cascade_tables import (
    PAIR,
    Table,
    local_tables,
    pareto,
    predict,
    reflection_table,
    scored_table,
    votes_tables,
    zeroeval_table,
)
from cascade_target import best_single_target

from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.evaluation import (
    Resampling,
    Sweep,
    cost_quality_area,
    cost_quality_area_interval,
    region_ibc_lift_interval,
    replay,
    single_sweep,
    utility_sweep,
)
from langchain_llm_router.policies import (
    AutoMix,
    BudgetedRouting,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Pomdp,
)
from langchain_llm_router.types import Arm, Attempt, RoutingOptions, Situation
from tests.support.shared_data import shared_data_folder


def lambdas(outcomes: Outcomes, n: int) -> np.ndarray:
    """From "money is no object" to "hardly any": λ × the dearest cost is quality it must bring.

    Gains between the dearest two decide below 1, those among cheaper candidates above.
    """
    cost = outcomes.mean_cost_usd
    tail = np.geomspace(1.1, max(1.2, 0.5 * cost.max() / cost.min()), n - 2 * n // 3)
    return np.concatenate([np.linspace(0.01, 1.0, 2 * n // 3), tail]) / cost.max()


def policy_sweep(policies, table: Table, costs: np.ndarray, predicted=None) -> Sweep:
    """Replay several policies on one table."""
    done = [
        replay(
            policy, predicted, table.outcomes,
            evaluations=table.evaluations if policy.verifies else None, expected_cost_usd=costs,
        )
        for policy in policies
    ]  # fmt: skip
    return Sweep(
        np.arange(len(done), dtype=float),
        np.array([each.quality for each in done]),
        np.array([each.cost_usd for each in done]),
    )


def frugal_policies(train: Table, n_budgets: int, grid: int) -> list[FrugalCascade]:
    """One cascade per budget between the cheapest and the dearest candidate."""
    cost = train.outcomes.mean_cost_usd
    policies = []
    for budget in np.linspace(cost.min(), cost.max(), n_budgets + 1)[1:]:
        frugal = FrugalCascade(max_length=3, n_grid=grid)
        policies.append(frugal.fit(train.outcomes, train.evaluations, max_cost_usd=float(budget)))
    return policies


def sweeps_of(train: Table, test: Table, *, n: int) -> dict[str, Sweep]:
    """The curve of every method on the test rows."""
    costs = train.outcomes.mean_cost_usd
    knobs = lambdas(train.outcomes, n)
    inside, guess = predict(train, test)
    k = train.n_samples
    solved = Pomdp(n_samples=k).fit(train.outcomes, train.evaluations)
    aware = Pomdp(n_samples=k).fit(train.outcomes, train.evaluations, predicted=inside)
    article = Pomdp(n_samples=k, mode="article").fit(train.outcomes, train.evaluations)
    found = {
        "AutoMix+T": policy_sweep(
            [ConfidenceThreshold(threshold=max(0.0, (c + 0.5) / k)) for c in range(-1, k + 1)],
            test,
            costs,
        ),
        "AutoMix+POMDP": policy_sweep([solved.with_lambda(x) for x in knobs], test, costs),
        "AutoMix+POMDP, query-aware": policy_sweep(
            [aware.with_lambda(x) for x in knobs], test, costs, guess
        ),
        "article's rule": policy_sweep([article.with_lambda(x) for x in knobs], test, costs),
        "FrugalGPT": policy_sweep(frugal_policies(train, max(4, n // 3), 20), test, costs),
    }
    if len(costs) == 2:
        union = [
            AutoMix(n_samples=k, lambda_=float(x)).fit(train.outcomes, train.evaluations)
            for x in knobs
        ]
        found["AutoMix repository"] = policy_sweep(union, test, costs)
    for name, chain in (("optimal cascade", True), ("cascade routing", False)):
        policy = best_depth(train, inside, knobs, chain=chain)
        quality, cost = policy.rehearse(
            knobs, test.outcomes, test.evaluations, predicted=guess, expected_cost_usd=costs
        )
        found[name] = Sweep(knobs, quality, cost)
    found["one-shot routing"] = utility_sweep(
        guess, test.outcomes, expected_cost_usd=costs, n_points=n
    )
    true, paid = test.outcomes.quality, test.outcomes.cost_usd
    found["oracle"] = utility_sweep(true, test.outcomes, expected_cost_usd=paid, n_points=n)
    return found


def best_depth(train: Table, predicted, knobs, *, chain: bool) -> CascadeRouting:
    """Cascade routing with the depth that has the largest area on training rows."""
    costs, quality = train.outcomes.mean_cost_usd, train.outcomes.quality.mean(axis=0)
    best, largest = None, -np.inf
    # A chain cannot skip: a limit would keep it from the dear candidates at its end.
    for depth in (None,) if chain else dict.fromkeys((2, min(5, len(costs)))):
        policy = CascadeRouting(chain=chain, max_depth=depth)
        policy.fit(train.outcomes, train.evaluations, predicted=predicted)
        reached, spent = policy.rehearse(
            knobs, train.outcomes, train.evaluations, predicted=predicted
        )
        area = cost_quality_area(spent.mean(axis=1), reached.mean(axis=1), costs, quality)
        if area > largest:
            best, largest = policy, area
    return best


def compare(table: Table, *, n: int, resampling: Resampling) -> dict:
    """Every method on one table: ΔIBC over regions, area, and area gained over mixing."""
    parts = split_indices(len(table.outcomes), [0.5, 0.5], seed=0, groups=table.together)
    train, test = (table.take(rows) for rows in parts)
    if test.together is not None:
        resampling = replace(resampling, clusters=test.together)
    rows = {}
    singles = single_sweep(test.outcomes)
    for name, sweep in sweeps_of(train, test, n=n).items():
        lift = region_ibc_lift_interval(sweep, test.outcomes, resampling=resampling)
        area = cost_quality_area_interval(sweep, test.outcomes, resampling=resampling)
        gain = cost_quality_area_interval(
            sweep, test.outcomes, baseline=singles, resampling=resampling
        )
        rows[name] = {
            "delta_ibc_percent": shown(lift, 100),
            "area_percent": shown(area, 100),
            "area_over_single_models": shown(gain, 100),
        }
    quality = dict(
        zip(table.outcomes.candidates, test.outcomes.quality.mean(axis=0).tolist(), strict=True)
    )
    return {"n_train": len(train.outcomes), "n_test": len(test.outcomes), "singles": quality,
            "methods": rows}  # fmt: skip


def shown(interval, scale: float = 1.0) -> list[float]:
    """[value, low, high], rounded."""
    return [round(scale * x, 3) for x in (interval.value, interval.low, interval.high)]


def budget_on_new_rows(table: Table, *, n_splits: int) -> dict:
    """Does the average stay at the budget on rows that neither λ nor the estimator saw?

    Budgets that bind in every split: from twice the cheapest candidate's cost to what the best
    predicted candidates cost. Mean, smallest and largest spending over budget of the splits.
    """
    found: dict[str, list[float]] = {}
    for seed in range(n_splits):
        parts = split_indices(len(table.outcomes), [0.5, 0.5], seed=seed)
        train, test = (table.take(rows) for rows in parts)
        inside, guess = predict(train, test)
        costs = train.outcomes.mean_cost_usd
        top = costs[inside.argmax(axis=1)].mean()
        for i, budget in enumerate(np.geomspace(2 * costs.min(), 0.9 * top, 4)):
            policy = BudgetedRouting(float(budget)).fit(
                inside, costs, spent_usd=train.outcomes.cost_usd
            )
            done = replay(policy, guess, test.outcomes, expected_cost_usd=costs)
            found.setdefault(f"budget {i + 1}", []).append(done.cost_usd.mean() / budget)
    return {
        name: {
            "spent_over_budget_mean": round(float(np.mean(ratios)), 3),
            "spent_over_budget_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
        for name, ratios in found.items()
    }


def speed() -> dict:
    """Fit, solve and look-up times: five candidates, k = 8; and cascade routing with eleven."""
    rng = np.random.default_rng(0)
    figures = {}
    for n, k in ((5, 8), (11, 2)):
        names = [f"m{j}" for j in range(n)]
        quality = (rng.random((1500, n)) < np.linspace(0.4, 0.9, n)) * 1.0
        cost = np.tile(np.geomspace(1e-4, 1e-2, n), (1500, 1))
        outcomes = Outcomes([f"q{i}" for i in range(1500)], names, quality, cost)
        said = SelfEvaluations(names, rng.binomial(k, 0.2 + 0.6 * quality) / k, cost * 0.1)
        arms = tuple(Arm(m, cost_usd=float(c)) for m, c in zip(names, cost[0], strict=True))
        seen = (Attempt(candidate="m0", cost_usd=1e-4, verified=True, confidence=0.5),)
        if n == 5:
            start = time.perf_counter()
            policy = Pomdp(n_samples=8).fit(outcomes, said)
            figures["pomdp_fit_s"] = time.perf_counter() - start
            times = []
            for x in np.linspace(1, 40, 20):
                start = time.perf_counter()
                policy.decide(Situation("q", arms, seen, RoutingOptions(lambda_=float(x))))
                times.append(time.perf_counter() - start)
            figures["pomdp_solve_new_lambda_s"] = float(np.median(times))
        else:
            policy = CascadeRouting(max_depth=5, first_step=1.0).fit(outcomes, said)
        situation = Situation("q", arms, seen, RoutingOptions(lambda_=20.0))
        policy.decide(situation)
        times = []
        for _ in range(300):
            start = time.perf_counter()
            policy.decide(situation)
            times.append(time.perf_counter() - start)
        key = "pomdp_lookup_us" if n == 5 else "cascade_routing_11_models_depth_5_us"
        figures[key] = 1e6 * float(np.median(times))
    return {name: round(value, 6) for name, value in figures.items()}


def printed(results: dict) -> str:
    """The comparison as a Markdown table: ΔIBC and area over single models, in percent points."""
    lines = ["| table | method | ΔIBC % | area % | over single models |"]
    lines.append("| - | - | - | - | - |")
    for name, result in results["tables"].items():
        for method, row in result["methods"].items():
            cells = [f"{value:.1f} [{low:.1f}, {high:.1f}]" for value, low, high in row.values()]
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run all parts and print a table, then (with --json) one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="fewer knobs, splits and resamples")
    parser.add_argument("--only", metavar="TEXT", help="compare the tables named so, nothing else")
    args = parser.parse_args()
    folder = shared_data_folder()
    if folder is None:
        sys.exit("The real tables are not at ../shared/data (or $LLM_ROUTER_SHARED_DATA).")
    started = time.perf_counter()
    quick = args.quick
    resampling = Resampling(n_resamples=60 if quick else 500)
    zeroeval = zeroeval_table(folder)
    ladder = zeroeval.select(pareto(zeroeval.outcomes.take(np.arange(0, 2840, 2))))
    pair = renamed(zeroeval.select(PAIR), "zeroeval: 4o-mini>3.5-sonnet")
    if quick:
        tables = [votes_tables(folder)[0], local_tables()[0], pair]
    else:
        tables = [
            *votes_tables(folder),
            reflection_table(folder),
            *local_tables(),
            scored_table(folder),
            pair,
            renamed(ladder, f"zeroeval: {len(ladder.outcomes.candidates)} priced models"),
        ]
    results: dict = {
        "tables": {
            table.name: compare(table, n=7 if quick else 30, resampling=resampling)
            for table in tqdm(tables, desc="tables", file=sys.stderr)
            if args.only is None or args.only in table.name
        },
    }
    if args.only is None:
        results |= other_parts(folder, zeroeval, ladder, resampling, quick=quick)
    results["seconds"] = round(time.perf_counter() - started, 1)
    print(printed(results))
    if args.json:
        print(json.dumps(results))


def other_parts(
    folder: Path, zeroeval: Table, ladder: Table, resampling: Resampling, *, quick: bool
) -> dict:
    """What is not a comparison of methods on a table."""
    return {
        "budgeted_routing_on_new_rows": budget_on_new_rows(ladder, n_splits=1 if quick else 10),
        "zeroeval_target": best_single_target(zeroeval, quick=quick, resampling=resampling),
        "routerbench_noise": noisy_routerbench(folder, quick=quick),
        "guarantee": guarantee.report(8 if quick else 500),
        "adaptive_k": adaptive_k.every_source(None if quick else folder, quick=quick),
        "speed": speed(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }


def renamed(table: Table, name: str) -> Table:
    """The same table under another name."""
    return replace(table, name=name)


if __name__ == "__main__":
    main()
