"""Fitting a router to data in one call.

All kinds of routers that apply to the data are compared on every row, by routers that were fitted
without the row. The one with the largest saving that can probably be proven wins, the verdict on it
allows for the choice, and it is then fitted on all rows. Of more than 10,000
different queries, so many drawn at random are compared on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from langchain_llm_router.collect import Collected
from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation import LatencyCost, latency_cost
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.training.contenders import CHEAP_ESTIMATORS, Tables
from langchain_llm_router.training.contest import Contest
from langchain_llm_router.training.fitted_router import Fitted
from langchain_llm_router.types.arrays import Indices
from langchain_llm_router.types.progress import Watch

__all__ = ["fit_router"]

_MOST_QUERIES = 10_000


def fit_router(  # noqa: PLR0913 - what a contest is made of, by keyword
    data: Outcomes | Collected,
    evaluations: Mapping[str, SelfEvaluations] | None = None,
    *,
    target: str | None = None,
    lambda_: float | None = None,
    confidence: float = 0.95,
    estimators: Mapping[str, Callable[[], QualityEstimator]] | None = None,
    even_if_worse: bool = False,
    n_folds: int = 5,
    seed: int = 0,
    watch: Watch | None = None,
) -> Fitted:
    """Compare all kinds of routers that apply to the data, and fit the best.

    The contenders are `Utility` with each estimator, `CascadeRouting` and `FrugalCascade` with each
    verifier, `ConfidenceThreshold` and `Pomdp` with each verifier and each chain of candidates
    (all candidates, and every pair), and `AnswerPool` where the equal answers of three candidates
    or more are known. They are compared with every candidate alone.

    Of more than 10,000 different queries, so many drawn at random are compared on. The verdict and
    all figures are then about their rows and about routers that were fitted on most of these, while
    the router that is returned is fitted on all rows.

    Args:
        data: Measured quality and cost, or the result of `collect`.
        evaluations: Scores of each verifier by its name, with the rows and columns of the data. If
            None, those of `data`.
        target: Requirements such as `"quality >= best - 1 point"` (see `Target`), several of them
            with "and". If None, `DEFAULT_TARGET`.
        lambda_: λ in quality per dollar. If given, the router must have a higher quality - λ·cost
            than every single model, and there is no target.
        confidence: Confidence level of the verdict "kept", in (0.5, 1).
        estimators: Constructors of estimators by name. If None, those fitted within seconds.
        even_if_worse: Return the winner as the router even if its verdict is not "kept". Otherwise
            the router is then the best single model.
        n_folds: Number of parts of the rows; each is answered by routers that were fitted on the
            others. Rows with the same query are in the same part.
        seed: Seed of the split and of the resampling.
        watch: Callback that receives, before each step, its name, the number of steps done and
            the number of all steps.

    Raises:
        ValueError: If costs are unknown, a target is invalid, or no router can be fitted.
    """
    outcomes = data if isinstance(data, Outcomes) else data.outcomes
    if evaluations is None:
        evaluations = {} if isinstance(data, Outcomes) else data.evaluations
    if target is not None and lambda_ is not None:
        msg = f"`target` and `lambda_` exclude each other, got {target!r} and {lambda_!r}."
        raise ValueError(msg)
    goal = Goal.of(target, lambda_, confidence)
    if outcomes.cost_usd is None or bool(np.isnan(outcomes.cost_usd).any()):
        raise ValueError(_unpriced(outcomes))
    order = np.argsort(outcomes.cost_usd.mean(axis=0), kind="stable")
    names = [outcomes.candidates[j] for j in order]
    everything = Tables(
        outcomes.select(names),
        {name: it.select(names) for name, it in evaluations.items()},
        CHEAP_ESTIMATORS if estimators is None else estimators,
        timed=lambda_ is None and any(it.metric == "latency_s" for it in goal.targets),
    )
    rows = _contest_rows(outcomes, seed)
    fitted = Contest(
        everything if rows is None else everything.take(rows),
        goal,
        even_if_worse=even_if_worse,
        n_folds=n_folds,
        seed=seed,
        watch=watch,
        everything=everything,
    ).run()
    if isinstance(data, Outcomes):
        return fitted
    latency = _latency(fitted, data, evaluations, slice(None) if rows is None else rows)
    return replace(fitted, latency=latency, runs=data.runs)


def _contest_rows(outcomes: Outcomes, seed: int) -> Indices | None:
    """Draw the rows that are compared on; None for all."""
    n = len(set(outcomes.queries))
    if n <= _MOST_QUERIES:
        return None
    (rows,) = split_indices(len(outcomes), [_MOST_QUERIES / n], seed=seed, groups=outcomes.queries)
    return rows


def _latency(
    fitted: Fitted,
    data: Collected,
    evaluations: Mapping[str, SelfEvaluations],
    rows: Indices | slice,
) -> LatencyCost | None:
    names = fitted.done.candidates
    columns = [data.outcomes.candidates.index(name) for name in names]
    scores = None
    if fitted.done.verifier is not None:
        scores = evaluations[fitted.done.verifier].select(names).latency_s
        scores = None if scores is None else scores[rows]
    return latency_cost(
        fitted.done,
        fitted.single,
        names,
        data.latency_s[rows][:, columns],
        data.ttft_s[rows][:, columns],
        scores,
    )


def _unpriced(outcomes: Outcomes) -> str:
    """Say which costs are missing."""
    what = "`data` must have every cost, because quality is weighed against cost"
    if outcomes.cost_usd is None:
        return f"{what}, but has none: add prices."
    missing = np.isnan(outcomes.cost_usd)
    names = [
        name for name, lacks in zip(outcomes.candidates, missing.T, strict=True) if lacks.any()
    ]
    row = int(np.flatnonzero(missing.any(axis=1))[0])
    return (
        f"{what}, but {int(missing.any(axis=1).sum())} of {len(missing)} rows lack that of "
        f"{names}, the first is row {row}: add their prices, or leave these rows out."
    )
