"""The router as a LangChain chat model, which chooses among several candidates.

`request.py` has what happens between a query and its answer, `runs.py` the LangChain runs.
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
from langchain_llm_router.calls.langchain_internals import identifying_params, langsmith_params
from langchain_llm_router.calls.tools import bound_tools
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.router.fields import RouterFields, refuse_misplaced
from langchain_llm_router.router.first_step import first_decision, first_situation
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.runs import RequestChatModel
from langchain_llm_router.types import Candidate, Decision, Situation
from langchain_llm_router.types.arguments import refuse_unknown
from langchain_llm_router.types.errors import MissingExtraError
from langchain_llm_router.types.version import __version__
from langchain_llm_router.verification import Verifier

__all__ = ["ChatLLMRouter", "route_of"]

_PART_FIELDS = {
    *RouterFields.model_fields,
    "cache",
    "rate_limiter",
    "output_version",
    "disable_streaming",
}


def route_of(message: BaseMessage) -> dict[str, Any] | None:
    """Return the decision record of a router's answer, or None for any other message."""
    record = message.response_metadata.get("llm_router")
    return cast("dict[str, Any] | None", record)


class ChatLLMRouter(RouterFields, RequestChatModel):
    """A chat model that chooses, for every call, which of its candidates answers.

    With a one-shot policy the chosen candidate's answer is passed on as it arrives. With a policy
    that verifies, and a `verifier`, it is a cascade: drafts are verified and accepted or escalated,
    and only the accepted answer is ever returned.

    Args:
        candidates: The models to choose from, ordered from cheap to strong: `Candidate`s, chat
            models, or `"provider:model"` strings.
        policy: The policy that chooses which candidate to ask. If None, `ConfidenceThreshold()`
            with a verifier, else `Utility()` with an estimator, else, where the candidates have
            prices, an `AnswerPool` that compares the answers of cheap ones (`AnswerGroups`) and
            asks the dearest where they disagree or cannot be compared.
        estimator: A fitted estimator of each candidate's quality, by the candidates' names.
        verifier: Evaluates answers for policies that verify.
        lengths: Predicts the lengths of answers, from which their expected costs follow.
        live: Measures every call, avoids failing and slow endpoints, limits and retries calls.
        budgets: Hard limits on spending: a call whose worst-case cost exceeds one is not made.
        exceptions_to_handle: Exceptions of a candidate that the policy observes as failures; all
            others are raised at once. If no candidate answers, the last error is raised.
        fallback_on: Kinds of flawed answers that count as failures, so that another candidate is
            asked: `refusal`, `content_filter`, `provider_error`, `empty_answer`, `cut_off`,
            `no_finish_reason`, `failed_parse`, `invalid_tool_call`. Flaws of other kinds are only
            recorded, as is the flaw of an answer that has been streamed. With a policy that
            verifies, all of them but `cut_off` are failures in any case.
        sticky: Whether to stay with the candidate that gave the conversation's last answer. With
            `"escalate"` the policy chooses again each time, but never a candidate below the
            strongest that has answered.
        stuck: When a tool loop escalates from the candidate that began it to the next stronger one:
            as soon as its messages show that it is stuck. It returns to a weaker one only where a
            call fails. Stronger means of higher predicted quality, else dearer; a policy that
            verifies escalates in the declared order. None stands for `StuckRules()`, among the
            candidates that the policy names if it names any (`Always("small")` stays with it);
            True for `StuckRules()`, and like your own `StuckRules` or `StuckModel` it may escalate
            to all; False never does.
        sensitive: A rule on requests, and the only candidates that may see those to which it
            applies; no option of a request can widen that.
        turns: Number of human turns of the conversation that the choice is based on.
        log: Gets one line per request, however it ends, for replay, feedback and refitting.
        shadow: A second router, live or saved, or a `Shadow`, whose decisions are recorded and not
            carried out.
        judge_share: Share of the requests, in [0, 1], whose answer is judged after it was given,
            in the background; e.g. 0.02. The score is logged as feedback with the key `judge`, and
            with it that of the dearest candidate's answer, which is asked for where it is not
            known. It needs a `log`, and the budgets pay for it, or it is left out.
        judge: The candidate, with a price, that judges; if None, the dearest candidate, which may
            like its own answers better than they are.
        trace_decision: Whether each decision is a child run of its own in the trace. In a graph
            it is the run of the node.
        trace_verdicts: Whether each verdict is a run of its own in the trace, with its prompt and
            the calls behind it. Otherwise all verdicts on an answer are one run with a line each,
            which has the sum of their tokens.
        streaming_mode: What a stream does with a cascade's drafts: `buffer` them until one is
            accepted, `commit` to a draft and stream it once P(good) reaches `commit_at`, or report
            them as `events` as they happen. P(good) is the policy's estimate before the draft;
            with a verifier that can score partial answers (`AnswerLogprob`) it is updated with
            each chunk from the `commit_after`th on.
        temperature: Sampling temperature of every candidate; keyword arguments of a call take
            precedence over this and the next two.
        max_tokens: Maximum length of an answer, in tokens.
        stop: Strings at which an answer ends.
        timeout: Maximum duration of one call, in seconds; with `live`, set it there.
        max_retries: Number of retries before a candidate's failure counts; with `live`, set it
            there.

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
        """Fit the parts together again from the current fields."""
        fields = {name: getattr(self, name) for name in RouterFields.model_fields}
        refuse_misplaced({name: getattr(self, name) for name in ("cache", "rate_limiter")})
        if self.disable_streaming not in (True, False, "tool_calling"):
            msg = (
                "`disable_streaming` must be True, False or 'tool_calling', got "
                f"{self.disable_streaming!r}."
            )
            raise ValueError(msg)
        pool = [resolve_candidate(candidate) for candidate in expand_endpoints(self.candidates)]
        # These fields are passed on to the candidates, which stream and generate.
        update: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("output_version", "disable_streaming")
            if name in self.model_fields_set and getattr(self, name) not in (None, False)
        }
        fields["candidates"] = pool
        if update:
            models = [live_model(candidate).model_copy(update=update) for candidate in pool]
            fields["candidates"] = [
                replace(candidate, model=model)
                for candidate, model in zip(pool, models, strict=True)
            ]
        parts = Parts(RouterFields(**fields))
        terms = parts.policy.exit_terms
        if terms is not None and terms.do == "interrupt":
            msg = (
                "`policy` asks a person where no answer is good enough (`do='interrupt'`), but a "
                "chat model cannot be interrupted: build a graph with `create_cascade`, or use "
                "`do='refuse'`, 'flag' or 'hold'."
            )
            raise ValueError(msg)
        # Plain assignment would fit the parts together again, without end.
        object.__setattr__(self, "candidates", tuple(pool))
        object.__setattr__(self, "policy", parts.policy)
        object.__setattr__(self, "verifier", parts.fields.verifier)
        self.__dict__["parts"] = parts
        if "profile" not in self.model_fields_set:
            self.__dict__["profile"] = self._resolve_model_profile()

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self).model_fields:
            refuse_misplaced({name: value})
            refuse_unknown([name], type(self).model_fields, type(self).__name__)
        if name not in _PART_FIELDS or name not in self.__dict__:
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
        """Copy the router; updated fields are checked and take effect."""
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
        check_verifier: bool = True,
        **settings: Any,
    ) -> Self:
        """Load a router saved by `fit_router` or `llm-router fit`, and give it live models.

        Args:
            folder: The router's folder.
            candidates: Live candidates under the names that the router was fitted with; others
                are ignored.
            verifier: The verifier that the router was fitted with, or a mapping with several
                verifiers by name, as passed to `collect`. If None, it is built from the saved
                description.
            embeddings: The embeddings that the estimator was fitted with; not needed for the
                lexical ones.
            check_verifier: Whether to refuse another verifier than the router was fitted with.
            **settings: Further fields of the router; `stuck` and `sensitive` replace saved ones.

        Raises:
            ArtifactError: If the folder is corrupted or holds another kind of artifact.
            ValueError: If a candidate or the verifier is missing, or it is another verifier.
        """
        from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - loads NumPy

        saved = SavedRouter.load(folder, embeddings=embeddings)
        pool = {candidate.name: candidate for candidate in map(resolve_candidate, candidates)}
        arguments = saved.arguments(pool, verifier, check_verifier=check_verifier)
        for name in {"stuck", "sensitive"} & settings.keys():
            arguments.pop(name, None)
        return cls(**arguments, **settings)

    def __reduce_ex__(self, protocol: Any) -> Any:
        msg = (
            "A router cannot be pickled because it holds live clients: send its policy and "
            "estimator, which can be pickled or saved, and build the router in the other process."
        )
        raise TypeError(msg)

    # Deciding

    def route(self, input: LanguageModelInput, config: RunnableConfig | None = None) -> Decision:
        """Decide which candidate to ask first, without asking any.

        Raises:
            NoCandidateError: If no candidate may be asked.
        """
        return first_decision(self._request(input, config, {}))

    def situation(
        self, input: LanguageModelInput, config: RunnableConfig | None = None
    ) -> Situation:
        """Return the policy's situation before any candidate is asked: all arms, with estimates.

        Raises:
            NoCandidateError: If no candidate may be asked.
        """
        return first_situation(self._request(input, config, {}))

    def as_decision_model(self) -> Any:
        """Return a `BaseDecisionModel` with which LangChain's `ModelRouterMiddleware` can route.

        The middleware's choices must have the candidates' names.

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

    # LangChain's interface of a chat model

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools, whose originals are converted for the chosen candidate when it is asked.

        Other libraries find the tools in OpenAI's format in the `tools` of the result's `kwargs`.
        """
        return self.bind(tools=bound_tools(tools), tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Bind a schema, for which each candidate uses its own method when it is asked.

        A parsed object has no room for the decision record, which is on the raw message that
        `include_raw=True` returns (in a stream, on the last `raw` chunk) and on the router's run in
        LangSmith. A stream without `include_raw` reports no usage, so the cost of its answer is
        unknown (None).
        """
        return bind_structured_output(self, schema, include_raw=include_raw, **kwargs)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count tokens as the first candidate does that may see every request."""
        return live_model(self.parts.trusted).get_num_tokens_from_messages(messages, tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize with `custom_get_token_ids` if it is set, else as that candidate does."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return live_model(self.parts.trusted).get_token_ids(text)

    def _resolve_model_profile(self) -> ModelProfile | None:
        """Return what holds whichever candidate answers, by the profiles that are known.

        A limit is the lowest one that is known. A flag is True if every candidate's profile says
        so, and False if one of them does.
        """
        profiles = [live_model(candidate).profile for candidate in self.parts.candidates]
        known = cast("list[dict[str, Any]]", [profile for profile in profiles if profile])
        shared: dict[str, Any] = {}
        for key in sorted({key for profile in known for key in profile}):
            values = [profile[key] for profile in known if profile.get(key) is not None]
            if values and all(isinstance(value, bool) for value in values):
                if len(values) == len(profiles) or not all(values):
                    shared[key] = all(values)
            elif values and all(type(value) is int for value in values):
                shared[key] = min(values)
        return cast("ModelProfile", shared) if shared else None

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
        params["ls_provider"] = self._shared_provider() or "llm_router"
        params["ls_model_name"] = kwargs.get("model") or self.name or "llm-router"
        return params

    def _shared_provider(self) -> str | None:
        """Return the provider of all candidates, or its family; None if they have several."""
        models = self.parts.models.values()
        named = {langsmith_params(model).get("ls_provider") for model in models}
        families = set(self.parts.providers.values())
        shared = named if len(named) == 1 else named & families if len(families) == 1 else set()
        return next(iter(shared), None)
