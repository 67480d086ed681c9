"""Verifiers, which score how good an answer is, without I/O.

A verifier is a generator: it yields the model calls to make *at the same time*, receives the
replies, and returns an `Evaluation`. `calls/judge.py` makes the calls, sync or async. A score is
not a probability until an observation model has calibrated it.

Calls per answer: `SelfEvaluator` k (fewer with `adaptive`), `YesNo` one for k samples,
`TokenProbability` and `DecisionVerifier` one, `Agreement` one per peer and resample,
`AnswerGroups` one per earlier group if it has a judge, `AnswerLogprob`, `AnswerScorer`, `Checks`
and `SelfReported` none.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.types.decisions import share_true
    from langchain_llm_router.types.messages import question_of
    from langchain_llm_router.verification.agreement import Agreement
    from langchain_llm_router.verification.answer_groups import AnswerGroups
    from langchain_llm_router.verification.answer_reader import (
        is_same_number,
        normalized,
        read_letter,
        read_number,
        read_text,
        same_answer,
    )
    from langchain_llm_router.verification.answer_scorer import AnswerScorer
    from langchain_llm_router.verification.checks import (
        Checks,
        compiles,
        finished,
        parses_as,
        valid_tool_calls,
    )
    from langchain_llm_router.verification.command_check import Command
    from langchain_llm_router.verification.decision_verifier import DecisionVerifier
    from langchain_llm_router.verification.logprobs import AnswerLogprob, TokenProbability
    from langchain_llm_router.verification.self_evaluation import (
        SelfEvaluator,
        Verdict,
        verification_prompt,
    )
    from langchain_llm_router.verification.self_reported import SelfReported
    from langchain_llm_router.verification.verifier import (
        ByCandidate,
        Call,
        Case,
        CheckResult,
        Evaluating,
        Evaluation,
        Reply,
        Report,
        Verifier,
        evaluated,
        standard_error,
    )
    from langchain_llm_router.verification.yes_no import YesNo
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".agreement": "Agreement",
            ".answer_groups": "AnswerGroups",
            ".answer_reader": (
                "is_same_number normalized read_letter read_number read_text same_answer"
            ),
            ".answer_scorer": "AnswerScorer",
            ".checks": "Checks compiles finished parses_as valid_tool_calls",
            ".command_check": "Command",
            ".decision_verifier": "DecisionVerifier",
            ".logprobs": "AnswerLogprob TokenProbability",
            ".self_evaluation": "SelfEvaluator Verdict verification_prompt",
            ".self_reported": "SelfReported",
            ".verifier": (
                "ByCandidate Call Case CheckResult Evaluating Evaluation Reply Report Verifier "
                "evaluated standard_error"
            ),
            ".yes_no": "YesNo",
            "langchain_llm_router.types.messages": "question_of",
            "langchain_llm_router.types.decisions": "share_true",
        },
    )

__all__ = [
    "Agreement",
    "AnswerGroups",
    "AnswerLogprob",
    "AnswerScorer",
    "ByCandidate",
    "Call",
    "Case",
    "CheckResult",
    "Checks",
    "Command",
    "DecisionVerifier",
    "Evaluating",
    "Evaluation",
    "Reply",
    "Report",
    "SelfEvaluator",
    "SelfReported",
    "TokenProbability",
    "Verdict",
    "Verifier",
    "YesNo",
    "compiles",
    "evaluated",
    "finished",
    "is_same_number",
    "normalized",
    "parses_as",
    "question_of",
    "read_letter",
    "read_number",
    "read_text",
    "same_answer",
    "share_true",
    "standard_error",
    "valid_tool_calls",
    "verification_prompt",
]
