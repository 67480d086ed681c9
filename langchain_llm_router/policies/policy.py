"""The base class of policies: pure functions from a `Situation` to a `Decision`.

A policy performs no I/O, keeps no state between calls and draws no random numbers (a randomized
policy hashes the query and its seed), so that the live router, the LangGraph state machine and the
offline replay take the same decision in the same situation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_llm_router.data.artifacts import (
    Artifact,
    as_json,
    from_json,
    incomplete_error,
    kind_of,
    known_class,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.policies.exits import Exit, ExitTerms
from langchain_llm_router.policies.knob import Knob, lambda_values
from langchain_llm_router.types import Action, Arm, Attempt, Decision, Situation
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.types.options import RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_llm_router.policies.observation import ObservationModel
    from langchain_llm_router.types.arrays import Arrays

__all__ = [
    "Always",
    "OneShot",
    "Policy",
    "RandomMix",
    "accept",
    "exit_decision",
    "last_resort",
    "query_uniform",
]


_SPENDING = ("cost_usd", "verification_cost_usd", "output_tokens")


class Policy(CheckedArguments, ABC):
    """Base class of policies, which choose the next step of a request.

    A custom policy needs `decide` (or `OneShot.choose`); all other methods have defaults. As a
    frozen dataclass it can be saved and loaded without further code; with a `knob` it can also be
    calibrated, explained at every setting, and drawn as a curve.
    """

    verifies: ClassVar[bool] = False
    """Whether it may verify answers, which needs a router with a verifier."""

    looks_ahead: ClassVar[bool] = False
    """Whether its decisions name the candidate that will probably be asked next."""

    decides_by_verdicts: ClassVar[bool] = False
    """Whether decisions depend on the arms and on what `read_of` returns of each attempt alone: a
    replay then decides once for all rows that are alike in these. It is not inherited."""

    learns: ClassVar[bool] = False
    """Whether it has a method `learn`, which teaches it scored answers of a decision log."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A subclass may read more than its parent.
        cls.decides_by_verdicts = cls.__dict__.get("decides_by_verdicts", False)

    @abstractmethod
    def decide(self, situation: Situation) -> Decision:
        """Decide the next step; the same situation always gets the same decision."""

    @property
    def exit_terms(self) -> ExitTerms | None:
        """How a request ends that no answer is good enough for; None if that is not said."""
        return None

    @property
    def verifies_last(self) -> bool:
        """Whether no answer is accepted unverified, also not that of the last candidate."""
        return False

    def accepts_unverified(self, n_open: int) -> bool:
        """Return whether the next answer is accepted without being verified.

        Args:
            n_open: Number of candidates that may be asked, the next one included.
        """
        return not self.verifies or (n_open == 1 and not self.verifies_last)

    def decide_or_abstain(self, situation: Situation, exit_: Exit) -> Decision:
        """Decide the next step where one may abstain, too; `Unsure` calls this.

        The default compares the exit with a last candidate before it is asked. A policy that looks
        ahead overrides it; the answer that is accepted is compared with the exit by `Unsure`.
        """
        step = self.decide(situation)
        if step.action != "ask" or not step.final or not exit_.possible:
            return step
        p = self.p_good(situation, Attempt(candidate=step.candidate))
        kept = [self.p_good(situation, attempt) for attempt in situation.answered]
        if p is None or any(chance is None or chance >= exit_.worth for chance in kept):
            return step
        worth = p - exit_.lambda_ * (situation.arm(step.candidate).cost_usd or 0.0)
        if worth >= exit_.worth:
            return step
        reason = (
            f"asking {step.candidate} is worth {worth:.3f}, less than {exit_.worth:.3f}, what to "
            "end without an answer is worth"
        )
        return exit_decision(self, step.candidate, reason, scores=step.scores)

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates that the policy names, which its router must have."""
        return ()

    @property
    def reads_query(self) -> bool:
        """Whether decisions depend on the query's text, not only on the arms."""
        return False

    def read_of(self, attempt: Attempt) -> Hashable:
        """Return what decisions depend on in an attempt, if the policy decides by verdicts.

        The default is everything but costs and lengths.
        """
        return tuple(item for item in attempt.items() if item[0] not in _SPENDING)

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates that may be asked if none fails, in the order of escalation.

        Args:
            candidates: Names of all candidates, in the order of escalation.
        """
        return tuple(candidates)

    def chance(self, situation: Situation, step: Decision) -> float:
        """Return the probability that this policy takes the action of `step` on its candidate.

        The default is 1 or 0; a randomized policy overrides it.

        Raises:
            NotImplementedError: If it is randomized and does not define this.
        """
        own = self.decide(situation)
        if own.propensity != 1.0:
            msg = f"{type(self).__name__} is randomized: it must define `chance`."
            raise NotImplementedError(msg)
        return float((own.action, own.candidate) == (step.action, step.candidate))

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """Return the utility of an endpoint relative to other endpoints of its model."""
        return 0.0

    # Scores and utilities

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return P(the attempt's answer is good), in [0, 1]; None if it is unknown.

        The default is the verifier's raw score, or without one the predicted quality.
        """
        score = attempt.get("confidence")
        return situation.arm(attempt["candidate"]).quality if score is None else score

    def observation_model(self, candidate: str) -> ObservationModel | None:
        """Return the observation model of a candidate's scores; None if there is none."""
        return None

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """Return the terms whose sum is an arm's utility: quality is positive, others negative.

        The default is the quality and, if the knob is λ, -λ·cost, without unknown terms.
        """
        knob = self.knob
        lambda_ = knob.value if knob is not None and knob.name == "lambda" else 0.0
        terms = {} if arm.quality is None else {"quality": arm.quality}
        if arm.cost_usd is not None and lambda_ != 0:
            terms["cost"] = -lambda_ * arm.cost_usd
        return terms

    @property
    def maximizes_utility(self) -> bool:
        """Whether it always takes the highest predicted quality - λ·cost.

        All λ can then be replayed at once.
        """
        return False

    # The knob

    @property
    def knob(self) -> Knob | None:
        """The number that controls its choice, with its current value; None if there is none.

        The name of λ, in quality per USD, is `lambda`; a higher λ must never choose dearer answers.
        """
        return None

    def knob_for(self, situation: Situation) -> Knob | None:
        """Return the knob with the value that holds for a request; None if there is none."""
        return self.with_options(situation.options).knob

    def require_knob(self) -> Knob:
        """Return the knob.

        Raises:
            ValueError: If there is none.
        """
        knob = self.knob
        if knob is None:
            msg = (
                f"{type(self).__name__} has no knob: define the property `knob` in its class, or "
                "pass a function from a number to a policy, and `knobs`."
            )
            raise ValueError(msg)
        return knob

    def with_knob(self, value: float) -> Self:
        """Return this policy with another value of its knob.

        Raises:
            TypeError: If it is not a dataclass.
            ValueError: If it has no knob, or the value is not allowed.
        """
        field = self.require_knob().field
        if not is_dataclass(self):
            msg = f"{type(self).__name__} is not a dataclass: it must define `with_knob`."
            raise TypeError(msg)
        return replace(self, **{field: value})

    def with_options(self, options: RoutingOptions) -> Self:
        """Return this policy with a request's options applied.

        `decide` reads the options too, and both must agree: with the options this policy decides
        as the returned one does without them. To vary the knob within a request, vary that of the
        returned policy.
        """
        knob = self.knob
        values = {"lambda": options.lambda_, "threshold": options.threshold}
        value = None if knob is None else values.get(knob.name)
        return self if value is None else self.with_knob(value)

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Return values of the knob that are worth trying, in ascending order.

        Args:
            cost_usd: Mean cost of each candidate, which sets the scale of λ; NaN where unknown.
            quality: Predicted quality, of shape (n_queries, n_candidates); None if unknown.
            n: Number of values, for a knob other than λ.

        Raises:
            ValueError: If there is no knob, or the scale of λ is unknown.
        """
        knob = self.require_knob()
        return lambda_values(cost_usd) if knob.name == "lambda" else knob.spread(n)

    def crossings(self, situation: Situation) -> list[float]:
        """Return all knob values at which the choice may change; used if the knob is `exact`."""
        return []

    # Saving

    def save(self, folder: str | Path) -> Path:
        """Write the policy into a folder: its fields as JSON, and its fitted attributes.

        Raises:
            ArtifactError: If the value of a field cannot be saved.
            NotFittedError: If it must be fitted first.
        """
        folder = Path(folder)
        settings = {**self._save_fields(folder), **self._settings()}
        return write_artifact(folder, Artifact(kind_of(type(self)), settings, self._arrays()))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; `Policy.load` reads a policy of any class.

        The class must be imported already, because an artifact must not be able to import code.

        Raises:
            ArtifactError: If the folder is corrupted, or does not hold such a policy.
        """
        artifact = read_artifact(folder)
        kind = known_class(cls, artifact.kind, folder)
        if kind is not cls:
            return kind.load(folder)
        try:
            policy = cls(**cls._load_fields(artifact.settings, Path(folder)))
            policy._restore(artifact.settings, artifact.arrays)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error
        return policy

    def _save_fields(self, folder: Path) -> dict[str, Any]:
        """Return the constructor's arguments for the manifest; save policies in sub-folders."""
        name = type(self).__name__
        if not is_dataclass(self):
            msg = f"{name} cannot be saved: make it a dataclass, or give it `save` and `load`."
            raise ArtifactError(msg)
        params: dict[str, Any] = {}
        parts: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Policy):
                value.save(folder / field.name)
                parts.append(field.name)
            elif field.init:
                try:
                    params[field.name] = as_json(value)
                except TypeError as error:
                    msg = (
                        f"{name} cannot be saved: its field {field.name!r} holds {error}. Numbers, "
                        "strings, lists, mappings and policies can be saved; for anything else "
                        f"{name} must define `save` and `load`."
                    )
                    raise ArtifactError(msg) from error
        return {"params": params, "parts": parts}

    @classmethod
    def _load_fields(cls, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return the constructor's arguments that `_save_fields` wrote."""
        plain = {name: from_json(value) for name, value in settings["params"].items()}
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        parts = names.intersection(settings.get("parts", ()))
        return plain | {name: Policy.load(folder / name) for name in parts}

    def _settings(self) -> dict[str, Any]:
        """Return the fitted attributes that are stored in the manifest."""
        return {}

    def _arrays(self) -> Arrays:
        """Return the fitted attributes that are arrays."""
        return {}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        """Set the attributes that `_settings` and `_arrays` returned."""


class OneShot(Policy):
    """A policy that asks one candidate and accepts its answer; others only after a failure."""

    def decide(self, situation: Situation) -> Decision:
        """Accept an answer if there is one, otherwise choose among the open arms."""
        if situation.attempts and (answered := situation.answered):
            return accept(self, answered[-1], "it answered")
        return self.choose(situation)

    @abstractmethod
    def choose(self, situation: Situation) -> Decision:
        """Choose one of `situation.open_arms`."""

    def ask(
        self,
        candidate: str,
        reason: str,
        scores: Mapping[str, Mapping[str, float | None]] | None = None,
        *,
        propensity: float = 1.0,
        flip: str | None = None,
    ) -> Decision:
        """Return the decision to ask a candidate and accept its answer."""
        return Decision(
            action="ask",
            candidate=candidate,
            policy=type(self).__name__,
            reason=reason,
            final=True,
            scores={} if scores is None else scores,
            propensity=propensity,
            flip=flip,
        )


def accept(
    policy: Policy,
    attempt: Attempt,
    reason: str,
    *,
    scores: Mapping[str, Mapping[str, float | None]] | None = None,
    confidence: float | None = None,
    bar: float | None = None,
    flip: str | None = None,
) -> Decision:
    """Return the decision to accept an answer."""
    action: Action = "accept"
    return Decision(
        action=action,
        candidate=attempt["candidate"],
        policy=type(policy).__name__,
        reason=reason,
        scores={} if scores is None else scores,
        confidence=confidence,
        bar=bar,
        flip=flip,
    )


def exit_decision(
    policy: Policy,
    candidate: str,
    reason: str,
    *,
    scores: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Decision:
    """Return the decision to abstain, see `Decision.candidate`."""
    shown = {} if scores is None else scores
    return Decision("abstain", candidate, type(policy).__name__, reason, scores=shown)


def last_resort(policy: Policy, situation: Situation) -> Decision:
    """Return a decision where no candidate of the policy can answer: ask another, or stop."""
    if len(situation.answered) > 0:
        return accept(policy, situation.answered[-1], "the only answer there is")
    if len(situation.open_arms) > 0:
        other = situation.open_arms[0].candidate
        reason = "every candidate of the policy failed"
        return Decision("ask", other, type(policy).__name__, reason, final=True)
    return accept(policy, situation.attempts[-1], "every candidate failed")


def query_uniform(query: str, seed: int) -> float:
    """Return a pseudo-random number in [0, 1) that depends on the query and the seed alone."""
    digest = blake2b(f"{seed}:{query}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


@dataclass(frozen=True)
class Always(OneShot):
    """Asks the same candidate every time: the single-model baseline.

    Args:
        candidate: Name of the candidate.
    """

    candidate: str

    decides_by_verdicts: ClassVar[bool] = True

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidate."""
        return (self.candidate,)

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidate."""
        return (self.candidate,)

    def choose(self, situation: Situation) -> Decision:
        """Ask the candidate."""
        situation.arm(self.candidate)
        return self.ask(self.candidate, "always this candidate")


@dataclass(frozen=True)
class RandomMix(OneShot):
    """Asks each candidate with a fixed probability: the baseline that every router must beat.

    The draw depends on the query and the seed alone, so a replay repeats it.

    Args:
        shares: Probability of each candidate, by name; they must sum to 1.
        seed: Seed of the draw.
    """

    shares: Mapping[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(self.shares.values())
        if min(self.shares.values(), default=-1.0) < 0 or abs(total - 1) > 1e-9:
            msg = f"`shares` must be >= 0 and sum to 1, got {dict(self.shares)!r}."
            raise ValueError(msg)

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """Every candidate with a share."""
        return tuple(self.shares)

    def choose(self, situation: Situation) -> Decision:
        """Draw among the open arms in proportion to their shares."""
        pool, total = self._pool(situation)
        draw = query_uniform(situation.query, self.seed) * total
        chosen = next(iter(pool))
        for name, share in pool.items():
            if share > 0:
                chosen = name
            draw -= share
            if draw < 0:
                break
        share = pool[chosen] / total
        return self.ask(chosen, f"drawn with probability {share:.3g}", propensity=share)

    @property
    def reads_query(self) -> bool:
        """True, because the draw depends on the query."""
        return True

    def chance(self, situation: Situation, step: Decision) -> float:
        """Return the share of the candidate among the open arms."""
        if len(situation.answered) > 0 or step.action != "ask":
            return super().chance(situation, step)
        pool, total = self._pool(situation)
        return pool.get(step.candidate, 0.0) / total

    def _pool(self, situation: Situation) -> tuple[dict[str, float], float]:
        pool = {a.candidate: self.shares.get(a.candidate, 0.0) for a in situation.open_arms}
        total = sum(pool.values())
        if total <= 0:
            return dict.fromkeys(pool, 1.0), float(len(pool))
        return pool, total
