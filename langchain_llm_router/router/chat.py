"""The router as a chat model: one LangChain `BaseChatModel` that asks the right one of several.

What happens between a question and its answer is in `request.py`; how that is run the LangChain way
is in `runs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, cast

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import model_validator

from langchain_llm_router.calls.bindings import bind_structured_output
from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.calls.langchain_internals import identifying_params
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.router.parts import Parts, RouterFields, refuse_misplaced
from langchain_llm_router.router.runs import RequestChatModel
from langchain_llm_router.types import Candidate, Decision, Situation
from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.errors import MissingExtraError
from langchain_llm_router.types.version import __version__
from langchain_llm_router.verification import Verifier

__all__ = ["ChatLLMRouter", "route_of"]

_OF_PARTS = {
    *RouterFields.model_fields,
    "cache",
    "rate_limiter",
    "output_version",
    "disable_streaming",
}


def route_of(message: BaseMessage) -> dict[str, Any] | None:
    """The decision record on a router's answer; None on any other message."""
    record = message.response_metadata.get("llm_router")
    return cast("dict[str, Any] | None", record)


class ChatLLMRouter(RouterFields, RequestChatModel):
    """A chat model that chooses, for every call, which of its candidates answers.

    With a one-shot policy the chosen candidate's answer is passed on as it comes. With a policy
    that verifies, and a `verifier`, it is a cascade: drafts are judged and kept or escalated, and
    only the accepted answer is ever seen.

    Args:
        candidates: From cheap to strong: `Candidate`s, chat models, or `"provider:model"` strings.
        policy: Chooses which candidate to ask; None: `ConfidenceThreshold()` with a verifier,
            otherwise `Utility()`.
        estimator: Predicts each candidate's quality; fitted on these candidates' names.
        verifier: Judges answers for policies that verify.
        lengths: Predicts how long answers will be, for their expected cost.
        live: Measures every call, avoids failing and slow endpoints, limits and retries calls.
        budgets: Hard limits on what may be spent; no call is made whose worst case breaks them.
        exceptions_to_handle: Failures of a candidate that are observations for the policy; others
            are raised at once. If no candidate answers, the last one's own error is raised.
        sticky: Stay with the candidate that gave the conversation's last answer; `"escalate"`:
            choose anew each time, but never below the strongest that has answered.
        turns: How many human turns of the conversation the choice is made by.
        log: Gets one line per request, however it ends: for replay, feedback, refitting.
        shadow: A second router that decides beside this one and answers nothing.
        trace_decision: Show each decision as a child run of its own in the trace.
        streaming_mode: For a cascade's drafts: `buffer` them until accepted, `commit` to one and
            stream it once P(good) reaches `commit_at`, or report them as `events` as they happen.
            P(good) is the policy's before the draft, and with a verifier that reads along
            (`AnswerLogprob`) after each chunk from the `commit_after`th on.
        temperature: Of every candidate's answer; a call's own keywords take precedence.
        max_tokens: Longest answer of every candidate.
        stop: Where every candidate's answer ends.
        timeout: Longest time for one call, in seconds; with `live`, set it there.
        max_retries: How often a candidate is asked again before its failure counts; with `live`,
            set it there.

    Example:
        >>> from langchain_llm_router.data import RecordedChatModel
        >>> small, large = (RecordedChatModel({"hi": text}) for text in ("Hi.", "Good day."))
        >>> router = ChatLLMRouter(
        ...     candidates=[Candidate("small", small), Candidate("large", large)],
        ...     policy=Always("large"),
        ... )
        >>> router.invoke("hi").content
        'Good day.'
    """

    streaming: bool = False

    @model_validator(mode="after")
    def _check_router(self) -> Self:
        self._add_version("langchain-llm-router", __version__)
        self._prepare()
        return self

    def _prepare(self) -> None:
        """Fit the parts together, as the fields now say."""
        given = {name: getattr(self, name) for name in RouterFields.model_fields}
        refuse_misplaced({name: getattr(self, name) for name in ("cache", "rate_limiter")})
        if self.disable_streaming not in (True, False, "tool_calling"):
            msg = (
                "`disable_streaming` must be True, False or 'tool_calling', got "
                f"{self.disable_streaming!r}."
            )
            raise ValueError(msg)
        pool = [resolve_candidate(candidate) for candidate in expand_endpoints(self.candidates)]
        # These fields concern the candidates: they are the ones that stream and generate.
        update: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("output_version", "disable_streaming")
            if name in self.model_fields_set and getattr(self, name) not in (None, False)
        }
        given["candidates"] = pool
        if update:
            models = [live_model(candidate).model_copy(update=update) for candidate in pool]
            given["candidates"] = [
                replace(candidate, model=model)
                for candidate, model in zip(pool, models, strict=True)
            ]
        parts = Parts(RouterFields(**given))
        # Not plain assignment: it would fit the parts together again, without end.
        object.__setattr__(self, "candidates", tuple(pool))
        object.__setattr__(self, "policy", parts.policy)
        self.__dict__["parts"] = parts

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self).model_fields:
            refuse_misplaced({name: value})
            refuse_unknown([name], type(self).model_fields, type(self).__name__)
        if name not in _OF_PARTS or name not in self.__dict__:
            super().__setattr__(name, value)
            return
        before = self.__dict__[name]
        super().__setattr__(name, value)
        try:
            self._prepare()
        except Exception:
            super().__setattr__(name, before)
            raise

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the router; what is updated is checked and takes effect."""
        refuse_unknown(update or {}, type(self).model_fields, type(self).__name__)
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
        """Load a fitted router (`fit_router`, `llm-router fit`) and give it live models.

        Args:
            folder: The router's folder.
            candidates: Live models by the names that it was fitted with; others are ignored.
            verifier: The one it was fitted with, or several by name, as given to `collect`.
            embeddings: What the estimator was fitted with; not needed for the lexical one.
            **settings: Further fields of the router.

        Raises:
            ArtifactError: If the folder is corrupted or holds something else.
            ValueError: If a candidate or the verifier is missing.
        """
        from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - loads NumPy

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
        """Decide which candidate to ask first, without asking any.

        Raises:
            NoCandidateError: If no candidate may be asked.
        """
        return self._request(input, config, {}).first_decision()

    def situation(
        self, input: LanguageModelInput, config: RunnableConfig | None = None
    ) -> Situation:
        """What the policy is shown before any is asked: every arm, and what it is expected of.

        Raises:
            NoCandidateError: If no candidate may be asked.
        """
        return self._request(input, config, {}).first_situation()

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
        from langchain_llm_router.router.decision_model import RouterDecisionModel  # noqa: PLC0415 - core 1.8

        return RouterDecisionModel(router=self)

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
        return live_model(self.parts.candidates[0]).get_num_tokens_from_messages(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize as `custom_get_token_ids` does, or else the first candidate."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return live_model(self.parts.candidates[0]).get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile | None:
        """What every candidate can do: flags and-ed, limits at their smallest."""
        profiles = [live_model(candidate).profile for candidate in self.parts.candidates]
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
            "candidates": {
                c.name: identifying_params(live_model(c)) for c in self.parts.candidates
            },
            "policy": repr(self.policy),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "llm_router"
        params["ls_model_name"] = kwargs.get("model") or self.name or "llm-router"
        return params
