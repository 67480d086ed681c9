"""A report on whether a fitted estimator beats a random mix of candidates on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation.intervals import (
    Interval,
    Resampling,
    difference_interval,
    mean_interval,
)
from langchain_llm_router.evaluation.metric_intervals import (
    aiq_interval,
    apgr_interval,
    tiny_gap_warning,
)
from langchain_llm_router.evaluation.metrics import brier, ece
from langchain_llm_router.evaluation.sweeps import single_sweep, utility_sweep
from langchain_llm_router.types.arrays import Floats

__all__ = ["HeldOutReport", "held_out_report"]


_Verdict = Literal["helps", "no evidence", "harms"]


@dataclass(frozen=True)
class HeldOutReport:
    """The comparison of an estimator with a baseline on held-out rows.

    Attributes:
        metric: The metric: `"aiq"` with costs, `"apgr"` for two candidates without costs, or
            `"quality"` of the candidate with the highest prediction for more without costs.
        value: The estimator's metric with its interval.
        baseline: The metric of a random mix or, for `"quality"`, of the best single candidate.
        lift: `value` minus `baseline`, with its interval.
        within_groups: APGR with the same strong share in every group; None without groups or for
            more than two candidates. Near 0.5, the estimator only distinguishes groups.
        brier: Mean squared error of the predicted qualities.
        ece: Expected calibration error of the predicted qualities.
        n_rows: Number of held-out rows.
        warning: A warning if there is an APGR and the gap between the candidates cannot be told
            from 0, so that a share of it says little; else None.
    """

    metric: Literal["apgr", "aiq", "quality"]
    value: Interval
    baseline: float
    lift: Interval
    within_groups: Interval | None
    brier: float
    ece: float
    n_rows: int
    warning: str | None = None

    @property
    def verdict(self) -> _Verdict:
        """Whether the interval of the lift is above zero, around it, or below."""
        if self.lift.low > 0:
            return "helps"
        return "harms" if self.lift.high < 0 else "no evidence"

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        against = "a random choice of candidates"
        if self.metric == "quality":
            against = "the best single candidate"
        facts = (
            f"{self.metric.upper()} {self.value:.3f} against {self.baseline:.3f} for {against} "
            f"on {self.n_rows} held-out rows, lift {self.lift:+.3f}"
        )
        words = {
            "helps": f"This estimator beats {against}: {facts}.",
            "no evidence": f"This estimator does not reliably beat {against}: {facts}. "
            "Do not route by it.",
            "harms": f"This estimator is worse than {against}: {facts}. Do not route by it.",
        }
        text = words[self.verdict]
        within, warning = self.within_groups, self.warning
        unsure = self.verdict == "helps" and within is not None and within.low <= 0.5
        if unsure and warning is not None:
            text += " Whether it does so within groups too cannot be said."
        elif unsure:
            text += (
                f" Within groups it does not beat chance (APGR {within:.3f}): it distinguishes "
                "groups, but not hard queries from easy ones."
            )
        if warning is not None and (unsure or self.metric == "apgr"):
            text += f" {warning}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data, e.g. for an estimator's `report_`."""
        within = self.within_groups
        return {
            "metric": self.metric,
            "value": self.value.as_list(),
            "baseline": self.baseline,
            "lift": self.lift.as_list(),
            "within_groups": None if within is None else within.as_list(),
            "brier": self.brier,
            "ece": self.ece,
            "n_rows": self.n_rows,
            "warning": self.warning,
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


def held_out_report(
    estimator: QualityEstimator, outcomes: Outcomes, *, resampling: Resampling | None = None
) -> HeldOutReport:
    """Compare a fitted estimator with a baseline on held-out rows.

    Args:
        estimator: An estimator that was fitted on other rows.
        outcomes: Held-out rows with the estimator's candidates.
        resampling: Settings of the bootstrap. If None, the defaults, with rows of the same query
            drawn together.

    Raises:
        ValueError: If the candidates differ, or there is only one.
    """
    if tuple(outcomes.candidates) != estimator.fitted_candidates or len(outcomes.candidates) < 2:
        msg = (
            "`outcomes` must have the candidates of the estimator, "
            f"{list(estimator.fitted_candidates)}, and at least two, "
            f"got {list(outcomes.candidates)}."
        )
        raise ValueError(msg)
    how = Resampling(clusters=outcomes.queries) if resampling is None else resampling
    predicted = estimator.predict(outcomes.queries)
    pair = len(outcomes.candidates) == 2
    priced = outcomes.cost_usd is not None and not np.isnan(outcomes.cost_usd).any()
    within, warning = None, None
    if pair and (outcomes.groups is not None or not priced):
        warning = tiny_gap_warning(*outcomes.quality.T, resampling=how)
    if pair and outcomes.groups is not None:
        rate = _win_rate(predicted)
        within = apgr_interval(rate, *outcomes.quality.T, groups=outcomes.groups, resampling=how)
    if priced:
        metric, value, lift = _by_cost(predicted, outcomes, how)
    elif pair:
        metric, value, lift = _by_share(predicted, outcomes, how)
    else:
        metric, value, lift = _by_quality(predicted, outcomes, how)
    return HeldOutReport(
        metric=metric,
        value=value,
        baseline=value.value - lift.value,
        lift=lift,
        within_groups=within,
        brier=brier(predicted, outcomes.quality),
        ece=ece(predicted, outcomes.quality),
        n_rows=len(outcomes),
        warning=warning,
    )


_Judged = tuple[Literal["apgr", "aiq", "quality"], Interval, Interval]


def _by_cost(predicted: Floats, outcomes: Outcomes, how: Resampling) -> _Judged:
    sweep = utility_sweep(predicted, outcomes)
    value = aiq_interval(sweep, outcomes, resampling=how)
    lift = aiq_interval(sweep, outcomes, baseline=single_sweep(outcomes), resampling=how)
    return "aiq", value, lift


def _by_share(predicted: Floats, outcomes: Outcomes, how: Resampling) -> _Judged:
    rate, (weak, strong) = _win_rate(predicted), outcomes.quality.T
    value = apgr_interval(rate, weak, strong, resampling=how)
    nothing = np.zeros(len(rate))
    lift = apgr_interval(rate, weak, strong, baseline=nothing, resampling=how)
    return "apgr", value, lift


def _by_quality(predicted: Floats, outcomes: Outcomes, how: Resampling) -> _Judged:
    rows = np.arange(len(outcomes))
    reached = outcomes.quality[rows, predicted.argmax(axis=1)]
    best = outcomes.quality[:, int(outcomes.quality.mean(axis=0).argmax())]
    return (
        "quality",
        mean_interval(reached, how, bounds=(0, 1)),
        difference_interval(reached, best, how),
    )


def _win_rate(predicted: Floats) -> Floats:
    rate: Floats = (1 + predicted[:, 1] - predicted[:, 0]) / 2
    return rate
