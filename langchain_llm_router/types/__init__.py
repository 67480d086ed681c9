"""The types that every room shares.

`candidates`: models, endpoints and prices. `decisions`: arms, attempts, situations and decisions.
`options`: the settings of a single request. `operations`: the base class of I/O. `errors`: the
exceptions. `answers` reads how an answer ended and its visible text, `tokens` estimates the length
of a text, `arguments` checks constructor arguments, `secrets` redacts API keys, `messages` reads
the query of a conversation, `arrays` names kinds of NumPy arrays, `progress` reports how far a long
operation is, `lazy` defers an import until a name is used.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.types.candidates import (
        CHARS_PER_TOKEN,
        Candidate,
        Endpoint,
        Price,
        candidate_names,
    )
    from langchain_llm_router.types.decisions import (
        Action,
        Arm,
        Attempt,
        Decision,
        Situation,
        Stuck,
        sum_usd,
    )
    from langchain_llm_router.types.errors import (
        ArtifactError,
        BudgetExceededError,
        CalibrationError,
        CollectionError,
        DeadlineError,
        LedgerError,
        LlmRouterError,
        MissingExtraError,
        NoCandidateError,
        NotFittedError,
        PolicyError,
    )
    from langchain_llm_router.types.options import Filter, RoutingOptions
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".candidates": "CHARS_PER_TOKEN Candidate Endpoint Price candidate_names",
            ".decisions": "Action Arm Attempt Decision Situation Stuck sum_usd",
            ".errors": (
                "ArtifactError BudgetExceededError CalibrationError CollectionError "
                "DeadlineError LedgerError LlmRouterError MissingExtraError NoCandidateError "
                "NotFittedError PolicyError"
            ),
            ".options": "Filter RoutingOptions",
        },
    )

__all__ = [
    "CHARS_PER_TOKEN",
    "Action",
    "Arm",
    "ArtifactError",
    "Attempt",
    "BudgetExceededError",
    "CalibrationError",
    "Candidate",
    "CollectionError",
    "DeadlineError",
    "Decision",
    "Endpoint",
    "Filter",
    "LedgerError",
    "LlmRouterError",
    "MissingExtraError",
    "NoCandidateError",
    "NotFittedError",
    "PolicyError",
    "Price",
    "RoutingOptions",
    "Situation",
    "Stuck",
    "candidate_names",
    "sum_usd",
]
