"""The router as a chat model: one LangChain `BaseChatModel` that asks the right one of several.

What happens between a question and its answer is `engine.py`; how that is run the LangChain way
is in `sessions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, cast

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, PrivateAttr, model_validator

from langchain_llm_router.answering import Session, answering, new_id
from langchain_llm_router.binding import bind_structured_output
from langchain_llm_router.budgets import Budgets
from langchain_llm_router.endpoints import expand_endpoints
from langchain_llm_router.engine import Engine, StreamingMode
from langchain_llm_router.errors import MissingExtraError
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.output_length import OutputLength
from langchain_llm_router.history import DecisionLog, Shadow
from langchain_llm_router.loop import next_decision
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.one_shot import Utility
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.pool import live_model, resolve_candidate
from langchain_llm_router.resilience.live import Live
from langchain_llm_router.saved_router import SavedRouter
from langchain_llm_router.sessions import SessionChatModel
from langchain_llm_router.types import Candidate, Decision, Situation
from langchain_llm_router.verification import Verifier

__all__ = ["ChatLLMRouter", "route_of"]


def route_of(message: BaseMessage) -> dict[str, Any] | None:
    """The decision record on a router's answer; None on any other message."""
    record = message.response_metadata.get("llm_router")
    return cast("dict[str, Any] | None", record)


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
        lengths: Predicts how long answers will be, for their expected cost.
        live: Measures every call, leaves failing and slow endpoints, limits and repeats calls.
        budgets: Hard limits on what may be spent; nobody is asked whose worst case breaks them.
        exceptions_to_handle: Failures of a candidate that are observations for the policy; others
            are raised at once. If nobody answers, the last candidate's own error is raised.
        sticky: Stay with the candidate that gave the conversation's last answer; `"escalate"`:
            choose anew each time, but never below the strongest that has answered.
        turns: How many human turns of the conversation the choice is made by.
        log: Gets one line per request, however it ends: for replay, feedback, refitting.
        shadow: A second router that decides beside this one and answers nothing.
        trace_decision: Show each decision as a child run of its own in the trace.
        streaming_mode: For a cascade's drafts: `buffer` them until accepted, `commit` to one and
            stream it once P(good) reaches `commit_at`, or tell of them as `events` on the way.
            P(good) is the policy's before the draft, and with a verifier that reads along
            (`AnswerLogprob`) after each chunk from the `commit_after`th on.

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
    lengths: Any = None
    live: Any = None
    budgets: Any = None
    log: Any = None
    shadow: Any = None
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,)
    sticky: bool | Literal["escalate"] = False
    turns: int = 3
    trace_decision: bool = True
    streaming_mode: StreamingMode = "buffer"
    commit_at: float = 0.9
    commit_after: int = 16
    temperature: float | None = None
    max_tokens: int | None = None
    streaming: bool = False

    _engine: Engine = PrivateAttr()

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    @model_validator(mode="after")
    def _check_router(self) -> Self:
        self._add_version("langchain-llm-router", "0.1.0")
        self._prepare()
        return self

    def _prepare(self) -> None:
        pool = tuple(resolve_candidate(given) for given in expand_endpoints(self.candidates))
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
            ("lengths", self.lengths, OutputLength),
            ("live", self.live, Live),
            ("budgets", self.budgets, Budgets),
            ("log", self.log, DecisionLog),
            ("shadow", self.shadow, Shadow),
        ):
            if value is not None and not isinstance(value, kind):
                msg = f"`{name}` must be a {kind.__name__}, got {value!r}."
                raise TypeError(msg)
        if self.cache not in (None, False):
            msg = (
                "A cache on the router would freeze its decisions: "
                "set `cache` on the candidates' models instead."
            )
            raise ValueError(msg)
        # Not plain assignment: it would validate again, for ever.
        object.__setattr__(self, "candidates", pool)
        object.__setattr__(self, "policy", policy)
        self._engine = self._fit_together()

    def _fit_together(self) -> Engine:
        settings = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return Engine(
            candidates=tuple(self.candidates),
            policy=self.policy,
            estimator=self.estimator,
            verifier=self.verifier,
            lengths=self.lengths,
            turns=self.turns,
            live=self.live,
            budgets=self.budgets,
            log=self.log,
            shadow=self.shadow,
            handled=self.exceptions_to_handle,
            settings={name: value for name, value in settings.items() if value is not None},
            sticky=self.sticky,
            trace_decision=self.trace_decision,
            streaming_mode=self.streaming_mode,
            commit_at=self.commit_at,
            commit_after=self.commit_after,
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the router; what is updated is checked and takes effect."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied._prepare()
        return copied

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        candidates: Sequence[Candidate | BaseChatModel | str],
        verifier: Verifier | Mapping[str, Verifier] | None = None,
        embeddings: Embeddings | None = None,
        **settings: Any,
    ) -> Self:
        """Bring a fitted router (`fit_router`, `llm-router fit`) to life.

        Args:
            folder: The router's folder.
            candidates: Live models by the names that it was fitted with; more do no harm.
            verifier: The one it was fitted with, or several by name, as given to `collect`.
            embeddings: What the estimator was fitted with; not needed for the lexical one.
            **settings: Further fields of the router.

        Raises:
            ArtifactError: If the folder is corrupted or holds something else.
            ValueError: If a candidate or the verifier is missing.
        """
        saved = SavedRouter.load(folder, embeddings=embeddings)
        pool = {candidate.name: candidate for candidate in map(resolve_candidate, candidates)}
        if isinstance(verifier, Mapping):
            verifier = None if saved.verifier is None else verifier.get(saved.verifier)
        if saved.verifier is not None and verifier is None:
            msg = f"Fitted on the verifier {saved.verifier!r}: give it as `verifier`."
            raise ValueError(msg)
        return cls(
            candidates=saved.pool(pool),
            policy=saved.policy,
            estimator=saved.estimator,
            verifier=verifier if saved.verifier is not None else None,
            **settings,
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        msg = (
            "A router holds live clients and does not travel to other processes: ship its policy "
            "and estimator (they pickle, and have `save` and `load`) and build the router there."
        )
        raise TypeError(msg)

    # Deciding

    def route(self, input: LanguageModelInput, config: RunnableConfig | None = None) -> Decision:
        """Decide whom to ask first, without asking anybody.

        Raises:
            NoCandidateError: If nobody may be asked.
        """
        decision = next_decision(self._engine.policy, self.situation(input, config))
        assert decision is not None, "nobody has failed yet"
        return replace(decision, decision_id=new_id())

    def situation(
        self, input: LanguageModelInput, config: RunnableConfig | None = None
    ) -> Situation:
        """What the policy is shown before anybody is asked: every arm, and what it is expected of.

        Raises:
            NoCandidateError: If nobody may be asked.
        """
        messages = self._messages(input)
        kwargs: dict[str, Any] = {}
        engine, options = self._engine, self._engine.options(config, kwargs)
        predicting = engine.predicting(messages)
        row = None if predicting is None else predicting.perform()
        return engine.situation(messages, engine.in_order(row), options, kwargs)

    def as_decision_model(self) -> Any:
        """This router as a `BaseDecisionModel`, to drive LangChain's `ModelRouterMiddleware`.

        Its choices must be named as the candidates are.

        Raises:
            ImportError: If the installed langchain-core is older than 1.8.
        """
        if find_spec("langchain_core.decisions") is None:
            msg = (
                f"langchain-core {version('langchain-core')} has no decision models: "
                'run `pip install "langchain-core>=1.8"` to use `as_decision_model`.'
            )
            raise MissingExtraError(msg)
        from langchain_llm_router.decisions import RouterDecisionModel  # noqa: PLC0415 - core 1.8

        return RouterDecisionModel(router=self)

    def _messages(self, input: LanguageModelInput) -> list[BaseMessage]:
        if isinstance(input, list) and all(isinstance(given, BaseMessage) for given in input):
            messages = input
        else:
            messages = self._convert_input(input).to_messages()
        if len(messages) == 0:
            msg = "The message list is empty: there is nothing to route."
            raise ValueError(msg)
        return messages

    def _session(
        self,
        input: LanguageModelInput,
        config: RunnableConfig,
        kwargs: dict[str, Any],
        *,
        streaming: bool = False,
    ) -> Session:
        messages = self._messages(input)
        return answering(self._engine, messages, config, kwargs, streaming=streaming)

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
        """Keep the schema; each candidate uses its own method when it is asked.

        A parsed object has no room for the decision record: it is on the raw message that
        `include_raw=True` brings along (when streamed, on the last `raw` chunk), and on the
        router's run in LangSmith. Streamed without `include_raw`, no usage is seen, so what the
        answer cost stays unknown (None).
        """
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
        params["ls_model_name"] = kwargs.get("model") or self.name or "llm-router"
        return params
