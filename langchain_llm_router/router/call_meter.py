"""The model calls of an agent's run: what each has cost, and whether the next one may be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import LLMResult

from langchain_llm_router.budgets.prompt_bounds import bound_prompt
from langchain_llm_router.calls.prices import price_by_name
from langchain_llm_router.live.failure_rules import may_be_billed
from langchain_llm_router.types import Candidate, Price, sum_usd
from langchain_llm_router.types.answer_lengths import LENGTHS
from langchain_llm_router.types.errors import BudgetExceededError
from langchain_llm_router.types.usage import usage_of

__all__ = ["CallMeter"]

_IN_PROMPT = ("tools", "functions", "response_format")
"""Keywords of a call that its provider reads as part of the prompt."""


@dataclass(frozen=True)
class _Call:
    """A call that has begun, or how it ended."""

    most_usd: float | None
    """Upper bound on its cost; None if it has none."""

    price: Price | None
    cost_usd: float | None = None
    tokens: tuple[int, int] | None = None


class CallMeter(BaseCallbackHandler):
    """Counts every model call of an agent's run, and refuses one that could exceed its limit.

    A call that LangChain does not know of, and retries within a client, are not counted.

    Args:
        candidate: The agent, with its limit, its price and the maximum length of its answers.
    """

    # LangChain ignores what a handler raises unless it says so; in line, since it must come first.
    raise_error = True
    run_inline = True

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._open: dict[UUID, _Call] = {}
        self._ended: list[_Call] = []
        self._unsure: list[float | None] = []
        self._lost_usd: list[float | None] = []
        self._cut_off: Sequence[str] | None = None
        self._first_step: int | None = None
        # Calls end in other threads than those that begin meanwhile.
        self._lock = RLock()
        self.earlier_usd: float | None = None
        """What the answers of an earlier run cost, where that run paused."""

    def resume(self, messages: Sequence[BaseMessage], cut_off: Sequence[str] | None) -> None:
        """Count what an earlier run of the agent has cost.

        Args:
            messages: The messages that it had made.
            cut_off: The ids of the steps in which it was cut off, empty if that was its first step.
                Their calls may have been in flight: one that is made again counts once more, with
                its worst case. None if the run has paused.
        """
        for message in messages:
            if isinstance(message, AIMessage) and message.usage_metadata is not None:
                about = message.response_metadata
                price = self._price(about.get("model_provider"), about.get("model_name"))
                self._end(_Call(None, price), message)
        self._cut_off = cut_off
        if cut_off is None:
            self.earlier_usd = self.cost_usd

    def lose_run(self) -> None:
        """Count an earlier run of which nothing is known, with the worst case of a whole run."""
        self._lost_usd.append(self._candidate.max_cost_usd)

    @property
    def n_calls(self) -> int:
        """Number of calls that have begun."""
        return len(self._open) + len(self._ended) + len(self._unsure)

    @property
    def cost_usd(self) -> float | None:
        """What the answered calls have cost; None if a price or a usage is unknown."""
        return sum_usd([call.cost_usd for call in self._ended])

    @property
    def unsure_usd(self) -> float | None:
        """Upper bound on the cost of the calls without an answer; None if one has no bound."""
        with self._lock:
            return sum_usd([*self._lost_usd, self._unanswered_usd])

    @property
    def _unanswered_usd(self) -> float | None:
        """The same without a run that was lost, which had a limit of its own."""
        return sum_usd([*self._unsure, *(call.most_usd for call in list(self._open.values()))])

    @property
    def most_usd(self) -> float | None:
        """Upper bound on the cost of all calls; None if one has no bound."""
        with self._lock:
            return sum_usd([*self._lost_usd, self._run_usd])

    @property
    def _run_usd(self) -> float | None:
        """Upper bound on the cost of this run, resumed or not, which `max_cost_usd` limits."""
        known = [c.most_usd if c.cost_usd is None else c.cost_usd for c in self._ended]
        return sum_usd([*known, self._unanswered_usd])

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Tokens of all prompts and of all answers; None if any of them is unknown."""
        known = [call.tokens for call in self._ended if call.tokens is not None]
        if len(known) < len(self._ended):
            return None
        return sum(n for n, _ in known), sum(n for _, n in known)

    # What LangChain calls

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a call begins, or refuse it.

        Raises:
            BudgetExceededError: If it could exceed the limit, or has no bound under a limit.
        """
        about, params = metadata or {}, kwargs.get("invocation_params") or {}
        name = about.get("ls_model_name")
        price = self._price(about.get("ls_provider"), name)
        bounds = [self._bound(prompt, params, about, price) for prompt in messages]
        why = next((bound for bound in bounds if isinstance(bound, str)), None)
        most = sum_usd([None if isinstance(bound, str) else bound for bound in bounds])
        with self._lock:
            self._count_cut_off(most, about)
            self._check(most, f"a call of {name!r} has no upper bound: {why}")
            self._open[run_id] = _Call(most, price)

    def on_llm_start(
        self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Note that a call of a model without chat begins, or refuse it."""
        messages: list[list[BaseMessage]] = [[HumanMessage(prompt)] for prompt in prompts]
        self.on_chat_model_start(serialized, messages, run_id=run_id, **kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Note what a call has cost."""
        with self._lock:
            call = self._open.pop(run_id, None)
            if call is None:
                return
            for generations in response.generations:
                self._end(call, getattr(generations[0], "message", None) if generations else None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a call has failed; it may have been billed."""
        with self._lock:
            call = self._open.pop(run_id, None)
            if call is not None:
                self._unsure.append(call.most_usd if may_be_billed(error) else 0.0)

    def _end(self, call: _Call, message: Any) -> None:
        usage = usage_of(message)
        cost = None if call.price is None else call.price.cost_usd(usage)
        tokens = None if usage is None else (usage.input_tokens, usage.output_tokens)
        self._ended.append(replace(call, cost_usd=cost, tokens=tokens))

    def _price(self, provider: str | None, name: str | None) -> Price | None:
        own = self._candidate.price
        return price_by_name(provider, name) if own is None else own

    def _count_cut_off(self, most: float | None, about: Mapping[str, Any]) -> None:
        """Count the call that was cut off in an earlier run, if this one repeats it."""
        if self._cut_off is None:
            return
        where = str(about.get("langgraph_checkpoint_ns"))
        if len(self._cut_off) == 0:
            # Its first step has no id yet: all calls of the step that comes first now.
            step = about.get("langgraph_step")
            self._first_step = step if self._first_step is None else self._first_step
            repeats = step == self._first_step
        else:
            repeats = any(step in where for step in self._cut_off)
        if repeats:
            self._unsure.append(most)

    def _check(self, most: float | None, unbounded: str) -> None:
        limit = self._candidate.max_cost_usd
        if limit is None:
            return
        if most is None:
            msg = f"`max_cost_usd` of {self._candidate.name!r} ({limit!r} USD): {unbounded}."
            raise BudgetExceededError(msg)
        spent = self._run_usd
        # A nano-dollar of tolerance, because sums of prices are rounded.
        if spent is None or spent + most > limit + 1e-9:
            msg = (
                f"The run of {self._candidate.name!r} has stopped: it may have cost {spent!r} USD, "
                f"and its next call may cost {most:.6g} USD, more than `max_cost_usd` ({limit!r})."
            )
            raise BudgetExceededError(msg)

    def _bound(
        self,
        messages: Sequence[BaseMessage],
        params: Mapping[str, Any],
        about: Mapping[str, Any],
        price: Price | None,
    ) -> float | str:
        """Return the most that a call can cost, or why that is not known."""
        if price is None:
            return "its price is not known: give the candidate a `price`"
        longest = next((params[name] for name in LENGTHS if params.get(name) is not None), None)
        if longest is None:
            longest = self._candidate.max_output_tokens or about.get("ls_max_tokens")
        if longest is None:
            return (
                "its answer has no maximum length: give the model `max_tokens`, or the candidate "
                "`max_output_tokens`"
            )
        keywords = {name: params[name] for name in _IN_PROMPT if params.get(name)}
        prompt = bound_prompt(messages, keywords)
        tokens = prompt.tokens(self._candidate)
        if isinstance(tokens, str):
            return tokens
        n_answers = params.get("n") or 1
        return price.worst_usd(
            input_tokens=tokens, output_tokens=longest * n_answers, media=prompt.kinds
        )
