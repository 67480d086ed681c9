"""What every policy is: a pure function from a `Situation` to a `Decision`.

A policy performs no I/O, keeps no state between calls and draws no random numbers (a mixed policy
hashes the query and its seed), so the live router, the LangGraph state machine and the offline
replay take the same decision in the same situation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_llm_router.data.artifacts import (
    Artifact,
    as_json,
    from_json,
    kind_of,
    known_class,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.policies.knob import Knob, lambda_values
from langchain_llm_router.types import Action, Arm, Attempt, Decision, Situation
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.types.options import RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_llm_router.policies.observation import ObservationModel
    from langchain_llm_router.types.arrays import Arrays

__all__ = ["Always", "OneShot", "Policy", "RandomMix", "accept", "last_resort", "query_uniform"]


class Policy(CheckedArguments, ABC):
    """Decides which candidate to ask, whether to verify, and when to accept.

    A custom policy needs `decide` (or `OneShot.choose`). As a frozen dataclass it can be saved
    and loaded without further code; with a `knob` it can also be calibrated, explained at every
    setting, and drawn as a curve. The rest has defaults.
    """

    verifies: ClassVar[bool] = False
    """Whether it ever asks for an answer to be verified; then the router needs a verifier."""

    @abstractmethod
    def decide(self, situation: Situation) -> Decision:
        """Decide what to do next; the same situation always gets the same decision."""

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """Candidates that this policy names; a router checks that it has them."""
        return ()

    @property
    def reads_query(self) -> bool:
        """Whether it looks at the query's text, and not only at the arms."""
        return False

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """The candidates that it may ask as long as none fails, in the order of escalation.

        Args:
            candidates: All there are, in the order of escalation.
        """
        return tuple(candidates)

    def chance(self, situation: Situation, step: Decision) -> float:
        """Probability with which this policy would take the action of `step` on its candidate.

        1 or 0 here; a randomized policy says how likely each outcome of its draw is.

        Raises:
            NotImplementedError: If it is randomized and does not define this.
        """
        own = self.decide(situation)
        if own.propensity != 1.0:
            msg = f"{type(self).__name__} is randomized: it must define `chance`."
            raise NotImplementedError(msg)
        return float((own.action, own.candidate) == (step.action, step.candidate))

    def endpoint_utility(self, arm: Arm, situation: Situation) -> float:
        """What one endpoint of a model is worth compared to the others; the quality is the same."""
        return 0.0

    # How it reads what is known

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """P(this attempt's answer is good), in [0, 1]; None when nothing is known about it.

        Here the verifier's raw score, or else the candidate's predicted quality.
        """
        score = attempt.get("confidence")
        return situation.arm(attempt["candidate"]).quality if score is None else score

    def observation_model(self, candidate: str) -> ObservationModel | None:
        """The model through which it reads the scores of a candidate's answers; None: no model."""
        return None

    def utility_terms(self, arm: Arm) -> dict[str, float]:
        """The terms whose sum is an arm's utility: quality is positive; cost and others negative.

        Here the quality and, where the knob is λ, -λ·cost; unknown terms are left out.
        """
        knob = self.knob
        lambda_ = knob.value if knob is not None and knob.name == "lambda" else 0.0
        terms = {} if arm.quality is None else {"quality": arm.quality}
        if arm.cost_usd is not None and lambda_ != 0:
            terms["cost"] = -lambda_ * arm.cost_usd
        return terms

    @property
    def maximizes_utility(self) -> bool:
        """Whether it takes the best predicted quality - λ·cost, and looks at nothing else.

        All λ can then be replayed at once.
        """
        return False

    # Its knob

    @property
    def knob(self) -> Knob | None:
        """The number that controls its choice, with its current value; None: there is none.

        Where it is λ, quality per USD, it has the name `lambda`.
        """
        return None

    def require_knob(self) -> Knob:
        """Its knob.

        Raises:
            ValueError: If it has none.
        """
        knob = self.knob
        if knob is None:
            msg = (
                f"{type(self).__name__} has no knob to turn: give its class the property `knob`, "
                "or pass a function from a number to a policy, and `knobs`."
            )
            raise ValueError(msg)
        return knob

    def with_knob(self, value: float) -> Self:
        """The same policy at another setting of its knob.

        Raises:
            ValueError: If it has no knob, or the value makes no sense for it.
        """
        field = self.require_knob().field
        if not is_dataclass(self):
            msg = f"{type(self).__name__} is not a dataclass: it must define `with_knob`."
            raise TypeError(msg)
        return replace(self, **{field: value})

    def with_options(self, options: RoutingOptions) -> Self:
        """This policy with a request's options applied.

        `decide` reads the options itself, so both must agree: with the options this policy does
        what the returned one does without them. To vary the knob within a request, vary that of
        the returned policy.
        """
        knob = self.knob
        given = {"lambda": options.lambda_, "threshold": options.threshold}
        value = None if knob is None else given.get(knob.name)
        return self if value is None else self.with_knob(value)

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Settings of the knob that are worth trying, in ascending order.

        Args:
            cost_usd: Mean cost of each candidate, NaN where unknown: they set the scale of λ.
            quality: Predicted quality, of shape (n_queries, n_candidates), if any.
            n: How many, for a knob whose range is known.

        Raises:
            ValueError: If it has no knob, or λ has no scale.
        """
        knob = self.require_knob()
        return lambda_values(cost_usd) if knob.name == "lambda" else knob.spread(n)

    def crossings(self, situation: Situation) -> list[float]:
        """All settings at which the choice may change here; called only if the knob is `exact`."""
        return []

    # Saving

    def save(self, folder: str | Path) -> Path:
        """Write the policy into a folder: its fields as JSON, and what it has learned.

        Raises:
            ArtifactError: If a field holds a value that cannot be saved.
            NotFittedError: If it has to be fitted first.
        """
        folder = Path(folder)
        settings = {**self._save_fields(folder), **self._settings()}
        return write_artifact(folder, Artifact(kind_of(type(self)), settings, self._arrays()))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; `Policy.load` reads a policy of any class.

        The class must be imported already: an artifact is data and never makes Python import what
        it names.

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
            msg = f"{str(folder)!r} does not hold a whole {cls.__name__}: {error}."
            raise ArtifactError(msg) from error
        return policy

    def _save_fields(self, folder: Path) -> dict[str, Any]:
        """The constructor's arguments for the manifest; policies among them get sub-folders."""
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
                        f"{name} cannot be saved: its field {field.name!r} holds {error}. Allowed "
                        "are numbers, texts, lists, mappings and policies; for anything else "
                        f"{name} must define `save` and `load`."
                    )
                    raise ArtifactError(msg) from error
        return {"params": params, "parts": parts}

    @classmethod
    def _load_fields(cls, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """What `_save_fields` wrote, as the constructor's arguments."""
        given = {name: from_json(value) for name, value in settings["params"].items()}
        own = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        parts = own.intersection(settings.get("parts", ()))
        return given | {name: Policy.load(folder / name) for name in parts}

    def _settings(self) -> dict[str, Any]:
        """The part of what it has learned that belongs in the manifest."""
        return {}

    def _arrays(self) -> Arrays:
        """The arrays that it has learned."""
        return {}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        """Restore what `_settings` and `_arrays` returned."""


class OneShot(Policy):
    """A policy that asks one candidate and takes its answer; others only if that one fails."""

    def decide(self, situation: Situation) -> Decision:
        """Accept an answer if there is one, otherwise choose among those not asked yet."""
        answered = situation.answered
        if len(answered) > 0:
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
        """The decision to ask a candidate and take its answer."""
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
    flip: str | None = None,
) -> Decision:
    """The decision to keep an answer."""
    action: Action = "accept"
    return Decision(
        action=action,
        candidate=attempt["candidate"],
        policy=type(policy).__name__,
        reason=reason,
        scores={} if scores is None else scores,
        confidence=confidence,
        flip=flip,
    )


def last_resort(policy: Policy, situation: Situation) -> Decision:
    """When no candidate that the policy knows can answer: ask any other one, or give up."""
    if len(situation.answered) > 0:
        return accept(policy, situation.answered[-1], "the only answer there is")
    if len(situation.open_arms) > 0:
        other = situation.open_arms[0].candidate
        reason = "every known candidate failed"
        return Decision("ask", other, type(policy).__name__, reason, final=True)
    return accept(policy, situation.attempts[-1], "every candidate failed")


def query_uniform(query: str, seed: int) -> float:
    """A number in [0, 1) that depends only on the query and the seed: reproducible randomness."""
    digest = blake2b(f"{seed}:{query}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


@dataclass(frozen=True)
class Always(OneShot):
    """Asks the same candidate every time: the single-model baseline.

    Args:
        candidate: The one to ask.
    """

    candidate: str

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The one candidate."""
        return (self.candidate,)

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """The one candidate."""
        return (self.candidate,)

    def choose(self, situation: Situation) -> Decision:
        """Ask it."""
        situation.arm(self.candidate)
        return self.ask(self.candidate, "always this candidate")


@dataclass(frozen=True)
class RandomMix(OneShot):
    """Asks each candidate with a fixed probability: the baseline that every router must beat.

    The draw depends on the query and the seed alone, so a replay repeats it.

    Args:
        shares: Probability per candidate; must sum to 1.
        seed: Changes the draw.
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
        """Draw among those not asked yet, in proportion to their shares."""
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
        """It is: the draw depends on the query."""
        return True

    def chance(self, situation: Situation, step: Decision) -> float:
        """The share of the candidate among those not asked yet."""
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
