"""From data to a router in one call: everything that applies competes on held-out rows.

Disjoint parts of the data do different jobs: the first trains every contender, the second picks the
winner, with a target a third sets its knob, and the last, untouched until then, says what the
winner is worth.
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
from langchain_llm_router.types.progress import Watch

__all__ = ["fit_router", "load_data"]

_SHARES = (0.5, 0.25, 0.25)
_SHARES_WITH_TARGET = (0.4, 0.2, 0.2, 0.2)
_SHARES_WITH_PROMISE = (0.35, 0.15, 0.35, 0.15)


def load_data(*paths: str | Path) -> Outcomes | Collected:
    """Read the input of `fit_router`: journals of `collect`, or one table that `Outcomes` saved.

    Raises:
        ValueError: If a file can be read as neither.
    """
    if len(paths) == 0:
        msg = "There is nothing to fit on: name a journal of `collect` or a table of outcomes."
        raise ValueError(msg)
    first = Path(paths[0])
    with first.open("rb") as file:
        is_journal = first.suffix == ".jsonl" and b'"kind"' in file.readline()
    if is_journal:
        return load_journal(*paths)
    if len(paths) > 1:
        msg = f"Only journals add up; {first.name!r} is a table: give it alone."
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
    """Let every estimator, verifier and policy that applies compete, and fit the winner.

    Contenders: each candidate alone; `Utility` over each estimator; over each verifier
    `FrugalCascade`, and for each chain of candidates (all, and every pair) `ConfidenceThreshold`,
    `Pomdp`, `CascadeRouting`.

    Args:
        data: Measured quality and cost, or what `collect` returned.
        evaluations: Verifier name → what it said, same rows and columns; None: those of `data`.
        lambda_: λ, quality per dollar. None: the rate at which the cheapest and the best candidate
            are worth the same, so that only what beats mixing them at random gains anything.
        target: What the router must keep, e.g. `"quality >= 0.95 * best"` (`Target.parse`); the
            winner is then the contender that meets it best, and its λ is set so that it is met.
        confidence: Promise the target for new queries with this probability.
        estimators: Name → constructor; None: those fitted within seconds.
        shares: Shares of the rows for training, picking, calibrating (with a target only) and
            testing; equal queries stay together.
        seed: Another seed, another split.
        watch: Is told before each step which contender is being trained, how many steps are done,
            and how many there are.

    Raises:
        ValueError: If costs are unknown or a part has no rows.
        CalibrationError: If no contender meets the target, or the rows are too few to promise it.
    """
    outcomes = data if isinstance(data, Outcomes) else data.outcomes
    if evaluations is None:
        evaluations = {} if isinstance(data, Outcomes) else data.evaluations
    if outcomes.cost_usd is None or bool(np.isnan(outcomes.cost_usd).any()):
        msg = "Choosing a router weighs quality against cost: give every candidate a price."
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
    scale = _default_lambda(outcomes.take(parts.known))
    contest = Contest(tables, scale if lambda_ is None else lambda_, scale, watch)
    return contest.run(parts, goal)


def _goal(target: str | None, confidence: float | None) -> Goal | None:
    if target is None and confidence is not None:
        msg = f"`confidence` {confidence!r} applies to a target: give `target` as well."
        raise ValueError(msg)
    return None if target is None else Goal(str(Target.parse(target)), confidence)


def _parts(
    outcomes: Outcomes, goal: Goal | None, shares: Sequence[float] | None, seed: int
) -> Parts:
    if shares is None:
        promised = goal is not None and goal.confidence is not None
        shares = _SHARES_WITH_PROMISE if promised else _SHARES_WITH_TARGET if goal else _SHARES
    n_parts = 3 if goal is None else 4
    if len(shares) != n_parts:
        msg = f"`shares` must be {n_parts} numbers {'with' if goal else 'without'} a target, "
        raise ValueError(f"{msg}got {tuple(shares)!r}.")
    parts = split_indices(len(outcomes), shares, seed=seed, groups=outcomes.queries)
    if min(len(part) for part in parts) == 0:
        msg = f"{len(outcomes)} rows are too few for parts of {tuple(shares)}."
        raise ValueError(msg)
    # A promise is tested row by row, so that the order of the file must not matter.
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
    # The cheapest is the best already; any price on dollars keeps it so.
    return float(quality[best] / cost[best]) if cost[best] > 0 else 1.0
