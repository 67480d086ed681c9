"""How cheaply is the best single model's accuracy reached on held-out ZeroEval questions?

Per split: 40 % of the questions fit every policy at every knob, 20 % select, 40 % report. Selected
is the cheapest (policy, knob) whose accuracy on the selection rows is at least the best single
model's; without any, that model itself. The dataset-mean router knows which data set a question is
from and asks the candidate with the best mean quality - λ·cost there, λ selected likewise.
"""

import sys

import numpy as np
from cascade_tables import Table, pareto, predict
from tqdm import tqdm

from langchain_llm_router.data import split_indices
from langchain_llm_router.evaluation import Resampling, replay, weighted_bootstrap
from langchain_llm_router.policies import CascadeRouting, FrugalCascade, Pomdp

CASCADES = ("POMDP", "POMDP, query-aware", "FrugalGPT", "cascade routing")


def dataset_mean_rows(fit: Table, tables: list[Table], knobs) -> list[list[tuple]]:
    """Per table and λ: quality and cost of every row."""
    groups = np.array(fit.outcomes.groups)
    chosen = {}
    for group in np.unique(groups):
        rows = groups == group
        quality = fit.outcomes.quality[rows].mean(axis=0)
        cost = fit.outcomes.cost_usd[rows].mean(axis=0)
        chosen[group] = [(quality - x * cost).argmax() for x in knobs]
    results = []
    for table in tables:
        rows = np.arange(len(table.outcomes))
        columns = np.array([chosen[group] for group in table.outcomes.groups])
        results.append(
            [
                (table.outcomes.quality[rows, columns[:, i]],
                 table.outcomes.cost_usd[rows, columns[:, i]])
                for i in range(len(knobs))
            ]
        )  # fmt: skip
    return results


def cascade_rows(fit: Table, tables: list[Table], knobs, *, quick: bool) -> dict[str, list[list]]:
    """Per method, table and knob: quality and cost of every row."""
    costs = fit.outcomes.mean_cost_usd
    inside, *guesses = predict(fit, *tables)
    pomdp = Pomdp(n_samples=fit.n_samples).fit(fit.outcomes, fit.evaluations)
    aware = Pomdp(n_samples=fit.n_samples).fit(fit.outcomes, fit.evaluations, predicted=inside)
    routing = CascadeRouting(max_depth=4).fit(fit.outcomes, fit.evaluations, predicted=inside)
    budgets = np.linspace(0.15, 0.8, 3 if quick else 8) * costs.max()
    frugal = [
        FrugalCascade(max_length=2 if quick else 3, n_grid=6).fit(
            fit.outcomes, fit.evaluations, max_cost_usd=float(budget)
        )
        for budget in budgets
    ]
    found: dict[str, list[list]] = {name: [] for name in CASCADES}
    for table, guess in zip(tables, guesses, strict=True):
        solved = [pomdp.with_lambda(x) for x in knobs]
        known = [aware.with_lambda(x) for x in knobs]
        for name, policies in zip(CASCADES, (solved, known, frugal), strict=False):
            done = [
                replay(policy, guess, table.outcomes, evaluations=table.evaluations)
                for policy in policies
            ]
            found[name].append([(each.quality, each.cost_usd) for each in done])
        quality, cost = routing.rehearse(
            knobs, table.outcomes, table.evaluations, predicted=guess, expected_cost_usd=costs
        )
        found["cascade routing"].append(list(zip(quality, cost, strict=True)))
    return found


def select(options: list[tuple], bar: np.ndarray, single: tuple) -> int | None:
    """The cheapest option that is at least as good as the bar on average."""
    good = [i for i, (quality, _) in enumerate(options) if quality.mean() >= bar.mean()]
    if len(good) == 0:
        return None
    best = min(good, key=lambda i: options[i][1].mean())
    return best if options[best][1].mean() < single[1].mean() else None


def one_split(table: Table, seed: int, *, quick: bool) -> dict:
    """Every method's held-out rows: quality and cost, next to the best single model's."""
    parts = split_indices(len(table.outcomes), [0.4, 0.2, 0.4], seed=seed)
    fit, choose, test = (table.take(rows) for rows in parts)
    names = pareto(fit.outcomes)
    fit, choose, test = (part.select(names) for part in (fit, choose, test))
    seen = np.concatenate([fit.outcomes.quality, choose.outcomes.quality]).mean(axis=0)
    best = int(seen.argmax())
    costs = fit.outcomes.mean_cost_usd
    knobs = np.geomspace(0.003, 1.0, 10 if quick else 20) / costs.max()
    methods = cascade_rows(fit, [choose, test], knobs, quick=quick)
    methods["dataset-mean router"] = dataset_mean_rows(fit, [choose, test], knobs)
    methods["best cascade"] = [
        [row for name in CASCADES for row in methods[name][part]] for part in (0, 1)
    ]
    bar = choose.outcomes.quality[:, best]
    single = bar, choose.outcomes.cost_usd[:, best]
    reported = {}
    alone = test.outcomes.quality[:, best], test.outcomes.cost_usd[:, best]
    for name, (on_choose, on_test) in methods.items():
        chosen = select(on_choose, bar, single)
        reported[name] = alone if chosen is None else on_test[chosen]
    return {"groups": np.array(test.outcomes.groups), "single": alone, "methods": reported,
            "best": names[best]}  # fmt: skip


def best_single_target(table: Table, *, quick: bool, resampling: Resampling) -> dict:
    """Cost share and accuracy difference to the best single model, pooled and per data set."""
    seeds = range(1 if quick else 10)
    splits = [
        one_split(table, seed, quick=quick) for seed in tqdm(seeds, desc="target", file=sys.stderr)
    ]
    first = splits[0]
    report: dict = {"best_single": first["best"], "n_splits": len(splits)}
    for name in first["methods"]:
        report[name] = {}
        for group in ("pooled", *np.unique(first["groups"])):
            shares, gains = [], []
            for split in splits:
                rows = slice(None) if group == "pooled" else split["groups"] == group
                (q, c), (q0, c0) = split["methods"][name], split["single"]
                shares.append(c[rows].mean() / c0[rows].mean())
                gains.append(q[rows].mean() - q0[rows].mean())
            rows = slice(None) if group == "pooled" else first["groups"] == group
            (q, c), (q0, c0) = first["methods"][name], first["single"]
            report[name][str(group)] = {
                "first_split_cost_share": _ratio(c[rows], c0[rows], resampling),
                "first_split_accuracy_gain": _gain(q[rows] - q0[rows], resampling),
                "mean_cost_share": round(float(np.mean(shares)), 3),
                "cost_share_of_95_percent_of_splits": _middle(shares),
                "mean_accuracy_gain": round(float(np.mean(gains)), 4),
                "accuracy_gain_of_95_percent_of_splits": _middle(gains),
            }
    return report


def _middle(values: list[float]) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).round(4).tolist()


def _ratio(cost, base, resampling: Resampling) -> list[float]:
    found = weighted_bootstrap(lambda w: (w @ cost) / (w @ base), len(cost), resampling)
    return [round(x, 3) for x in (found.value, found.low, found.high)]


def _gain(difference, resampling: Resampling) -> list[float]:
    found = weighted_bootstrap(
        lambda w: (w @ difference) / w.sum(axis=1), len(difference), resampling
    )
    return [round(x, 4) for x in (found.value, found.low, found.high)]
