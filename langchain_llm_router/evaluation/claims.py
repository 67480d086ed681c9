"""The claims that a router has to prove, as margins of rows.

A router is worth using if it keeps its target, costs less than the best single model, and is better
than sending the questions to single models at random for the same money. Each of these is a claim
that a mean of rows is above 0, so choosing a router and judging it look at the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from langchain_llm_router.evaluation.metrics import random_mix_hull
from langchain_llm_router.evaluation.targets import DEFAULT_TARGET, Target, parse_targets
from langchain_llm_router.evaluation.trials import Trials
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Floats

__all__ = ["Claim", "Goal", "Kind", "best_column", "claims_of"]

Kind = Literal["target", "cheaper", "better than random"]


@dataclass(frozen=True)
class Goal(CheckedArguments):
    """What a router is to reach, and with which confidence this has to be shown.

    Args:
        targets: The targets, all of which must be kept.
        lambda_: λ in quality per dollar. If given, the router must have a higher quality - λ·cost
            than every single model instead of keeping targets.
        confidence: Confidence level of each claim, in (0.5, 1).
    """

    targets: tuple[Target, ...] = parse_targets(DEFAULT_TARGET)
    lambda_: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_range(self, "lambda_")
        if not 0.5 < self.confidence < 1:
            msg = f"`confidence` must be in (0.5, 1), got {self.confidence!r}."
            raise ValueError(msg)
        if self.lambda_ is None and len(self.targets) == 0:
            msg = "`targets` is empty: give at least one, or `lambda_`."
            raise ValueError(msg)
        for target in self.targets:
            if target.relation == "=":
                msg = f"The target {str(target)!r} is an equation, which no data can prove: use <=."
                raise ValueError(msg)

    @classmethod
    def of(cls, target: str | None, lambda_: float | None = None, confidence: float = 0.95) -> Goal:
        """Make a goal of a target in words, the default target if None, or of λ."""
        return cls(parse_targets(DEFAULT_TARGET if target is None else target), lambda_, confidence)

    def __str__(self) -> str:
        if self.lambda_ is not None:
            return f"quality - {self.lambda_:.4g} * cost_usd > that of every single model"
        return " and ".join(map(str, self.targets))

    @property
    def is_about_quality(self) -> bool:
        """Whether the cheapest router that keeps the targets is sought, instead of the best."""
        return self.lambda_ is None and all(t.metric == "quality" for t in self.targets)


@dataclass(frozen=True)
class Claim:
    """A claim that the mean of each setting's rows is above 0.

    Attributes:
        kind: What the claim is about.
        target: The target; None if the claim is not about one.
        rows: Margin of each row at each setting, of shape (n_settings, n_rows).
        bounds: Smallest and largest possible margin; infinite where there is none.
        as_good: The mean margin of a router that is as good as the best single model; None if the
            claim is not about quality.
    """

    kind: Kind
    target: Target | None
    rows: Floats
    bounds: tuple[float, float]
    as_good: float | None = None


def best_column(trials: Trials, goal: Goal) -> int:
    """Return the column of the best single model; of equally good ones, the cheapest."""
    quality, cost = trials.single_quality.mean(axis=0), trials.single_cost_usd.mean(axis=0)
    value = quality if goal.lambda_ is None else quality - goal.lambda_ * cost
    close = np.flatnonzero(value >= value.max() - 1e-9)
    # With λ at which the cheapest and the best model are equally useful, the better one is meant.
    order = cost if goal.lambda_ is None else -quality
    return int(close[order[close].argmin()])


def claims_of(trials: Trials, goal: Goal, best: int) -> list[Claim]:
    """Return the claims that a router of these trials has to prove.

    Args:
        trials: Quality and cost of every setting on every row.
        goal: What the router is to reach.
        best: Column of the best single model.

    Raises:
        ValueError: If the trials lack what a target is about.
    """
    if goal.lambda_ is not None:
        return _utility_claims(trials, goal.lambda_)
    claims = [claim for target in goal.targets for claim in _target_claims(trials, target, best)]
    costs = trials.single_cost_usd
    if np.isnan(costs).any() or np.isnan(trials.cost_usd).any():
        return claims
    about_quality = any(target.metric == "quality" for target in goal.targets)
    if about_quality and float(costs[:, best].mean()) > 0:
        claims.append(Claim("cheaper", None, costs[:, best] - trials.cost_usd, (-np.inf, np.inf)))
    if costs.shape[1] == 1:
        # Nothing to choose from at random.
        return claims
    return [*claims, _random_claim(trials, best)]


def _target_claims(trials: Trials, target: Target, best: int) -> list[Claim]:
    bounds = target.bounds(trials, best)
    if target.metric == "cost_usd":
        # The ceiling bounds what one query may cost, which is far from what it does cost.
        bounds = (-np.inf, np.inf)
    claims = []
    for rows in target.margins(trials, best):
        as_good = None
        if target.metric == "quality":
            gap = trials.quality - trials.single_quality[:, best]
            as_good = float((rows - gap)[0].mean())
        claims.append(Claim("target", target, rows, bounds, as_good))
    return claims


def _utility_claims(trials: Trials, lambda_: float) -> list[Claim]:
    utility = trials.quality - lambda_ * trials.cost_usd
    singles = trials.single_quality - lambda_ * trials.single_cost_usd
    return [Claim("target", None, utility - single, (-np.inf, np.inf)) for single in singles.T]


def _random_claim(trials: Trials, best: int) -> Claim:
    """Compare with the random choice among single models that costs the same.

    The margin of a row is linear in its quality and its cost around the means: the slope of the
    random choice is what a dollar more would buy there.
    """
    costs, quality = trials.single_cost_usd.mean(axis=0), trials.single_quality.mean(axis=0)
    corners = [
        int(np.flatnonzero((costs == c) & (quality == q))[0])
        for c, q in zip(*random_mix_hull(costs, quality), strict=True)
    ]
    shares, slopes = [], []
    for cost in trials.cost_usd.mean(axis=1):
        share, slope = _share_at(float(cost), corners, costs, quality)
        shares.append(share)
        slopes.append(slope)
    weights = np.array(shares)
    rows = trials.quality - weights @ trials.single_quality.T
    spent = trials.cost_usd - weights @ trials.single_cost_usd.T
    rows = rows - np.array(slopes)[:, None] * spent
    low, high = min(-1.0, float(rows.min())), max(1.0, float(rows.max()))
    as_good = None
    if len(rows) == 1:
        gap = trials.quality[0] - trials.single_quality[:, best]
        as_good = float((rows[0] - gap).mean())
    return Claim("better than random", None, rows, (low, high), as_good)


def _share_at(
    cost: float, corners: list[int], costs: Floats, quality: Floats
) -> tuple[Floats, float]:
    """Return each model's share in the random choice of this cost, and its slope there.

    Args:
        cost: Mean cost in USD.
        corners: Columns of the models that a random choice takes, cheapest first.
        costs: Mean cost of each model in USD.
        quality: Mean quality of each model.
    """
    share = np.zeros(len(costs))
    upper = int(np.searchsorted(costs[corners], cost))
    if upper == 0 or upper == len(corners):
        # Cheaper than the cheapest model, or dearer than the best: that model alone.
        share[corners[min(upper, len(corners) - 1)]] = 1.0
        return share, 0.0
    low, high = corners[upper - 1], corners[upper]
    share[high] = (cost - costs[low]) / (costs[high] - costs[low])
    share[low] = 1 - share[high]
    return share, float((quality[high] - quality[low]) / (costs[high] - costs[low]))
