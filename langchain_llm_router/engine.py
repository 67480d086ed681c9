"""A router's parts, fitted together: candidates, policy, estimator, verifier.

An `Engine` knows what can be known before anybody is asked (options, situation, who is fit), makes
the operation that asks a candidate, and sees at sight what came of it. The chat model, the graph
and the agent middleware all stand on one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.asking import (
    Answer,
    Asking,
    Predicting,
)
from langchain_llm_router.binding import Bindings, schema_method, wants_schema
from langchain_llm_router.budgets import Budgets, bounded
from langchain_llm_router.capabilities import needs_of, shortfall
from langchain_llm_router.conversation import (
    cached_prefixes,
    no_weaker,
    prompt_tokens,
    routing_text,
)
from langchain_llm_router.drafts import flaw_of, form_of
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.output_length import OutputLength
from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.history.shadow import Shadow
from langchain_llm_router.loop import (
    begin,
    build_arms,
    check_policy,
    not_below,
    stay_with,
    step_after,
)
from langchain_llm_router.options import RoutingOptions
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.pool import live_model
from langchain_llm_router.redaction import secrets_of
from langchain_llm_router.resilience.calling import Guard
from langchain_llm_router.resilience.live import Live
from langchain_llm_router.threads import for_provider, holder_of, in_tool_loop, provider_of
from langchain_llm_router.types import Attempt, Candidate, Situation, candidate_names
from langchain_llm_router.verification import Case, Verifier

__all__ = ["Engine", "StreamingMode", "columns_of"]

StreamingMode = Literal["buffer", "commit", "events"]


def columns_of(
    estimator: QualityEstimator | OutputLength | None, names: Sequence[str]
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


@dataclass
class Engine:
    """A router's parts, fitted together.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit.
    """

    candidates: tuple[Candidate, ...]
    """Resolved: each has a live model."""

    policy: Policy
    estimator: QualityEstimator | None = None
    verifier: Verifier | None = None
    live: Live | None = None
    """Live numbers, and the rules for calls that fail; None: plain calls, nothing measured."""

    budgets: Budgets | None = None
    handled: tuple[type[Exception], ...] = (Exception,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keywords for every candidate's call, e.g. the router's own temperature."""

    sticky: bool | Literal["escalate"] = False
    turns: int = 3
    """How many human turns of the conversation the choice is made by."""

    lengths: OutputLength | None = None
    """Predicts how long each answer will be; None: as long as its recent ones."""

    trace_decision: bool = True
    streaming_mode: StreamingMode = "buffer"
    commit_at: float = 0.9
    commit_after: int = 16
    log: DecisionLog | None = None
    """Gets one line per request, however it ends."""

    shadow: Shadow | None = None
    """Decides beside the policy, and answers nothing."""

    bindings: Bindings = field(default_factory=Bindings)

    def __post_init__(self) -> None:
        self.names = candidate_names(self.candidates)
        self._by_name = dict(zip(self.names, self.candidates, strict=True))
        models = [candidate.quality_name for candidate in self.candidates]
        self._columns = columns_of(self.estimator, models)
        self._length_columns = columns_of(self.lengths, models)
        self._profiles = {c.name: live_model(c).profile for c in self.candidates}
        self._providers = {c.name: provider_of(live_model(c)) for c in self.candidates}
        check_policy(self.policy, list(dict.fromkeys(models)))
        if self.shadow is not None:
            self.shadow.check(list(dict.fromkeys(models)))
        if self.live is not None:
            self.live.know(self.candidates)
        if self.policy.verifies and self.verifier is None:
            msg = f"{type(self.policy).__name__} verifies answers: give the router a `verifier`."
            raise ValueError(msg)

    # What is known before anybody is asked

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name."""
        return self._by_name[name]

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Every key that the candidates' models hold."""
        return tuple({key for c in self.candidates for key in secrets_of(c.model)})

    def options(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> RoutingOptions:
        """The request's options; `model=` in the keywords, if it is meant for us, is taken out."""
        configurable = (config or {}).get("configurable") or {}
        options = RoutingOptions.parse(configurable.get("llm_router"))
        model = kwargs.pop("model", None)
        if isinstance(model, str) and model.startswith("router@"):
            options = RoutingOptions.parse(model)
        elif model is not None:
            options = replace(options, force=self._named(model))
        pace = None if self.budgets is None else self.budgets.lambda_(config or {})
        if pace is not None:
            options = replace(options, lambda_=max(pace, options.lambda_ or 0.0))
        return options

    def _named(self, model: Any) -> str:
        if any(model in (c.name, c.quality_name) for c in self.candidates):
            return str(model)
        for name, candidate in self._by_name.items():
            live = live_model(candidate)
            if model in (getattr(live, "model", None), getattr(live, "model_name", None)):
                return name
        msg = f"Unknown candidate {model!r} in `model`: this router has {list(self.names)}."
        raise ValueError(msg)

    def predicting(self, messages: Sequence[BaseMessage]) -> Predicting | None:
        """The operation that predicts qualities; None without an estimator."""
        if self.estimator is None:
            return None
        return Predicting(self.estimator, routing_text(messages, self.turns))

    def in_order(self, row: Sequence[float] | None) -> list[float] | None:
        """An estimator's prediction in the order of the candidates."""
        return None if row is None else [row[column] for column in self._columns]

    def situation(
        self,
        messages: Sequence[BaseMessage],
        quality: Sequence[float] | None,
        options: RoutingOptions,
        kwargs: Mapping[str, Any],
    ) -> Situation:
        """What the policy sees first.

        Args:
            messages: The conversation.
            quality: Predicted quality per candidate.
            options: The request's options.
            kwargs: Keywords of the call, bound tools and schema among them.

        Raises:
            NoCandidateError: If nobody may be asked or can do what is needed.
        """
        query = routing_text(messages, self.turns)
        arms = build_arms(
            self.candidates,
            quality,
            query,
            output_tokens=self._output_tokens(query),
            live=None if self.live is None else self.live.look(self.candidates),
            input_tokens=prompt_tokens(messages),
            cached=cached_prefixes(messages),
        )
        if self.budgets is not None:
            arms = bounded(
                arms,
                self._by_name,
                messages,
                kwargs,
                settings=self.settings,
                verifier=self.verifier if self.policy.verifies else None,
                live=self.live,
            )
        situation = begin(query, arms, options, unfit=self._unfit(messages, kwargs))
        sticky = self.sticky if options.sticky is None else options.sticky
        if in_tool_loop(messages) or sticky is True:
            return stay_with(situation, self.policy, holder_of(messages))
        if sticky == "escalate":
            return not_below(situation, no_weaker(messages, self.names))
        return situation

    def _output_tokens(self, query: str) -> list[float] | None:
        if self.lengths is None:
            return None
        row = self.lengths.predict([query])[0]
        return [float(row[column]) for column in self._length_columns]

    def _unfit(
        self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]
    ) -> dict[str, str] | None:
        if not any(self._profiles.values()):
            return None
        needs = needs_of(
            messages,
            tools=bool(kwargs.get("tools")),
            structured=wants_schema(kwargs),
            method=schema_method(kwargs),
        )
        lacks = {name: shortfall(profile, needs) for name, profile in self._profiles.items()}
        return {name: reason for name, reason in lacks.items() if reason is not None}

    def case(self, messages: Sequence[BaseMessage], message: AIMessage, seen: Situation) -> Case:
        """What a verifier looks at: the last answer, and what its evaluation would lead to."""
        candidate = self._by_name[seen.attempts[-1]["candidate"]]
        return Case(messages, message, candidate, step_after(self.policy, seen))

    def judging(self, due_s: float | None = None) -> Callable[[Candidate], Guard] | None:
        """What stands around a judge's calls; None: nothing.

        Args:
            due_s: When the request has to be over, on `time.monotonic`'s clock.
        """
        return None if self.live is None else self.live.judging(due_s)

    def at_sight(self, answer: Answer, kwargs: Mapping[str, Any], *, streamed: bool) -> Answer:
        """The answer with what can be seen at once; in a cascade a flaw counts as a failure.

        What has been streamed is out: its flaw is recorded, but no other answer can follow it.
        """
        message = answer.message
        if message is None or not self.policy.verifies:
            return answer
        attempt: Attempt = {**answer.attempt, "form": form_of(message, answer.output)}
        flaw = flaw_of(message, answer.output, kwargs.get("tools") or ())
        if flaw is not None:
            attempt["flaw"] = flaw
            if not streamed:
                attempt["error"] = flaw
        return replace(answer, attempt=attempt)

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
    ) -> Asking:
        """The operation that asks a candidate, with the conversation as it can read it.

        A draft that will be verified is asked for with what its verifier needs.
        """
        candidate, provider = self._by_name[name], self._providers[name]
        if self.verifier is not None and not final:
            kwargs = {**self.verifier.answer_kwargs(candidate.quality_name), **kwargs}
        runnable, rest = self._bound(candidate, kwargs, include_raw=include_raw)
        if "cache_control" in rest and provider not in (None, "anthropic", "bedrock"):
            del rest["cache_control"]
        messages = for_provider(messages, provider)
        asking = Asking(candidate, runnable, messages, config, rest, final, self.handled)
        if self.live is None:
            return asking
        twin = self.live.twin_of(candidate, self.candidates)
        asking.guarded_by(
            self.live.guard(candidate, due_s=due_s, twin=twin),
            None if twin is None else self._bound(twin, kwargs, include_raw=include_raw)[0],
        )
        return asking

    def _bound(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        if self.settings or candidate.parameters:
            kwargs = {**self.settings, **candidate.parameters, **kwargs}
        return self.bindings.apply(candidate, kwargs, include_raw=include_raw)
