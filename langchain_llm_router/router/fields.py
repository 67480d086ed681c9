"""The arguments of a router.

`RouterFields` is the only list of them: they are fields of the chat model and arguments of
`create_cascade` and `routing_edge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import core_schema

from langchain_llm_router.loop.sensitive import Sensitive
from langchain_llm_router.loop.stuck import StuckDetector
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import FlawKind
from langchain_llm_router.types.arguments import check_kind, refuse_unknown
from langchain_llm_router.verification.verifier import Verifier

if TYPE_CHECKING:
    from langchain_llm_router.budgets import Budgets as _Budgets
    from langchain_llm_router.estimators.estimator import QualityEstimator as _QualityEstimator
    from langchain_llm_router.estimators.output_length import OutputLength as _OutputLength
    from langchain_llm_router.history.decision_log import DecisionLog as _DecisionLog
    from langchain_llm_router.live.live import Live as _Live
    from langchain_llm_router.router.shadow import Shadow as _Shadow
else:
    # Importing them all takes longer than importing LangChain's chat model, so `_KINDS` has a class
    # imported when an argument needs it.
    _Budgets = _DecisionLog = _Live = _OutputLength = _QualityEstimator = _Shadow = Any

__all__ = [
    "DecisionArguments",
    "RouterArguments",
    "RouterFields",
    "StreamingMode",
    "refuse_misplaced",
]

StreamingMode = Literal["buffer", "commit", "events"]
_CandidateLike = Candidate | BaseChatModel | str


class _Unvalidated:
    """Annotation that makes pydantic accept any value; `RouterFields` checks the class itself."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.any_schema()


class RouterFields(BaseModel):
    """The arguments of a router.

    Raises:
        TypeError: If an argument is unknown, or has the wrong type.
        ValueError: If a value is out of its range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, title="a router")

    candidates: Annotated[Sequence[_CandidateLike], _Unvalidated]
    policy: Annotated[Policy | None, _Unvalidated] = None
    estimator: Annotated[_QualityEstimator | None, _Unvalidated] = None
    verifier: Annotated[Verifier | None, _Unvalidated] = None
    lengths: Annotated[_OutputLength | None, _Unvalidated] = None
    live: Annotated[_Live | None, _Unvalidated] = None
    budgets: Annotated[_Budgets | None, _Unvalidated] = None
    log: Annotated[_DecisionLog | None, _Unvalidated] = None
    shadow: Annotated[_Shadow | None, _Unvalidated] = None
    judge_share: float = Field(default=0.0, ge=0, le=1)
    judge: Annotated[_CandidateLike | None, _Unvalidated] = None
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,)
    fallback_on: tuple[FlawKind, ...] = ()
    sticky: bool | Literal["escalate"] = False
    stuck: Annotated[StuckDetector | bool | None, _Unvalidated] = None
    sensitive: Annotated[Sensitive | None, _Unvalidated] = None
    turns: int = Field(default=3, ge=1)
    trace_decision: bool = True
    trace_verdicts: bool = False
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
    def _check_arguments(cls, arguments: Any) -> Any:
        if isinstance(arguments, dict):
            refuse_misplaced(arguments)
            aliases = [field.alias for field in cls.model_fields.values() if field.alias]
            fields = [*cls.model_fields, *aliases]
            refuse_unknown(
                [name for name in arguments if name not in _REFUSAL_REASONS], fields, cls.__name__
            )
            pool = arguments.get("candidates", ())
            if isinstance(pool, str) or not isinstance(pool, Sequence):
                msg = (
                    "`candidates` must be a sequence of `Candidate`s, chat models or "
                    f"'provider:model' strings, from cheap to strong, got {pool!r}."
                )
                raise TypeError(msg)
            for name, value in arguments.items():
                if name in _KINDS and value is not None:
                    check_kind(name, value, *_kinds_of(name), NoneType)
                elif name == "stuck" and not isinstance(value, StuckDetector | bool | None):
                    msg = (
                        "`stuck` must be a `StuckRules` or `StuckModel`, True for the default "
                        f"rules, False, or None, got {value!r}."
                    )
                    raise TypeError(msg)
            if arguments.get("shadow") is not None:
                arguments = {**arguments, "shadow": _shadow_of(arguments["shadow"])}
        return arguments


class DecisionArguments(TypedDict, total=False):
    """What a first decision depends on, as keyword arguments for type checkers and editors."""

    estimator: _QualityEstimator | None
    lengths: _OutputLength | None
    live: _Live | None
    sticky: bool | Literal["escalate"]
    stuck: StuckDetector | bool | None
    sensitive: Sensitive | None
    turns: int


class RouterArguments(DecisionArguments, total=False):
    """The fields of `RouterFields`, as keyword arguments for type checkers and editors."""

    policy: Policy | None
    verifier: Verifier | None
    budgets: _Budgets | None
    log: _DecisionLog | None
    shadow: _Shadow | None
    judge_share: float
    judge: Candidate | BaseChatModel | str | None
    exceptions_to_handle: tuple[type[Exception], ...]
    fallback_on: tuple[FlawKind, ...]
    trace_decision: bool
    trace_verdicts: bool
    streaming_mode: StreamingMode
    commit_at: float
    commit_after: int
    temperature: float | None
    max_tokens: int | None
    stop: list[str] | None
    timeout: float | None
    max_retries: int | None


_KINDS: dict[str, tuple[str, ...]] = {
    "policy": ("policies.policy.Policy",),
    "estimator": ("estimators.estimator.QualityEstimator",),
    "verifier": ("verification.verifier.Verifier",),
    "lengths": ("estimators.output_length.OutputLength",),
    "live": ("live.live.Live",),
    "budgets": ("budgets.budgets.Budgets",),
    "log": ("history.decision_log.DecisionLog",),
    "shadow": (
        "router.shadow.Shadow",
        "router.chat.ChatLLMRouter",
        "router.saved_router.SavedRouter",
    ),
    "sensitive": ("loop.sensitive.Sensitive",),
}
"""The classes that each part may have, beside None."""


def _kinds_of(field: str) -> list[Any]:
    kinds = []
    for path in _KINDS[field]:
        module, _, name = path.rpartition(".")
        kinds.append(getattr(import_module(f"langchain_llm_router.{module}"), name))
    return kinds


def _shadow_of(value: Any) -> Any:
    """Return a live or saved router as a shadow, and a shadow as it is."""
    kind, live, _ = _kinds_of("shadow")
    if isinstance(value, kind):
        return value
    # Without a policy of its own a router has one made for its candidates.
    policy = value.parts.policy if isinstance(value, live) else value.policy
    return kind(policy, value.estimator)


_REFUSAL_REASONS = {
    "api_key": "a router has no key of its own: give it to the candidates' models",
    "base_url": "a router has no address of its own: give it to the candidates' models",
    "model": "a router's models are its `candidates`",
    "cache": "a cache on the router would freeze its decisions: set it on the candidates' models",
    "rate_limiter": "every provider has its own limit: set it on the candidates' models",
}


def refuse_misplaced(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of LangChain's chat models that a router cannot honour, with the reason.

    Raises:
        ValueError: If one of them is set.
    """
    for name, reason in _REFUSAL_REASONS.items():
        if arguments.get(name) not in (None, False):
            msg = f"`{name}` cannot be set on a router: {reason}."
            raise ValueError(msg)
