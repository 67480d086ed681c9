"""One request and what drives it: a chat model, a LangGraph state machine, or agent middleware.

`request` is one request in three stages (prepare, decide, act), `drivers` has the only loops that
perform its operations, `parts` the only list of a router's arguments. `chat` is the router as a
chat model (`runs` is its LangChain side), `middleware` routes inside agents, `decision_model`
inside LangChain's own router middleware. `default_pool` has the policy of a router that was given
none, `agent_runs` runs agents as candidates. `sensitivity` holds sensitive requests back from
candidates and services that must not see them. `saved_router` keeps a router in a folder, `shadow`
makes the decisions of a second router, `judged_samples` has a share of the answers judged.

`graph` builds the cascade as an explicit state machine out of `nodes` and `edges`:

    predict ──► decide ──► one node per candidate ──► decide
                  │  ▲
                  ▼  │
              self_evaluate          decide ──► END

`decide`'s outgoing edge *is* the policy: it leads to a candidate, to `self_evaluate`, or to END. A
one-shot policy has the same graph and accepts the first answer. With `approve`, a person is asked
before a draft is escalated to a more expensive candidate. The state holds plain dicts and messages,
so that every checkpointer can keep it; rejected drafts stay in `trace`, which message streams do
not read. Decisions, drafts and verdicts are sent to `stream_mode="custom"` as they happen.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.router.chat import ChatLLMRouter, route_of
    from langchain_llm_router.router.decision_model import RouterDecisionModel
    from langchain_llm_router.router.edges import routing_edge
    from langchain_llm_router.router.graph import create_cascade
    from langchain_llm_router.router.middleware import LLMRouterMiddleware
    from langchain_llm_router.router.saved_router import SavedRouter
    from langchain_llm_router.router.shadow import Shadow
    from langchain_llm_router.router.state import CascadeState
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".chat": "ChatLLMRouter route_of",
            ".decision_model": "RouterDecisionModel",
            ".edges": "routing_edge",
            ".graph": "create_cascade",
            ".middleware": "LLMRouterMiddleware",
            ".saved_router": "SavedRouter",
            ".shadow": "Shadow",
            ".state": "CascadeState",
        },
    )

__all__ = [
    "CascadeState",
    "ChatLLMRouter",
    "LLMRouterMiddleware",
    "RouterDecisionModel",
    "SavedRouter",
    "Shadow",
    "create_cascade",
    "route_of",
    "routing_edge",
]
