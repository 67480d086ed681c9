"""A router's parts, made of its arguments.

`Parts` has the arguments checked and completed: live models, a policy, and everything that can be
computed before a request.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.calls.answer_checks import FATAL_FLAWS, classify
from langchain_llm_router.calls.ask import AskOperation
from langchain_llm_router.calls.bindings import Bindings, NotedRunnable, Unbindable
from langchain_llm_router.calls.chat_models import live_model, resolve_candidate
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.calls.langchain_internals import is_router
from langchain_llm_router.calls.nested_records import inner_messages
from langchain_llm_router.calls.provider_messages import (
    for_candidate,
    for_provider,
    provider_of,
    settings_for_provider,
)
from langchain_llm_router.calls.reports import Asking
from langchain_llm_router.calls.tracing import gated_config, is_traced
from langchain_llm_router.live.client_retries import client_retries
from langchain_llm_router.live.notes import Notes
from langchain_llm_router.loop.climbs import hand_over_to
from langchain_llm_router.loop.endpoints import arms_by_effort, at_price, expand_endpoints
from langchain_llm_router.loop.loop import Loop, Reader, check_policy
from langchain_llm_router.loop.stuck import StuckDetector, StuckRules
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.default_pool import pool_by_price
from langchain_llm_router.router.fields import RouterFields
from langchain_llm_router.router.fitted_columns import columns_of
from langchain_llm_router.router.sensitivity import Confinement
from langchain_llm_router.types import Attempt, Candidate, Price, candidate_names
from langchain_llm_router.types.answer_lengths import LENGTHS, tell_limit
from langchain_llm_router.types.secrets import find_secrets
from langchain_llm_router.verification.verifier import Report

if TYPE_CHECKING:
    from langchain_llm_router.budgets.spending import Spending
    from langchain_llm_router.live.live import Live
    from langchain_llm_router.router.agent_runs import AgentRules
    from langchain_llm_router.router.attempts import Earlier
    from langchain_llm_router.router.judged_samples import JudgedSamples
    from langchain_llm_router.router.shadow import ShadowOperation

__all__ = ["Parts"]


class Parts:
    """A router's parts, checked and fitted together.

    Args:
        fields: The router's arguments.
        asks: Whether candidates are ever asked; if not, they need no model.
        rules: How agents are run; None if only chat models may be candidates.

    Attributes:
        fields: The router's arguments, those chosen by default included; those that need no
            preparation are read from here.
        candidates: The candidates with their endpoints expanded, each with a live model.
        stuck: Reads whether a tool loop is stuck; None if loops stay with their candidate.
        climbs_to: The models that a stuck loop may climb to.
        confinement: Who may see sensitive requests; None if no rule says what is sensitive.
        policy: The policy, by default one that suits the other parts, see `pool_by_price`.
        live: The given `Live`, or one made from `timeout` and `max_retries`.
        names: The candidates' names, ordered from cheap to strong.
        by_name: The candidates by name.
        model_of: The names of their models by name.
        models: Their chat models by name; an agent has none.
        profiles: The known profiles of these models by name.
        providers: Their provider families by name; None if unknown.
        columns: The column of each candidate in the estimator's predictions.
        length_columns: The same of the predicted lengths.
        rules: As above.
        price_of: Returns the price of a verifier's own candidate, a judge or a peer.
        bindings: Bind tools and schemas to the candidates' models.
        judges: Prepares the judges' models.
        reader: Caches the plain data of requests that was read, for the nodes of a graph.
        settings: Keyword arguments of every candidate's call.
        fatal_flaws: The kinds of flawed answers that count as failures.
        reports: What each candidate is asked for beside a draft, by name; None if nothing.
        judged: Judges a share of the answers; None if no share is to be judged.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """

    price_of: Callable[[Candidate], Price | None] = attrgetter("price")

    def __init__(
        self, fields: RouterFields, *, asks: bool = True, rules: AgentRules | None = None
    ) -> None:
        self.rules = rules
        resolve = partial(resolve_candidate, agents=rules is not None) if asks else _resolve_unasked
        self.candidates = tuple(map(resolve, expand_endpoints(fields.candidates)))
        if asks and fields.budgets is not None:
            self.candidates = tuple(map(_with_limit, self.candidates))
        self.names = candidate_names(self.candidates)
        self.by_name = dict(zip(self.names, self.candidates, strict=True))
        asked = [c for c in self.candidates if c.model is not None and not c.is_agent]
        self.models = {c.name: live_model(c) for c in asked}
        chosen_by = (fields.policy, fields.estimator, fields.verifier)
        if asks and all(part is None for part in chosen_by):
            fields = fields.model_copy(update={**pool_by_price(self.candidates)})
        self.fields = fields
        self.policy = _resolve_policy(fields)
        self.live = _resolve_live(fields)
        self.bindings, self.reader = Bindings(), Reader()
        self.judges = JudgeModels()
        self.model_of = {c.name: c.model_name for c in self.candidates}
        self.stuck, self.climbs_to = _resolve_stuck(fields, self.policy, self.model_of, asks=asks)
        given = ((name, getattr(fields, name)) for name in ("temperature", "max_tokens", "stop"))
        self.settings = {name: value for name, value in given if value is not None}
        self.fatal_flaws = {*fields.fallback_on, *(FATAL_FLAWS if self.policy.verifies else ())}
        models = [candidate.model_name for candidate in self.candidates]
        self.columns = columns_of(fields.estimator, models)
        self.length_columns = columns_of(fields.lengths, models)
        profiles = {name: model.profile for name, model in self.models.items()}
        self.profiles = {name: profile for name, profile in profiles.items() if profile}
        self._retrying = {n for n, model in self.models.items() if client_retries(model) > 0}
        self.providers = {name: provider_of(model) for name, model in self.models.items()}
        self._routers = {name for name, model in self.models.items() if is_router(model)}
        named, verifier = [(c.name, c.model_name) for c in self.candidates], fields.verifier
        self._draft_kwargs: dict[str, Mapping[str, Any]] = {name: {} for name in self.names}
        self.reports: dict[str, Report | None] = dict.fromkeys(self.names)
        if verifier is not None:
            self._draft_kwargs = {name: verifier.answer_kwargs(model) for name, model in named}
            self.reports = {name: verifier.report_of(model) for name, model in named}
        check_policy(self.policy, list(dict.fromkeys(models)))
        if fields.shadow is not None:
            fields.shadow.check(list(dict.fromkeys(models)))
        if self.live is not None:
            self.live.register(self.candidates)
        self.confinement: Confinement | None = None
        if fields.sensitive is not None:
            self.confinement = Confinement(fields.sensitive, self.candidates, fields.verifier)
        if asks and self.policy.verifies and fields.verifier is None:
            msg = f"{type(self.policy).__name__} verifies answers: pass a `verifier`."
            raise ValueError(msg)
        self.judged = self._judged_samples() if asks else None
        if rules is not None:
            self._check_agents(rules)

    def _judged_samples(self) -> JudgedSamples | None:
        fields = self.fields
        if not fields.judge_share > 0:
            if fields.judge is not None:
                msg = "`judge` is only asked with a `judge_share` above 0: set it, e.g. to 0.02."
                raise ValueError(msg)
            return None
        if fields.sensitive is not None:
            msg = (
                "`judge_share` cannot be honoured with `sensitive`, because an answer that is "
                "judged may hold what the rule keeps local: leave one of them out."
            )
            raise ValueError(msg)
        from langchain_llm_router.router.judged_samples import (  # noqa: PLC0415 - slow to load
            JudgedSamples,
        )

        return JudgedSamples(
            fields.judge_share,
            None if fields.judge is None else resolve_candidate(fields.judge),
            self.by_name,
            fields.log,
            self.settings,
            fields.budgets,
            self.live,
            self.judges,
        )

    @cached_property
    def classify(self) -> Callable[..., Attempt]:
        """Classifies an answer, see `calls.answer_checks.classify`."""
        verifier = self.fields.verifier
        compares = verifier is not None and verifier.compares
        return partial(classify, fatal=self.fatal_flaws, compares=compares)

    def _check_agents(self, rules: AgentRules) -> None:
        for_drafts = any(self._draft_kwargs.values()) or any(self.reports.values())
        refused = {
            "`temperature`, `max_tokens` and `stop`": len(self.settings) > 0,
            "`judge_share`": self.judged is not None,
            f"what {type(self.fields.verifier).__name__} asks of a model beside its answer": (
                for_drafts
            ),
        }
        rules.check(self.candidates, refused)
        if self.confinement is not None and rules.hand_over != "nothing":
            msg = (
                "`hand_over` must be 'nothing' with `sensitive`, because what an agent found is "
                f"not checked by the rule, got {rules.hand_over!r}."
            )
            raise ValueError(msg)

    def with_bindings(self, bindings: Bindings) -> Parts:
        """Return a copy of the parts with other bindings of tools and schemas."""
        parts = copy.copy(self)
        parts.bindings = bindings
        return parts

    def at_current_prices(self) -> Parts:
        """Return the parts with the prices of the feed in `live`, if there is one."""
        quotes = {} if self.live is None else self.live.quotes(self.candidates)
        if not quotes:
            return self
        parts = copy.copy(self)
        parts.candidates = tuple(
            c if (quoted := quotes[c.name]) is None else at_price(c, quoted.price)
            for c in self.candidates
        )
        parts.by_name = dict(zip(self.names, parts.candidates, strict=True))
        assert self.live is not None, "it has quoted prices"
        parts.price_of = self.live.pricing()
        return parts

    @cached_property
    def rejected(self) -> Mapping[str, frozenset[str]]:
        """The keyword arguments that each candidate would reject, by name."""
        by_name = self.by_name
        return {
            name: rejected_settings(model, by_name[name]) for name, model in self.models.items()
        }

    @cached_property
    def efforts(self) -> Mapping[str, tuple[str, ...]]:
        """The arms that are efforts of one candidate, by that candidate's name."""
        return arms_by_effort(self.candidates)

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Every API key in the candidates' models."""
        return tuple({key for c in self.candidates for key in find_secrets(c.model)})

    def shadow_operation(self, loop: Loop, refusal: Exception | None) -> ShadowOperation:
        """Return the operation in which the shadow decides on a request; there is a shadow.

        Args:
            loop: The decisions of the request.
            refusal: Why the shadow does not decide; None if it does.
        """
        from langchain_llm_router.router.shadow import ShadowOperation  # noqa: PLC0415 - slow to load

        assert self.fields.shadow is not None, "asked before"
        attempts = loop.situation.attempts
        return ShadowOperation(self.fields.shadow, loop.situations(), attempts, refusal)

    def spending(self, config: RunnableConfig, *, in_nodes: bool) -> Spending:
        """Return what a request spends of the budgets; there are budgets."""
        from langchain_llm_router.budgets.spending import Spending  # noqa: PLC0415 - slow to load

        assert self.fields.budgets is not None, "asked before"
        return Spending(self.fields.budgets, config, in_nodes=in_nodes)

    def resolve_name(self, name: Any) -> str:
        """Return the name of the candidate that has this name itself or whose model has it.

        Raises:
            ValueError: If there is no such candidate.
        """
        if name in self.efforts or any(name in (c.name, c.model_name) for c in self.candidates):
            return str(name)
        for candidate, model in self.models.items():
            if name in (getattr(model, "model", None), getattr(model, "model_name", None)):
                return self.by_name[candidate].effort_of or candidate
        msg = f"Unknown candidate {name!r} in `model`: must be one of {list(self.names)}."
        raise ValueError(msg)

    def ask_operation(  # noqa: PLR0913 - all that one call needs of its request
        self,
        name: str,
        messages: Sequence[BaseMessage],
        config: RunnableConfig,
        kwargs: Mapping[str, Any],
        *,
        final: bool,
        include_raw: bool = True,
        due_s: float | None = None,
        may_see: Collection[str] | None = None,
        earlier: Sequence[Earlier] = (),
        **declared: Any,
    ) -> AskOperation:
        """Make the operation that asks a candidate, with the conversation adapted to its provider.

        Args:
            name: Name of the candidate.
            messages: The conversation.
            config: Config of the candidate's run.
            kwargs: Keyword arguments of the router's call; those that the verifier needs are added
                for a draft.
            final: Whether the answer will be accepted without verification.
            include_raw: Whether structured output must include its raw message.
            due_s: Deadline of the request, in seconds on the clock `time.monotonic`.
            may_see: Names of the only candidates that may be asked; None for all.
            earlier: The attempts before, where agents are among the candidates.
            **declared: Further fields of the operation.
        """
        candidate = self.by_name[name]
        if self.rules is not None and candidate.is_agent:
            declared |= {"final": final, "handled": self.fields.exceptions_to_handle}
            return self.rules.run_operation(candidate, messages, config, earlier, **declared)
        provider = self.providers[name]
        if (hand_over := None if self.stuck is None else self.stuck.hand_over) is not None:
            messages = hand_over_to(candidate.model_name, messages, self.model_of, hand_over)
        asking: Asking | None = None
        if not final:
            if self._draft_kwargs[name]:
                kwargs = {**self._draft_kwargs[name], **kwargs}
            if (report := self.reports[name]) is not None:
                kwargs = {**self.settings, **candidate.parameters, **kwargs}
                messages, kwargs, asking = self.bindings.ask_report(
                    report, messages, candidate, kwargs
                )
        runnable, rest = self._bind(candidate, kwargs, include_raw=include_raw)
        if rest:
            rest = settings_for_provider(rest, provider, self.rejected[name])
        if name in self._routers:
            messages = inner_messages(messages, name)
        # The first turn of a conversation, the most frequent case.
        first = messages[0]
        is_plain = len(messages) == 1 and type(first.content) is str and not first.additional_kwargs
        notes = runnable.notes if isinstance(runnable, NotedRunnable) else Notes()
        if self.live is not None and not isinstance(runnable, Unbindable):
            twin = self.live.twin_of(candidate, self._seen_by(may_see))
            from langchain_llm_router.live.guarded_calls import (  # noqa: PLC0415 - slow to load
                GuardedRunnable,
            )

            guard = self.live.guard(candidate, due_s=due_s, twin=twin)
            other = None
            if twin is not None:
                other, _ = self._bind(twin, kwargs, include_raw=include_raw)
            gate = gated_config if is_traced(config) else None
            guarded = GuardedRunnable(runnable, guard, other, notes, for_candidate, gate)
            runnable = cast("Runnable[Any, Any]", guarded)
        operation = AskOperation(
            candidate=candidate,
            runnable=runnable,
            messages=messages if is_plain else for_provider(messages, provider, name),
            config=config,
            kwargs=rest,
            final=final,
            handled=self.fields.exceptions_to_handle,
            notes=notes,
            asking=asking,
            client_retries=name in self._retrying,
            **declared,
        )
        return operation if self.rules is None else self.rules.operation(operation, earlier)

    @property
    def trusted(self) -> Candidate:
        """The first candidate that may see every request."""
        return self._seen_by(self.may_see)[0]

    @property
    def may_see(self) -> Collection[str] | None:
        """The names of the only models that may see a sensitive request; None for all."""
        return None if self.confinement is None else self.confinement.may_see

    def _seen_by(self, may_see: Collection[str] | None) -> Sequence[Candidate]:
        return [c for c in self.candidates if may_see is None or c.name in may_see]

    def _bind(
        self, candidate: Candidate, kwargs: Mapping[str, Any], *, include_raw: bool
    ) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        if self.settings or candidate.parameters:
            kwargs = {**self.settings, **candidate.parameters, **kwargs}
        # A length of None would take the place of the client's own, and the answer would have none.
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k not in LENGTHS}
        if not kwargs and type(self.bindings) is Bindings:
            return self.models[candidate.name], {}
        return self.bindings.apply(candidate, kwargs, include_raw=include_raw)


def _with_limit(candidate: Candidate) -> Candidate:
    """Return a candidate whose model tells its provider the maximum length of an answer."""
    if candidate.is_agent:
        return candidate
    return replace(candidate, model=tell_limit(candidate, live_model(candidate)))


def _resolve_unasked(candidate: Candidate | BaseChatModel | str) -> Candidate:
    """Return a candidate that is only chosen, never asked, and so needs no model."""
    if isinstance(candidate, Candidate) and candidate.model is None:
        return candidate
    if isinstance(candidate, str) and ":" not in candidate:
        return Candidate(candidate)
    return resolve_candidate(candidate)


def _resolve_policy(fields: RouterFields) -> Policy:
    if fields.policy is not None:
        return fields.policy
    if fields.verifier is not None:
        from langchain_llm_router.policies.confidence import (  # noqa: PLC0415 - the default only
            ConfidenceThreshold,
        )

        return ConfidenceThreshold()
    if fields.estimator is None:
        msg = "A router needs a `policy`, an `estimator` or a `verifier` to choose by: pass one."
        raise ValueError(msg)
    from langchain_llm_router.policies.one_shot import Utility  # noqa: PLC0415 - the default only

    return Utility()


def _resolve_stuck(
    fields: RouterFields, policy: Policy, model_of: Mapping[str, str], *, asks: bool
) -> tuple[StuckDetector | None, frozenset[str]]:
    """Return the detector of stuck loops, and the models that such a loop may climb to."""
    models = frozenset(model_of.values())
    if fields.stuck is False:
        return None, models
    detector = fields.stuck if isinstance(fields.stuck, StuckDetector) else StuckRules()
    if fields.stuck is not None:
        if len(models) == 1:
            msg = (
                f"`stuck` has no effect with {list(models)} alone, because a stuck loop climbs to "
                "another candidate: add a stronger one, or leave `stuck` out."
            )
            raise ValueError(msg)
        reasons = {
            "a routing edge asks no candidate": not asks,
            "the bounds of `budgets` are those of the messages that were sent": (
                fields.budgets is not None
            ),
            "what it returns is not checked by the rule of `sensitive`": (
                fields.sensitive is not None
            ),
        }
        why = next((words for words, holds in reasons.items() if holds), None)
        if detector.hand_over is not None and why is not None:
            msg = f"`hand_over` cannot be honoured here, because {why}: leave it out."
            raise ValueError(msg)
        return detector, models
    # `Always("small")` means always, unless the user has asked for more.
    return detector, frozenset(policy.named_candidates) or models


def _resolve_live(fields: RouterFields) -> Live | None:
    if fields.timeout is None and fields.max_retries is None:
        return fields.live
    if fields.live is not None:
        msg = (
            "`timeout` and `max_retries` cannot be combined with `live`: set them there, as "
            "`Resilience(timeout_s=..., retries=...)`."
        )
        raise ValueError(msg)
    from langchain_llm_router.live.failure_rules import Resilience  # noqa: PLC0415 - slow to load
    from langchain_llm_router.live.live import Live  # noqa: PLC0415 - slow to load

    return Live(resilience=Resilience(timeout_s=fields.timeout, retries=fields.max_retries or 0))
