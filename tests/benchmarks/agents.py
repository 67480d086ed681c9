"""Agents: what is a check of the outcome worth, what effort, and what a choice among five models?

Data: the OpenHands Index, which ships with the package (one run of each model per task), and
MCPMark (39 configurations, 127 tasks, four runs; only numbers derived from it are shown), read from
`shared/data` beside the checkout, as are the texts of the SWE-bench issues. Without them their rows
are left out.

Fixed before the first look: tasks are split into halves, and everything is fitted on one half and
tested on the other, both ways, with seeds 0 to 9. A check of an outcome is right with the named
probability, whether the outcome is good or bad, independently for each run; it is drawn anew for
each seed, and free. Own cost: the rank of the run's cost among the cheap model's training runs, the
cheaper the better. λ is the one at which the cheapest and the best model of the training half are
of equal utility, so a policy gains only above a random mix. POMDP: `Pomdp(likelihood="kde")` on the
models from cheap to dear. fit_router: the contest of the product with `lambda_` as the goal; it
returns the best single model unless it can prove that the router is better. Obeyed: the next model
is asked whenever the check fails. By text: `NearestNeighbors` on the task's text with `Utility`.
Costs that are unknown are replaced by the model's mean. Costs are relative to the best model of
the named ones. Every task is tested once per seed: figures are means over the seeds per task, and
intervals are 95 %, bootstrap over tasks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data import OpenHandsIndex, Outcomes, SelfEvaluations  # noqa: E402
from langchain_llm_router.estimators import NearestNeighbors  # noqa: E402
from langchain_llm_router.evaluation import (  # noqa: E402
    RepeatedRuns,
    Resampling,
    best_single,
    hull_quality,
    oracle,
    random_mix_hull,
    replay,
    weighted_bootstrap,
)
from langchain_llm_router.policies import Pomdp, Utility  # noqa: E402
from langchain_llm_router.training import fit_router  # noqa: E402
from tests.support.shared_data import shared_data_folder  # noqa: E402

SEEDS = range(10)
CHECKS = {"perfect": 1.0, "90 %": 0.9, "80 %": 0.8, "worthless": 0.5}
OWN_COST = "own cost"
README = ROOT / "tests" / "benchmarks" / "README.md"
BEGIN, END = "<!-- agents:begin -->\n", "<!-- agents:end -->"

MAIN = "swe-bench: DeepSeek-V4-Pro, claude-opus-4-8"
PAIRS = (
    ("swe-bench", ("DeepSeek-V4-Pro", "claude-opus-4-8")),
    ("swe-bench", ("MiniMax-M3", "claude-opus-4-8")),
    ("swe-bench", ("DeepSeek-V4-Pro", "claude-fable-5")),
    ("gaia", ("Kimi-K2.6", "GPT-5.5")),
)
# Without claude-fable-5, whose 95.8 % may be contamination.
FIVE = ("DeepSeek-V4-Pro", "MiniMax-M3", "GPT-5.4", "Kimi-K2.6", "claude-opus-4-8")
MCP_EFFORTS = ("gpt-5-low", "gpt-5-medium", "gpt-5-high")
MCP_FIVE = (
    "grok-4-fast",
    "deepseek-v3-2-thinking",
    "gpt-5-medium",
    "gpt-5-2-high",
    "gemini-3-pro-high",
)


@dataclass(frozen=True)
class World:
    """Recorded runs of models, from cheap to dear.

    Attributes:
        name: Name in the table.
        runs: One row per task and run; queries are texts, or ids where there are none.
        task: Number of the task of each row.
        has_text: Whether queries are texts.
        contest: Whether `fit_router` is tried, which takes seconds per fit.
    """

    name: str
    runs: Outcomes
    task: np.ndarray
    has_text: bool
    contest: bool = False

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return int(self.task.max()) + 1

    def per_task(self, values: np.ndarray) -> np.ndarray:
        """Means over the runs of each task."""
        counts = np.bincount(self.task)
        columns = np.atleast_2d(values.T)
        return np.stack([np.bincount(self.task, column) / counts for column in columns], axis=1)


@dataclass
class Method:
    """What a method reached, with `total` as quality and cost, of shape (n_tasks, 2).

    Both are sums over the seeds, and means over the runs of each task.
    """

    name: str
    signal: str
    total: np.ndarray
    chosen: list[str] = field(default_factory=list)
    """The class of the policy that `fit_router` chose on each half; empty for other methods."""

    def add(self, rows: np.ndarray, world: World, quality: np.ndarray, cost: np.ndarray) -> None:
        """Add the runs of one tested half."""
        weight = 1 / np.bincount(world.task)[world.task[rows]]
        np.add.at(self.total, world.task[rows], np.stack([quality, cost], axis=1) * weight[:, None])


def priced(table: Outcomes) -> Outcomes:
    """Replace unknown costs by the model's mean, and order the models from cheap to dear."""
    cost = np.where(np.isnan(table.cost_usd), np.nanmean(table.cost_usd, axis=0), table.cost_usd)
    order = np.argsort(cost.mean(axis=0), kind="stable")
    names = [table.candidates[j] for j in order]
    return Outcomes(table.queries, table.candidates, table.quality, cost, table.groups).select(
        names
    )


def openhands(folder: Path | None) -> list[World]:
    """The pairs and the five models of the OpenHands Index."""
    index = OpenHandsIndex.load().outcomes
    texts: dict[str, str] = {}
    if folder is not None and (folder / "swebench_prompts").exists():
        import pandas as pd

        prompts = pd.read_parquet(folder / "swebench_prompts" / "prompts.parquet")
        texts = dict(zip(prompts.instance_id, prompts.problem_statement, strict=True))
    worlds = []
    for benchmark, names in (*PAIRS, ("swe-bench", FIVE)):
        table = priced(index[benchmark].select(names))
        known = texts and benchmark == "swe-bench"
        queries = [texts[task] for task in table.queries] if known else table.queries
        runs = Outcomes(queries, table.candidates, table.quality, table.cost_usd)
        name = f"{benchmark}: {', '.join(runs.candidates)}"
        task = np.arange(len(runs))
        worlds.append(World(name, runs, task, bool(known), contest=name == MAIN))
    return worlds


def mcpmark(folder: Path) -> list[World]:
    """The efforts of one model, and five models, with four runs per task."""
    import pandas as pd

    tasks = pd.read_parquet(folder / "mcpmark" / "tasks.parquet").set_index("task")
    runs = pd.read_parquet(folder / "mcpmark" / "runs.parquet")
    worlds = []
    for what, names in (("efforts", MCP_EFFORTS), ("models", MCP_FIVE)):
        kept = runs[runs.model.isin(names)]
        wide = kept.pivot(index=["task", "run"], columns="model", values=["success", "cost_usd"])
        keys = [key for key, _ in wide.index]
        table = Outcomes(
            [tasks.instruction[key] for key in keys],
            names,
            wide["success"][list(names)].to_numpy(float),
            wide["cost_usd"][list(names)].to_numpy(float),
            keys,
        )
        table = priced(table)
        number = np.unique(keys, return_inverse=True)[1]
        name = f"mcpmark {what}: {', '.join(table.candidates)}"
        worlds.append(World(name, table, number, has_text=True))
    return worlds


def equal_utility(train: Outcomes) -> float:
    """Return the λ, in quality per USD, at which the cheapest and the best model are equal.

    If the best one costs no more, λ is that at which the dearest model costs a quality of 1.
    """
    quality, cost = train.quality.mean(axis=0), train.mean_cost_usd
    best, cheap = best_single(train), int(cost.argmin())
    gap, price = quality[best] - quality[cheap], cost[best] - cost[cheap]
    return float(gap / price) if gap > 0 and price > 0 else float(1 / cost.max())


def scores_of(world: World, right: float | None, train: np.ndarray, seed: int) -> SelfEvaluations:
    """Return a check's verdicts, or with `right` None the rank of the run's own cost."""
    table = world.runs
    if right is None:
        known = np.sort(table.cost_usd[train], axis=0)
        ranks = [
            np.searchsorted(known[:, j], table.cost_usd[:, j]) / len(train)
            for j in range(len(table.candidates))
        ]
        scores = 1 - np.stack(ranks, axis=1)
    else:
        is_right = np.random.default_rng(1000 + seed).random(table.quality.shape) < right
        scores = np.where(is_right, table.quality, 1 - table.quality)
    return SelfEvaluations(table.candidates, scores, np.zeros(scores.shape))


def obey(table: Outcomes, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ask the next model whenever the check fails; the last one's outcome stands."""
    open_, quality, cost = np.ones(len(table), bool), np.zeros(len(table)), np.zeros(len(table))
    for j in range(len(table.candidates)):
        cost += np.where(open_, table.cost_usd[:, j], 0.0)
        passed = open_ & ((scores[:, j] > 0.5) | (j == len(table.candidates) - 1))
        quality[passed] = table.quality[passed, j]
        open_ &= ~passed
    return quality, cost


Try = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, str]]


def methods(world: World) -> dict[tuple[str, str], Try]:
    """Return by method and signal a function of training rows, test rows and seed."""
    table, found = world.runs, {}

    def pomdp(right: float | None) -> Try:
        def run(train: np.ndarray, test: np.ndarray, seed: int) -> Any:
            scores, known = scores_of(world, right, train, seed), table.take(train)
            levels = 1 if right is not None else 8 if len(table.candidates) == 2 else 3
            policy = Pomdp(equal_utility(known), n_samples=levels, likelihood="kde")
            policy.fit(known, scores.take(train))
            done = replay(policy, None, table.take(test), evaluations=scores.take(test),
                          expected_cost_usd=known.mean_cost_usd)  # fmt: skip
            return done.quality, done.cost_usd, ""

        return run

    def contest(right: float | None) -> Try:
        def run(train: np.ndarray, test: np.ndarray, seed: int) -> Any:
            scores, known = scores_of(world, right, train, seed), table.take(train)
            fitted = fit_router(known, {"check": scores.take(train)}, estimators={},
                                lambda_=equal_utility(known), seed=seed)  # fmt: skip
            router = fitted.router
            done = replay(
                router.policy,
                None,
                table.take(test).select(router.candidates),
                evaluations=scores.take(test).select(router.candidates),
                expected_cost_usd=router.expected_costs,
            )
            return done.quality, done.cost_usd, type(router.policy).__name__

        return run

    def obeyed(right: float) -> Try:
        def run(train: np.ndarray, test: np.ndarray, seed: int) -> Any:
            scores = scores_of(world, right, train, seed).take(test)
            return *obey(table.take(test), scores.confidence), ""

        return run

    def by_text(train: np.ndarray, test: np.ndarray, seed: int) -> Any:
        known, rest = table.take(train), table.take(test)
        predicted = NearestNeighbors().fit(known).predict(rest.queries)
        done = replay(Utility(cost=equal_utility(known)), predicted, rest,
                      expected_cost_usd=known.mean_cost_usd)  # fmt: skip
        return done.quality, done.cost_usd, ""

    for signal, right in {**CHECKS, OWN_COST: None}.items():
        found["POMDP", signal] = pomdp(right)
        if world.contest:
            found["fit_router", signal] = contest(right)
        if right is not None:
            found["obeyed", signal] = obeyed(right)
    if world.has_text:
        found["by text", ""] = by_text
    return found


def try_world(world: World, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Try every method on both halves of every split."""
    rows = []
    for (name, signal), run in tqdm(methods(world).items(), desc=world.name, file=sys.stderr):
        method = Method(name, signal, np.zeros((world.n_tasks, 2)))
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(world.n_tasks)
            first = np.isin(world.task, order[: world.n_tasks // 2])
            for train, test in ((first, ~first), (~first, first)):
                test_rows = np.flatnonzero(test)
                quality, cost, chosen = run(np.flatnonzero(train), test_rows, seed)
                method.add(test_rows, world, quality, cost)
                method.chosen.append(chosen)
        rows.append(summary(world, method, len(seeds)))
    return rows


def summary(world: World, method: Method, n_seeds: int) -> dict[str, Any]:
    """Compare with the best single model, and with a random mix of the same cost."""
    quality, cost = (method.total / n_seeds).T
    single_q, single_c = world.per_task(world.runs.quality), world.per_task(world.runs.cost_usd)
    best = best_single(world.runs)

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> list[float]:
        found = weighted_bootstrap(statistic, world.n_tasks, Resampling())
        return [round(float(x), 4) for x in (found.value, found.low, found.high)]

    def above_mix(weights: np.ndarray) -> np.ndarray:
        drawn = weights / weights.sum(axis=1, keepdims=True)
        q, c, sq, sc = drawn @ quality, drawn @ cost, drawn @ single_q, drawn @ single_c
        mixed = [hull_quality(c[i], random_mix_hull(sc[i], sq[i])) for i in range(len(c))]
        return 100 * (q - np.array(mixed))

    row = {
        "world": world.name,
        "method": method.name,
        "signal": method.signal,
        "quality": round(float(quality.mean()), 4),
        "cost_usd": round(float(cost.mean()), 4),
        "cost_share": interval(lambda w: (w @ cost) / (w @ single_c[:, best])),
        "gain_points": interval(
            lambda w: 100 * (w @ (quality - single_q[:, best])) / w.sum(axis=1)
        ),
        "above_mix_points": interval(above_mix),
    }
    if any(method.chosen):
        names, counts = np.unique(method.chosen, return_counts=True)
        row["chosen"] = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return row


def bounds(world: World) -> dict[str, Any]:
    """The single models and the oracle, honest where there are several runs."""
    table = world.runs
    rows, chosen = np.arange(len(table)), oracle(table)
    repeated = RepeatedRuns.of(table)
    return {
        "world": world.name,
        "n_tasks": world.n_tasks,
        "alone": {
            name: [round(float(table.quality[:, j].mean()), 4),
                   round(float(table.cost_usd[:, j].mean()), 4)]
            for j, name in enumerate(table.candidates)
        },
        "oracle_of_each_run": [round(float(table.quality[rows, chosen].mean()), 4),
                               round(float(table.cost_usd[rows, chosen].mean()), 4)],
        "repeated": None if repeated is None else repeated.as_dict(),
    }  # fmt: skip


def markdown(found: dict[str, Any]) -> str:
    """The tables of all worlds."""
    lines = []
    for bound in found["bounds"]:
        alone = "; ".join(
            f"{name} {100 * q:.1f} % at ${c:.3f}" for name, (q, c) in bound["alone"].items()
        )
        q, c = bound["oracle_of_each_run"]
        lines += ["", f"**{bound['world'].split(':')[0]}**, {bound['n_tasks']} tasks. Alone: "
                      f"{alone}. Best of each run: {100 * q:.1f} % at ${c:.3f}."]  # fmt: skip
        if bound["repeated"] is not None:
            naive, honest = (bound["repeated"][it]["quality"] for it in ("naive", "honest"))
            lines[-1] += (
                f" Best model of each task: {100 * naive:.1f} % if chosen by the runs that count, "
                f"{100 * honest:.1f} % if chosen on one half of them and tested on the other."
            )
        else:
            lines[-1] += " There is one run each, so how much of that is luck is unknown."
        lines += [
            "",
            "| method | check | quality | cost of the best model's | against the best model, "
            "points | above a random mix of the same cost, points |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [line(row) for row in found["rows"] if row["world"] == bound["world"]]
    return "\n".join(lines[1:])


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    share, *ends = row["cost_share"]
    gain, low, high = row["gain_points"]
    above, above_low, above_high = row["above_mix_points"]
    return (
        f"| {row['method']} | {row['signal']} | {100 * row['quality']:.1f} % | "
        f"{share:.0%} ({ends[0]:.0%} to {ends[1]:.0%}) | {gain:+.1f} ({low:+.1f} to {high:+.1f}) | "
        f"{above:+.1f} ({above_low:+.1f} to {above_high:+.1f}) |"
    )


def targets(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The figures that the promises are about, of the POMDP on the main pair."""
    main = {row["signal"]: row for row in rows
            if row["world"] == MAIN and row["method"] == "POMDP"}  # fmt: skip
    found = {}
    for name, signal in (("check90", "90 %"), ("check80", "80 %"), ("worthless", "worthless")):
        found[f"{name}_cost_share"] = main[signal]["cost_share"][0]
        found[f"{name}_gain_points"] = main[signal]["gain_points"][0]
        found[f"{name}_above_mix_points"] = main[signal]["above_mix_points"][0]
    return found


def main() -> None:
    """Print the tables, and as the last line the promised figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print every result as one JSON line")
    parser.add_argument("--quick", action="store_true", help="one seed, without fit_router")
    parser.add_argument("--write", action="store_true", help="fill the table in README.md")
    given = parser.parse_args()
    folder = shared_data_folder()
    worlds = openhands(folder)
    if folder is not None and (folder / "mcpmark").exists():
        worlds += mcpmark(folder)
    else:
        print("MCPMark is left out: it is not in a folder `shared/data` beside the checkout.")
    if given.quick:
        worlds = [World(it.name, it.runs, it.task, it.has_text) for it in worlds]
    seeds = list(SEEDS[:1] if given.quick else SEEDS)
    rows = [row for world in worlds for row in try_world(world, seeds)]
    found = {"bounds": [bounds(world) for world in worlds], "rows": rows}
    table = markdown(found)
    print(json.dumps(found) if given.json else table)
    if given.write:
        head, rest = README.read_text().split(BEGIN)
        README.write_text(f"{head}{BEGIN}{table}\n{END}{rest.split(END, 1)[1]}")
    print(json.dumps(targets(rows)))


if __name__ == "__main__":
    main()
