"""Fitting a router to data in one call.

All kinds of routers that apply to the data are compared. The rows are split into disjoint parts:
the first trains every contender, the second picks the winner, the third sets its knob if there is
a target, and the last tests the winner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from langchain_llm_router.collect import Collected, load_journal
from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation import best_single
from langchain_llm_router.training import Target
from langchain_llm_router.training.contenders import CHEAP_ESTIMATORS, Tables
from langchain_llm_router.training.contest import Contest, Goal, Parts
from langchain_llm_router.training.fitted_router import Fitted
from langchain_llm_router.types.arrays import Indices
from langchain_llm_router.types.files import check_regular
from langchain_llm_router.types.progress import Watch

__all__ = ["fit_router", "load_data"]

_SHARES = (0.5, 0.25, 0.25)
_SHARES_WITH_TARGET = (0.4, 0.2, 0.2, 0.2)
_SHARES_WITH_GUARANTEE = (0.35, 0.15, 0.35, 0.15)


def load_data(*paths: str | Path) -> Outcomes | Collected:
    """Read the input of `fit_router`: journals of `collect`, or one table that `Outcomes` saved.

    Raises:
        ValueError: If a file can be read as neither.
    """
    if len(paths) == 0:
        msg = "`paths` is empty: name journals of `collect` or one table of outcomes."
        raise ValueError(msg)
    first = Path(paths[0])
    check_regular(first)
    with first.open("rb") as file:
        is_journal = first.suffix == ".jsonl" and b'"kind"' in file.readline(1 << 16)
    if is_journal:
        return load_journal(*paths)
    if len(paths) > 1:
        msg = f"`paths` may be several journals or one table, but {first.name!r} is a table."
        raise ValueError(msg)
    return Outcomes.load(first)


def fit_router(  # noqa: PLR0913 - what a contest is made of, by keyword
    data: Outcomes | Collected,
    evaluations: Mapping[str, SelfEvaluations] | None = None,
    *,
    lambda_: float | None = None,
    target: str | None = None,
    confidence: float | None = None,
    estimators: Mapping[str, Callable[[], QualityEstimator]] | None = None,
    shares: Sequence[float] | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Fitted:
    """Compare all kinds of routers that apply to the data, and fit the best.

    The contenders are each candidate alone, `Utility` with each estimator, `FrugalCascade` with
    each verifier, and `ConfidenceThreshold`, `Pomdp` and `CascadeRouting` with each verifier and
    each chain of candidates (all candidates, and every pair).

    Args:
        data: Measured quality and cost, or the result of `collect`.
        evaluations: Scores of each verifier by its name, with the rows and columns of the data. If
            None, those of `data`.
        lambda_: λ in quality per dollar. If None, the rate at which the cheapest and the best
            candidate have equal utility, so that only a router that beats a random mix of the two
            gains anything.
        target: Requirement such as `"quality >= 0.95 * best"` (see `Target.parse`). The winner is
            then the contender that meets it best, and its λ is set to meet it.
        confidence: Confidence level of the target for new queries. If None, there is no guarantee.
        estimators: Constructors of estimators by name. If None, those fitted within seconds.
        shares: Shares of the rows for training, picking, calibration (only with a target) and
            testing. Rows with the same query are in the same part. If None, the defaults.
        seed: Seed of the split.
        watch: Callback that receives, before each step, its name, the number of steps done and
            the number of all steps.

    Raises:
        ValueError: If costs are unknown or a part has no rows.
        CalibrationError: If no contender meets the target, or there are too few rows to guarantee
            it.
    """
    outcomes = data if isinstance(data, Outcomes) else data.outcomes
    if evaluations is None:
        evaluations = {} if isinstance(data, Outcomes) else data.evaluations
    if outcomes.cost_usd is None or bool(np.isnan(outcomes.cost_usd).any()):
        msg = "`data` must have every cost, because quality is weighed against cost: add prices."
        raise ValueError(msg)
    goal = _goal(target, confidence)
    parts = _parts(outcomes, goal, shares, seed)
    order = np.argsort(outcomes.cost_usd.mean(axis=0), kind="stable")
    names = [outcomes.candidates[j] for j in order]
    tables = Tables(
        outcomes.select(names),
        {name: it.select(names) for name, it in evaluations.items()},
        CHEAP_ESTIMATORS if estimators is None else estimators,
    )
    scale = _default_lambda(outcomes.take(parts.fit_rows))
    contest = Contest(tables, scale if lambda_ is None else lambda_, scale, watch)
    return contest.run(parts, goal)


def _goal(target: str | None, confidence: float | None) -> Goal | None:
    if target is None and confidence is not None:
        msg = f"`confidence` needs a `target`, got {confidence!r} without one: set `target`."
        raise ValueError(msg)
    return None if target is None else Goal(str(Target.parse(target)), confidence)


def _parts(
    outcomes: Outcomes, goal: Goal | None, shares: Sequence[float] | None, seed: int
) -> Parts:
    if shares is None:
        guaranteed = goal is not None and goal.confidence is not None
        shares = _SHARES_WITH_GUARANTEE if guaranteed else _SHARES_WITH_TARGET if goal else _SHARES
    n_parts = 3 if goal is None else 4
    if len(shares) != n_parts:
        msg = f"`shares` must be {n_parts} numbers {'with' if goal else 'without'} a target, "
        raise ValueError(f"{msg}got {tuple(shares)!r}.")
    parts = split_indices(len(outcomes), shares, seed=seed, groups=outcomes.queries)
    if min(len(part) for part in parts) == 0:
        msg = f"{len(outcomes)} rows are too few to be split by {tuple(shares)}: add rows."
        raise ValueError(msg)
    # The test of a guarantee depends on the order of the rows, so they are shuffled.
    rng = np.random.default_rng(seed)
    mixed: list[Indices] = [rng.permutation(part) for part in parts]
    if goal is None:
        return Parts(mixed[0], mixed[1], None, mixed[2])
    return Parts(*mixed)


def _default_lambda(outcomes: Outcomes) -> float:
    quality, cost = outcomes.quality.mean(axis=0), outcomes.mean_cost_usd
    assert cost is not None, "checked before"
    best, cheap = best_single(outcomes), int(cost.argmin())
    gap = float(cost[best] - cost[cheap])
    if gap > 0:
        return float(quality[best] - quality[cheap]) / gap
    # The cheapest candidate is also the best, at any λ.
    return float(quality[best] / cost[best]) if cost[best] > 0 else 1.0
