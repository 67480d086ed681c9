"""How probable the logged steps are under a policy, and what it is predicted to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from langchain_llm_router.history.replay_figures import Replayed
from langchain_llm_router.history.retraced import situations_before_steps
from langchain_llm_router.loop.endpoints import ByModel
from langchain_llm_router.loop.loop import accept_final, next_decision
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["LoggedChances"]


@dataclass(frozen=True, eq=False)
class LoggedChances:
    """Replayed requests as columns of shape (n,), for estimates of their mean score.

    Attributes:
        usable: Whether a score of the answer tells something about the policies: it was returned,
            and no person declined it.
        chance: P(the policy takes the recorded steps).
        propensity: P(the logged policy takes them).
        predicted: Predicted quality of the candidate that was asked first; NaN if that of any
            candidate is unknown.
        predicted_new: Predicted quality of the candidate that the policy asks first; its
            expectation if the policy chooses at random.
        failed: Whether the policy could not say.
        error: Why it could not, for one of these requests.
    """

    usable: Bools
    chance: Floats
    propensity: Floats
    predicted: Floats
    predicted_new: Floats
    failed: Bools
    error: Exception | None = None

    @classmethod
    def of(cls, rows: Sequence[Replayed], policy: Policy) -> Self:
        """Tabulate requests that were replayed with this policy."""
        failed = np.zeros(len(rows), dtype=bool)
        error = None
        cells: list[tuple[float, ...]] = []
        for i, row in enumerate(rows):
            entry = row.entry
            values: tuple[float, ...] = (0.0,) * 5
            if entry.outcome == "answered" and not entry.declined:
                try:
                    logged = math.prod(step.propensity for step in entry.steps)
                    values = (1.0, _chance(row, policy), logged, *_predictions(row, policy))
                except Exception as raised:  # noqa: BLE001 - raised if the request has a score
                    # Without the frames, which hold the whole batch in memory.
                    failed[i], error = True, error or raised.with_traceback(None)
                    values = (1.0, 0.0, 1.0, math.nan, math.nan)
            cells.append(values)
        table = np.array(cells, dtype=np.float64).reshape(len(cells), 5)
        usable, chance, propensity, predicted, predicted_new = table.T
        return cls(usable == 1, chance, propensity, predicted, predicted_new, failed, error)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the columns of rows that follow each other; there is at least one part."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS
        }
        errors = (part.error for part in parts if part.error is not None)
        return cls(**columns, error=next(errors, None))

    def take(self, rows: Indices | Bools) -> Self:
        """Select rows by index or by mask."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return type(self)(**columns, error=self.error)

    def check(self) -> None:
        """Raise the error of a request where the policy could not say."""
        if self.failed.any() and self.error is not None:
            raise self.error


_COLUMNS = [one.name for one in fields(LoggedChances) if one.name != "error"]


def _chance(row: Replayed, policy: Policy) -> float:
    """Compute the probability that the policy takes the recorded steps."""
    told = _chance_by_replay(row)
    if told is not None:
        return told
    chance, taken = 1.0, list[Decision]()
    seen = situations_before_steps(row.situations, row.entry.steps, row.entry.attempts)
    for situation, step in zip(seen, row.entry.steps, strict=False):
        # As in a live request, a final answer is accepted without asking the policy again.
        own = accept_final(taken, situation) or next_decision(policy, situation)
        chance *= _chance_of(policy, situation, step, own)
        if chance == 0:
            break
        taken = [] if own is None else [own]
    return chance


def _chance_by_replay(row: Replayed) -> float | None:
    """Return the same by the decisions of the replay; None if they are not the same decisions."""
    went, recorded = row.went, row.entry.steps
    if any(attempt.get("answer_group") is not None for attempt in row.entry.attempts):
        # The replay numbers the groups of equal answers anew.
        return None
    chance = 1.0
    for own, step in zip(went.steps, recorded, strict=False):
        if (own.action, own.candidate) != (step.action, step.candidate):
            # The end may be that of a loop without any answer, where there is no decision.
            return 0.0 if own.propensity == 1 and not own.ends else None
        chance *= own.propensity
    return chance if len(went.steps) >= len(recorded) else None


def _chance_of(policy: Policy, situation: Situation, step: Decision, own: Decision | None) -> float:
    """Compute the probability of a step, given the one that the policy takes in this replay."""
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


def _predictions(row: Replayed, policy: Policy) -> tuple[float, float]:
    """Predict the quality of the candidate asked first, by the log and by the new policy.

    Only the first step is used, so E[w·q̂(logged)] = E[q̂(new)] for cascades as well.
    """
    situation = row.situations[0]
    known = {arm.candidate: arm.quality for arm in situation.arms}
    if any(quality is None for quality in known.values()):
        return math.nan, math.nan
    quality = {name: value or 0.0 for name, value in known.items()}
    # The replay has no step if the policy decides what cannot be done.
    own = row.went.steps[0] if row.went.steps else next_decision(policy, situation)
    assert own is not None, "no candidate has failed yet"
    done = quality[row.entry.steps[0].candidate]
    if own.propensity == 1:
        return done, quality[own.candidate]
    asks = {name: replace(own, candidate=name) for name in quality}
    chances = {name: _chance_of(policy, situation, ask, own) for name, ask in asks.items()}
    return done, math.fsum(p * quality[name] for name, p in chances.items())
