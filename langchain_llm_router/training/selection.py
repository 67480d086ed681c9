"""The choice among all settings of all contenders, and what the choice flatters.

The best of many settings looks better on the rows that chose it than it is. The choice is therefore
repeated on resampled rows: the mean by which the chosen setting looks better there than on all rows
estimates the optimism.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from langchain_llm_router.evaluation.claims import Claim, Goal, best_column, claims_of
from langchain_llm_router.evaluation.intervals import Resampling
from langchain_llm_router.evaluation.judgement import Optimism
from langchain_llm_router.evaluation.metrics import random_mix_hull
from langchain_llm_router.evaluation.trials import Trials
from langchain_llm_router.types.arrays import Floats

__all__ = ["Choice", "Selection"]

_N_RESAMPLES = 100
_BOTH_NOISES = float(np.sqrt(2.0))
"""A resample takes the noise of the rows for signal, so it shows 1/√2 of the optimism where no
setting is better than another. This factor makes up for that."""


@dataclass(frozen=True)
class Choice:
    """The chosen setting.

    Attributes:
        setting: Its index.
        optimism: By how much the rows flatter it.
        scores: The score of every setting, of shape (n_settings,).
    """

    setting: int
    optimism: Optimism
    scores: Floats


class Selection:
    """The choice of a setting by the saving that can probably be proven.

    The score of a setting is what it gains, times the probability that other rows of this number
    prove the claim that is the most doubtful. What it gains is the share of the cost that it saves,
    for targets of quality alone, or else its quality above that of the cheapest model.

    Args:
        trials: Every setting on every row, by routers that had no part in the row.
        goal: What the router is to reach.
        clusters: Label of each row; rows with the same label are redrawn together.
        seed: Seed of the resampling.
    """

    def __init__(
        self,
        trials: Trials,
        goal: Goal,
        *,
        clusters: tuple[str, ...] | None = None,
        seed: int = 0,
    ) -> None:
        self.trials, self.goal = trials, goal
        self.resampling = Resampling(n_resamples=_N_RESAMPLES, clusters=clusters, seed=seed)
        self.best = best_column(trials, goal)
        self.claims = claims_of(trials, goal, self.best)
        self.errors = [_errors(claim, len(trials)) for claim in self.claims]
        self.required = float(norm.ppf(goal.confidence))

    def choose(self) -> Choice:
        """Choose a setting by all rows, and estimate the optimism of the choice."""
        n = len(self.trials)
        means = self._means(np.full((1, n), 1.0 / n))
        scores = self._scores(means)[0]
        setting = int(scores.argmax())
        drawn = [weights / weights.sum(axis=1, keepdims=True)
                 for weights in self.resampling.weights(n)]  # fmt: skip
        seen = self._means(np.concatenate(drawn))
        picked = self._scores(seen).argmax(axis=1)
        rows = np.arange(len(picked))
        excess = [
            max(0.0, _BOTH_NOISES * float((there[rows, picked] - here[0, picked]).mean()))
            for there, here in zip(seen.margins, means.margins, strict=True)
        ]
        less = (means.cost[0, picked] - seen.cost[rows, picked]).mean()
        cost = max(0.0, _BOTH_NOISES * float(less))
        return Choice(setting, self._optimism(excess, cost), scores)

    def _optimism(self, excess: list[float], cost: float) -> Optimism:
        quality, other = [0.0], [0.0]
        for claim, value in zip(self.claims, excess, strict=True):
            metric = None if claim.target is None else claim.target.metric
            if metric == "quality" or claim.kind == "better than random":
                quality.append(value)
            elif metric is not None and metric != "cost_usd":
                other.append(value)
            elif metric is None and claim.kind == "target":
                # A utility: what it flatters is not known to be quality or cost.
                quality.append(value)
        return Optimism(max(quality), cost, max(other))

    def _means(self, weights: Floats) -> _Means:
        trials = self.trials
        cost, quality = weights @ trials.cost_usd.T, weights @ trials.quality.T
        singles = weights @ trials.single_cost_usd, weights @ trials.single_quality
        margins = []
        for claim in self.claims:
            if claim.kind == "better than random":
                # The random choice depends on the drawn rows.
                hulls = [random_mix_hull(c, q) for c, q in zip(*singles, strict=True)]
                mixed = [np.interp(spent, *hull) for spent, hull in zip(cost, hulls, strict=True)]
                margins.append(quality - np.array(mixed))
            else:
                margins.append(weights @ claim.rows.T)
        return _Means(margins, cost, quality, *singles)

    def _scores(self, means: _Means) -> Floats:
        doubt = np.min(
            [margin / error for margin, error in zip(means.margins, self.errors, strict=True)],
            axis=0,
        )
        gain = self._gain(means)
        scores = np.maximum(gain, 0.0) * norm.cdf(doubt - self.required)
        # Where nothing is likely to be proven, the least doubtful setting is chosen.
        return np.asarray(np.where(scores > 1e-6, scores, 1e-6 * np.arctan(doubt)), np.float64)

    def _gain(self, means: _Means) -> Floats:
        if self.goal.lambda_ is not None:
            return np.asarray(np.min(means.margins, axis=0), np.float64)
        if self.goal.is_about_quality:
            alone = means.single_cost[:, self.best, None]
            return np.asarray(1 - means.cost / np.maximum(alone, 1e-300), np.float64)
        cheapest = means.single_cost.argmin(axis=1)
        floor = np.take_along_axis(means.single_quality, cheapest[:, None], axis=1)
        return np.asarray(means.quality - floor, np.float64)


@dataclass(frozen=True)
class _Means:
    """Means over the rows, for each resample: arrays of shape (n_draws, n_settings or n_models)."""

    margins: list[Floats]
    cost: Floats
    quality: Floats
    single_cost: Floats
    single_quality: Floats


def _errors(claim: Claim, n: int) -> Floats:
    """Estimate the standard error of each setting's mean; pseudo-rows are added at bounds."""
    low, high = claim.bounds
    variance = n * claim.rows.var(axis=1)
    added = 0.0
    if np.isfinite(low) and np.isfinite(high):
        added = float(norm.ppf(0.95)) ** 2
        mean = claim.rows.mean(axis=1)
        variance = variance + added / 2 * ((low - mean) ** 2 + (high - mean) ** 2)
    errors = np.sqrt(variance) / (n + added)
    return np.asarray(np.maximum(errors, 1e-12), np.float64)
