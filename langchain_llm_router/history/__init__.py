"""The decision log: writing and reading it, replaying its decisions, and users' feedback.

`decision_log` writes one line per request, `log_reader` reads them, `streamed_entries` those that
do not fit in memory, and `log_replay` makes every decision again under the same or another policy;
`evaluation.off_policy` estimates the quality that this would have had. `feedback` imports users'
ratings of answers and refits an estimator on them.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.history.decision_log import DecisionLog
    from langchain_llm_router.history.feedback import (
        ComparedRows,
        Imported,
        ScoredRows,
        compared_rows,
        import_langsmith,
        refit,
        scored_rows,
    )
    from langchain_llm_router.history.log_reader import Entry, Feedback, History, read_log
    from langchain_llm_router.history.log_replay import Changes, LogReplay, replay_log
    from langchain_llm_router.history.replay_figures import Replayed, ReplayFigures
    from langchain_llm_router.history.retraced import Retraced, retrace
    from langchain_llm_router.history.streamed_entries import stream_log
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".decision_log": "DecisionLog",
            ".feedback": "ComparedRows Imported ScoredRows compared_rows import_langsmith refit "
            "scored_rows",
            ".log_reader": "Entry Feedback History read_log",
            ".log_replay": "Changes LogReplay replay_log",
            ".replay_figures": "ReplayFigures Replayed",
            ".retraced": "Retraced retrace",
            ".streamed_entries": "stream_log",
        },
    )

__all__ = [
    "Changes",
    "ComparedRows",
    "DecisionLog",
    "Entry",
    "Feedback",
    "History",
    "Imported",
    "LogReplay",
    "ReplayFigures",
    "Replayed",
    "Retraced",
    "ScoredRows",
    "compared_rows",
    "import_langsmith",
    "read_log",
    "refit",
    "replay_log",
    "retrace",
    "scored_rows",
    "stream_log",
]
