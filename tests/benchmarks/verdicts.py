"""Whether the verdict of `fit_router` can be bet on, on simulated data whose truth is known.

    python tests/benchmarks/verdicts.py [--json] [--quick]

* Data sets without a signal: neither the text nor a verifier tells which model will be right. A
  verdict "kept" is false there, because choosing at random does as well.
* Data sets with a real saving of some 30 %: 38 % of the questions are easy, their wording tells so,
  and on them the small model and the large one differ in 4 % of all rows, as often one way as the
  other. A verifier, in half of the data sets, adds nothing.
* The power curve of such data for targets of 1, 2 and 3 points, and the advice "about N more
  questions" beside it.
* Every router is then tried on fresh questions, which gives its true value.

`--real` does the same on ZeroEval: 200, 400 or 1,000 of its questions, and the rest as truth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

# Every worker has a core; several threads each would wait for one another three quarters of it.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.zeroeval import ZeroEval
from langchain_llm_router.evaluation import Exam, Goal
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import Fitted, fit_router
from langchain_llm_router.training.contenders import CHEAP_ESTIMATORS, Tables
from langchain_llm_router.training.contest import Contest
from langchain_llm_router.types.progress import Progress
from langchain_llm_router.verification import same_answer

SYLLABLES = ["ba", "do", "ka", "lu", "mi", "no", "pe", "ra", "si", "tu", "ve", "zo"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES[:3]]
EASY, DIFFER = 0.38, 0.04
N_FRESH = 2_000
POOL = ("gemini-1.5-flash", "deepseek-v2.5", "gpt-4o-mini", "llama-3.1-70b", "claude-3.5-sonnet")


@dataclass(frozen=True)
class World:
    """A population of questions.

    Attributes:
        signal: Whether the wording tells easy questions from hard ones.
        n_models: Number of candidates, from cheap to expensive.
        gap: Quality of the best minus that of the cheapest, without a signal.
        verified: Whether there is a verifier, whose scores are noise.
        seed: Seed of the population's prices.
    """

    signal: bool
    n_models: int
    gap: float
    verified: bool
    seed: int

    def draw(
        self, n: int, seed: int, *, expected: bool = False
    ) -> tuple[Outcomes, dict[str, SelfEvaluations]]:
        """Draw questions with the quality of every candidate, or its expectation, and the cost."""
        rng = np.random.default_rng((self.seed, seed))
        prices = np.geomspace(1e-4, 2e-3, self.n_models)
        cost = prices * rng.lognormal(0, 0.5, (n, self.n_models))
        names = tuple(f"model-{j}" for j in range(self.n_models))
        easy = rng.random(n) < EASY
        kinds = np.where(easy, "sum of", "proof of") if self.signal else np.full(n, "about")
        texts = [f"{kind} {' '.join(rng.choice(WORDS, 10))}" for kind in kinds]
        levels = self._levels(easy)
        if expected:
            quality = levels
        else:
            quality = self._with_signal(easy, rng) if self.signal else self._noise(levels, rng)
        evaluations = {}
        if self.verified:
            scores = rng.beta(4, 2, (n, self.n_models))
            evaluations["self"] = SelfEvaluations(names, scores, np.full_like(scores, 1e-5))
        return Outcomes(texts, names, quality, cost), evaluations

    def _levels(self, easy: Any) -> Any:
        """Return the probability that each candidate's answer is right."""
        if not self.signal:
            return np.tile(np.linspace(0.85 - self.gap, 0.85, self.n_models), (len(easy), 1))
        levels = np.repeat(np.where(easy, 0.95, 0.8 * 0.55)[:, None], self.n_models, axis=1)
        levels[:, -1] = np.where(easy, 0.95, 0.8)
        differ = DIFFER / EASY
        levels[easy, 0] = levels[easy, -1] = (1 - differ) * 0.95 + differ * 0.5
        return levels

    def _noise(self, levels: Any, rng: np.random.Generator) -> Any:
        return (rng.random(levels.shape) < levels).astype(float)

    def _with_signal(self, easy: Any, rng: np.random.Generator) -> Any:
        n = len(easy)
        best = (rng.random(n) < np.where(easy, 0.95, 0.8)).astype(float)
        quality = np.repeat(best[:, None], self.n_models, axis=1)
        for j in range(self.n_models - 1):
            fails = rng.random(n) < 0.45
            quality[:, j] = np.where(~easy & fails, 0.0, best)
        flip, up = easy & (rng.random(n) < DIFFER / EASY), rng.random(n) < 0.5
        quality[flip, 0], quality[flip, -1] = up[flip], ~up[flip]
        return quality


@dataclass(frozen=True)
class Result:
    """One verdict and the truth about its router."""

    kind: str
    n: int
    target: str
    outcome: str
    stated: float
    low: float
    high: float
    true: float
    true_saved: float
    stated_saved: float | None
    saved_low: float | None
    saved_high: float | None
    shipped_true: float
    shipped_low: float | None
    more: int | None
    seconds: float


def true_value(
    router: SavedRouter, table: Outcomes, evaluations: dict[str, SelfEvaluations], best: int
) -> tuple[float, float]:
    """Return the quality above a single model's, and the share of its cost that is saved."""
    done = Exam.of(router, table, evaluations, seen=True).replay()
    assert table.cost_usd is not None
    gap = float((done.quality - table.quality[:, best]).mean())
    return gap, 1 - float(done.cost_usd.mean() / table.cost_usd[:, best].mean())


def judge(
    fitted: Fitted,
    fresh: tuple[Outcomes, dict[str, SelfEvaluations]],
    *,
    kind: str,
    n: int,
    target: str,
    seconds: float,
) -> Result:
    """Compare a verdict with what its router reaches on fresh questions."""
    table, evaluations = fresh
    verdict = fitted.verdict
    best = list(table.candidates).index(verdict.best)
    true, saved = true_value(fitted.winner, table, evaluations, best)
    shipped, shipped_low = true, verdict.gap.low if fitted.worth_it else None
    if not fitted.worth_it:
        shipped, _ = true_value(fitted.router, table, evaluations, best)
        shipped_low = None if verdict.use_gap is None else verdict.use_gap.low
    spared = verdict.saved
    return Result(
        kind,
        n,
        target,
        verdict.outcome,
        verdict.gap.value,
        verdict.gap.low,
        verdict.gap.high,
        true,
        saved,
        None if spared is None else spared.value,
        None if spared is None else spared.low,
        None if spared is None else spared.high,
        shipped,
        shipped_low,
        verdict.more_rows,
        seconds,
    )


def simulate(job: tuple[str, World, int, str, int]) -> Result:
    """Fit a router on one simulated data set."""
    kind, world, n, target, seed = job
    table, evaluations = world.draw(n, seed)
    begun = time.process_time()
    fitted = fit_router(table, evaluations, target=target, seed=seed)
    seconds = time.process_time() - begun
    fresh = world.draw(N_FRESH, seed + 1_000_000, expected=True)
    return judge(fitted, fresh, kind=kind, n=n, target=target, seconds=seconds)


def powers(job: tuple[World, int, int]) -> list[tuple[str, int, str, int | None]]:
    """Return target, rows, outcome and advice for three targets on one simulated data set."""
    world, n, seed = job
    table, evaluations = world.draw(n, seed)
    tables = Tables(table, evaluations, CHEAP_ESTIMATORS)
    contest = Contest(tables, Goal(), seed=seed)
    tried = contest.cross_fit(Progress(None, 1))
    found = []
    for points in (1, 2, 3):
        goal = Goal.of(target_of(points))
        _, verdict = replace(contest, goal=goal).judge(tried)
        found.append((target_of(points), n, verdict.outcome, verdict.more_rows))
    return found


def target_of(points: int) -> str:
    """Return the target in words."""
    return f"quality >= best - {points} point{'s' * (points > 1)}"


@cache
def recorded_tables() -> tuple[Outcomes, SelfEvaluations]:
    """Return what five models answered to ZeroEval, and which answers are equal."""
    zeroeval = ZeroEval.load()
    return zeroeval.outcomes.select(POOL), zeroeval.answer_groups(POOL, same=same_answer)


def recorded(job: tuple[int, str, int]) -> Result:
    """Fit a router on some of ZeroEval's questions, and try it on the rest.

    Beside quality and cost it gets the equal answers, as `llm-router collect` records them.
    """
    n, target, seed = job
    table, equal = recorded_tables()
    order = np.random.default_rng(seed).permutation(len(table))
    begun = time.process_time()
    known, fresh = table.take(order[:n]), table.take(order[n:])
    fitted = fit_router(known, {"answer_groups": equal.take(order[:n])}, target=target, seed=seed)
    seconds = time.process_time() - begun
    fresh = fresh, {"answer_groups": equal.take(order[n:])}
    return judge(fitted, fresh, kind="ZeroEval", n=n, target=target, seconds=seconds)


def null_jobs(n_sets: int) -> list[tuple[str, World, int, str, int]]:
    """Return data sets without a signal: 5 to 1,000 rows, 2 to 5 candidates, several gaps."""
    rng = np.random.default_rng(0)
    jobs = []
    for seed in range(n_sets):
        n = round(float(np.exp(rng.uniform(np.log(5), np.log(1000)))))
        gap = float(rng.choice([0.0, 0.05, 0.1, 0.2]))
        world = World(False, int(rng.integers(2, 6)), gap, bool(seed % 2), seed)
        points = int(rng.choice([1, 2, 3]))
        jobs.append(("no signal", world, n, target_of(points), seed))
    return jobs


def real_world(seed: int) -> World:
    """Return a population with a real saving; a quarter has a verifier."""
    return World(True, 2 + seed % 2, 0.0, verified=seed % 4 == 0, seed=seed)


def real_jobs(n_sets: int, n: int, points: int) -> list[Any]:
    """Return data sets with a real saving."""
    target = target_of(points)
    return [("saving", real_world(s), n, target, s) for s in range(n_sets)]


def share(values: Iterable[bool]) -> float:
    """Return the share of true values."""
    return float(np.mean([float(value) for value in values]))


def covered(results: list[Result]) -> float:
    """Return the share of stated intervals that hold the true value of their router."""
    return share(r.low <= r.true <= r.high for r in results)


def curve(
    found: Iterable[tuple[str, int, str, int | None]],
) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the share of kept verdicts and the advice, by target and number of rows."""
    cells: dict[tuple[str, int], list[tuple[str, int | None]]] = {}
    for target, n, outcome, more in found:
        cells.setdefault((target, n), []).append((outcome, more))
    table: dict[str, dict[int, dict[str, Any]]] = {}
    for (target, n), rows in sorted(cells.items()):
        more = [it for _, it in rows if it is not None]
        table.setdefault(target, {})[n] = {
            "kept": share(outcome == "kept" for outcome, _ in rows),
            "n_sets": len(rows),
            "advised_total": None if not more else float(np.median(more)) + n,
        }
    return table


def summary(null: list[Result], real: list[Result]) -> dict[str, Any]:
    """Return the figures of the last line."""
    everything = null + real
    worse = [r for r in everything if r.shipped_low is not None and r.shipped_true < r.shipped_low]
    wrongly = share(
        r.outcome == "kept" and r.true < -0.01 * float(r.target.split()[-2]) for r in everything
    )
    return {
        "null_kept": share(r.outcome == "kept" for r in null),
        "real_kept_400": share(r.outcome == "kept" for r in real),
        "coverage": covered(everything),
        "coverage_null": covered(null),
        "coverage_real": covered(real),
        "coverage_saved": share(
            r.saved_low is not None and r.saved_high is not None
            and r.saved_low <= r.true_saved <= r.saved_high
            for r in real
        ),
        "width_points": 100 * float(np.median([r.high - r.low for r in real])),
        "width_points_null": 100 * float(np.median([r.high - r.low for r in null])),
        "true_saved": float(np.median([r.true_saved for r in real])),
        "worse_saved": len(worse) / len(everything),
        "kept_but_missed": wrongly,
        "cpu_s": sum(r.seconds for r in everything),
    }  # fmt: skip


def table_of(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Return the power curve as Markdown."""
    lines = ["| target | rows | kept | advised in all |", "| --- | --- | --- | --- |"]
    for target, rows in found.items():
        for n, cell in rows.items():
            advised = cell["advised_total"]
            words = "" if advised is None else f"{advised:,.0f}"
            lines.append(
                f"| `{target}` | {n:,} | {cell['kept']:.0%} of {cell['n_sets']} | {words} |"
            )
    return "\n".join(lines)


def real_table(results: list[Result]) -> str:
    """Return the verdicts on recorded answers as Markdown."""
    lines = [
        "| questions | kept | not kept | unknown | kept and true | interval holds the truth "
        "| true saving | stated saving |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for n in sorted({r.n for r in results}):
        rows = [r for r in results if r.n == n]
        counts = [sum(r.outcome == it for r in rows) for it in ("kept", "not_kept", "unknown")]
        kept = [r for r in rows if r.outcome == "kept"]
        tolerance = 0.01 * float(rows[0].target.split()[-2])
        right = sum(r.true >= -tolerance for r in kept)
        stated = [r.stated_saved for r in rows if r.stated_saved is not None]
        lines.append(
            f"| {n:,} | {counts[0]} | {counts[1]} | {counts[2]} | {right} of {len(kept)} | "
            f"{covered(rows):.0%} | {np.median([r.true_saved for r in rows]):.0%} | "
            f"{np.median(stated):.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the simulations and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print every result as JSON lines")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data sets")
    parser.add_argument("--real", action="store_true", help="ZeroEval instead of simulations")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    n_sets = 20 if given.quick else 200
    with ProcessPoolExecutor(given.workers) as pool:
        if given.real:
            sizes = (200, 400, 1000)
            n_draws = 4 if given.quick else 20
            jobs = [(n, "quality >= best - 2 points", s) for n in sizes for s in range(n_draws)]
            results = gather(pool.map(recorded, jobs), given.json)
            print(real_table(results))
            print(json.dumps({"coverage": covered(results)}))
            return
        begun = time.perf_counter()
        # The longest jobs first, so that no worker waits at the end.
        powered = pool.map(powers, power_jobs(n_sets // 10))
        null = gather(pool.map(simulate, null_jobs(n_sets)), given.json)
        real = gather(pool.map(simulate, real_jobs(n_sets, 400, 3)), given.json)
    found = curve(row for rows in powered for row in rows)
    print(json.dumps({"curve": found}) if given.json else table_of(found))
    print(json.dumps(summary(null, real) | {"wall_s": time.perf_counter() - begun}))


def gather(results: Iterable[Result], as_json: bool) -> list[Result]:
    """Collect results, and print each as soon as it is there."""
    found = []
    for result in results:
        found.append(result)
        if as_json:
            print(json.dumps(asdict(result)), flush=True)
    return found


def power_jobs(n_sets: int) -> list[tuple[World, int, int]]:
    """Return data sets of several sizes with a real saving; fewer of the large ones."""
    times = {3000: 0.4, 1500: 1.0, 800: 2.0, 400: 4.0, 200: 4.0}
    jobs = []
    for n, factor in times.items():
        for seed in range(10_000, 10_000 + max(1, round(factor * n_sets))):
            jobs.append((replace(real_world(seed), verified=False), n, seed))
    return jobs


if __name__ == "__main__":
    main()
