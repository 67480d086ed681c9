"""The router as a chat model: one LangChain `BaseChatModel` that asks the right one of several.

What happens between a question and its answer is `_session`; how that is run the LangChain way is
in `sessions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self, cast
from uuid import uuid4

from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, PrivateAttr, model_validator

from langchain_llm_router.asking import (
    Answer,
    Asking,
    Predicting,
    Verifying,
    candidate_config,
    live_model,
    resolve_candidate,
)
from langchain_llm_router.binding import Bindings, bind_structured_output, structured_output
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.loop import (
    Routed,
    begin,
    build_arms,
    check_policy,
    decision_record,
    next_decision,
    routing,
)
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.one_shot import Utility
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.sessions import Done, Session, SessionChatModel
from langchain_llm_router.types import (
    Attempt,
    Candidate,
    Decision,
    RoutingOptions,
    Situation,
    candidate_names,
)
from langchain_llm_router.verification import Case, Verifier, question_of

__all__ = ["ChatLLMRouter", "columns_of", "route_of"]


def route_of(message: BaseMessage) -> dict[str, Any] | None:
    """The decision record on a router's answer; None on any other message."""
    record = message.response_metadata.get("llm_router")
    return cast("dict[str, Any] | None", record)


def columns_of(estimator: QualityEstimator | None, names: Sequence[str]) -> list[int]:
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


class ChatLLMRouter(SessionChatModel):
    """A chat model that chooses, for every call, which of its candidates answers.

    With a one-shot policy the chosen candidate's answer is passed on as it comes. With a policy
    that verifies, and a `verifier`, it is a cascade: drafts are judged and kept or escalated, and
    only the accepted answer is ever seen.

    Args:
        candidates: From cheap to strong: `Candidate`s, chat models, or `"provider:model"` strings.
        policy: Whom to ask; None: `ConfidenceThreshold()` with a verifier, otherwise `Utility()`.
        estimator: Predicts each candidate's quality; fitted on these candidates' names.
        verifier: Judges answers for policies that verify.
        exceptions_to_handle: Failures of a candidate that are observations for the policy; others
            are raised at once. If nobody answers, the last candidate's own error is raised.

    Example:
        >>> from langchain_llm_router.datasets import RecordedChatModel
        >>> small, large = (RecordedChatModel({"hi": text}) for text in ("Hi.", "Good day."))
        >>> router = ChatLLMRouter(
        ...     candidates=[Candidate("small", small), Candidate("large", large)],
        ...     policy=Always("large"),
        ... )
        >>> router.invoke("hi").content
        'Good day.'
    """

    candidates: Sequence[Any]
    policy: Any = None
    estimator: Any = None
    verifier: Any = None
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,)
    temperature: float | None = None
    max_tokens: int | None = None
    streaming: bool = False

    _bindings: Bindings = PrivateAttr(default_factory=Bindings)
    _columns: list[int] = PrivateAttr(default_factory=list)

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    @model_validator(mode="after")
    def _check_router(self) -> Self:
        self._add_version("langchain-llm-router", "0.1.0")
        pool = tuple(resolve_candidate(given) for given in self.candidates)
        names = candidate_names(pool)
        if self.output_version is not None and "output_version" in self.model_fields_set:
            update = {"output_version": self.output_version}
            pool = tuple(replace(c, model=live_model(c).model_copy(update=update)) for c in pool)
        policy = self.policy
        if policy is None:
            policy = ConfidenceThreshold() if self.verifier is not None else Utility()
            if self.verifier is None and self.estimator is None:
                msg = "Give the router a `policy`, an `estimator`, or a `verifier` to choose by."
                raise ValueError(msg)
        for name, value, kind in (
            ("policy", policy, Policy),
            ("estimator", self.estimator, QualityEstimator),
            ("verifier", self.verifier, Verifier),
        ):
            if value is not None and not isinstance(value, kind):
                msg = f"`{name}` must be a {kind.__name__}, got {value!r}."
                raise TypeError(msg)
        check_policy(policy, names)
        if policy.verifies and self.verifier is None:
            msg = f"{type(policy).__name__} verifies answers: give the router a `verifier`."
            raise ValueError(msg)
        if self.cache not in (None, False):
            msg = (
                "A cache on the router would freeze its decisions: "
                "set `cache` on the candidates' models instead."
            )
            raise ValueError(msg)
        # Not plain assignment: it would validate again, for ever.
        object.__setattr__(self, "candidates", pool)
        object.__setattr__(self, "policy", policy)
        self._columns = columns_of(self.estimator, names)
        return self

    # Deciding

    def route(self, input: LanguageModelInput, config: RunnableConfig | None = None) -> Decision:
        """Decide whom to ask first, without asking anybody.

        Raises:
            NoCandidateError: If nobody may be asked.
        """
        messages = self._messages(input)
        quality = None
        if self.estimator is not None:
            quality = Predicting(self.estimator, question_of(messages)).perform()
        decision = next_decision(self.policy, self._situation(messages, quality, config))
        assert decision is not None, "nobody has failed yet"
        return replace(decision, decision_id=uuid4().hex)

    def _messages(self, input: LanguageModelInput) -> list[BaseMessage]:
        messages = self._convert_input(input).to_messages()
        if len(messages) == 0:
            msg = "The message list is empty: there is nothing to route."
            raise ValueError(msg)
        return messages

    def _situation(
        self,
        messages: Sequence[BaseMessage],
        quality: Sequence[float] | None,
        config: RunnableConfig | None,
    ) -> Situation:
        configurable = (config or {}).get("configurable") or {}
        options = RoutingOptions.parse(configurable.get("llm_router"))
        if quality is not None:
            quality = [quality[column] for column in self._columns]
        query = question_of(messages)
        return begin(query, build_arms(self.candidates, quality, query), options)

    def _session(
        self,
        input: LanguageModelInput,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        streaming: bool = False,
    ) -> Session:
        messages = self._messages(input)
        quality = None
        if self.estimator is not None:
            quality = yield Predicting(self.estimator, question_of(messages))
        steps = routing(self.policy, self._situation(messages, quality, config))
        decision_id = uuid4().hex
        answers: dict[str, Answer] = {}
        attempt: Attempt | None = None
        last: Answer | None = None
        try:
            step = next(steps)
            while True:
                child = candidate_config(config, step.candidate, decision_id, quiet=not step.final)
                if step.action == "ask":
                    last = yield self._asking(
                        step, messages, child, kwargs, include_raw=not (streaming and step.final)
                    )
                    answers[step.candidate], attempt = last, last.attempt
                else:
                    case = self._case(step.candidate, messages, answers)
                    attempt = yield Verifying(self.verifier, case, attempt or {}, child)
                step = steps.send(attempt)
        except StopIteration as stop:
            routed: Routed = stop.value
        if routed.decision is None:
            assert last is not None
            assert last.error is not None
            raise last.error
        record = decision_record(routed, decision_id)
        answer = answers[routed.decision.candidate]
        return Done(answer, _output(answer, record, kwargs, streaming=streaming), record)

    def _candidate(self, name: str) -> Candidate:
        return cast("Candidate", next(c for c in self.candidates if c.name == name))

    def _case(self, name: str, messages: Sequence[BaseMessage], answers: dict[str, Answer]) -> Case:
        message = answers[name].message
        assert message is not None
        return Case(messages, message, self._candidate(name))

    def _asking(
        self,
        step: Decision,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        include_raw: bool,
    ) -> Asking:
        candidate = self._candidate(step.candidate)
        settings = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        given = {name: value for name, value in settings.items() if value is not None}
        runnable, rest = self._bindings.apply(
            candidate, {**given, **kwargs}, include_raw=include_raw
        )
        return Asking(
            candidate, runnable, messages, config, rest, step.final, self.exceptions_to_handle
        )

    # What LangChain asks of a chat model

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Keep the tools as given; each candidate converts them its own way when it is asked."""
        return self.bind(tools=tuple(tools), tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Keep the schema; each candidate uses its own method when it is asked."""
        return bind_structured_output(self, schema, include_raw=include_raw, **kwargs)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count tokens as the first candidate does."""
        return live_model(self.candidates[0]).get_num_tokens_from_messages(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize as the first candidate does."""
        return live_model(self.candidates[0]).get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile | None:
        """What every candidate can do: flags and-ed, limits at their smallest."""
        profiles = [live_model(candidate).profile for candidate in self.candidates]
        if any(profile is None for profile in profiles):
            return None
        known = cast("list[dict[str, Any]]", profiles)
        shared: dict[str, Any] = {}
        for key in set.intersection(*(set(profile) for profile in known)):
            values = [profile[key] for profile in known]
            if all(isinstance(value, bool) for value in values):
                shared[key] = all(values)
            elif all(isinstance(value, int) for value in values):
                shared[key] = min(values)
        return cast("ModelProfile", shared)

    @property
    def _llm_type(self) -> str:
        return "llm-router"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "candidates": {c.name: live_model(c)._identifying_params for c in self.candidates},
            "policy": repr(self.policy),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "llm_router"
        params.setdefault("ls_model_name", self.name or "llm-router")
        return params


def _output(
    answer: Answer, record: dict[str, Any], kwargs: dict[str, Any], *, streaming: bool
) -> Any:
    """What the caller gets: the message with its record, or the parsed object it asked for."""
    if not isinstance(answer.output, BaseMessage):
        return answer.output if streaming else structured_output(answer.output, kwargs)
    metadata = {**answer.output.response_metadata, "llm_router": record}
    # A copy: on a cache miss this very object has just been stored in the candidate's cache.
    return answer.output.model_copy(update={"response_metadata": metadata})
