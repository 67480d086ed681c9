"""A router's parts: the one list of what it takes, checked and fitted together.

`RouterFields` is that list; the chat model has its fields, `create_cascade` and `routing_edge` take
them as arguments, the agent middleware takes a router's. `Parts` is what they all become: models
that can be asked, a policy, and what can be looked up before any request.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import core_schema

from langchain_llm_router.calls.ask import Asking
from langchain_llm_router.calls.bindings import Bindings
from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.calls.provider_messages import for_provider, provider_of
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.loop.loop import Reader, check_policy
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Candidate, candidate_names
from langchain_llm_router.types.arguments import check_kind, refuse_unknown
from langchain_llm_router.types.secrets import find_secrets
from langchain_llm_router.verification.verifier import Verifier

if TYPE_CHECKING:
    from langchain_llm_router.budgets import Budgets as _Budgets
    from langchain_llm_router.estimators.estimator import QualityEstimator as _QualityEstimator
    from langchain_llm_router.estimators.output_length import OutputLength as _OutputLength
    from langchain_llm_router.history.decision_log import DecisionLog as _DecisionLog
    from langchain_llm_router.live.live import Live as _Live
    from langchain_llm_router.router.shadow import Shadow as _Shadow
else:
    # Loading them all takes longer than LangChain's own chat model: `_KINDS` looks one up when it
    # is given. Type checkers and readers see the real types.
    _Budgets = _DecisionLog = _Live = _OutputLength = _QualityEstimator = _Shadow = Any

__all__ = [
    "DecisionArguments",
    "Parts",
    "RouterArguments",
    "RouterFields",
    "StreamingMode",
    "columns_of",
    "refuse_misplaced",
]

StreamingMode = Literal["buffer", "commit", "events"]
Given = Candidate | BaseChatModel | str


class _AsGiven:
    """Has pydantic keep a value as it is: `RouterFields` checks its class itself."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.any_schema()


class RouterFields(BaseModel):
    """What a router takes, in each of its forms.

    Raises:
        TypeError: If an argument is unknown, or of the wrong kind.
        ValueError: If a value is out of its range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, title="a router")

    candidates: Annotated[Sequence[Given], _AsGiven]
    policy: Annotated[Policy | None, _AsGiven] = None
    estimator: Annotated[_QualityEstimator | None, _AsGiven] = None
    verifier: Annotated[Verifier | None, _AsGiven] = None
    lengths: Annotated[_OutputLength | None, _AsGiven] = None
    live: Annotated[_Live | None, _AsGiven] = None
    budgets: Annotated[_Budgets | None, _AsGiven] = None
    log: Annotated[_DecisionLog | None, _AsGiven] = None
    shadow: Annotated[_Shadow | None, _AsGiven] = None
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,)
    sticky: bool | Literal["escalate"] = False
    turns: int = Field(default=3, ge=1)
    trace_decision: bool = True
    streaming_mode: StreamingMode = "buffer"
    commit_at: float = Field(default=0.9, ge=0, le=1)
    commit_after: int = Field(default=16, ge=0)
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = None
    timeout: float | None = Field(default=None, gt=0)
    max_retries: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _check_given(cls, given: Any) -> Any:
        if isinstance(given, dict):
            refuse_misplaced(given)
            aliases = [field.alias for field in cls.model_fields.values() if field.alias]
            known = [*cls.model_fields, *aliases]
            refuse_unknown([name for name in given if name not in _REFUSED], known, cls.__name__)
            pool = given.get("candidates", ())
            if isinstance(pool, str) or not isinstance(pool, Sequence):
                msg = (
                    "`candidates` must be a sequence of `Candidate`s, chat models or "
                    f"'provider:model' strings, from cheap to strong, got {pool!r}."
                )
                raise TypeError(msg)
            for name, value in given.items():
                if name in _KINDS and value is not None:
                    check_kind(name, value, _kind_of(name))
        return given


class DecisionArguments(TypedDict, total=False):
    """What a first decision depends on, as keyword arguments for type checkers and editors."""

    estimator: _QualityEstimator | None
    lengths: _OutputLength | None
    live: _Live | None
    sticky: bool | Literal["escalate"]
    turns: int


class RouterArguments(DecisionArguments, total=False):
    """The fields of `RouterFields`, as keyword arguments for type checkers and editors."""

    policy: Policy | None
    verifier: Verifier | None
    budgets: _Budgets | None
    log: _DecisionLog | None
    shadow: _Shadow | None
    exceptions_to_handle: tuple[type[Exception], ...]
    trace_decision: bool
    streaming_mode: StreamingMode
    commit_at: float
    commit_after: int
    temperature: float | None
    max_tokens: int | None
    stop: list[str] | None
    timeout: float | None
    max_retries: int | None


_KINDS: dict[str, tuple[str, str]] = {
    "policy": ("policies.policy", "Policy"),
    "estimator": ("estimators.estimator", "QualityEstimator"),
    "verifier": ("verification.verifier", "Verifier"),
    "lengths": ("estimators.output_length", "OutputLength"),
    "live": ("live.live", "Live"),
    "budgets": ("budgets.budgets", "Budgets"),
    "log": ("history.decision_log", "DecisionLog"),
    "shadow": ("router.shadow", "Shadow"),
}
"""Where the class of each part is defined."""


def _kind_of(field: str) -> type:
    module, name = _KINDS[field]
    kind: type = getattr(import_module(f"langchain_llm_router.{module}"), name)
    return kind


_REFUSED = {
    "api_key": "a router has no key of its own: give it to the candidates' models",
    "base_url": "a router has no address of its own: give it to the candidates' models",
    "model": "a router's models are its `candidates`",
    "cache": "a cache on the router would freeze its decisions: set it on the candidates' models",
    "rate_limiter": "every provider has its own limit: set it on the candidates' models",
}


def refuse_misplaced(given: Mapping[str, Any]) -> None:
    """Refuse what LangChain's chat models take and a router cannot honour, with the reason.

    Raises:
        ValueError: If one of them is set.
    """
    for name, reason in _REFUSED.items():
        if given.get(name) not in (None, False):
            msg = f"`{name}` cannot be set on a router: {reason}."
            raise ValueError(msg)


def columns_of(
    estimator: _QualityEstimator | _OutputLength | None, names: Sequence[str]
) -> list[int]:
    """Where each candidate stands in the estimator's predictions.

    Raises:
        NotFittedError: If the estimator is not fitted.
        ValueError: If it was fitted without one of the candidates.
    """
    if estimator is None:
        return []
    known = list(estimator.fitted_candidates)
    missing = [name for name in names if name not in known]
    if missing:
        msg = (
            f"The {type(estimator).__name__} knows nothing of {missing}: it was fitted on {known}. "
            "Name the candidates as in its training data."
        )
        raise ValueError(msg)
    return [known.index(name) for name in names]


class Parts:
    """A router's parts, fitted together.

    Args:
        fields: What was given.
        asks: Whether candidates are ever asked; if not, they need no model.

    Attributes:
        fields: What was given; what is not among the attributes here is read from it.
        candidates: Endpoints expanded, each with a live model.
        policy: The one given, or the default for the other parts.
        live: The one given, or what `timeout` and `max_retries` ask for.
        names: Names of the candidates, from cheap to strong.
        by_name: The candidates by name.
        models: Their chat models by name.
        settings: Keywords of every candidate's call.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit.
    """

    def __init__(self, fields: RouterFields, *, asks: bool = True) -> None:
        self.fields = fields
        given = expand_endpoints(fields.candidates)
        self.candidates = tuple(map(resolve_candidate if asks else _as_named, given))
        self.names = candidate_names(self.candidates)
        self.by_name = dict(zip(self.names, self.candidates, strict=True))
        self.models = {c.name: live_model(c) for c in self.candidates if c.model is not None}
        self.policy = _policy_of(fields)
        self.live = _live_of(fields)
        self.bindings, self.reader = Bindings(), Reader()
        set_here = {
            "temperature": fields.temperature,
            "max_tokens": fields.max_tokens,
            "stop": fields.stop,
        }
        self.settings = {name: value for name, value in set_here.items() if value is not None}
        models = [candidate.model_name for candidate in self.candidates]
        self.columns = columns_of(fields.estimator, models)
        self.length_columns = columns_of(fields.lengths, models)
        known = {name: model.profile for name, model in self.models.items()}
        self.profiles = {name: profile for name, profile in known.items() if profile}
        self._providers = {name: provider_of(model) for name, model in self.models.items()}
        self._of_drafts = {
            c.name: {} if fields.verifier is None else fields.verifier.answer_kwargs(c.model_name)
            for c in self.candidates
        }
        check_policy(self.policy, list(dict.fromkeys(models)))
        if fields.shadow is not None:
            fields.shadow.check(list(dict.fromkeys(models)))
        if self.live is not None:
            self.live.register(self.candidates)
        if asks and self.policy.verifies and fields.verifier is None:
            msg = f"{type(self.policy).__name__} verifies answers: give the router a `verifier`."
            raise ValueError(msg)

    def with_bindings(self, bindings: Bindings) -> Parts:
        """The same parts, except what binds tools and schemas to a candidate."""
        parts = copy.copy(self)
        parts.bindings = bindings
        return parts

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Every key that the candidates' models hold."""
        return tuple({key for c in self.candidates for key in find_secrets(c.model)})

    def candidate_called(self, name: Any) -> str:
        """The candidate of that name, or whose model has that name.

        Raises:
            ValueError: If there is none.
        """
        if any(name in (c.name, c.model_name) for c in self.candidates):
            return str(name)
        for candidate, model in self.models.items():
            if name in (getattr(model, "model", None), getattr(model, "model_name", None)):
                return candidate
        msg = f"Unknown candidate {name!r} in `model`: this router has {list(self.names)}."
        raise ValueError(msg)

    def asking(
        self,
        name: str,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: Mapping[str, Any],
        *,
        final: bool,
        include_raw: bool = True,
        due_s: float | None = None,
        **declared: Any,
    ) -> Asking:
        """The operation that asks a candidate, with the conversation as it can read it.

        Args:
            name: The candidate.
            messages: The conversation.
            config: Config of the candidate's run.
            kwargs: Keywords of the router's call; a draft is requested with what its verifier needs
                as well.
            final: Whether the answer will be accepted without verification.
            include_raw: Whether structured output must include its raw message.
            due_s: Deadline of the request, on `time.monotonic`'s clock.
            **declared: Further fields of the operation.
        """
        candidate, provider = self.by_name[name], self._providers[name]
        if not final and self._of_drafts[name]:
            kwargs = {**self._of_drafts[name], **kwargs}
        runnable, rest = self._bound(candidate, kwargs, include_raw=include_raw)
        if "cache_control" in rest and provider not in (None, "anthropic", "bedrock"):
            del rest["cache_control"]
        notes = Notes()
        if self.live is not None:
            twin = self.live.twin_of(candidate, self.candidates)
            from langchain_llm_router.live.guarded_calls import (  # noqa: PLC0415 - slow to load
                GuardedRunnable,
            )

            guard = self.live.guard(candidate, due_s=due_s, twin=twin)
            other = None
            if twin is not None:
                other, _ = self._bound(twin, kwargs, include_raw=include_raw)
            runnable = cast("Runnable[Any, Any]", GuardedRunnable(runnable, guard, other, notes))
        return Asking(
            candidate=candidate,
            runnable=runnable,
            messages=for_provider(messages, provider),
            config=config,
            kwargs=rest,
            final=final,
            handled=self.fields.exceptions_to_handle,
            notes=notes,
            **declared,
        )

    def _bound(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        if self.settings or candidate.parameters:
            kwargs = {**self.settings, **candidate.parameters, **kwargs}
        if not kwargs and type(self.bindings) is Bindings:
            return self.models[candidate.name], {}
        return self.bindings.apply(candidate, kwargs, include_raw=include_raw)


def _as_named(given: Candidate | BaseChatModel | str) -> Candidate:
    """A candidate that is only chosen, never asked."""
    if isinstance(given, Candidate) and given.model is None:
        return given
    if isinstance(given, str) and ":" not in given:
        return Candidate(given)
    return resolve_candidate(given)


def _policy_of(fields: RouterFields) -> Policy:
    if fields.policy is not None:
        return fields.policy
    if fields.verifier is not None:
        from langchain_llm_router.policies.confidence import (  # noqa: PLC0415 - the default only
            ConfidenceThreshold,
        )

        return ConfidenceThreshold()
    if fields.estimator is None:
        msg = "Give the router a `policy`, an `estimator`, or a `verifier` to choose by."
        raise ValueError(msg)
    from langchain_llm_router.policies.one_shot import Utility  # noqa: PLC0415 - the default only

    return Utility()


def _live_of(fields: RouterFields) -> _Live | None:
    if fields.timeout is None and fields.max_retries is None:
        return fields.live
    if fields.live is not None:
        msg = (
            "`timeout` and `max_retries` are set twice: beside `live` give them in its "
            "`Resilience(timeout_s=..., retries=...)`."
        )
        raise ValueError(msg)
    from langchain_llm_router.live.failure_rules import Resilience  # noqa: PLC0415 - slow to load
    from langchain_llm_router.live.live import Live  # noqa: PLC0415 - slow to load

    return Live(resilience=Resilience(timeout_s=fields.timeout, retries=fields.max_retries or 0))
