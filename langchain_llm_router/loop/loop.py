"""The loop: one decision after another, without I/O.

The state of a `Loop` is a situation and the steps so far. It receives the result of each step and
returns the next one, until it accepts an answer or no step is possible. Live requests drive it with
model calls; replay, shadows and `explain` drive it with recorded results, so that evaluations run
the same code as live requests. The state is also converted to plain data and back here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar

from langchain_llm_router.loop.capabilities import fit_window
from langchain_llm_router.loop.charges import drop_unaffordable
from langchain_llm_router.loop.climbs import climb, drop_weaker, stay_reason
from langchain_llm_router.loop.endpoints import ByModel, pick_endpoint
from langchain_llm_router.loop.overrides import (
    decide_by_window,
    decide_forced,
    is_confined,
    mark_open_breakers,
    valid_unread,
)
from langchain_llm_router.policies.policy import Policy, accept
from langchain_llm_router.types import Arm, Attempt, Decision, Situation, Stuck
from langchain_llm_router.types.errors import PolicyError, blame_candidate
from langchain_llm_router.types.options import NO_OPTIONS, Filter, RoutingOptions
from langchain_llm_router.verification import Evaluation, evaluated

__all__ = [
    "Loop",
    "Reader",
    "accept_final",
    "check_policy",
    "decision_of",
    "frame_data",
    "next_decision",
    "observe",
    "situation_of",
    "step_data",
]


_Read = TypeVar("_Read")
_MAX_CACHED = 256


class Loop:
    """The decisions of one request, each followed by its result.

    Args:
        policy: The policy that decides.
        situation: The current situation, with the attempts so far.
        steps: The decisions so far.
        frames: The situations in which the steps were taken, each with the number of steps before
            it; if None, all steps were taken in `situation`. There are several only if live
            numbers were refreshed.

    Attributes:
        situation: The current situation.
        steps: The decisions so far.
        frames: As above, the current situation included.
        accepted_without_policy: Whether the last step accepts an answer without a call of the
            policy.
    """

    def __init__(
        self,
        policy: Policy,
        situation: Situation,
        steps: Sequence[Decision] = (),
        frames: Sequence[tuple[int, Situation]] | None = None,
    ) -> None:
        self.policy, self.situation, self.steps = policy, situation, list(steps)
        self._frames = [(0, situation)] if frames is None else list(frames)
        # Plain data that the loop was restored from, so that no node converts it there and back.
        self._plain_frames: Sequence[Mapping[str, Any]] = ()
        self._restored: Sequence[tuple[Decision, Mapping[str, Any]]] = ()
        self.accepted_without_policy = False
        self._peeked: Decision | None = None

    def peek(self) -> Decision | None:
        """Return the next step without taking it; None if every candidate has failed.

        Raises:
            PolicyError: If the policy's decision is impossible, or the policy never accepts.
            NoCandidateError: If no candidate may be asked and there is no answer to keep.
        """
        if self._peeked is None:
            self._check_bound()
            self._peeked = accept_final(self.steps, self.situation)
            self.accepted_without_policy = self._peeked is not None
            if self._peeked is None:
                self._peeked = next_decision(self.policy, self.situation) or self._accept_flawed()
                if self._peeked is not None:
                    _check_step(self.policy, self.situation, self._peeked)
        return self._peeked

    def next(self) -> Decision | None:
        """Take the step that `peek` returns."""
        decision = self.peek()
        if decision is not None:
            self.steps.append(decision)
        self._peeked = None
        return decision

    def take(self, decision: Decision) -> Decision:
        """Take a step that was decided elsewhere; the same checks and bound apply."""
        self._check_bound()
        _check_step(self.policy, self.situation, decision)
        self.steps.append(decision)
        self._peeked = None
        return decision

    def saw(self, attempt: Attempt) -> None:
        """Record the result of the last step, which is the updated attempt."""
        self.situation, self._peeked = observe(self.situation, attempt), None

    def mark_restored(self, candidate: str) -> None:
        """Record that the effects of a candidate's attempt have been undone."""
        attempts: list[Attempt] = [{**attempt} for attempt in self.situation.attempts]
        for attempt in attempts:
            if attempt["candidate"] == candidate:
                attempt["restored"] = True
        self.situation = _with_attempts(self.situation, tuple(attempts))

    def step_after(self, evaluation: Evaluation) -> tuple[str, str]:
        """Return the action and candidate that would follow this evaluation of the last answer.

        With it a verifier can stop as soon as no further verdict could change the next step.
        """
        attempt = evaluated(self.situation.attempts[-1], evaluation)
        # The cost of verification is still unknown, which would make every arm unaffordable.
        attempt["verification_cost_usd"] = 0.0
        decision = next_decision(self.policy, observe(self.situation, attempt))
        assert decision is not None, "there is an answer to accept"
        return decision.action, decision.candidate

    def alongside(self) -> str | None:
        """Return the candidate to ask at the same time as that of the last step; None if none.

        It is one that would be asked next anyway, within what is left if both cost the most.
        """
        step, situation = self.steps[-1], self.situation
        if step.action != "ask" or step.likely_next is None:
            return None
        arm = situation.arm(step.candidate)
        most = arm.cost_usd if arm.worst_asking_usd is None else arm.worst_asking_usd
        asked = Attempt(candidate=step.candidate, error=None, cost_usd=most, verified=True)
        asked["verification_cost_usd"] = (
            arm.verification_cost_usd or 0.0
            if arm.worst_verification_usd is None
            else arm.worst_verification_usd
        )
        left = drop_unaffordable(observe(situation, asked)).open_arms
        available = [other.candidate for other in left if other.available]
        return step.likely_next if step.likely_next in available else None

    def refresh(self, situation: Situation) -> None:
        """Continue in a newer situation, e.g. with new live numbers; the attempts stay."""
        self._frames.append((len(self.steps), situation))
        self.situation = _with_attempts(situation, self.situation.attempts)
        self._peeked = None

    def situations(self) -> list[Situation]:
        """Return the situation before each step, without attempts.

        The last one also applies to all later steps.
        """
        (_, first), *later = self.frames
        situations = [first]
        for at, situation in later:
            unchanged = [situations[-1]] * (at - len(situations))
            situations = [*situations[:at], *unchanged, situation]
        return situations

    def frames_data(self) -> list[dict[str, Any]]:
        """Return the frames as plain data; the attempts are stored with the answers."""
        return [
            {"from_step": at, "query": situation.query, **frame_data(situation)}
            for at, situation in self.frames
        ]

    def steps_data(self) -> list[Mapping[str, Any]]:
        """Return the steps as plain data; restored steps keep the object they were read from."""
        restored = {id(step): data for step, data in self._restored}
        return [restored.get(id(step)) or step_data(step) for step in self.steps]

    @classmethod
    def restore(
        cls,
        policy: Policy,
        frames: Sequence[Mapping[str, Any]],
        steps: Sequence[Mapping[str, Any]],
        attempts: Sequence[Attempt],
        read: Reader,
    ) -> Loop:
        """Restore a loop from `frames_data`, `steps_data` and the attempts so far."""
        taken = [read.once(step, decision_of) for step in steps]
        current = read.once(frames[-1], lambda frame: situation_of(frame, frame["query"]))
        loop = cls(policy, _with_attempts(current, tuple(attempts)), taken, ())
        loop._restored = list(zip(taken, steps, strict=True))
        loop._plain_frames = frames
        return loop

    @property
    def frames(self) -> list[tuple[int, Situation]]:
        """The situations in which the steps were taken, each with the number of steps before it."""
        earlier = [
            (frame["from_step"], situation_of(frame, frame["query"]))
            for frame in self._plain_frames
        ]
        return [*earlier, *self._frames]

    def _check_bound(self) -> None:
        n_arms = len(self.situation.arms)
        if len(self.steps) <= 2 * n_arms:
            return
        # After a refresh there may be fewer arms than candidates that have been asked.
        names = {arm.candidate for arm in self.situation.arms}
        names.update(attempt["candidate"] for attempt in self.situation.attempts)
        if len(self.steps) > 2 * len(names):
            msg = (
                f"{type(self.policy).__name__} did not accept within {len(self.steps)} decisions: "
                "it is looping."
            )
            raise PolicyError(msg)

    def _accept_flawed(self) -> Decision | None:
        """Accept the last flawed answer; return None if there is none."""
        flawed = [a for a in self.situation.attempts if a.get("flaw") is not None]
        if len(flawed) == 0:
            return None
        reason = f"every answer is flawed, the last one is returned: {flawed[-1].get('flaw')}"
        return accept(self.policy, flawed[-1], reason)


def _check_step(policy: Policy, situation: Situation, decision: Decision) -> None:
    """Refuse a decision that cannot be carried out.

    A candidate is asked once and its answer verified once, because an attempt has one cost of
    each.

    Raises:
        PolicyError: If the decision is impossible.
    """
    asked = [attempt["candidate"] for attempt in situation.attempts]
    if decision.action == "ask":
        wrong = _check_ask(situation, decision.candidate, asked)
    elif decision.action == "verify":
        wrong = _check_verify(situation, decision.candidate)
    elif decision.action == "abstain":
        wrong = _check_abstain(policy, decision, asked)
    elif decision.action != "accept":
        wrong = "the action must be one of 'ask', 'verify', 'accept', 'abstain'"
    else:
        wrong = None if decision.candidate in asked else "it has given no answer"
    if wrong is not None:
        name = type(policy).__name__
        msg = f"{name} decided to {decision.action} {decision.candidate!r}, but {wrong}."
        raise PolicyError(msg)


def _check_ask(situation: Situation, name: str, asked: list[str]) -> str | None:
    if name in asked:
        return "it has been asked already; a policy that asks again is looping"
    if all(arm.candidate != name for arm in situation.arms):
        return f"this request can ask {list(situation.names)}"
    return None


def _check_verify(situation: Situation, name: str) -> str | None:
    last = situation.attempts[-1] if situation.attempts else Attempt()
    if last.get("candidate") != name or last.get("error") is not None:
        return "its last step did not return an answer"
    if last.get("verified", False):
        return "its answer is verified already; a policy that verifies again is looping"
    return None


def _check_abstain(policy: Policy, decision: Decision, asked: list[str]) -> str | None:
    terms = policy.exit_terms
    if terms is None or decision.ending != terms.do:
        return "only a `policies.Unsure` says how such a request ends"
    if decision.ending in ("flag", "hold") and decision.candidate not in asked:
        return "it has given no answer"
    return None


class Reader:
    """Cache of what plain data was read as: graph nodes of one process pass the same objects.

    Reading a request in every node took a twentieth of a graph's time. Data from a checkpoint is
    another object, and is read again.
    """

    def __init__(self) -> None:
        # The plain object is kept too, because its id must not be reused.
        self._read: dict[int, tuple[Any, Any]] = {}

    def once(self, plain: Mapping[str, Any], read: Callable[[Mapping[str, Any]], _Read]) -> _Read:
        """Return `read(plain)`, cached as long as the plain object is the same."""
        entry = self._read.get(id(plain))
        if entry is None or entry[0] is not plain:
            while len(self._read) >= _MAX_CACHED:
                self._read.pop(next(iter(self._read)), None)
            entry = self._read[id(plain)] = (plain, read(plain))
        value: _Read = entry[1]
        return value


def accept_final(steps: Sequence[Decision], situation: Situation) -> Decision | None:
    """Accept a final or streamed answer without the policy; None if the policy must decide.

    The decision has the reason and the policy of the step that asked.
    """
    if len(steps) == 0 or len(situation.attempts) == 0 or steps[-1].action != "ask":
        return None
    step, attempt = steps[-1], situation.attempts[-1]
    if attempt["candidate"] != step.candidate or attempt.get("error") is not None:
        return None
    if step.final:
        reason = step.reason
    elif attempt.get("committed", False):
        reason = f"{step.reason}; it looked good enough to be streamed"
    else:
        return None
    return Decision("accept", step.candidate, step.policy, reason, confidence=step.confidence)


def check_policy(policy: Policy, names: Sequence[str], *, whose: str = "router's") -> None:
    """Refuse a policy that names a candidate which the router does not have.

    Args:
        policy: The policy.
        names: Names of the router's candidates.
        whose: Owner of the policy, for the error.

    Raises:
        ValueError: If it names an unknown candidate.
    """
    for name in policy.named_candidates:
        if name not in names:
            msg = (
                f"Unknown candidate {name!r}: the {whose} {type(policy).__name__} names it, "
                f"but the router has {list(names)}."
            )
            raise ValueError(msg)


def next_decision(policy: Policy, situation: Situation) -> Decision | None:
    """Return the next step; None if every candidate that may be asked has failed.

    It is the policy's, but an answer that was asked for at the same time as the last one is paid
    for, so it is read before the policy decides on anything but the verification of the last one.

    Raises:
        NoCandidateError: If no candidate may be asked and there is no answer to keep.
    """
    decision = _next_decision(policy, situation)
    last = situation.attempts[-1] if situation.attempts else Attempt()
    other = last.get("alongside")
    if other is None or decision is None or decision.action == "verify":
        return decision
    before = _next_decision(policy, _with_attempts(situation, situation.attempts[:-1]))
    if before is None or before.likely_next != other:
        # In a replay another policy would not have asked for both.
        return decision
    if (decision.action, decision.candidate) == ("ask", other):
        return decision
    return Decision(
        action="ask",
        candidate=other,
        policy=decision.policy,
        reason=f"it was asked at the same time as {last['candidate']}",
        scores=decision.scores,
        confidence=decision.confidence,
    )


def _next_decision(policy: Policy, situation: Situation) -> Decision | None:
    granted = (situation.granted_usd, situation.granted_tokens)
    if situation.options.max_cost_usd is not None or granted != (None, None):
        situation = drop_unaffordable(situation)
    fresh = len(situation.attempts) == 0
    widest = None
    if not fresh and situation.attempts[-1].get("too_long", False):
        situation, widest = fit_window(situation)
    unanswered = all(attempt.get("error") is not None for attempt in situation.attempts)
    if not fresh and unanswered and len(situation.open_arms) == 0:
        return None
    if situation.options.force is not None:
        return decide_forced(policy, situation, situation.options.force)
    if unanswered:
        first = _decide_without_policy(policy, situation)
        if first is not None:
            return first
    if widest is not None and not policy.named_candidates:
        return decide_by_window(policy, situation, widest)
    if all(arm.available for arm in situation.arms):
        return _decide(policy, situation)
    reduced = mark_open_breakers(situation)
    decision = _decide(policy, reduced)
    if decision is None and reduced is not situation:
        # Only arms with open breakers are left: trying one is better than giving up.
        decision = _decide(policy, situation)
    return decision


def _decide(policy: Policy, situation: Situation) -> Decision | None:
    """Return the policy's decision; None if it would ask a candidate that failed."""
    models = None
    if situation.stuck is not None:
        situation = drop_weaker(situation)
    if any(arm.model is not None for arm in situation.arms):
        models = ByModel.of(policy, situation)
        situation = models.situation
    try:
        decision = policy.decide(situation)
    except (TypeError, ValueError) as error:
        blame_candidate(error, type(policy).__name__)
        raise
    if not isinstance(decision, Decision):
        msg = f"{type(policy).__name__}.decide must return a `Decision`, got {decision!r}."
        raise PolicyError(msg)
    if decision.action == "verify" and len(situation.attempts) > 0:
        last = situation.attempts[-1]
        if last.get("form", "text") != "text" and (valid := valid_unread(last)) is not None:
            return accept(policy, last, valid)
    asked = {attempt["candidate"] for attempt in situation.attempts}
    if decision.action == "ask" and decision.candidate in asked and not situation.answered:
        return None
    if models is None or decision.candidate not in models.chosen:
        return decision
    return models.translate(decision)


def _decide_without_policy(policy: Policy, situation: Situation) -> Decision | None:
    """Choose the first candidate where the policy is not needed; None if it is.

    That is the candidate to stay with, the one that a stuck tool loop climbs to, or the only model
    that may be asked.
    """
    if situation.stuck is not None and (upward := climb(policy, situation)) is not None:
        return upward
    confined = situation.sensitive is not None and is_confined(policy, situation)
    # If there are at least two models, the policy chooses.
    two = len(situation.arms) > 1 and situation.arms[0].model is None and situation.prefer is None
    if not confined and (two or len(situation.attempts) > 0):
        return None
    arms, named = situation.open_arms, policy.named_candidates
    models = list(dict.fromkeys(arm.model_name for arm in arms))
    preferred = [a for a in arms if a.candidate == situation.prefer]
    if len(preferred) > 0 and (preferred[0].available or not any(a.available for a in arms)):
        arm, reason = preferred[0], stay_reason(situation)
    elif not confined and (
        # A policy may need the prediction of an estimator that a sensitive request must not reach.
        len(models) > 1 or (situation.sensitive is None and all(name in models for name in named))
    ):
        return None
    else:
        same = [arm for arm in arms if arm.model_name == models[0]]
        arm, _ = pick_endpoint(policy, same, situation)
        allowed = f"none of {list(named)} may see the request, and this is the first that may"
        reason = allowed if len(models) > 1 else "no other candidate may be asked"
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy=type(policy).__name__,
        reason=reason,
        final=policy.accepts_unverified(len(models)),
    )


def observe(situation: Situation, attempt: Attempt) -> Situation:
    """Add an attempt, or replace the last one if it has the same candidate."""
    earlier = situation.attempts
    if len(earlier) > 0 and earlier[-1]["candidate"] == attempt["candidate"]:
        earlier = earlier[:-1]
    return _with_attempts(situation, (*earlier, attempt))


def _with_attempts(situation: Situation, attempts: tuple[Attempt, ...]) -> Situation:
    # `replace` collects all fields anew, which takes three times as long in each step.
    return Situation(
        situation.query,
        situation.arms,
        attempts,
        situation.options,
        situation.granted_usd,
        situation.prefer,
        situation.granted_tokens,
        situation.stuck,
        situation.sensitive,
    )


# Plain data: default values are omitted to keep log lines and checkpoints short. Floats survive
# JSON bit for bit, because it stores their shortest exact form.


def step_data(decision: Decision) -> dict[str, Any]:
    """Convert a decision to plain data, without the id, which is stored once per request."""
    data = _non_defaults(decision)
    data.pop("decision_id", None)
    if "scores" in data:
        data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data


def decision_of(data: Mapping[str, Any]) -> Decision:
    """Restore the decision that `step_data` wrote; other keys are ignored."""
    names = Decision.__dataclass_fields__
    return Decision(**{name: value for name, value in data.items() if name in names})


def frame_data(situation: Situation) -> dict[str, Any]:
    """Convert a situation to plain data, without the query and the attempts."""
    frame: dict[str, Any] = {"arms": [_non_defaults(arm) for arm in situation.arms]}
    if situation.options != NO_OPTIONS:
        options = _non_defaults(situation.options)
        if "filters" in options:
            options["filters"] = [_all_fields(item) for item in situation.options.filters]
        if "weights" in options:
            options["weights"] = dict(situation.options.weights)
        frame["options"] = options
    for name in ("granted_usd", "prefer", "granted_tokens", "sensitive"):
        value = getattr(situation, name)
        if value is not None:
            frame[name] = value
    if situation.stuck is not None:
        frame["stuck"] = _non_defaults(situation.stuck)
    return frame


def situation_of(
    frame: Mapping[str, Any], query: str, attempts: Sequence[Attempt] = ()
) -> Situation:
    """Restore the situation that `frame_data` wrote."""
    options, stuck = dict(frame.get("options", {})), frame.get("stuck")
    if options.get("candidates") is not None:
        options["candidates"] = tuple(options["candidates"])
    if "filters" in options:
        options["filters"] = tuple(Filter(**item) for item in options["filters"])
    return Situation(
        query,
        tuple(Arm(**arm) for arm in frame["arms"]),
        tuple(attempts),
        RoutingOptions(**options) if options else NO_OPTIONS,
        frame.get("granted_usd"),
        frame.get("prefer"),
        frame.get("granted_tokens"),
        None if stuck is None else Stuck(**{**stuck, "above": tuple(stuck.get("above", ()))}),
        frame.get("sensitive"),
    )


def _non_defaults(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not None and differ from their defaults."""
    return {
        name: current
        for name, default in _defaults(type(value))  # type: ignore[arg-type]
        if (current := getattr(value, name)) is not None and current != default
    }


def _all_fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


@cache
def _defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a dataclass and their defaults."""
    return tuple(
        (one.name, one.default if one.default_factory is MISSING else one.default_factory())
        for one in fields(kind)
    )
