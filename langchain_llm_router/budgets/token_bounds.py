"""Upper bounds on the tokens of a request, by the rules that bound its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, cast

from langchain_core.messages import BaseMessage

from langchain_llm_router.budgets.bounds import bounded
from langchain_llm_router.live.live import Live
from langchain_llm_router.types import Arm, Candidate, Price
from langchain_llm_router.types.hosted_tools import KINDS
from langchain_llm_router.verification import Report, Verifier

__all__ = ["bounded_in_units"]

_NO_TOKENS = "an agent's run has no upper bound in tokens: give the budget in USD"

# With it, a cost in USD is a number of tokens.
_ONE_USD_PER_TOKEN = Price(1e6, 1e6, tool_fees_usd=dict.fromkeys(KINDS, 0.0))


@dataclass(frozen=True)
class _Priced:
    """A verifier whose judges and peers have other prices."""

    verifier: Verifier
    price_of: Callable[[Candidate], Price | None]

    def most_calls(self, candidate: Candidate) -> list[tuple[Candidate, int | None]]:
        calls = self.verifier.most_calls(candidate)
        return [(self._priced(judge), longest) for judge, longest in calls]

    def _priced(self, judge: Candidate) -> Candidate:
        price = self.price_of(judge)
        return judge if price is judge.price else replace(judge, price=price)

    def report_of(self, candidate: str) -> Report | None:
        return self.verifier.report_of(candidate)


def bounded_in_units(  # noqa: PLR0913 - what `bounded` needs, and two units
    arms: Sequence[Arm],
    candidates: Mapping[str, Candidate],
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
    *,
    in_tokens: bool,
    settings: Mapping[str, Any] | None = None,
    verifier: Verifier | None = None,
    live: Live | None = None,
    price_of: Callable[[Candidate], Price | None] = attrgetter("price"),
) -> tuple[Arm, ...]:
    """Return the arms with upper bounds on their costs, as `bounded` does, and on their tokens.

    Tokens are bounded only if `in_tokens` is true. `price_of` returns what the tokens of a
    verifier's own candidate cost.
    """
    judges = _priced(verifier, price_of)
    arms = bounded(
        arms, candidates, messages, kwargs, settings=settings, verifier=judges, live=live
    )
    if not in_tokens:
        return arms
    priced = {
        # An agent's run is bounded in USD alone: no budget in tokens pays for one.
        name: replace(candidate, price=_ONE_USD_PER_TOKEN, max_cost_usd=None)
        for name, candidate in candidates.items()
    }
    judges = _priced(verifier, lambda judge: _ONE_USD_PER_TOKEN)
    counted = bounded(arms, priced, messages, kwargs, settings=settings, verifier=judges, live=live)
    return tuple(
        replace(
            arm,
            worst_call_tokens=count.worst_call_usd,
            worst_asking_tokens=count.worst_asking_usd,
            worst_verification_tokens=count.worst_verification_usd,
            unbounded=_NO_TOKENS
            if candidates[arm.candidate].is_agent
            else count.unbounded or arm.unbounded,
        )
        for arm, count in zip(arms, counted, strict=True)
    )


def _priced(
    verifier: Verifier | None, price_of: Callable[[Candidate], Price | None]
) -> Verifier | None:
    return None if verifier is None else cast("Verifier", _Priced(verifier, price_of))
