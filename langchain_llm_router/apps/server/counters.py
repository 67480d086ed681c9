"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from langchain_llm_router.types import Attempt
from langchain_llm_router.types.figures import format_usd

__all__ = ["Counters"]


class Counters:
    """Counters of answers, attempts, failures and costs, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._n_answers = self._n_unpriced = 0
        self._spent_usd = 0.0
        self._answers = self._counter("answers", "Answers accepted", "candidate")
        self._attempts = self._counter("attempts", "Candidates asked", "candidate", "outcome")
        self._usd = self._counter("spent_usd", "Known cost of all calls", "candidate")
        self._unpriced = self._counter("unpriced_answers", "Answers whose cost is unknown")
        self._latency = Histogram(
            "llm_router_attempt_seconds", "Time a candidate took", ["candidate"],
            registry=self.registry,
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """What all calls have cost so far, those of failed and abandoned requests too."""
        text = f"Spent {format_usd(self._spent_usd)} on {self._n_answers:,} answers"
        if self._n_unpriced > 0:
            text += f", and what {self._n_unpriced:,} of them cost is unknown"
        return f"{text}."

    def count(self, record: Mapping[str, Any] | None) -> None:
        """Count one decision record."""
        if record is None:
            return
        self._answers.labels(record["candidate"]).inc()
        self._n_answers += 1
        if record["cost_usd"] is None:
            self._unpriced.inc()
            self._n_unpriced += 1
        self.count_attempts(record["attempts"])

    def count_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Count the attempts of one request, which may have ended without an answer."""
        for attempt in attempts:
            name, left = attempt["candidate"], attempt.get("abandoned", False)
            failed = "abandoned" if left else "failed"
            outcome = "answered" if attempt.get("error") is None else failed
            self._attempts.labels(name, outcome).inc()
            for cost in (attempt.get("cost_usd"), attempt.get("verification_cost_usd")):
                if cost is not None:
                    self._usd.labels(name).inc(cost)
                    self._spent_usd += cost
            # How long a caller stayed is not the time that the candidate took.
            if (latency_s := attempt.get("latency_s")) is not None and not left:
                self._latency.labels(name).observe(latency_s)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"llm_router_{name}", text, labels, registry=self.registry)
