"""The decision of the verdict: every claim of a router is tested on the same rows.

Each claim is tested one-sided at the confidence of the goal. A router is kept only if all of them
are proven, so no correction for their number is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.claims import Claim, Goal, Kind, best_column, claims_of
from langchain_llm_router.evaluation.intervals import (
    Interval,
    Resampling,
    bounded_mean_interval,
    mean_interval,
)
from langchain_llm_router.evaluation.random_mix import Spent
from langchain_llm_router.evaluation.trials import Trials, known_latency
from langchain_llm_router.evaluation.verdict import Outcome, Reason, Verdict
from langchain_llm_router.types.arrays import Bools, Floats

__all__ = ["NO_OPTIMISM", "Optimism", "decide_verdict", "trial_of"]

_POWER = 0.8
_MAX_ROWS = 20_000
"""Number of questions above which collecting more of them is not advised."""
_ENOUGH_TO_GIVE_UP = 100
_EASIER_POINTS = (1, 2, 3, 5, 10)
_SAME_MONEY = 0.05
"""Share by which a router may cost more than the best single model if it is provably better."""
_REFUTED: dict[Kind, Reason] = {
    "target": "missed",
    "cheaper": "dearer",
    "better than random": "random",
}


@dataclass(frozen=True)
class Optimism:
    """By how much the rows that also chose the router flatter it, in the mean.

    Attributes:
        quality: Excess of the quality.
        cost_usd: Shortfall of the cost in USD.
        other: Excess of any other margin, in its own unit.
    """

    quality: float = 0.0
    cost_usd: float = 0.0
    other: float = 0.0


NO_OPTIMISM = Optimism()
"""For rows that had no part in choosing the router."""


def trial_of(
    done: Spent,
    outcomes: Outcomes,
    strong: Bools | None = None,
    latency_s: Floats | None = None,
) -> Trials:
    """Make trials with one setting of what a router reached and spent.

    Args:
        done: Quality and cost of each row.
        outcomes: The same rows, with every single model to compare with.
        strong: Whether the last candidate was asked, of shape (n_rows,).
        latency_s: Seconds until the whole answer, of shape (n_rows,), NaN where unknown; None if
            unknown.
    """
    costs = outcomes.cost_usd
    singles = np.full(outcomes.quality.shape, np.nan) if costs is None else costs
    asked = np.zeros(len(outcomes), dtype=bool) if strong is None else strong
    return Trials(
        knob=np.zeros(1),
        quality=done.quality[None],
        cost_usd=done.cost_usd[None],
        strong=asked[None],
        single_quality=outcomes.quality,
        single_cost_usd=singles,
        cost_ceiling_usd=max(float(singles.max(axis=0).sum()), float(done.cost_usd.max())),
        candidates=tuple(outcomes.candidates),
        latency_s=None if latency_s is None else known_latency(latency_s[None]),
        single_latency_s=outcomes.latency_s,
    )


def decide_verdict(
    trial: Trials,
    goal: Goal,
    *,
    clusters: Iterable[str] | None = None,
    optimism: Optimism = NO_OPTIMISM,
) -> Verdict:
    """Decide whether a router keeps its goal.

    Args:
        trial: What the router and every single model reached on the same rows; one setting.
        goal: What the router is to reach.
        clusters: Label of each row; rows with the same label are not independent.
        optimism: By how much these rows flatter the router, because they also chose it.

    Raises:
        ValueError: If there are several settings, or the data lacks what a target is about.
    """
    if len(trial.knob) != 1:
        msg = f"`trial` must have one setting, got {len(trial.knob)}: use `pick`."
        raise ValueError(msg)
    labels = None if clusters is None else tuple(clusters)
    corrected = replace(
        trial,
        quality=trial.quality - optimism.quality,
        cost_usd=trial.cost_usd + optimism.cost_usd,
    )
    return _Judgement(corrected, goal, labels, optimism).verdict()


@dataclass(frozen=True)
class _Test:
    """A claim with the bounds that prove or refute it, and how many rows would prove it.

    Attributes:
        claim: The claim.
        low: Lower bound of its mean, one-sided.
        shown: Its mean with the 95 % interval.
        n_needed: Rows that would prove it; None if no practical number would.
        is_hoped: Whether that presumes a gain that these rows allow but do not show.
    """

    claim: Claim
    low: float
    shown: Interval
    n_needed: int | None
    is_hoped: bool

    @property
    def proven(self) -> bool:
        return self.low > 0


class _Judgement:
    """The tests of one router's claims, and what follows from them."""

    def __init__(
        self,
        trial: Trials,
        goal: Goal,
        clusters: tuple[str, ...] | None,
        optimism: Optimism = NO_OPTIMISM,
    ) -> None:
        self.trial, self.goal, self.clusters, self.optimism = trial, goal, clusters, optimism
        # Rows that belong together, e.g. copies of one question, say no more than one of them.
        self.n = len(trial) if clusters is None else len(set(clusters))
        self.best = best_column(trial, goal)
        self.two_sided = Resampling(clusters=clusters)
        self.one_sided = Resampling(clusters=clusters, confidence=2 * goal.confidence - 1)
        self.gap = self._gap(trial.quality[0], self.two_sided)
        self.tests = [self._test(claim) for claim in claims_of(trial, goal, self.best)]

    def verdict(self) -> Verdict:
        single = self._good_single()
        outcome, reason, about = self._outcome(single)
        names = self.trial.candidates
        column = self._instead() if single is None else single
        other = outcome != "kept" and column != self.best
        more, is_hoped, easier = self._more(outcome, reason)
        random = [t.shown for t in self.tests if t.claim.kind == "better than random"]
        quality, cost = self.trial.single_quality[:, column], self.trial.single_cost_usd[:, column]
        return Verdict(
            outcome=outcome,
            reason=reason,
            about=about,
            goal=str(self.goal),
            confidence=self.goal.confidence,
            n_rows=self.n,
            best=names[self.best],
            use=None if outcome == "kept" else names[column],
            gap=self.gap,
            gap_bound=self._gap(self.trial.quality[0], self.one_sided).low,
            saved=self._saved(self.trial.cost_usd[0]),
            margin=self._closest().shown,
            above_random=random[0] if random else None,
            use_gap=self._gap(quality, self.two_sided) if other else None,
            use_saved=self._saved(cost) if other else None,
            use_keeps=None if outcome == "kept" else self._use_keeps(column),
            more_rows=more,
            more_rows_hoped=is_hoped,
            easier=easier,
            is_free=float(self.trial.single_cost_usd[:, self.best].sum()) == 0,
        )

    def _outcome(self, single: int | None) -> tuple[Outcome, Reason, Kind]:
        if single is not None and self._does_as_well(single):
            return "not_kept", "single", "target"
        unproven = [test for test in self.tests if not test.proven]
        if [test.claim.kind for test in unproven] == ["cheaper"] and self._is_better():
            return "kept", "better", "target"
        against = self._refuted(unproven)
        if against is not None:
            return against
        if unproven:
            hardest = max(unproven, key=lambda test: test.n_needed or _MAX_ROWS)
            return "unknown", "few rows", hardest.claim.kind
        costs = self.trial.single_cost_usd.sum() + self.trial.cost_usd.sum()
        if self.goal.lambda_ is None and math.isnan(costs):
            return "unknown", "no prices", "cheaper"
        return "kept", "proven", "target"

    def _refuted(self, unproven: list[_Test]) -> tuple[Outcome, Reason, Kind] | None:
        for test in unproven:
            # On few rows the cheapest model is the best one by chance, so none can be cheaper.
            by_chance = test.claim.kind == "cheaper" and self.n < _ENOUGH_TO_GIVE_UP
            # Refuted only if the interval that is shown says so too.
            if test.shown.high < 0 and not by_chance:
                return "not_kept", _REFUTED[test.claim.kind], test.claim.kind
        for test in unproven:
            if test.n_needed is None and self.n >= _ENOUGH_TO_GIVE_UP:
                return "not_kept", "unreachable", test.claim.kind
        return None

    def _is_better(self) -> bool:
        """Whether the router is provably better than the best single model for the same money."""
        alone = self.trial.single_cost_usd[:, self.best]
        room = (1 + _SAME_MONEY) * alone - self.trial.cost_usd[0]
        better = self._gap(self.trial.quality[0], self.one_sided).low > 0
        return better and mean_interval(room, self.one_sided).low > 0

    # Tests

    def _test(self, claim: Claim) -> _Test:
        found = self._interval(claim, self.one_sided)
        shown = self._interval(claim, self.two_sided)
        margin, is_hoped = self._presumed_margin(claim, found)
        n_needed = _rows_needed(claim, margin, self.n, self.goal.confidence)
        return _Test(claim, found.low, shown, n_needed, is_hoped)

    def _interval(self, claim: Claim, resampling: Resampling) -> Interval:
        target = claim.target
        excess = 0.0
        if target is not None and target.metric not in ("quality", "cost_usd"):
            excess = self.optimism.other
        rows = claim.rows[0] - excess
        # A quality or a cost is corrected for optimism already, which moves it beyond its bounds.
        low = min(claim.bounds[0] - excess, float(rows.min()))
        high = max(claim.bounds[1] - excess, float(rows.max()))
        return mean_interval(rows, resampling, bounds=(low, high))

    def _gap(self, quality: Floats, resampling: Resampling) -> Interval:
        """Compare a quality, which may be lowered by the optimism, with the best single model's."""
        excess = self.optimism.quality
        rows = quality - self.trial.single_quality[:, self.best]
        found = mean_interval(rows, resampling, bounds=(-1.0 - excess, 1.0))
        low, value, high = np.clip([found.low, found.value, found.high], -1.0, 1.0).tolist()
        return Interval(value, low, high)

    def _presumed_margin(self, claim: Claim, found: Interval) -> tuple[float, bool]:
        """Return the mean margin for which rows are counted, and whether it is only hoped for.

        It is the mean of these rows, but a router whose quality cannot be told from the best
        model's is presumed to be as good. No number of rows proves a gain of 0, e.g. where wins
        and losses cancel. Half of the largest gain that these rows allow is presumed then, and the
        verdict says so. Rows that are all alike allow none: what was never seen cannot be
        estimated.
        """
        half = found.high / 2 if np.ptp(claim.rows[0]) > 0 else 0.0
        if claim.as_good is not None and self.gap.low <= 0 <= self.gap.high:
            if claim.as_good > 0:
                return claim.as_good, False
            return max(found.value, half), half > found.value
        if claim.as_good is None and found.value <= 0:
            return half, half > 0
        return found.value, False

    def _closest(self) -> _Test:
        targets = [test for test in self.tests if test.claim.kind == "target"]
        return min(targets, key=lambda test: test.low)

    def _more(
        self, outcome: Outcome, reason: Reason
    ) -> tuple[int | None, bool, tuple[str, int] | None]:
        """Return the further rows, whether for a gain only hoped for, and an easier target.

        The easier target has its own number of rows.
        """
        unproven = [test for test in self.tests if not test.proven]
        if len(unproven) == 0 or reason not in ("few rows", "unreachable", "missed"):
            return None, False, None
        # Where no number would do, there are so few rows that the claim itself may change.
        few = max(_ENOUGH_TO_GIVE_UP, self.n + 1)
        hardest = max(unproven, key=lambda test: test.n_needed or few)
        needed = hardest.n_needed or few
        if outcome == "not_kept":
            needed = 4 * self.n if reason == "missed" else 2 * _MAX_ROWS
        easier = None
        if all(test.claim.kind == "target" for test in unproven):
            easier = self._easier(needed)
        if outcome != "unknown":
            return None, False, easier
        return needed - self.n, hardest.is_hoped and hardest.n_needed is not None, easier

    def _easier(self, needed: int) -> tuple[str, int] | None:
        """Return the nearest easier target that needs at most half of the rows.

        It is None if a single model keeps that target for as little money.
        """
        if len(self.goal.targets) > 1 or not self.goal.is_about_quality:
            return None
        for points in _EASIER_POINTS:
            easier = self.goal.targets[0].easier(points)
            if easier is None:
                continue
            goal = replace(self.goal, targets=(easier,))
            judgement = _Judgement(self.trial, goal, self.clusters, self.optimism)
            single = judgement._good_single()
            if single is not None and judgement._does_as_well(single):
                return None
            rows = [test.n_needed for test in judgement.tests if not test.proven]
            most = max((n for n in rows if n is not None), default=0)
            if None not in rows and most <= needed / 2:
                return str(easier), max(most - self.n, 0)
        return None

    # Single models

    def _good_single(self) -> int | None:
        """Return the other model that provably keeps the goal and is the cheapest or the best.

        For targets of quality alone it is the cheapest, otherwise the one of the highest quality.
        """
        others = [j for j in range(len(self.trial.candidates)) if j != self.best]
        good = [j for j in others if self._cost(j) <= self._cost(self.best) and self._keeps(j)]
        if not good:
            return None
        if self.goal.is_about_quality:
            return min(good, key=self._cost)
        return max(good, key=lambda j: float(self.trial.single_quality[:, j].mean()))

    def _does_as_well(self, column: int) -> bool:
        """Whether a single model that keeps the goal makes the router pointless."""
        if self.goal.is_about_quality:
            return self._cost(column) <= float(self.trial.cost_usd.mean())
        quality = float(self.trial.single_quality[:, column].mean())
        return quality >= float(self.trial.quality.mean())

    def _use_keeps(self, column: int) -> bool | None:
        """Whether a single model keeps the targets on average; None if that is unknown."""
        if self.goal.lambda_ is not None:
            return True
        if not self._is_known(column):
            return None
        alone = self._alone(column)
        margins = [m for target in self.goal.targets for m in target.margins(alone, self.best)]
        return all(float(rows.mean()) >= 0 for rows in margins)

    def _instead(self) -> int:
        """Return the single model to use in place of the router where none provably keeps it.

        It is the best one, or if that breaks a target, the best of those that keep it on average.
        """
        if self._use_keeps(self.best) is not False:
            return self.best
        keeping = [j for j in range(len(self.trial.candidates)) if self._use_keeps(j)]
        quality = self.trial.single_quality.mean(axis=0)
        return max(keeping, key=quality.__getitem__, default=self.best)

    def _is_known(self, column: int) -> bool:
        """Whether the trials hold what the targets ask of a single model."""
        if all(target.metric != "latency_s" for target in self.goal.targets):
            return True
        latency_s = self.trial.single_latency_s
        return latency_s is not None and not np.isnan(latency_s[:, column]).any()

    def _alone(self, column: int) -> Trials:
        trial, is_strong = self.trial, column == len(self.trial.candidates) - 1
        latency_s = trial.single_latency_s
        return replace(
            trial,
            quality=trial.single_quality[:, column][None],
            cost_usd=trial.single_cost_usd[:, column][None],
            strong=np.full_like(trial.strong, is_strong),
            latency_s=None if latency_s is None else latency_s[:, column][None],
        )

    def _keeps(self, column: int) -> bool:
        if self.goal.lambda_ is not None or not self._is_known(column):
            return False
        claims = claims_of(self._alone(column), self.goal, self.best)
        return all(self._test(it).proven for it in claims if it.kind == "target")

    def _cost(self, column: int) -> float:
        return float(self.trial.single_cost_usd[:, column].mean())

    def _saved(self, cost: Floats) -> Interval | None:
        alone = self.trial.single_cost_usd[:, self.best]
        if np.isnan(cost).any() or np.isnan(alone).any() or not float(alone.sum()) > 0:
            return None
        share = 1 - float(cost.sum() / alone.sum())
        # The ratio of two means is as uncertain as the mean of these rows.
        rows = (alone - cost - share * alone) / float(alone.mean())
        around = mean_interval(rows, self.two_sided)
        return Interval(share, share + around.low, min(share + around.high, 1.0))


def _rows_needed(claim: Claim, margin: float, n: int, confidence: float) -> int | None:
    """Estimate the rows whose interval is above 0 with a power of 80 %, if the mean is `margin`.

    Returns:
        More than `n` rows; None if it were more than is practical, or there is no gain.
    """
    if not margin > 0:
        return None
    if not math.isfinite(margin):
        return 2 * n
    rows, bounds = claim.rows[0], claim.bounds
    level, power = 2 * confidence - 1, float(norm.ppf(_POWER))
    variance = float(rows.var())
    bounded = math.isfinite(bounds[0]) and math.isfinite(bounds[1])
    if bounded:
        # One pseudo-row, shared by the bounds, because few rows show no spread.
        far = sum((end - float(rows.mean())) ** 2 for end in bounds) / 2
        variance = (n * variance + far) / (n + 1)

    def is_enough(m: int) -> bool:
        lucky = margin - power * math.sqrt(variance / m)
        if not bounded:
            return lucky > float(norm.ppf(confidence)) * math.sqrt(variance / m)
        return bounded_mean_interval(lucky, variance, m, m, level, bounds).low > 0

    low, high = n, 2 * n
    while not is_enough(high):
        low, high = high, 2 * high
        if high > 2 * _MAX_ROWS:
            break
    while high <= _MAX_ROWS and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    if high > _MAX_ROWS:
        # Few rows exaggerate what is needed, so they do not say that it is out of reach.
        return None if n >= _ENOUGH_TO_GIVE_UP else _MAX_ROWS
    return high
