"""What a router needs to stay up: live statistics, and the rules for calls that fail."""

from __future__ import annotations

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
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments

__all__ = ["Live"]


@dataclass(eq=False)
class Live(CheckedArguments):
    """Live statistics of every arm, and the rules for its calls.

    Args:
        telemetry: Where every real call is recorded, and what the arms' latencies, failure rates
            and answer lengths are read from.
        resilience: Timeouts, retries, hedging and concurrency limits of every arm.
        per_candidate: Other rules for single arms, by the name of the arm or of its model.
        deadline_s: Longest time for a whole request, fallbacks included; None: no limit.

    Example:
        >>> live = Live(resilience=Resilience(timeout_s=20, retries=1), deadline_s=30)
        >>> live.rules(Candidate("small")).retries
        1
    """

    telemetry: Telemetry = field(default_factory=Telemetry)
    resilience: Resilience = field(default_factory=Resilience)
    per_candidate: Mapping[str, Resilience] = field(default_factory=dict)
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            msg = f"`deadline_s` must be > 0 or None, got {self.deadline_s!r}."
            raise ValueError(msg)
        self._bulkheads: dict[str, Bulkhead] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Live:
        # A copy of a router calls the same endpoints, and their limits stay the same.
        return self

    def register(self, candidates: Sequence[Candidate]) -> None:
        """Register the router's arms: what they declare counts until it is measured.

        Raises:
            ValueError: If there are rules for an unknown candidate.
        """
        known = {name for c in candidates for name in (c.name, c.model_name)}
        strangers = sorted(set(self.per_candidate) - known)
        if strangers:
            msg = f"Unknown candidates {strangers} in `per_candidate`: there are {sorted(known)}."
            raise ValueError(msg)
        for candidate in candidates:
            if candidate.ttft_s is not None or candidate.itl_s is not None:
                ttft_s, itl_s = candidate.ttft_s, candidate.itl_s
                self.telemetry.expect(candidate.name, ttft_s=ttft_s, itl_s=itl_s)

    def stats(self, candidates: Sequence[Candidate]) -> dict[str, ArmStats]:
        """What is known of the arms now."""
        return self.telemetry.look(candidate.name for candidate in candidates)

    def rules(self, candidate: Candidate) -> Resilience:
        """The rules for one arm."""
        for name in (candidate.name, candidate.model_name):
            if name in self.per_candidate:
                return self.per_candidate[name]
        return self.resilience

    def most_calls(self, candidate: Candidate) -> int:
        """How many calls one request to it can make: retries, and a hedged call for each."""
        rules = self.rules(candidate)
        return (rules.retries + 1) * (1 if rules.hedge_after is None else 2)

    def due_s(self) -> float | None:
        """The deadline of a request that begins now, on `time.monotonic`'s clock."""
        return None if self.deadline_s is None else time.monotonic() + self.deadline_s

    def guard(
        self, candidate: Candidate, *, due_s: float | None = None, twin: Candidate | None = None
    ) -> Guard:
        """The guard for calls to a candidate."""
        rules = self.rules(candidate)
        twins = None if twin is None else self.guard(twin, due_s=due_s)
        return Guard(candidate, self.telemetry, rules, self._bulkhead(candidate), due_s, twins)

    def judging(self, due_s: float | None = None) -> Callable[[Candidate], Guard]:
        """The guard for a judge's calls: its own rules, without hedging.

        Args:
            due_s: The deadline of the request, on `time.monotonic`'s clock.
        """

        def guard(judge: Candidate) -> Guard:
            named = replace(judge, name=f"{judge.name} (judging)")
            rules = replace(self.rules(judge), hedge_after=None)
            return Guard(named, self.telemetry, rules, self._bulkhead(judge), due_s)

        return guard

    def twin_of(self, candidate: Candidate, candidates: Sequence[Candidate]) -> Candidate | None:
        """The best other endpoint of the same model for a hedged call; None: there is none."""
        if self.rules(candidate).hedge_after is None or candidate.endpoint_of is None:
            return None
        others = [
            c
            for c in candidates
            if c.endpoint_of == candidate.endpoint_of and c.name != candidate.name
        ]
        stats = self.stats(others)
        open_ones = [c for c in others if stats[c.name].available]
        return min(open_ones, key=lambda c: stats[c.name].ttft_s or 0.0, default=None)

    def _bulkhead(self, candidate: Candidate) -> Bulkhead | None:
        places = self.rules(candidate).max_concurrent
        if places is None:
            return None
        with self._lock:
            if candidate.name not in self._bulkheads:
                self._bulkheads[candidate.name] = Bulkhead(candidate.name, places)
            return self._bulkheads[candidate.name]
