"""Collecting training data: ask every candidate every question, verify and grade the answers.

`collect` does it in this process, `collect_on_ray` on a cluster; both write a journal, which
`load_journal` reads as tables.
"""

from langchain_llm_router.collect.candidate_specs import parse_candidates
from langchain_llm_router.collect.collector import Limits, Watcher
from langchain_llm_router.collect.graders import (
    ChoiceMatch,
    ExactMatch,
    Grader,
    Judge,
    NumberMatch,
    PairwiseJudge,
    grader_by_name,
)
from langchain_llm_router.collect.journal import Journal
from langchain_llm_router.collect.on_ray import collect_on_ray
from langchain_llm_router.collect.questions import Question, from_langsmith, load_questions
from langchain_llm_router.collect.quote import Quote, Spending
from langchain_llm_router.collect.readability import Readable
from langchain_llm_router.collect.request_logs import RequestLog, read_request_log
from langchain_llm_router.collect.run import Questions, Setup, acollect, collect
from langchain_llm_router.collect.tables import Collected, load_journal
from langchain_llm_router.collect.terminal_watcher import TerminalWatcher

__all__ = [
    "ChoiceMatch",
    "Collected",
    "ExactMatch",
    "Grader",
    "Journal",
    "Judge",
    "Limits",
    "NumberMatch",
    "PairwiseJudge",
    "Question",
    "Questions",
    "Quote",
    "Readable",
    "RequestLog",
    "Setup",
    "Spending",
    "TerminalWatcher",
    "Watcher",
    "acollect",
    "collect",
    "collect_on_ray",
    "from_langsmith",
    "grader_by_name",
    "load_journal",
    "load_questions",
    "parse_candidates",
    "read_request_log",
]
