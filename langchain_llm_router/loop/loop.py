"""The loop: one decision after another, without I/O.

A `Loop`'s whole state is a situation and the steps so far. It is given the result of each step and
returns the next one, until it accepts an answer or none is possible. Live requests drive it with
model calls, replay with recorded tables and logs, a shadow and `explain` with what was recorded; so
what is evaluated is what runs. The plain data that the state becomes between two steps is written
and read here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any, TypeVar

from langchain_llm_router.loop.charges import affordable
from langchain_llm_router.loop.endpoints import ByModel, pick_endpoint
from langchain_llm_router.policies.policy import Policy, accept
from langchain_llm_router.types import Arm, Attempt, Decision, Situation
from langchain_llm_router.types.errors import PolicyError
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


Read = TypeVar("Read")
_MOST_READ = 256


class Loop:
    """One request's decisions; each is followed by its result.

    Args:
        policy: Decides.
        situation: What is known, attempts included.
        steps: The decisions so far.
        frames: The situations in which they were taken, each with the number of steps before it;
            None: all in this one. There is more than one only where live numbers were refreshed.

    Attributes:
        situation: What is known now.
        steps: The decisions so far.
        frames: As above, the present one included.
        unseen: Whether the last step accepts an answer for which no policy was asked.
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
        self._plain_frames: Sequence[Mapping[str, Any]] = ()
        self.unseen = False
        self._peeked: Decision | None = None
        self._restored: Sequence[tuple[Decision, Mapping[str, Any]]] = ()

    def peek(self) -> Decision | None:
        """What comes next; None: every candidate has failed, and there is no answer to return.

        Raises:
            PolicyError: If the policy decides what cannot be done, or does not come to an end.
            NoCandidateError: If no candidate may be asked and there is no answer to keep.
        """
        if self._peeked is None:
            self._check_bound()
            self._peeked = accept_final(self.steps, self.situation)
            self.unseen = self._peeked is not None
            if self._peeked is None:
                self._peeked = next_decision(self.policy, self.situation) or self._flawed()
                if self._peeked is not None:
                    self._check(self._peeked)
        return self._peeked

    def next(self) -> Decision | None:
        """Take the next step, as `peek` says it."""
        decision = self.peek()
        if decision is not None:
            self.steps.append(decision)
        self._peeked = None
        return decision

    def take(self, decision: Decision) -> Decision:
        """Take a step that was decided elsewhere: within the same bound."""
        self._check_bound()
        self._check(decision)
        self.steps.append(decision)
        self._peeked = None
        return decision

    def saw(self, attempt: Attempt) -> None:
        """Record the result of the last step: the attempt as it now is."""
        self.situation, self._peeked = observe(self.situation, attempt), None

    def step_after(self, evaluation: Evaluation) -> tuple[str, str]:
        """The next action and candidate if the last answer were evaluated like this.

        With this a verifier can stop as soon as nothing it could still find out changes the step.
        """
        attempt = evaluated(self.situation.attempts[-1], evaluation)
        # The verdict's cost is unknown yet, and that would make every arm unaffordable under a cap.
        attempt["verification_cost_usd"] = 0.0
        decision = next_decision(self.policy, observe(self.situation, attempt))
        assert decision is not None, "an answer is at hand"
        return decision.action, decision.candidate

    def refresh(self, situation: Situation) -> None:
        """Continue in another situation: newer numbers, other options; the attempts stay."""
        self._frames.append((len(self.steps), situation))
        self.situation = replace(situation, attempts=self.situation.attempts)
        self._peeked = None

    def situations(self) -> list[Situation]:
        """The situation before each step, without attempts; the last one stands for all further."""
        (_, first), *others = self.frames
        found = [first]
        for at, situation in others:
            found = [*found[:at], *[found[-1]] * (at - len(found)), situation]
        return found

    def frames_data(self) -> list[dict[str, Any]]:
        """The frames as plain data; the attempts are stored with the answers."""
        return [
            {"from_step": at, "query": situation.query, **frame_data(situation)}
            for at, situation in self.frames
        ]

    def steps_data(self) -> list[Mapping[str, Any]]:
        """The steps as plain data; what was restored is not written again."""
        known = {id(step): data for step, data in self._restored}
        return [known.get(id(step)) or step_data(step) for step in self.steps]

    @classmethod
    def restore(
        cls,
        policy: Policy,
        frames: Sequence[Mapping[str, Any]],
        steps: Sequence[Mapping[str, Any]],
        attempts: Sequence[Attempt],
        read: Reader,
    ) -> Loop:
        """Restore what `frames_data` and `steps_data` wrote, with the attempts so far."""
        taken = [read.once(step, decision_of) for step in steps]
        present = read.once(frames[-1], lambda frame: situation_of(frame, frame["query"]))
        loop = cls(policy, replace(present, attempts=tuple(attempts)), taken, ())
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

    def _check(self, decision: Decision) -> None:
        """Refuse a decision that cannot be carried out.

        A candidate is asked once and its answer verified once: what is paid is then in its attempt.
        """
        name, situation, wrong = decision.candidate, self.situation, None
        asked = [attempt["candidate"] for attempt in situation.attempts]
        if decision.action == "ask":
            if name in asked:
                wrong = "it has been asked already; a policy that asks again is looping"
            elif name not in [arm.candidate for arm in situation.arms]:
                wrong = f"this request can ask {list(situation.names)}"
        elif decision.action == "verify":
            last = situation.attempts[-1] if asked else Attempt()
            if last.get("candidate") != name or last.get("error") is not None:
                wrong = "it gave no answer just now"
            elif last.get("verified", False):
                wrong = "its answer is verified already; a policy that verifies again is looping"
        elif decision.action != "accept":
            wrong = "the actions are 'ask', 'verify' and 'accept'"
        elif name not in asked:
            wrong = "it has given no answer"
        if wrong is not None:
            msg = (
                f"{type(self.policy).__name__} decides to {decision.action} {name!r}, but {wrong}."
            )
            raise PolicyError(msg)

    def _check_bound(self) -> None:
        n_arms = len(self.situation.arms)
        if len(self.steps) <= 2 * n_arms:
            return
        # After a refresh there may be fewer arms than have been asked.
        known = {arm.candidate for arm in self.situation.arms}
        known.update(attempt["candidate"] for attempt in self.situation.attempts)
        if len(self.steps) > 2 * len(known):
            msg = (
                f"{type(self.policy).__name__} did not accept within {len(self.steps)} decisions: "
                "it is looping."
            )
            raise PolicyError(msg)

    def _flawed(self) -> Decision | None:
        """The acceptance of the last flawed answer, where there is no better one."""
        flawed = [a for a in self.situation.attempts if a.get("flaw") is not None]
        if len(flawed) == 0:
            return None
        reason = f"every answer is flawed, the last one is returned: {flawed[-1].get('flaw')}"
        return accept(self.policy, flawed[-1], reason)


class Reader:
    """Reads plain data once: within one process the nodes of a graph pass on the same objects.

    Reading a request again in each node took a twentieth of a whole graph's time. What comes from a
    checkpoint is another object, and is read again.
    """

    def __init__(self) -> None:
        # The plain object is kept beside what it was read as, so that its id is not reused.
        self._read: dict[int, tuple[Any, Any]] = {}

    def once(self, plain: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Read]) -> Read:
        """The result of `read`, kept for a plain object that nothing changes."""
        found = self._read.get(id(plain))
        if found is None or found[0] is not plain:
            while len(self._read) >= _MOST_READ:
                self._read.pop(next(iter(self._read)), None)
            found = self._read[id(plain)] = (plain, read(plain))
        value: Read = found[1]
        return value


def accept_final(steps: Sequence[Decision], situation: Situation) -> Decision | None:
    """The acceptance of a final answer, or of one that was streamed; None: the policy decides.

    It keeps the reason and the policy of the step that asked: no policy is called for it.
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


def check_policy(policy: Policy, names: Sequence[str]) -> None:
    """Refuse a policy that names a candidate the router does not have.

    Raises:
        ValueError: With the unknown name and the allowed ones.
    """
    for name in policy.named_candidates:
        if name not in names:
            msg = (
                f"Unknown candidate {name!r}: the policy {type(policy).__name__} names it, "
                f"but the router has {list(names)}."
            )
            raise ValueError(msg)


def next_decision(policy: Policy, situation: Situation) -> Decision | None:
    """The policy's next step, or None when every candidate that may be asked has failed.

    Raises:
        NoCandidateError: If no candidate may be asked and there is no answer to keep.
    """
    if situation.options.max_cost_usd is not None or situation.granted_usd is not None:
        situation = affordable(situation)
    fresh = len(situation.attempts) == 0
    unanswered = all(attempt.get("error") is not None for attempt in situation.attempts)
    if not fresh and unanswered and len(situation.open_arms) == 0:
        return None
    if situation.options.force is not None:
        return _forced(policy, situation, situation.options.force)
    if fresh:
        only = _without_policy(policy, situation)
        if only is not None:
            return only
    if all(arm.available for arm in situation.arms):
        return _decide(policy, situation)
    without_closed = _closed_as_failed(situation)
    decision = _decide(policy, without_closed)
    if decision is None and without_closed is not situation:
        # All remaining arms have open breakers: better to try one anyway than to give up.
        decision = _decide(policy, situation)
    return decision


def _forced(policy: Policy, situation: Situation, force: str) -> Decision:
    reason = f"the request forces {force}"
    if len(situation.answered) > 0:
        answered = situation.answered[-1]["candidate"]
        return Decision(action="accept", candidate=answered, policy="forced", reason=reason)
    arm, why = pick_endpoint(policy, situation.open_arms, situation)
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy="forced",
        reason=f"{reason}; {why}" if why else reason,
        final=True,
    )


def _closed_as_failed(situation: Situation) -> Situation:
    """Count arms behind an open breaker as failed already, as long as another one is open."""
    waiting = situation.open_arms
    if all(arm.available for arm in waiting) or not any(arm.available for arm in waiting):
        return situation
    failed = tuple(
        Attempt(candidate=arm.candidate, error="CircuitOpen: it kept failing lately")
        for arm in waiting
        if not arm.available
    )
    return replace(situation, attempts=(*failed, *situation.attempts))


def _decide(policy: Policy, situation: Situation) -> Decision | None:
    """The policy's decision; None if it knows only candidates that failed, as `Always`."""
    models = None
    if any(arm.model is not None for arm in situation.arms):
        models = ByModel.of(policy, situation)
        situation = models.situation
    decision = policy.decide(situation)
    if not isinstance(decision, Decision):
        msg = f"{type(policy).__name__}.decide must return a `Decision`, got {decision!r}."
        raise PolicyError(msg)
    if decision.action == "verify" and len(situation.attempts) > 0:
        form = situation.attempts[-1].get("form", "text")
        if form != "text":
            # It parsed and its arguments fit; a verifier of text has nothing to read in it.
            return accept(policy, situation.attempts[-1], f"its {form} are valid")
    asked = {attempt["candidate"] for attempt in situation.attempts}
    if decision.action == "ask" and decision.candidate in asked and not situation.answered:
        return None
    if models is None or decision.candidate not in models.chosen:
        return decision
    return models.carried_over(decision)


def _without_policy(policy: Policy, situation: Situation) -> Decision | None:
    """The first to ask where the policy has no say: the thread's holder, or the only one left."""
    arms = situation.arms
    if situation.prefer is None and len(arms) > 1 and arms[0].model is None:
        # The first is one model and the next another: it is the policy's choice.
        return None
    models = list(dict.fromkeys(arm.model or arm.candidate for arm in arms))
    holder = [a for a in arms if a.candidate == situation.prefer]
    if len(holder) > 0 and (holder[0].available or not any(a.available for a in arms)):
        arm, reason = holder[0], f"{situation.prefer} has this thread"
    elif len(models) > 1 or all(named in models for named in policy.named_candidates):
        return None
    else:
        arm, _ = pick_endpoint(policy, arms, situation)
        reason = "no other candidate may be asked"
    return Decision(
        action="ask",
        candidate=arm.candidate,
        policy=type(policy).__name__,
        reason=reason,
        final=not policy.verifies or len(models) == 1,
    )


def observe(situation: Situation, attempt: Attempt) -> Situation:
    """Add an attempt, or the verdict on the last one."""
    earlier = situation.attempts
    if len(earlier) > 0 and earlier[-1]["candidate"] == attempt["candidate"]:
        earlier = earlier[:-1]
    return replace(situation, attempts=(*earlier, attempt))


# Plain data. What has its default value is left out, so that a line of the log and a checkpoint
# stay short; floats survive JSON bit for bit, because it holds their shortest exact form.


def step_data(decision: Decision) -> dict[str, Any]:
    """A decision; its id is the whole request's."""
    data = _changed(decision)
    data.pop("decision_id", None)
    if "scores" in data:
        data["scores"] = {name: dict(numbers) for name, numbers in decision.scores.items()}
    return data


def decision_of(data: Mapping[str, Any]) -> Decision:
    """The decision that `step_data` wrote; other keys are ignored."""
    known = Decision.__dataclass_fields__
    return Decision(**{name: value for name, value in data.items() if name in known})


def frame_data(situation: Situation) -> dict[str, Any]:
    """A situation without the query and the attempts: arms, options, money, and preference."""
    frame: dict[str, Any] = {"arms": [_changed(arm) for arm in situation.arms]}
    if situation.options != NO_OPTIONS:
        options = _changed(situation.options)
        if "filters" in options:
            options["filters"] = [_all(item) for item in situation.options.filters]
        if "weights" in options:
            options["weights"] = dict(situation.options.weights)
        frame["options"] = options
    for name in ("granted_usd", "prefer"):
        value = getattr(situation, name)
        if value is not None:
            frame[name] = value
    return frame


def situation_of(
    frame: Mapping[str, Any], query: str, attempts: Sequence[Attempt] = ()
) -> Situation:
    """The situation that `frame_data` wrote."""
    options = dict(frame.get("options", {}))
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
    )


def _changed(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    return {
        name: found
        for name, default in _defaults(type(value))  # type: ignore[arg-type]
        if (found := getattr(value, name)) is not None and found != default
    }


def _all(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


@cache
def _defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass and their defaults."""
    return tuple(
        (one.name, one.default if one.default_factory is MISSING else one.default_factory())
        for one in fields(kind)
    )
