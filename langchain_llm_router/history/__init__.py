"""What was decided, what would have been decided, and how it turned out.

`decision_log` writes one line per request, `reading` reads it back, `replaying` makes every
decision again under the same or another policy, `estimates` says what that would have scored and
how sure that is. `shadow` lets a second router decide beside the first; `feedback` imports users'
ratings of the answers and refits an estimator on them.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.history.decision_log import DecisionLog
    from langchain_llm_router.history.estimates import (
        OffPolicy,
        Overlap,
        doubly_robust,
        inverse_propensity,
        off_policy,
        self_normalized,
    )
    from langchain_llm_router.history.feedback import (
        Imported,
        ScoredRows,
        import_langsmith,
        refit,
        scored_rows,
    )
    from langchain_llm_router.history.reading import Entry, Feedback, History, read_log
    from langchain_llm_router.history.replaying import Changes, LogReplay, Replayed, replay_log
    from langchain_llm_router.history.retracing import Retraced, retrace
    from langchain_llm_router.history.shadow import Shadow
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".decision_log": "DecisionLog",
            ".estimates": (
                "OffPolicy Overlap doubly_robust inverse_propensity off_policy self_normalized"
            ),
            ".feedback": "Imported ScoredRows import_langsmith refit scored_rows",
            ".reading": "Entry Feedback History read_log",
            ".replaying": "Changes LogReplay Replayed replay_log",
            ".retracing": "Retraced retrace",
            ".shadow": "Shadow",
        },
    )

__all__ = [
    "Changes",
    "DecisionLog",
    "Entry",
    "Feedback",
    "History",
    "Imported",
    "LogReplay",
    "OffPolicy",
    "Overlap",
    "Replayed",
    "Retraced",
    "ScoredRows",
    "Shadow",
    "doubly_robust",
    "import_langsmith",
    "inverse_propensity",
    "off_policy",
    "read_log",
    "refit",
    "replay_log",
    "retrace",
    "scored_rows",
    "self_normalized",
]
