"""The live statistics of a router, and its rules for failures."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_llm_router.live import Telemetry
from langchain_llm_router.live.bulkheads import Bulkhead
from langchain_llm_router.live.failure_rules import Resilience
from langchain_llm_router.live.guarded_calls import Guard
from langchain_llm_router.live.measurements import ArmStats
from langchain_llm_router.live.price_feeds import PriceFeed, QuotedPrice
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.arguments import CheckedArguments

__all__ = ["Live"]


@dataclass(eq=False)
class Live(CheckedArguments):
    """Live statistics of every arm, and the rules for its calls.

    Args:
        telemetry: Records every call and provides the arms' latencies, failure rates and answer
            lengths.
        resilience: Timeouts, retries, hedging and concurrency limits of every arm.
        per_candidate: Rules for single arms, by the name of the arm or of its model.
        deadline_s: Maximum time in seconds for a request, fallbacks included; None means no
            limit.
        prices: Current prices by name, which replace those of the candidates, judges and peers that
            it has. It is started with the router.

    Example:
        >>> live = Live(resilience=Resilience(timeout_s=20, retries=1), deadline_s=30)
        >>> live.rules(Candidate("small")).retries
        1
    """

    telemetry: Telemetry = field(default_factory=Telemetry)
    resilience: Resilience = field(default_factory=Resilience)
    per_candidate: Mapping[str, Resilience] = field(default_factory=dict)
    deadline_s: float | None = None
    prices: PriceFeed | None = None

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            msg = f"`deadline_s` must be > 0 or None, got {self.deadline_s!r}."
            raise ValueError(msg)
        self._bulkheads: dict[str, Bulkhead] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Live:
        # A copy of a router calls the same endpoints, whose limits it must share.
        return self

    def register(self, candidates: Sequence[Candidate]) -> None:
        """Register the router's arms, whose declared latencies count until they are measured.

        Raises:
            ValueError: If there are rules for an unknown candidate, or none of the candidates has a
                price in `prices`.
        """
        names = {name for c in candidates for name in (c.name, c.model_name)}
        unknown = sorted(set(self.per_candidate) - names)
        if unknown:
            msg = (
                f"Unknown candidates {unknown} in `per_candidate`: they must be among "
                f"{sorted(names)}."
            )
            raise ValueError(msg)
        if self.prices is not None:
            self.prices.start()
            if not any(self.quotes(candidates).values()):
                msg = f"`prices` must have prices of some of {sorted(names)}, but has none."
                raise ValueError(msg)
        for candidate in candidates:
            if candidate.ttft_s is not None or candidate.itl_s is not None:
                ttft_s, itl_s = candidate.ttft_s, candidate.itl_s
                self.telemetry.expect(candidate.name, ttft_s=ttft_s, itl_s=itl_s)

    def stats(self, candidates: Sequence[Candidate]) -> dict[str, ArmStats]:
        """Return the current statistics of the arms."""
        stats = self.telemetry.look(candidate.name for candidate in candidates)
        for name, quoted in self.quotes(candidates).items():
            if quoted is not None:
                stats[name] = replace(stats[name], price_age_s=quoted.age_s, price_from_feed=True)
        return stats

    def quotes(self, candidates: Sequence[Candidate]) -> dict[str, QuotedPrice | None]:
        """Return the price of each arm now, by its own name, its model's or that of its efforts.

        Returns:
            None for an arm that the feed does not have; empty without a feed.
        """
        if self.prices is None:
            return {}
        return {c.name: self.prices.look(*_priced_as(c)) for c in candidates}

    def pricing(self) -> Callable[[Candidate], Price | None]:
        """Return a function that gives a candidate the price of now, whatever the feed reads later.

        It is for a verifier's judges and peers as well; one that the feed does not have keeps its
        own price.
        """
        held = None if self.prices is None else copy.copy(self.prices)

        def price_of(candidate: Candidate) -> Price | None:
            quoted = None if held is None else held.look(*_priced_as(candidate))
            return candidate.price if quoted is None else quoted.price

        return price_of

    def rules(self, candidate: Candidate) -> Resilience:
        """Return the rules for one arm."""
        for name in (candidate.name, candidate.model_name):
            if name in self.per_candidate:
                return self.per_candidate[name]
        return self.resilience

    def most_calls(self, candidate: Candidate) -> int:
        """Return the maximum number of calls per request: tries, each with a hedged call."""
        rules = self.rules(candidate)
        return (rules.retries + 1) * (1 if rules.hedge_after is None else 2)

    def due_s(self) -> float | None:
        """Return the deadline of a request that begins now, on `time.monotonic`'s clock."""
        return None if self.deadline_s is None else time.monotonic() + self.deadline_s

    def guard(
        self, candidate: Candidate, *, due_s: float | None = None, twin: Candidate | None = None
    ) -> Guard:
        """Return the guard for calls to a candidate."""
        rules = self.rules(candidate)
        twin_guard = None if twin is None else self.guard(twin, due_s=due_s)
        return Guard(candidate, self.telemetry, rules, self._bulkhead(candidate), due_s, twin_guard)

    def judging(self, due_s: float | None = None) -> Callable[[Candidate], Guard]:
        """Return a function that makes guards for judges, with their rules but without hedging.

        Args:
            due_s: The deadline of the request, on `time.monotonic`'s clock.
        """

        def guard(judge: Candidate) -> Guard:
            named = replace(judge, name=f"{judge.name} (judging)")
            rules = replace(self.rules(judge), hedge_after=None)
            return Guard(named, self.telemetry, rules, self._bulkhead(judge), due_s)

        return guard

    def twin_of(self, candidate: Candidate, candidates: Sequence[Candidate]) -> Candidate | None:
        """Return the best other endpoint of the model for a hedged call; None if there is none."""
        if self.rules(candidate).hedge_after is None or candidate.endpoint_of is None:
            return None
        others = [
            c
            for c in candidates
            if c.endpoint_of == candidate.endpoint_of and c.name != candidate.name
        ]
        stats = self.stats(others)
        available = [c for c in others if stats[c.name].available]
        return min(available, key=lambda c: stats[c.name].ttft_s or 0.0, default=None)

    def _bulkhead(self, candidate: Candidate) -> Bulkhead | None:
        places = self.rules(candidate).max_concurrent
        if places is None:
            return None
        with self._lock:
            if candidate.name not in self._bulkheads:
                self._bulkheads[candidate.name] = Bulkhead(candidate.name, places)
            return self._bulkheads[candidate.name]


def _priced_as(candidate: Candidate) -> tuple[str, ...]:
    """Return the names under which a feed may have a candidate's price, the closest first."""
    return candidate.name, candidate.model_name, candidate.effort_of or candidate.name
