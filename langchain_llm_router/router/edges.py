"""A policy's decision as the function of a conditional edge, for a graph of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.fields import DecisionArguments, RouterFields
from langchain_llm_router.router.first_step import first_decision
from langchain_llm_router.router.graph import node_names
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import refuse_unknown

__all__ = ["routing_edge"]


def routing_edge(
    policy: Policy,
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    messages_key: str = "messages",
    **arguments: Unpack[DecisionArguments],
) -> Callable[[Any, RunnableConfig], str]:
    """Make a policy the function of a conditional edge, in a graph of your own.

    Use it as in `graph.add_conditional_edges(START, routing_edge(policy, candidates))`.

    The function returns the node of the candidate to ask, and asks none itself. Your nodes must
    have the candidates' names (see `create_cascade` for characters that LangGraph reserves), or you
    pass a mapping to `add_conditional_edges`. The request's options are read from
    `config["configurable"]["llm_router"]`.

    Args:
        policy: The policy that decides.
        candidates: The candidates, ordered from cheap to strong; they need no model here.
        messages_key: The state's key for the conversation; a state that is a list of messages is
            the conversation itself.
        **arguments: The other parts of a decision: `estimator`, `lengths`, `live`, `sticky`,
            `stuck`, `sensitive`, `turns`.

    Raises:
        TypeError: If an argument is unknown or has the wrong type.
        ValueError: If candidates, policy and estimator do not fit together.

    Example:
        >>> from langgraph.graph import START, MessagesState, StateGraph
        >>> from langchain_llm_router.policies import Always
        >>> edge = routing_edge(Always("large"), [Candidate("small"), Candidate("large")])
        >>> graph = StateGraph(MessagesState)
        >>> for name in ("small", "large"):
        ...     _ = graph.add_node(name, lambda state, name=name: {"messages": [("ai", name)]})
        >>> _ = graph.add_conditional_edges(START, edge)
        >>> graph.compile().invoke({"messages": [("human", "hi")]})["messages"][-1].content
        'large'
    """
    refuse_unknown(arguments, DecisionArguments.__annotations__, "routing_edge")
    fields: dict[str, Any] = {**arguments, "candidates": candidates, "policy": policy}
    parts = Parts(RouterFields(**fields), asks=False)
    nodes = node_names(parts.names)

    def edge(state: Any, config: RunnableConfig) -> str:
        messages = state
        if isinstance(state, Mapping):
            messages = state[messages_key]
        elif not isinstance(state, Sequence):
            messages = getattr(state, messages_key)
        conversation: list[BaseMessage] = convert_to_messages(messages)
        return nodes[first_decision(Request(parts, conversation, config, {})).candidate]

    # LangGraph draws the edges that are in the annotation of the function's return value.
    edge.__annotations__ = {"config": RunnableConfig, "return": Literal[*nodes.values()]}
    edge.__name__ = type(policy).__name__
    return edge
