"""Choose the right language model for every query, and prove what that saved.

    query ──► estimators ──► policies ──► chat / cascade ──► answer + decision record

A router is a guess and a choice: an estimator (`langchain_llm_router.estimators`) guesses how good
each candidate's answer would be, a policy (`.policies`) chooses whom to ask. `ChatLLMRouter` is
both as one LangChain chat model, `create_cascade` as a LangGraph state machine. Training tables
are in `.data`, judging in `.evaluation`. Importing this does nothing else.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
    from langchain_llm_router.router import (
        CascadeState,
        ChatLLMRouter,
        create_cascade,
        route_of,
        routing_edge,
    )
    from langchain_llm_router.types import (
        Attempt,
        Candidate,
        Decision,
        LlmRouterError,
        Price,
        RoutingOptions,
    )
    from langchain_llm_router.types.version import __version__
    from langchain_llm_router.verification import Agreement, SelfEvaluator
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".data": "Battles Outcomes SelfEvaluations",
            ".router": "CascadeState ChatLLMRouter create_cascade route_of routing_edge",
            ".types": "Attempt Candidate Decision LlmRouterError Price RoutingOptions",
            ".verification": "Agreement SelfEvaluator",
            ".types.version": "__version__",
        },
    )

__all__ = [
    "Agreement",
    "Attempt",
    "Battles",
    "Candidate",
    "CascadeState",
    "ChatLLMRouter",
    "Decision",
    "LlmRouterError",
    "Outcomes",
    "Price",
    "RoutingOptions",
    "SelfEvaluations",
    "SelfEvaluator",
    "__version__",
    "create_cascade",
    "route_of",
    "routing_edge",
]
