"""Live statistics of every call, and the handling of failures.

`telemetry` records the calls, `measurements` has the statistics of one arm, `decayed_statistics`
the averages with exponential decay, `breakers` the circuit breakers; `snapshots` saves the
statistics to disk, `shared_telemetry` shares them through Redis, `price_feeds` reads prices that
change. `failure_rules` classifies
failures, without I/O; `guarded_calls` calls a candidate by these rules, `races` makes one or two
calls at the same time, `bulkheads` limits concurrent calls, `notes` records failed calls,
`client_retries` switches the retries of providers' clients off. `live` combines these parts for a
router.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.live.breakers import Breaking
    from langchain_llm_router.live.failure_rules import (
        BulkheadFullError,
        Resilience,
        failure_kind,
        is_callers_fault,
        is_retryable,
        may_be_billed,
        retry_after_s,
        status_of,
    )
    from langchain_llm_router.live.live import Live
    from langchain_llm_router.live.measurements import ArmStats, FailureKind
    from langchain_llm_router.live.price_feeds import DatedPrices, PriceFeed, QuotedPrice
    from langchain_llm_router.live.shared_telemetry import SharedTelemetry
    from langchain_llm_router.live.snapshots import Snapshots
    from langchain_llm_router.live.telemetry import LiveCall, Telemetry
    from langchain_llm_router.types.errors import DeadlineError, own_error
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_llm_router.types.errors": "DeadlineError own_error",
            ".failure_rules": (
                "BulkheadFullError Resilience failure_kind is_callers_fault is_retryable "
                "may_be_billed retry_after_s status_of"
            ),
            ".live": "Live",
            ".measurements": "ArmStats FailureKind",
            ".price_feeds": "DatedPrices PriceFeed QuotedPrice",
            ".snapshots": "Snapshots",
            ".telemetry": "LiveCall Telemetry",
            ".shared_telemetry": "SharedTelemetry",
            ".breakers": "Breaking",
        },
    )

__all__ = [
    "ArmStats",
    "Breaking",
    "BulkheadFullError",
    "DatedPrices",
    "DeadlineError",
    "FailureKind",
    "Live",
    "LiveCall",
    "PriceFeed",
    "QuotedPrice",
    "Resilience",
    "SharedTelemetry",
    "Snapshots",
    "Telemetry",
    "failure_kind",
    "is_callers_fault",
    "is_retryable",
    "may_be_billed",
    "own_error",
    "retry_after_s",
    "status_of",
]
