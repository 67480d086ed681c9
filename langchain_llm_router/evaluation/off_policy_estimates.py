"""Off-policy estimates of another policy's score, from a log with propensities.

A log has only the answers that the logged policy asked for. If the logged policy chose at random,
each request has the weight w = P(new policy does this) / P(logged policy did this). If it was
deterministic, only requests on which both policies agree can be used, and the report says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.evaluation.intervals import (
    Interval,
    Resampling,
    bounded_mean_interval,
    mean_interval,
)
from langchain_llm_router.evaluation.logged_chances import LoggedChances
from langchain_llm_router.history.log_reader import History
from langchain_llm_router.history.log_replay import Changes, LogReplay, replay_log
from langchain_llm_router.history.replay_figures import ReplayFigures
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.figures import format_share

__all__ = [
    "OffPolicy",
    "Overlap",
    "doubly_robust",
    "estimate",
    "inverse_propensity",
    "off_policy",
    "self_normalized",
]

_DEFAULT = Resampling()
_ENOUGH = 30.0


def inverse_propensity(
    weight: ArrayLike,
    reward: ArrayLike,
    resampling: Resampling = _DEFAULT,
    *,
    max_weight: float | None = None,
) -> Interval:
    """Estimate the mean score as the mean of w·r.

    The estimate is unbiased if the logged policy could have done everything that the new one does.
    Its interval is that of a mean with bounds (`mean_interval`): a few pseudo-rows of weight 0 and
    of the largest possible weight stand for weights that are possible and were not drawn. At 95 %
    it held the truth in 95.0 to 99.7 % of simulated logs of 50 to 1,500 requests with weights up to
    50, more than 97 % where few have a large one; the bootstrap in 41 to 95 %.

    Args:
        weight: Weight w of each request, of shape (n,).
        reward: Score r of each request, in [0, 1], same shape.
        resampling: Confidence level and clusters; no requests are redrawn.
        max_weight: The largest weight that the log could have: 1 over its smallest propensity, also
            of requests on which the policies differ. If None, the largest of `weight`; the interval
            is then too short if larger ones are possible and rare.

    References:
        Horvitz & Thompson, 1952, JASA 47(260); Dudik et al., 2014, arXiv:1503.02834, equation 2.
    """
    w, r = _scores(weight, reward)
    found = mean_interval(w * r, resampling, bounds=(0.0, _largest(w, max_weight)))
    return _possible(found)


def _largest(weight: Floats, max_weight: float | None) -> float:
    """Return the largest possible weight, which is at least 1 as 1 over a propensity is."""
    seen = float(weight.max())
    if max_weight is None:
        return max(seen, 1.0)
    if not (math.isfinite(max_weight) and max_weight >= seen):
        msg = (
            f"`max_weight` is {max_weight!r}, but a weight is {seen!r}: it must be finite and at "
            "least as large."
        )
        raise ValueError(msg)
    return max_weight


def _possible(found: Interval) -> Interval:
    """Limit the ends to [0, 1], as far as the estimate itself is inside."""
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return replace(found, low=min(found.value, low), high=max(found.value, high))


def self_normalized(
    weight: ArrayLike, reward: ArrayLike, resampling: Resampling = _DEFAULT
) -> Interval:
    """Estimate the mean score as Σ w·r / Σ w.

    The estimate is slightly biased, but has far less variance and is in the range of the rewards.
    Its interval is the score interval of as many unweighted scores as have the same standard error,
    or the effective sample size (Σ w)² / Σ w² if that is less. At 95 % it held the truth in 94.0 to
    99.5 % of the logs as in `inverse_propensity`; the bootstrap in 84 to 95 %.

    Args:
        weight: Weight w of each request, of shape (n,).
        reward: Score r of each request, in [0, 1], same shape.
        resampling: Confidence level and clusters; no requests are redrawn.

    References:
        Swaminathan & Joachims, 2015, The self-normalized estimator, NeurIPS 28, equation 8.
    """
    w, r = _scores(weight, reward)
    total = float(w.sum())
    if total <= 0:
        return Interval(math.nan, 0.0, 1.0)
    value = float(w @ r) / total
    codes = resampling.codes(len(w))
    sums = np.bincount(codes, w) / total
    errors = np.bincount(codes, w * (r - value)) / total
    variance = float(w @ (r - value) ** 2) / total
    n = 1 / float((sums**2).sum())
    if (squared := float((errors**2).sum())) > 0:
        n = min(n, variance / squared)
    # With less than one and a half scores any mean is possible anyway.
    return bounded_mean_interval(
        value, variance, n, max(n, 1.5), resampling.confidence, bounds=(0.0, 1.0)
    )


def doubly_robust(
    weight: ArrayLike,
    reward: ArrayLike,
    predicted: ArrayLike,
    predicted_new: ArrayLike,
    resampling: Resampling = _DEFAULT,
    *,
    max_weight: float | None = None,
) -> Interval:
    """Estimate the mean score as the mean of q̂(new) + w·(r - q̂(logged)).

    The estimate is unbiased if the propensities or the predictions are correct. Its interval is
    that of a mean with bounds (`mean_interval`), limited to [0, 1]: the bounds are what a request
    of the mean prediction and of the largest weight adds with a score of 0 and of 1. At 95 % it
    held the truth in 93 to 100 % of the logs as in `inverse_propensity`, with predictions of half
    the spread of the truth or of 0.1 or 0.9 everywhere, and in 98 to 99.7 % where few requests have
    a weight and nearly all of them are good; Student's interval in 54 to 88 % of these.

    Args:
        weight: Weight w of each request, of shape (n,).
        reward: Score r of each request, in [0, 1], same shape.
        predicted: Predicted reward of the logged action, same shape.
        predicted_new: Predicted reward of the new policy's action, same shape; its expectation if
            that policy chooses at random.
        resampling: Confidence level and clusters; no requests are redrawn.
        max_weight: As in `inverse_propensity`. If it is None and every weight is 0, the interval
            is [0, 1].

    References:
        Dudik et al., 2014, Doubly robust policy evaluation, arXiv:1503.02834, equation 3.
    """
    w, r = _scores(weight, reward)
    done, new = _pair(predicted, predicted_new)
    if w.shape != done.shape:
        msg = f"There are {len(w)} weights and {len(done)} predictions, but must be as many."
        raise ValueError(msg)
    values, largest = new + w * (r - done), _largest(w, max_weight)
    if max_weight is None and not w.any():
        # No propensity is known, and so not how much could be added to the predictions.
        return _possible(Interval(float(values.mean()), 0.0, 1.0))
    # What a request of the mean prediction and the largest weight adds with a score of 0 and of 1.
    typical = float(new.mean())
    low = min(float(values.min()), typical - largest * typical)
    high = max(float(values.max()), typical + largest * (1 - typical))
    if low == high:
        return _possible(Interval(low, 0.0, 1.0))
    return _possible(mean_interval(values, resampling, bounds=(low, high)))


def _scores(weight: ArrayLike, reward: ArrayLike) -> tuple[Floats, Floats]:
    w, r = _pair(weight, reward)
    if r.min() < 0 or r.max() > 1 or w.min() < 0:
        msg = (
            "Rewards must be in [0, 1] and weights at least 0, got rewards from "
            f"{float(r.min())!r} to {float(r.max())!r} and a smallest weight of {float(w.min())!r}."
        )
        raise ValueError(msg)
    return w, r


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        msg = (
            "Weights, rewards and predictions must all have the same shape (n,), n >= 1, "
            f"got {a.shape} and {b.shape}."
        )
        raise ValueError(msg)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        msg = "Weights, rewards and predictions must be finite: leave out the requests without one."
        raise ValueError(msg)
    return a, b


@dataclass(frozen=True)
class Overlap:
    """The overlap of a logged policy and a new policy.

    Attributes:
        n: Number of requests with a score.
        n_agreeing: Number of requests on which the new policy may take the logged action.
        n_unsupported: Number of requests on which the new policy may take an action that the
            logged policy never takes.
        effective_n: Effective sample size (Σ w)² / Σ w²: the equivalent number of requests logged
            under the new policy.
        mean_weight: Mean of w. Its interval contains 1 if the logged policy can take every action
            of the new policy.
    """

    n: int
    n_agreeing: int
    n_unsupported: int
    effective_n: float
    mean_weight: Interval

    @property
    def enough(self) -> bool:
        """Whether the log supports all actions of the new policy with enough requests."""
        supported = self.n_unsupported == 0 and self.mean_weight.high >= 1 - 1e-9
        return supported and self.effective_n >= _ENOUGH

    def __str__(self) -> str:
        if self.n == 0:
            return "No request of this log has a score: give feedback first."
        if self.n_agreeing == 0:
            return "The log has no request on which this policy may take the logged action."
        if self.n_unsupported > 0:
            share = self.n_unsupported / self.n
            return (
                f"On {self.n_unsupported} of {self.n} requests ({format_share(share)}) this policy "
                "may take an action that the logged policy, which did not choose at random, never "
                "takes. The estimates use the other requests, which may be easier or harder: let "
                "the logged policy explore at random to support the rest."
            )
        if self.mean_weight.high < 1 - 1e-9:
            return (
                f"The mean of the weights is {self.mean_weight:.2f} and should be 1: this policy "
                "takes actions that the logged policy never takes, which cannot be estimated."
            )
        if self.effective_n < _ENOUGH:
            cause = "they are too few" if self.n < _ENOUGH else "the policies overlap too little"
            return (
                f"The {self.n} requests are worth only {self.effective_n:.0f} logged under this "
                f"policy: {cause} for a reliable estimate."
            )
        return f"{self.n} requests, worth {self.effective_n:.0f} logged under this policy."


@dataclass(frozen=True)
class OffPolicy:
    """Estimates of another policy's mean score.

    Attributes:
        overlap: The overlap of the policies, on which the estimates depend.
        logged: Mean score of the logged policy on the same requests.
        ips: Inverse-propensity estimate. Unsupported requests count as 0, which makes it too low.
        snips: Self-normalized estimate, without unsupported requests.
        dr: Doubly robust estimate, which depends on the predictions for unsupported requests. None
            if a candidate has no predicted quality.
        bounds: Lowest and highest estimate that the unsupported requests allow, without sampling
            error.
        replay: The new policy's decisions on every request.
    """

    overlap: Overlap
    logged: Interval | None
    ips: Interval | None
    snips: Interval | None
    dr: Interval | None
    bounds: tuple[float, float] | None
    replay: ReplayFigures


def off_policy(
    history: History,
    policy: Policy,
    *,
    changes: Changes | None = None,
    key: str | None = None,
    resampling: Resampling = _DEFAULT,
    replay: LogReplay | None = None,
) -> OffPolicy:
    """Estimate the mean feedback score of another policy on the requests of a log.

    Requests without feedback are left out, which is unbiased if feedback depends only on the query
    and the quality of the answer.

    Args:
        history: A log with feedback.
        policy: The policy to evaluate.
        changes: Other differences from the log.
        key: Key of the feedback to use. If None, the mean of all feedback of a request.
        resampling: Confidence level and clusters of the intervals; no requests are redrawn.
        replay: Replay of the same log with this policy and these changes, if it exists already.

    Raises:
        ValueError: As in `replay_log`.
        NotImplementedError: If the policy chooses at random and has no `chance`.
    """
    done = replay_log(history, policy, changes=changes or Changes()) if replay is None else replay
    scores = [history.score(row.entry.decision_id, key) for row in done.rows]
    rows = [row for row, score in zip(done.rows, scores, strict=True) if score is not None]
    chances = LoggedChances.of(rows, policy)
    reward = np.array([score for score in scores if score is not None], dtype=np.float64)
    usable = chances.usable
    return estimate(chances.take(usable), reward[usable], done, resampling)


def estimate(
    chances: LoggedChances, reward: Floats, replay: ReplayFigures, resampling: Resampling
) -> OffPolicy:
    """Estimate the mean score of the policy of a replay.

    Args:
        chances: The usable requests with a score.
        reward: The score of each of them.
        replay: The replay of all requests.
        resampling: Settings of the bootstrap.

    Raises:
        Exception: That of the policy where it could not say how probable the logged steps are.
    """
    if len(reward) == 0:
        nothing = Overlap(0, 0, 0, 0.0, Interval(math.nan, -math.inf, math.inf))
        return OffPolicy(nothing, None, None, None, None, None, replay)
    chances.check()
    weight, one = chances.chance / chances.propensity, np.ones(len(reward))
    # A request on which the logged policy was deterministic supports no other action.
    beyond = np.where(chances.propensity == 1, 1 - chances.chance, 0.0)
    largest = 1 / float(chances.propensity.min())
    overlap = Overlap(
        n=len(reward),
        n_agreeing=int((chances.chance > 0).sum()),
        n_unsupported=int((beyond > 0).sum()),
        effective_n=_effective(weight),
        mean_weight=mean_interval(weight, resampling, bounds=(0.0, largest)),
    )
    low, agrees = float((weight * reward).mean()), overlap.n_agreeing > 0
    predicted = chances.predicted, chances.predicted_new
    return OffPolicy(
        overlap=overlap,
        logged=inverse_propensity(one, reward, resampling),
        ips=inverse_propensity(weight, reward, resampling, max_weight=largest) if agrees else None,
        snips=self_normalized(weight, reward, resampling) if agrees else None,
        dr=None
        if np.isnan(predicted[0]).any()
        else doubly_robust(weight, reward, *predicted, resampling, max_weight=largest),
        bounds=(low, low + float(beyond.mean())),
        replay=replay,
    )


def _effective(weight: Floats) -> float:
    square = float((weight**2).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0
