"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["Counters"]


class Counters:
    """Counters of answers, attempts, failures and costs, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = self._counter("answers", "Answers accepted", "candidate")
        self._attempts = self._counter("attempts", "Candidates asked", "candidate", "outcome")
        self._usd = self._counter("spent_usd", "Known cost of all calls", "candidate")
        self._unpriced = self._counter("unpriced_answers", "Answers whose cost is unknown")
        self._latency = Histogram(
            "llm_router_attempt_seconds", "Time a candidate took", ["candidate"],
            registry=self.registry,
        )  # fmt: skip

    def count(self, record: Mapping[str, Any] | None) -> None:
        """Count one decision record."""
        if record is None:
            return
        self._answers.labels(record["candidate"]).inc()
        if record["cost_usd"] is None:
            self._unpriced.inc()
        for attempt in record["attempts"]:
            name = attempt["candidate"]
            failed = attempt.get("error") is not None
            self._attempts.labels(name, "failed" if failed else "answered").inc()
            for cost in (attempt.get("cost_usd"), attempt.get("verification_cost_usd")):
                if cost is not None:
                    self._usd.labels(name).inc(cost)
            if attempt.get("latency_s") is not None:
                self._latency.labels(name).observe(attempt["latency_s"])

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"llm_router_{name}", text, labels, registry=self.registry)
