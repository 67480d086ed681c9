"""What a failure means, and what is tried before it counts.

`rules` are pure; `calling` makes the real calls of one candidate by them, `racing` two at once,
`bulkheads` bound how many there are. `live` is the set of parts that a router is given.
"""

from langchain_llm_router.resilience.live import (
    Live,
    own_error,
)
from langchain_llm_router.resilience.rules import (
    BulkheadFullError,
    DeadlineError,
    Resilience,
    failure_kind,
    is_callers_fault,
    is_retryable,
    may_be_billed,
    retry_after_s,
    status_of,
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
