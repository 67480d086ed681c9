"""What a failure means, and what is tried before it counts.

`rules` are pure; `calling` makes the real calls of one candidate by them, `racing` one or two at
the same time, `bulkheads` limit how many there are, `notes` record the calls that failed. `live` is
the set of parts that a router is given.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.errors import DeadlineError, own_error
    from langchain_llm_router.resilience.live import Live
    from langchain_llm_router.resilience.rules import (
        BulkheadFullError,
        Resilience,
        failure_kind,
        is_callers_fault,
        is_retryable,
        may_be_billed,
        retry_after_s,
        status_of,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_llm_router.errors": "DeadlineError own_error",
            ".live": "Live",
            ".rules": (
                "BulkheadFullError Resilience failure_kind is_callers_fault is_retryable "
                "may_be_billed retry_after_s status_of"
            ),
        },
    )

__all__ = [
    "BulkheadFullError",
    "DeadlineError",
    "Live",
    "Resilience",
    "failure_kind",
    "is_callers_fault",
    "is_retryable",
    "may_be_billed",
    "own_error",
    "retry_after_s",
    "status_of",
]
