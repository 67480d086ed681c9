"""What would another policy have scored? Off-policy evaluation from a log with propensities.

The log holds only the answers of the candidates that the logged policy asked. Where it chose at
random, each answer also stands for those it might have given, weighted by
w = P(new policy does this) / P(logged policy did it). Where it was deterministic, only the requests
on which both policies agree can be valued, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.evaluation import Interval, Resampling, weighted_bootstrap
from langchain_llm_router.history.log_reader import History
from langchain_llm_router.history.log_replay import Changes, LogReplay, Replayed, replay_log
from langchain_llm_router.history.retraced import situations_before_steps
from langchain_llm_router.loop.endpoints import ByModel
from langchain_llm_router.loop.loop import next_decision
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.arrays import Floats

__all__ = [
    "OffPolicy",
    "Overlap",
    "doubly_robust",
    "inverse_propensity",
    "off_policy",
    "self_normalized",
]

_DEFAULT = Resampling()
_ENOUGH = 30.0


def inverse_propensity(
    weight: ArrayLike, reward: ArrayLike, resampling: Resampling = _DEFAULT
) -> Interval:
    """Mean of w·r: unbiased where the logged policy could have done everything the new one does.

    Args:
        weight: w per request, of shape (n,).
        reward: Score of what was done, same shape.
        resampling: For the interval.

    References:
        Horvitz & Thompson, 1952, JASA 47(260); Dudik et al., 2014, arXiv:1503.02834, equation 2.
    """
    w, r = _pair(weight, reward)
    return weighted_bootstrap(lambda d: (d @ (w * r)) / d.sum(axis=1), len(w), resampling)


def self_normalized(
    weight: ArrayLike, reward: ArrayLike, resampling: Resampling = _DEFAULT
) -> Interval:
    """Σ w·r / Σ w: slightly biased, with far less variance, and never outside the rewards' range.

    Args:
        weight: w per request, of shape (n,).
        reward: Score of what was done, same shape.
        resampling: For the interval.

    References:
        Swaminathan & Joachims, 2015, The self-normalized estimator, NeurIPS 28, equation 8.
    """
    w, r = _pair(weight, reward)

    def statistic(drawn: Floats) -> Floats:
        total = drawn @ w
        # A resample in which no request agrees says nothing, and is left out.
        ratio: Floats = np.where(total > 0, drawn @ (w * r) / np.where(total > 0, total, 1), np.nan)
        return ratio

    return weighted_bootstrap(statistic, len(w), resampling)


def doubly_robust(
    weight: ArrayLike,
    reward: ArrayLike,
    predicted: ArrayLike,
    predicted_new: ArrayLike,
    resampling: Resampling = _DEFAULT,
) -> Interval:
    """Mean of q̂(new) + w·(r - q̂(done)): unbiased if the propensities or the predictions are.

    Args:
        weight: w per request, of shape (n,).
        reward: Score of what was done, same shape.
        predicted: Predicted reward of what was done.
        predicted_new: Predicted reward of what the new policy does, its mean if that is random.
        resampling: For the interval.

    References:
        Dudik et al., 2014, Doubly robust policy evaluation, arXiv:1503.02834, equation 3.
    """
    w, r = _pair(weight, reward)
    done, new = _pair(predicted, predicted_new)
    return inverse_propensity(np.ones_like(w), new + w * (r - done), resampling)


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        msg = f"Weights and rewards must be of one shape (n,), n >= 1, got {a.shape}, {b.shape}."
        raise ValueError(msg)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        msg = "Weights and rewards must be finite: leave out the requests without one."
        raise ValueError(msg)
    return a, b


@dataclass(frozen=True)
class Overlap:
    """How much a log can say about another policy.

    Attributes:
        n: Requests behind the figures.
        n_agreeing: Those on which the new policy may do what was done.
        n_unsupported: Those on which it may do what the logged policy never would have done.
        effective_n: (Σ w)² / Σ w², the effective sample size: how many requests logged under the
            new policy itself these are worth.
        mean_weight: Its interval contains 1 if the logged policy could have done everything that
            the new one does.
    """

    n: int
    n_agreeing: int
    n_unsupported: int
    effective_n: float
    mean_weight: Interval

    @property
    def enough(self) -> bool:
        """Whether the log supports everything that the policy does, and often enough."""
        supported = self.n_unsupported == 0 and self.mean_weight.high >= 1 - 1e-9
        return supported and self.effective_n >= _ENOUGH

    def __str__(self) -> str:
        if self.n == 0:
            return "No request of this log has a score: give feedback first."
        if self.n_agreeing == 0:
            return "The log holds no request on which this policy would have done the same."
        if self.n_unsupported > 0:
            share = self.n_unsupported / self.n
            return (
                f"On {self.n_unsupported} of {self.n} requests ({share:.0%}) this policy does what "
                "the logged one, which did not choose at random there, never did: only the others "
                "can be valued, and they may be easier or harder. Explore at random now and then "
                "to find out."
            )
        if self.mean_weight.high < 1 - 1e-9:
            return (
                f"The weights' mean is {self.mean_weight:.2f} and should be 1: this policy does "
                "things that the logged one never did, and that part cannot be valued."
            )
        if self.effective_n < _ENOUGH:
            return (
                f"The {self.n} requests are worth only {self.effective_n:.0f} logged under this "
                "policy: the policies overlap too little for a reliable figure."
            )
        return f"{self.n} requests, worth {self.effective_n:.0f} logged under this policy."


@dataclass(frozen=True)
class OffPolicy:
    """What another policy would have scored.

    Attributes:
        overlap: How much the log can say; read it first.
        logged: What was scored, over the same requests.
        ips: Inverse propensity; unsupported requests count as 0, so with any it is too low.
        snips: Self-normalized; unsupported requests are left out.
        dr: Doubly robust; on unsupported requests it is only as good as the predictions there.
            None: some candidate has no predicted quality.
        bounds: From the worst to the best that the unsupported requests allow, without sampling
            error.
        replay: Every request decided again.
    """

    overlap: Overlap
    logged: Interval | None
    ips: Interval | None
    snips: Interval | None
    dr: Interval | None
    bounds: tuple[float, float] | None
    replay: LogReplay


def off_policy(
    history: History,
    policy: Policy,
    *,
    changes: Changes | None = None,
    key: str | None = None,
    resampling: Resampling = _DEFAULT,
    replay: LogReplay | None = None,
) -> OffPolicy:
    """What `policy` would have scored on the requests of a log, by the feedback that they got.

    Requests without feedback are left out: that is unbiased if whether a user gives feedback
    depends on nothing but the query and the answer's quality.

    Args:
        history: A log with feedback.
        policy: The policy to evaluate.
        changes: What else differs from the log.
        key: Which feedback counts; None: the mean of all that a request got.
        resampling: For the intervals.
        replay: The same log, already replayed under this policy and these changes.

    Raises:
        ValueError: As `replay_log`.
        NotImplementedError: If the policy chooses at random and has no `chance`.
    """
    if replay is None:
        replay = replay_log(history, policy, changes=changes or Changes())
    scored = [
        (row, score)
        for row in replay.rows
        if (score := history.score(row.entry.decision_id, key)) is not None
        and row.entry.outcome == "answered"
        and not row.entry.declined
    ]
    if len(scored) == 0:
        nothing = Overlap(0, 0, 0, 0.0, Interval(math.nan, -math.inf, math.inf))
        return OffPolicy(nothing, None, None, None, None, None, replay)
    rows, reward = [row for row, _ in scored], np.array([score for _, score in scored])
    chances = np.array([_chance(row, policy) for row in rows])
    logged = np.array([math.prod(step.propensity for step in row.entry.steps) for row in rows])
    weight, one = chances / logged, np.ones(len(rows))
    # A step taken with certainty cannot stand for any other step.
    beyond = np.where(logged == 1, 1 - chances, 0.0)
    overlap = Overlap(
        n=len(rows),
        n_agreeing=int((chances > 0).sum()),
        n_unsupported=int((beyond > 0).sum()),
        effective_n=_effective(weight),
        mean_weight=inverse_propensity(one, weight, resampling),
    )
    low, agrees = float((weight * reward).mean()), overlap.n_agreeing > 0
    predicted = _predictions(rows, policy)
    return OffPolicy(
        overlap=overlap,
        logged=inverse_propensity(one, reward, resampling),
        ips=inverse_propensity(weight, reward, resampling) if agrees else None,
        snips=self_normalized(weight, reward, resampling) if agrees else None,
        dr=None if predicted is None else doubly_robust(weight, reward, *predicted, resampling),
        bounds=(low, low + float(beyond.mean())),
        replay=replay,
    )


def _effective(weight: Floats) -> float:
    square = float((weight**2).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def _chance(row: Replayed, policy: Policy) -> float:
    """Probability with which the policy would have taken the recorded steps."""
    chance = 1.0
    seen = situations_before_steps(row.situations, row.entry.steps, row.entry.attempts)
    for situation, step in zip(seen, row.entry.steps, strict=False):
        chance *= _chance_of(policy, situation, step)
        if chance == 0:
            break
    return chance


def _chance_of(policy: Policy, situation: Situation, step: Decision) -> float:
    own = next_decision(policy, situation)
    if own is None:
        return 1.0
    if (own.action, own.candidate) == (step.action, step.candidate):
        return own.propensity
    if own.propensity == 1:
        return 0.0
    if all(arm.model is None for arm in situation.arms):
        return policy.chance(situation, step)
    # The random choice is among models; the endpoint of a model is chosen deterministically.
    models = ByModel.of(policy, situation)
    named = ""
    for model, (arm, _) in models.chosen.items():
        if arm.candidate == step.candidate:
            named = model
    return policy.chance(models.situation, replace(step, candidate=named)) if named else 0.0


def _predictions(rows: Sequence[Replayed], policy: Policy) -> tuple[Floats, Floats] | None:
    """Predicted quality of the candidate asked first, and of the one the policy would ask first.

    As only the first step is looked at, E[w·q̂(done)] is E[q̂(new)] for cascades too.
    """
    done, new = [], []
    for row in rows:
        situation = row.situations[0]
        known = {arm.candidate: arm.quality for arm in situation.arms}
        if any(quality is None for quality in known.values()):
            return None
        quality = {name: value or 0.0 for name, value in known.items()}
        first = row.entry.steps[0]
        own = next_decision(policy, situation)
        assert own is not None, "no candidate has failed yet"
        done.append(quality[first.candidate])
        if own.propensity == 1:
            new.append(quality[own.candidate])
        else:
            asks = {name: replace(own, candidate=name) for name in quality}
            chances = {name: _chance_of(policy, situation, ask) for name, ask in asks.items()}
            new.append(math.fsum(p * quality[name] for name, p in chances.items()))
    return np.array(done), np.array(new)
