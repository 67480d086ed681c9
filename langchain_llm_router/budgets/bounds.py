"""Upper bounds on what a request may cost, computed before anything is asked.

What has no upper bound is `None`, with the reason and what would give it one: a budget does not
pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_llm_router.budgets.prompt_bounds import (
    PromptBound,
    bound_keywords,
    bound_prompt,
    prompt_bound,
)
from langchain_llm_router.live.client_retries import client_retries
from langchain_llm_router.live.failure_rules import Resilience
from langchain_llm_router.live.live import Live
from langchain_llm_router.types import Arm, Candidate, sum_usd
from langchain_llm_router.types.answer_lengths import LENGTHS
from langchain_llm_router.types.hosted_tools import hosted_kinds, most_uses
from langchain_llm_router.verification import Verifier

__all__ = ["bounded", "prompt_bound", "worst_cost_usd"]

_VERDICT_PROMPT_TOKENS = 4000

# Providers' names for the number of answers.
_NUMBERS = ("n", "best_of", "candidate_count", "num_generations")

# Keywords whose contents go into a request's body, beside what is there or in its place.
_BODIES = ("model_kwargs", "extra_body")

# Keywords by which a provider adds to the prompt what it has stored.
_STORED = ("previous_response_id", "conversation", "prompt", "cached_content")


@dataclass(frozen=True)
class _Bound:
    """The worst case of one call, or why there is none."""

    usd: float | None
    why: str | None = None
    most_tokens: int | None = None
    """Most tokens of the answer."""


def worst_cost_usd(
    candidate: Candidate, prompt_tokens: int, most_tokens: int | None
) -> float | None:
    """Return an upper bound on the cost of one call; None if price or length is unknown.

    Args:
        candidate: The candidate, with its price and maximum answer length.
        prompt_tokens: Upper bound on the prompt's length.
        most_tokens: `max_tokens` of the call; if None, the candidate's own limit.
    """
    if most_tokens is None:
        most_tokens = _output_limit(candidate)
    if candidate.price is None or most_tokens is None:
        return None
    calls = 1 + client_retries(candidate.model)
    one = candidate.price.worst_usd(input_tokens=prompt_tokens, output_tokens=most_tokens)
    return calls * one


def bounded(
    arms: Sequence[Arm],
    candidates: Mapping[str, Candidate],
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    verifier: Verifier | None = None,
    live: Live | None = None,
) -> tuple[Arm, ...]:
    """Return the arms with upper bounds on their costs.

    Args:
        arms: Arms of a situation.
        candidates: Candidates by name.
        messages: The conversation.
        kwargs: Keyword arguments of the call: tools add to the prompt, `max_tokens` bounds the
            answer.
        settings: Keyword arguments of the router; those of a candidate and of the call override
            them.
        verifier: Verifier of the answers; if None, answers are not verified.
        live: Retry and hedging rules, which bound the number of calls; if None, one call.
    """
    prompt = bound_prompt(messages, kwargs)
    bounds = {
        arm.candidate: _bound_run(candidates[arm.candidate])
        if candidates[arm.candidate].is_agent
        else _bound_call(
            candidates[arm.candidate],
            _with_report(prompt, verifier, candidates[arm.candidate]),
            settings or {},
            kwargs,
        )
        for arm in arms
    }
    bounded_arms = []
    for arm in arms:
        candidate, bound = candidates[arm.candidate], bounds[arm.candidate]
        call = _worst_call_usd(arm, arms, bounds, live.rules(candidate) if live else None)
        n_calls = 1 if live is None or candidate.is_agent else live.most_calls(candidate)
        asking = None if call is None else call * n_calls
        judging: float | None = 0.0
        why = bound.why
        if verifier is not None:
            judging = _verification_bound(verifier, candidate, prompt, bound.most_tokens, live)
            if judging is None and why is None:
                why = "the cost of verifying its answer is not bounded: " + _JUDGES
        bounded_arms.append(
            replace(
                arm,
                worst_call_usd=call,
                worst_asking_usd=asking,
                worst_verification_usd=judging,
                worst_cost_usd=sum_usd([asking, judging]),
                unbounded=why,
            )
        )
    return tuple(bounded_arms)


def _with_report(
    prompt: PromptBound, verifier: Verifier | None, candidate: Candidate
) -> PromptBound:
    """The bound of a draft's prompt, which may ask for a confidence beside the answer."""
    report = None if verifier is None else verifier.report_of(candidate.model_name)
    return prompt if report is None else _longer(prompt, report.most_tokens)


def _longer(prompt: PromptBound, added: int) -> PromptBound:
    """The bound of a prompt with more tokens of text; most often there are none."""
    return replace(prompt, text_tokens=prompt.text_tokens + added) if added else prompt


_JUDGES = "give the judge a `price` and `max_output_tokens`, and bounds for the prompt's media"


def _bound_run(agent: Candidate) -> _Bound:
    """The worst case of an agent's run, which its meter enforces."""
    why = "an agent's run has no upper bound: give it `max_cost_usd`"
    return _Bound(agent.max_cost_usd, why if agent.max_cost_usd is None else None)


def _bound_call(
    candidate: Candidate,
    prompt: PromptBound,
    settings: Mapping[str, Any],
    kwargs: Mapping[str, Any],
) -> _Bound:
    """The worst case of one call, with everything that the client itself may add to it."""
    given = {**settings, **candidate.parameters, **kwargs}
    # A length of None is not sent: it would take the place of the client's own.
    given = {k: v for k, v in given.items() if v is not None or k not in LENGTHS}
    call = {**_own_settings(candidate.model), **given}
    for name in _BODIES:
        call |= dict(given[name]) if isinstance(given.get(name), Mapping) else {}
    longest = _max_tokens(candidate, call)
    if candidate.price is None:
        return _Bound(None, "its price is not known: give it a `price`", longest)
    if longest is None:
        why = "an answer has no maximum length: give it `max_output_tokens`, or call `max_tokens`"
        return _Bound(None, why)
    own = {name: value for name, value in call.items() if name not in kwargs}
    prompt = _longer(prompt, bound_keywords(own) if own else 0)
    tokens = prompt.tokens(candidate)
    stored = [name for name in _STORED if call.get(name) is not None]
    if stored:
        why = f"`{stored[0]}` adds a prompt of unknown length: give it `max_input_tokens`"
        tokens = candidate.max_input_tokens or why
    if kwargs.get("service_tier") in ("priority", "fast") and not candidate.parameters:
        tier = kwargs["service_tier"]
        tokens = f"its price is not that of `service_tier={tier!r}`: give it an `Endpoint` with one"
    if isinstance(tokens, str):
        return _Bound(None, tokens, longest)
    n_calls, fees = 1, 0.0
    kinds = sorted(hosted_kinds(call))
    if kinds:
        uses = most_uses(call)
        if uses is None or candidate.max_input_tokens is None:
            return _Bound(None, _hosted_reason(kinds, uses), longest)
        known = [candidate.price.fees_usd({kind: uses}) for kind in kinds]
        if None in known:
            kind = kinds[known.index(None)]
            why = f"the fee of {kind!r} is not known: give its price `tool_fees_usd`"
            return _Bound(None, why, longest)
        fees = max(fee for fee in known if fee is not None)
        # What a tool returns is read in another turn, together with all that came before.
        n_calls, tokens = 1 + uses, candidate.max_input_tokens
    worst = candidate.price.worst_usd(
        input_tokens=tokens, output_tokens=longest, media=prompt.kinds
    )
    retries = client_retries(candidate.model)
    return _Bound((1 + retries) * (n_calls * worst + fees), None, longest)


def _hosted_reason(kinds: Sequence[str], uses: int | None) -> str:
    wanted = [] if uses is not None else ["`max_uses` in the tool or `max_tool_calls` in the call"]
    wanted.append("the candidate's `max_input_tokens`")
    return (
        f"tools that run at the provider ({', '.join(kinds)}) read text of unknown length: give "
        + " and ".join(wanted)
    )


def _own_settings(model: Any) -> dict[str, Any]:
    """What a client sends with every call although the router does not pass it."""
    own: dict[str, Any] = {}
    kind: Any = type(model)
    for name in _readable(kind, _BODIES):
        given = getattr(model, name, None)
        own |= dict(given) if isinstance(given, Mapping) else {}
    for name in _readable(kind, _NUMBERS):
        value = getattr(model, name, None)
        own |= {name: value} if isinstance(value, int) else {}
    return own


@lru_cache(maxsize=256)
def _readable(kind: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that an object of a class may have.

    Pydantic takes longer to say that there is no such attribute than all else in a bound.
    """
    fields = getattr(kind, "model_fields", None)
    if fields is None or kind.model_config.get("extra") == "allow":
        return names
    own = set(fields).union(*(vars(base) for base in kind.__mro__))
    return tuple(name for name in names if name in own)


def _max_tokens(candidate: Candidate, call: Mapping[str, Any]) -> int | None:
    """Return the output tokens that a call allows, over all choices; None if unlimited."""
    limits = [int(call[name]) for name in LENGTHS if call.get(name) is not None]
    longest = max(limits, default=None)
    bodies = [call[name] for name in _BODIES if isinstance(call.get(name), Mapping)]
    if longest is None or any(name in body for body in bodies for name in LENGTHS):
        # A limit in the body may stand beside that of the client, under another name.
        own = _output_limit(candidate)
        longest = own if longest is None or own is None else max(own, longest)
    numbers = [int(call[name]) for name in _NUMBERS if call.get(name)]
    if longest is None or longest < 0:
        return None
    # A budget in the body is that of a server whose maximum length may exclude the thinking.
    return (longest + int(call.get("thinking_budget") or 0)) * max(numbers, default=1)


def _output_limit(candidate: Candidate) -> int | None:
    """Return the maximum answer length of a candidate or its model; None if unknown."""
    model = candidate.model
    kind: Any = type(model)
    limits = [getattr(model, name, None) for name in _readable(kind, LENGTHS)]
    configured = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    if candidate.max_output_tokens is not None:
        # The longer one is what its provider is told.
        return max([candidate.max_output_tokens, *configured])
    profile = getattr(model, "profile", None) or {}
    return max(configured, default=profile.get("max_output_tokens"))


def _worst_call_usd(
    arm: Arm, arms: Sequence[Arm], bounds: Mapping[str, _Bound], rules: Resilience | None
) -> float | None:
    """Return the cost of the dearest call, as a hedged call may go to a dearer endpoint."""
    if rules is None or rules.hedge_after is None or arm.model is None:
        return bounds[arm.candidate].usd
    twins = [bounds[other.candidate].usd for other in arms if other.model == arm.model]
    return None if None in twins else max(usd for usd in twins if usd is not None)


def _verification_bound(
    verifier: Verifier,
    candidate: Candidate,
    prompt: PromptBound,
    most_tokens: int | None,
    live: Live | None,
) -> float | None:
    """Return an upper bound on the cost of judging one answer; judges read prompt and answer."""
    costs: list[float | None] = []
    for judge, longest in verifier.most_calls(candidate):
        read = prompt.tokens(judge)
        if isinstance(read, str):
            return None
        # A token of the answer has about four bytes, each of which may be a token to the judge.
        tokens = read + 4 * (most_tokens or 0) + _VERDICT_PROMPT_TOKENS
        # `max_tokens` of the call limits the answer; a verdict's limit is that of its judge.
        n_calls = 1 if live is None else live.rules(judge).retries + 1
        costs += [worst_cost_usd(judge, tokens, longest)] * n_calls
    return sum_usd(costs)
