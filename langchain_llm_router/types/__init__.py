"""The nouns that every room knows: what is routed to, what was seen, what was decided.

`candidates` and `decisions` are the basic types, `options` what one request may change,
`operations` what a request wants done, `errors` what can go wrong. `arguments` checks what a
constructor is given, `secrets` removes keys from what is recorded, `lazy` imports a name when it
is first asked for. `arrays` names kinds of numpy arrays, `progress` tells how far work has come.
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
        sum_usd,
    )
    from langchain_llm_router.types.errors import (
        ArtifactError,
        BudgetExceededError,
        CalibrationError,
        CollectionError,
        DeadlineError,
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
            ".decisions": "Action Arm Attempt Decision Situation sum_usd",
            ".errors": (
                "ArtifactError BudgetExceededError CalibrationError CollectionError "
                "DeadlineError LlmRouterError MissingExtraError NoCandidateError "
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
    "LlmRouterError",
    "MissingExtraError",
    "NoCandidateError",
    "NotFittedError",
    "PolicyError",
    "Price",
    "RoutingOptions",
    "Situation",
    "candidate_names",
    "sum_usd",
]
