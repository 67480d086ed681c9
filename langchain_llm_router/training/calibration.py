"""Calibration of a policy's knob to a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.evaluation.intervals import Interval, Resampling, mean_interval
from langchain_llm_router.evaluation.judgement import decide_verdict
from langchain_llm_router.evaluation.targets import Target, parse_targets
from langchain_llm_router.evaluation.trials import (
    Family,
    Trials,
    family_of,
    try_all,
)
from langchain_llm_router.evaluation.verdict import Verdict
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.chat import ChatLLMRouter
from langchain_llm_router.router.fitted_columns import columns_of
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training.guarantees import certified, p_value, rows_needed
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.errors import CalibrationError
from langchain_llm_router.types.figures import format_usd

__all__ = ["Calibrated", "Split", "calibrate", "meet_target"]

_SHARE_STEP = 0.02
"""Difference of the share of strong calls above which settings in between are tried."""

_N_FINER = 2
"""Number of times that settings are added in between."""


@dataclass(frozen=True)
class Split(CheckedArguments):
    """The split into rows that choose the setting and rows that check it.

    Args:
        held_out: Share of the rows that check the setting, in (0, 1). With `confidence`, the
            guarantee is tested on them.
        seed: Seed of the split.
    """

    held_out: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            msg = f"`held_out` must be in (0, 1), got {self.held_out!r}."
            raise ValueError(msg)

    def rows(self, n: int) -> tuple[Indices, Indices]:
        """Return the row indices of both parts, each in random order."""
        order = np.random.default_rng(self.seed).permutation(n)
        cut = n - round(self.held_out * n)
        if cut < 1 or cut >= n:
            more = max(1, math.ceil(1 / min(self.held_out, 1 - self.held_out)) - n)
            msg = f"{n} rows cannot be split with `held_out` {self.held_out!r}: label {more} more."
            raise CalibrationError(msg, more_labels=more)
        return order[:cut], order[cut:]


@dataclass(frozen=True)
class Calibrated:
    """A setting chosen for a target, with its results on the held-out rows."""

    target: str
    knob: float
    """The setting: λ in quality per dollar, a threshold, or another knob of the policy."""

    policy: Policy | None
    """The policy at this setting; None if only a table of trials was calibrated."""

    quality: Interval
    """Mean quality on the held-out rows."""

    cost_usd: Interval | None
    """Mean cost per query on the held-out rows; None if a cost is unknown."""

    strong_share: Interval
    """Share of the held-out queries on which the last candidate was asked."""

    margin: Interval
    """Margin by which the held-out rows meet the target, negative if they miss it."""

    n_rows: tuple[int, int]
    """Number of rows that chose the setting and number of rows that checked it."""

    knob_interval: Interval | None = None
    """Interval of the chosen setting when the rows that chose it are resampled."""

    confidence: float | None = None
    """Confidence level of the target for new queries like these; None without a guarantee."""

    certified: tuple[float, ...] = ()
    """Every setting with this guarantee, from the safest; `knob` is the last."""

    more_labels: int | None = None
    """Estimate of the further rows that would certify a better setting; None if none would."""

    cost_ceiling_usd: float | None = None
    """Upper bound of the cost of a query that a guarantee of the cost assumes."""

    verdict: Verdict | None = None
    """The verdict on the policy by the held-out rows; None for "=", or if only trials were
    calibrated."""

    goal: Goal | None = None
    """The goal of the verdict, likewise."""

    @property
    def holds(self) -> bool:
        """Whether the held-out rows meet the target on average; for "=", within the interval."""
        if parse_targets(self.target)[0].relation == "=":
            return self.margin.low <= 0 <= self.margin.high
        return self.margin.value >= 0

    def explain(self) -> str:
        """Return the result as text."""
        chosen, checked = self.n_rows
        lines = [] if self.verdict is None else [self.verdict.sentence]
        lines.append(f"{self.target}: knob {self.knob:.4g}")
        if self.knob_interval is not None:
            low, high = self.knob_interval.low, self.knob_interval.high
            lines[-1] += f" (between {low:.4g} and {high:.4g} when the {chosen} rows are resampled)"
        lines.append(f"  on {checked} held-out rows: quality {self.quality:.3f}")
        if self.cost_usd is not None:
            lines.append(f"  cost per 1,000 queries: {_per_thousand(self.cost_usd)}")
        lines.append(f"  strong share {self.strong_share:.3f}")
        lines.append(f"  {self._met()}")
        if self.confidence is not None:
            promise = f"  promised with confidence {self.confidence:g} for new queries like these"
            if self.cost_ceiling_usd is not None:
                promise += f", none of which costs more than {format_usd(self.cost_ceiling_usd)}"
            lines.append(promise)
            if self.more_labels is not None:
                lines.append(f"  about {self.more_labels:,} more labels would promise a better one")
        else:
            lines.append("  not promised: a `confidence` (the default, 0.95) gives a guarantee")
        return "\n".join(lines)

    def _met(self) -> str:
        """Say in words how far the held-out rows are from the target."""
        if parse_targets(self.target)[0].relation != "=":
            return f"they {'meet' if self.holds else 'miss'} the target by {self.margin:.4f}"
        away = Interval(-self.margin.value, -self.margin.high, -self.margin.low)
        agree = "which agrees with the target" if self.holds else "which misses the target"
        return f"the difference from the target is {away:+.4f}, {agree}"


def _per_thousand(cost: Interval) -> str:
    value, low, high = (format_usd(1000 * usd) for usd in (cost.value, cost.low, cost.high))
    return f"{value} [{low}, {high}]"


def calibrate(
    router: ChatLLMRouter | SavedRouter | Policy | Family,
    data: Outcomes,
    *,
    target: str,
    quality: ArrayLike | None = None,
    evaluations: SelfEvaluations | None = None,
    knobs: Sequence[float] | None = None,
    confidence: float | None = 0.95,
    split: Split | None = None,
) -> Calibrated:
    """Find the setting of a policy that meets a target, e.g. `"quality >= best - 1 point"`.

    Among settings that meet a target for quality, the cheapest is chosen. Among settings that meet
    a target for cost or for the share of strong calls, the one with the highest quality is chosen.

    Args:
        router: A live or saved router, a policy with a knob, or a function from a knob value to a
            policy.
        data: Labeled rows that were not used to fit the estimator or an observation model. If they
            have other candidates than the router, these too are single models to compare with.
        target: The target, or several with "and"; `Target` describes the forms.
        quality: Predicted quality, of shape (n_rows, n_candidates). A router with an estimator
            predicts it.
        evaluations: The verifier's scores, for policies that verify.
        knobs: Values of the knob to try. If None, the policy's `knob_values`, and some between
            those where the share of strong calls jumps.
        confidence: Confidence level of the target for new queries, in (0.5, 1). If None, there is
            no guarantee: in 38 to 43 % of the cases, the setting then misses the target on new
            queries.
        split: The split of the rows. If None, `Split()`.

    Raises:
        ValueError: If the target, the confidence or a table is invalid.
        CalibrationError: If no setting meets the target, or there are too few rows to guarantee it.
    """
    goals = parse_targets(target)
    split, table = split or Split(), data
    expected: ArrayLike | None = None
    policy_or_family: Policy | Family
    if isinstance(router, ChatLLMRouter):
        data = data.select(router.parts.names)
        if router.estimator is not None:
            columns = columns_of(router.estimator, data.candidates)
            quality = router.estimator.predict(data.queries)[:, columns]
        costs = [candidate.expected_cost_usd for candidate in router.parts.candidates]
        expected = None if None in costs else np.array(costs, dtype=np.float64)
        policy_or_family = router.parts.policy
    elif isinstance(router, SavedRouter):
        data = data.select(router.candidates)
        quality, expected = router.predict(data.queries), router.expected_costs
        policy_or_family = router.policy
    else:
        policy_or_family = router
    family, tried = _settings(policy_or_family, knobs, data, quality)
    attempt = partial(
        try_all,
        family,
        data=data,
        quality=quality,
        evaluations=evaluations,
        expected_cost_usd=expected,
    )
    trials = attempt(tried)
    if knobs is None:
        trials = _refine(trials, attempt, split)
    trials = _with_singles(trials, table)
    found = meet_target(trials, target, confidence=confidence, split=split)
    found = replace(found, policy=family(found.knob))
    if any(goal.relation == "=" for goal in goals):
        return found
    goal = Goal(goals, confidence=0.95 if confidence is None else confidence)
    checked = np.asarray(split.rows(len(trials))[1])
    setting = int(np.flatnonzero(trials.knob == found.knob)[0])
    verdict = decide_verdict(
        trials.take(checked).pick(setting), goal, clusters=[data.queries[i] for i in checked]
    )
    return replace(found, verdict=verdict, goal=goal)


def _with_singles(trials: Trials, table: Outcomes) -> Trials:
    """Return the trials with every candidate of the table as a single model to compare with."""
    unknown = np.full(table.quality.shape, np.nan)
    return replace(
        trials,
        single_quality=table.quality,
        single_cost_usd=unknown if table.cost_usd is None else table.cost_usd,
        candidates=tuple(table.candidates),
    )


def _refine(trials: Trials, attempt: Callable[[Sequence[float]], Trials], split: Split) -> Trials:
    """Try more settings where the share of strong calls jumps from one to the next.

    Most rows lie between two values of a grid if their predictions are alike.
    """
    for _ in range(_N_FINER):
        finer = _between(trials.take(split.rows(len(trials))[0]))
        if len(finer) == 0:
            break
        trials = attempt(sorted({*trials.knob.tolist(), *finer}))
    return trials


def _between(trials: Trials) -> list[float]:
    """Return settings between those at which the share differs by more than one step."""
    order = np.argsort(trials.knob)
    knob, share = trials.knob[order], trials.strong.mean(axis=1)[order]
    n_steps = np.ceil(np.abs(np.diff(share)) / _SHARE_STEP).astype(int)
    return [
        float(value)
        for low, high, n in zip(knob[:-1], knob[1:], n_steps, strict=True)
        for value in np.linspace(low, high, n + 1)[1:-1]
    ]


def _settings(
    policy: Policy | Family,
    knobs: Sequence[float] | None,
    data: Outcomes,
    quality: ArrayLike | None,
) -> tuple[Family, Sequence[float]]:
    """Return the family of policies and the values of its knob to try."""
    if not isinstance(policy, Policy):
        if knobs is None:
            msg = (
                "`knobs` is None, and a function that makes policies does not tell which settings "
                "to try: give their values, e.g. `knobs=[0.2, 0.5, 0.8]`."
            )
            raise ValueError(msg)
        return policy, knobs
    if policy.knob is None:
        msg = (
            f"The router's policy, {type(policy).__name__}, has no setting to calibrate: fit a "
            "router on more questions first."
        )
        raise CalibrationError(msg)
    if knobs is None:
        means = data.mean_cost_usd
        knobs = policy.knob_values(() if means is None else means, quality)
    return family_of(policy)[1], knobs


def meet_target(
    trials: Trials,
    target: str,
    *,
    confidence: float | None = None,
    split: Split | tuple[Indices, Indices] | None = None,
) -> Calibrated:
    """Calibrate from a table of the quality and cost of every setting; see `calibrate`.

    `split` may also be the row indices that choose and those that check, each in random order.

    References:
        Angelopoulos et al., 2021, Learn then test, arXiv:2110.01052; with the settings put in
        order on other rows as in Laufer-Goldshtein et al., 2022, Pareto testing, arXiv:2210.07913.
    """
    goals = parse_targets(target)
    if confidence is not None and not 0.5 < confidence < 1:
        msg = f"`confidence` must be in (0.5, 1), got {confidence!r}."
        raise ValueError(msg)
    if confidence is not None and any(goal.relation == "=" for goal in goals):
        msg = (
            f"`target` is {target!r}, and no equation can be promised with a `confidence`: use "
            "'<=' or '>=', or `confidence=None` (`--no-promise`)."
        )
        raise ValueError(msg)
    if isinstance(split, tuple):
        chosen, checked = split
    else:
        chosen, checked = (split or Split()).rows(len(trials))
    choice = _Choice(goals, trials.take(chosen))
    if confidence is None:
        k = choice.pick()
        found = _report(choice, k, trials.take(checked))
        return replace(found, knob_interval=choice.knob_interval())
    return _guarantee(choice, trials, (chosen, checked), confidence)


class _Choice:
    """The choice among the settings, by the rows that choose."""

    def __init__(self, goals: tuple[Target, ...], trials: Trials) -> None:
        if len(goals) > 1 and any(goal.relation == "=" for goal in goals):
            msg = f"An equation must be the only target, got {list(map(str, goals))}."
            raise ValueError(msg)
        self.goals, self.trials = goals, trials
        self.best = int(trials.single_quality.mean(axis=0).argmax())
        self.margins, _ = self.margins_of(trials)
        if any(np.isnan(margin).any() for margin in self.margins):
            msg = f"The target {self.text!r} needs every cost, but the data lacks some."
            raise ValueError(msg)
        self.objective = self._objective()

    @property
    def text(self) -> str:
        """The targets in words."""
        return " and ".join(map(str, self.goals))

    def margins_of(self, trials: Trials) -> tuple[list[Floats], list[tuple[float, float]]]:
        """Return the margins of all targets, and the bounds of each."""
        margins, bounds = [], []
        for goal in self.goals:
            arrays = goal.margins(trials, self.best)
            margins += arrays
            bounds += [goal.bounds(trials, self.best)] * len(arrays)
        return margins, bounds

    def pick(self) -> int:
        """Return the index of the best setting that meets the target.

        Raises:
            CalibrationError: If none meets it.
        """
        picked = self._pick(np.min([m.mean(axis=1) for m in self.margins], axis=0))
        if picked is None:
            raise self.unreachable_error()
        return picked

    def knob_interval(self) -> Interval:
        """Compute the interval of the chosen setting over resampled rows."""
        knob, picks = self.trials.knob, []
        for drawn in Resampling(n_resamples=100).weights(len(self.trials)):
            share = drawn / drawn.sum(axis=1, keepdims=True)
            means = np.min([share @ margin.T for margin in self.margins], axis=0)
            picks += [k for row in means if (k := self._pick(row)) is not None]
        return Interval.of_draws(float(knob[self.pick()]), knob[picks])

    def _pick(self, means: Floats) -> int | None:
        if self.goals[0].relation == "=":
            return int(np.abs(means).argmin())
        meets = np.flatnonzero(means >= 0)
        return int(meets[self.objective[meets].argmax()]) if len(meets) > 0 else None

    def sequence(self) -> list[int]:
        """Return the order of tests: from the safest setting, each better than all before."""
        n = len(self.trials)
        # 1 / n keeps a constant margin from counting as infinitely safe.
        surest = [m.mean(axis=1) / (m.std(axis=1) + 1 / n) for m in self.margins]
        safety = np.min(surest, axis=0)
        order, top = [], -np.inf
        for k in np.lexsort((-self.objective, -safety)):
            if self.objective[k] > top:
                order.append(int(k))
                top = self.objective[k]
        return order

    def worst_first(self, k: int) -> list[int]:
        """Return the indices of a setting's margins, the most doubtful first."""
        return [
            int(j) for j in np.argsort([m[k].mean() / (m[k].std() + 1e-9) for m in self.margins])
        ]

    def unreachable_error(self) -> CalibrationError:
        means = np.min([m.mean(axis=1) for m in self.margins], axis=0)
        k = int(means.argmax())
        closest = f"the closest, knob {self.trials.knob[k]:.4g},"
        if means[k] < 0:
            fact = f"No setting meets {self.text!r}: {closest} misses it by {-means[k]:.4f}"
        else:
            fact = (
                f"No setting can be promised to meet {self.text!r}: {closest} meets it by only "
                f"{means[k]:.4f}"
            )
        msg = (
            f"{fact}, in the mean of {len(self.trials):,} rows. Ask for less"
            f"{self._within_reach()}, or give the policy better estimates or candidates."
        )
        return CalibrationError(msg)

    def _within_reach(self) -> str:
        """Name the nearest easier target that a setting meets, if there is one."""
        for points in range(1, 100) if len(self.goals) == 1 else ():
            easier = self.goals[0].easier(points)
            if easier is None:
                continue
            margins = easier.margins(self.trials, self.best)
            if np.min([m.mean(axis=1) for m in margins], axis=0).max() >= 0:
                return f", e.g. for {str(easier)!r}"
        return ""

    def _objective(self) -> Floats:
        if any(goal.metric != "quality" for goal in self.goals):
            return np.asarray(self.trials.quality.mean(axis=1), dtype=np.float64)
        cost = self.trials.cost_usd.mean(axis=1)
        share = self.trials.strong.mean(axis=1)
        return np.asarray(-share if np.isnan(cost).any() else -cost, dtype=np.float64)


def _guarantee(
    choice: _Choice, trials: Trials, parts: tuple[Indices, Indices], confidence: float
) -> Calibrated:
    delta = 1 - confidence
    checking = trials.take(parts[1])
    margins, _ = choice.margins_of(checking)
    _, bounds = choice.margins_of(trials)
    if not np.isfinite(bounds).all():
        msg = f"The target {choice.text!r} has no bounds, so no number of rows can guarantee it."
        raise ValueError(msg)

    def p(k: int) -> float:
        worst = 0.0
        for j in choice.worst_first(k):
            worst = max(worst, p_value(margins[j][k], *bounds[j], delta=delta))
            if worst > delta:
                break
        return worst

    order = choice.sequence()
    tests: list[Callable[[], float]] = [partial(p, k) for k in order]
    passed = certified(tests, delta)
    share = len(checking) / len(trials)
    everything, _ = choice.margins_of(trials)
    needed = [_labels(everything, k, delta) for k in order[passed:]]
    total = [int(np.ceil(n / share)) for n in needed if n is not None]
    if passed == 0:
        if len(total) == 0:
            raise _Choice(choice.goals, trials).unreachable_error()
        more = _further(total, len(trials))
        msg = (
            f"{len(trials)} labeled rows cannot guarantee {choice.text!r} with confidence "
            f"{confidence:g}: label about {more:,} more."
        )
        raise CalibrationError(msg, more_labels=more)
    found = _report(choice, order[passed - 1], checking)
    return replace(
        found,
        confidence=confidence,
        certified=tuple(float(trials.knob[k]) for k in order[:passed]),
        more_labels=_further(total, len(trials)) if total else None,
        cost_ceiling_usd=(
            trials.cost_ceiling_usd if any(g.metric == "cost_usd" for g in choice.goals) else None
        ),
    )


def _further(total: list[int], n: int) -> int:
    """Return how many more rows are needed; as many again if these should have been enough."""
    return min(total) - n if min(total) > n else n


def _labels(margins: list[Floats], k: int, delta: float) -> int | None:
    """Estimate the rows that show this setting to meet the target; None if it does not."""
    needed = [rows_needed(margin[k], delta) for margin in margins]
    finite = [n for n in needed if n is not None]
    return max(finite) if len(finite) == len(needed) else None


def _report(choice: _Choice, k: int, checking: Trials) -> Calibrated:
    margins, _ = choice.margins_of(checking)
    worst = min((margin[k] for margin in margins), key=lambda values: float(values.mean()))
    cost = checking.cost_usd[k]
    quality = all(goal.metric not in {"cost_usd", "latency_s"} for goal in choice.goals)
    # A target below the best model's quality allows a margin of more than 1.
    possible = min(-1.0, float(worst.min())), max(1.0, float(worst.max()))
    return Calibrated(
        target=choice.text,
        knob=float(choice.trials.knob[k]),
        policy=None,
        quality=mean_interval(checking.quality[k], bounds=(0, 1)),
        cost_usd=None if np.isnan(cost).any() else mean_interval(cost, bounds=(0, np.inf)),
        strong_share=mean_interval(checking.strong[k], bounds=(0, 1)),
        margin=mean_interval(worst, bounds=possible) if quality else mean_interval(worst),
        n_rows=(len(choice.trials), len(checking)),
    )
