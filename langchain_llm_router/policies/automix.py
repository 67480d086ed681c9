"""The policies of AutoMix's repository, as baselines: a set of scores escalates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.observation import score_index
from langchain_llm_router.policies.policy import accept
from langchain_llm_router.policies.training_tables import check_tables, mean_costs
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Bools, Floats, Indices

__all__ = ["AutoMix"]

_Family = Literal["threshold", "double_threshold", "greedy", "needy", "union"]


@dataclass(eq=False)
class AutoMix(FittedPolicy):
    """Escalates from a small to a large candidate iff the score is in a fitted set of scores.

    The families differ in the sets that are tried on the training rows: `threshold` scores up to t;
    `double_threshold` scores from t₁ to t₂; `greedy` the scores with the highest smoothed mean
    gain; `needy` those where P(only the large one is right | score) is high against the other
    cases (the repository's one-step POMDP); `union` all of them. The best set on training rows is
    kept. After a missing verdict the large candidate is asked.

    Args:
        family: The family of sets to try.
        n_samples: k; scores are rounded to the nearest of 0/k, …, 1.
        lambda_: λ in quality per USD: the set with the best quality - λ·cost is chosen. If None,
            that with the best benefit per cost, as in the repository, which may rarely escalate.

    Attributes:
        candidates_: Names of the small and the large candidate.
        escalate_: Whether each of the k + 1 scores escalates.

    References:
        Aggarwal et al., 2024, AutoMix, arXiv:2310.12963, and its repository. Deviation: scores are
        binned to the nearest, not floored.
    """

    family: _Family = "union"
    n_samples: int = 8
    lambda_: float | None = None

    verifies: ClassVar[bool] = True
    decides_by_verdicts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range(self, "lambda_")
        if self.family not in get_args(_Family):
            msg = f"`family` must be one of {list(get_args(_Family))}, got {self.family!r}."
            raise ValueError(msg)
        if self.n_samples < 1:
            msg = f"`n_samples` must be >= 1, got {self.n_samples!r}."
            raise ValueError(msg)

    def fit(self, outcomes: Outcomes, evaluations: SelfEvaluations) -> Self:
        """Try every set of the family on the training rows and keep the best.

        Raises:
            ValueError: If there are not two candidates, or costs are unknown.
        """
        check_tables(outcomes, evaluations)
        if len(outcomes.candidates) != 2:
            msg = (
                f"`outcomes` must have two candidates for AutoMix, got {list(outcomes.candidates)}."
            )
            raise ValueError(msg)
        cost = mean_costs("outcomes", outcomes.cost_usd, outcomes.candidates)
        verification = None if evaluations.cost_usd is None else evaluations.cost_usd[:, :1]
        verifying = float(mean_costs("evaluations", verification, outcomes.candidates[:1])[0])
        score = score_index(evaluations.confidence[:, 0], self.n_samples)
        small, large = outcomes.quality.T
        best, best_value = np.zeros(self.n_samples + 1, dtype=bool), -np.inf
        for escalate in self._sets(score, small, large):
            up = np.append(escalate, True)[score]
            quality = float(np.where(up, large, small).mean())
            spent = float(cost[0] + verifying + up.mean() * cost[1])
            value = self._value(quality, spent, float(small.mean()), float(cost[0]))
            if value > best_value:
                best, best_value = escalate, value
        self.candidates_ = tuple(outcomes.candidates)
        self.escalate_ = best
        return self

    def decide(self, situation: Situation) -> Decision:
        """Ask the small candidate, verify its answer, and escalate on a score of the set."""
        self._check_fitted()
        answered = situation.answered
        waiting = [arm.candidate for arm in situation.open_arms]
        waiting.sort(key=self._rank)
        name = type(self).__name__
        if len(answered) == 0:
            if len(waiting) == 0:
                return accept(self, situation.attempts[-1], "every candidate failed")
            final = waiting[0] != self.candidates_[0] or len(waiting) == 1
            return Decision("ask", waiting[0], name, "the first in order", final=final)
        last = answered[-1]
        if len(waiting) == 0 or last["candidate"] != self.candidates_[0]:
            return accept(self, last, "no better candidate is left")
        if not last.get("verified", False):
            return Decision("verify", last["candidate"], name, "is this answer good enough?")
        score = last.get("confidence")
        index = score_index(np.nan if score is None else score, self.n_samples)
        if np.append(self.escalate_, True)[index]:
            return Decision("ask", waiting[0], name, f"a score of {score} escalates", final=True)
        return accept(self, last, f"a score of {score} is kept", confidence=score)

    def _settings(self) -> dict[str, Any]:
        return {"candidates": list(self.candidates_)}

    def _arrays(self) -> Arrays:
        return {"escalate": self.escalate_}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.candidates_ = tuple(settings["candidates"])
        self.escalate_ = arrays["escalate"]

    def _rank(self, name: str) -> int:
        return self.candidates_.index(name) if name in self.candidates_ else len(self.candidates_)

    def _value(self, quality: float, spent: float, weak_quality: float, weak_cost: float) -> float:
        if self.lambda_ is not None:
            return quality - self.lambda_ * spent
        # IBC_BASE is the same for every set, so this has the same maximum as the lift.
        return (quality - weak_quality) / max(spent - weak_cost, 1e-30)

    def _sets(self, score: Indices, small: Floats, large: Floats) -> Iterable[Bools]:
        k = self.n_samples
        scores = np.arange(k + 1)
        if self.lambda_ is not None:
            # The set without escalation is sensible at a high λ, but has no benefit per cost.
            yield np.zeros(k + 1, dtype=bool)
        families = get_args(_Family)[:-1] if self.family == "union" else (self.family,)
        for family in families:
            if family == "threshold":
                yield from (scores <= t for t in range(k + 1))
            elif family == "double_threshold":
                for low in range(k + 1):
                    yield from ((scores >= low) & (scores <= t) for t in range(low, k + 1))
            elif family == "greedy":
                yield from _nested_sets(_smoothed_gain(score, large - small, k))
            else:
                yield from _needy_sets(score, small, large, k)


def _nested_sets(worth: Floats) -> Iterable[Bools]:
    """Yield the set of the best score, of the best two, and so on."""
    order = np.argsort(-worth, kind="stable")
    for size in range(1, len(worth) + 1):
        chosen = np.zeros(len(worth), dtype=bool)
        chosen[order[:size]] = True
        yield chosen


def _smoothed_gain(score: Indices, gain: Floats, k: int) -> Floats:
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - slow, and only fitting needs it

    counts = np.bincount(score, minlength=k + 2)[: k + 1]
    sums = np.bincount(score, gain, minlength=k + 2)[: k + 1]
    mean = sums / np.maximum(counts, 1)
    return np.asarray(gaussian_filter1d(mean, sigma=2), dtype=np.float64)


def _needy_sets(score: Indices, small: Floats, large: Floats, k: int) -> Iterable[Bools]:
    """Yield the sets with r·P(needy) > 100·(P(needy) + P(good)) + 99·P(hopeless), r = 0..4999.

    The repository's POMDP reduces to this rule. Rows on which the small candidate was strictly
    better ("undefined") are ignored, as in the repository.
    """
    needy = small < large
    poor = (small <= np.quantile(small, 0.1)) & (large <= np.quantile(large, 0.1))
    hopeless = ~needy & poor
    good = ~needy & ~poor & (small == large)
    n, g, h = (
        np.bincount(score[rows], minlength=k + 2)[: k + 1] for rows in (needy, good, hopeless)
    )
    bar = np.where(n > 0, (100.0 * (n + g) + 99.0 * h) / np.maximum(n, 1), np.inf)
    for r in np.unique(bar[bar < 4999]):
        yield bar <= r
