"""Builds the graph: its nodes, and the edges between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Unpack

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph

from langchain_llm_router.router.approval import approve as approve_stage
from langchain_llm_router.router.approval import proposal
from langchain_llm_router.router.nodes import (
    Kind,
    StageNode,
    UserNode,
    WrappedNode,
    check_parameters,
    wraps,
)
from langchain_llm_router.router.parts import (
    Parts,
    RouterArguments,
    RouterFields,
    refuse_misplaced,
)
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.router.state import CascadeMessages, CascadeState
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import refuse_unknown

__all__ = ["create_cascade", "node_names"]

_PREDICT, _DECIDE, _VERIFY, _APPROVE = "predict", "decide", "self_evaluate", "approve"
_RESERVED = "|:"
"""Characters that LangGraph allows in no node's name."""


def create_cascade(
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    tools: Sequence[Any] = (),
    approve: bool | Callable[[dict[str, Any]], bool] = False,
    nodes: Mapping[str, Callable[..., Any]] | None = None,
    **arguments: Unpack[RouterArguments],
) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
    """Build the cascade; compile it with your own checkpointer, or add it to a larger graph.

    Args:
        candidates: From cheap to strong; each becomes a node with its name (characters that
            LangGraph reserves are replaced by `_`; records keep the candidate's own name).
        tools: Bound to every candidate that is asked.
        approve: Interrupt before a draft is escalated (needs a checkpointer): for all, or where a
            function of the proposal says so. Resume with True, or with False to keep the draft.
        nodes: Functions of your own by the name of a node. `f(state)` or `f(state, config)`
            replaces it and returns its result: for `predict` a quality by candidate, for `decide` a
            `Decision`, for a candidate an `AIMessage`, for `self_evaluate` a confidence in [0, 1],
            for `approve` True or False. A function with a parameter `node` wraps it: it gets the
            graph's own node there and returns what `node.invoke(state, config)` returned, changed
            or not. The decision record names every such node that ran.
        **arguments: All that `ChatLLMRouter` takes: `policy`, `verifier`, `estimator`, `live`,
            `budgets`, `log`, `temperature` and the others.

    Returns:
        An uncompiled `StateGraph`, messages in and messages out.

    Raises:
        TypeError: If an argument is unknown or of the wrong kind.
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """
    if arguments.get("streaming_mode") == "commit":
        msg = (
            "`streaming_mode='commit'` needs a ChatLLMRouter: a node's draft is shown whole or "
            "not at all."
        )
        raise ValueError(msg)
    # Every node is a run of its own already.
    given: dict[str, Any] = {"trace_decision": False, **arguments, "candidates": candidates}
    if not isinstance(approve, bool) and (
        not callable(approve) or inspect.iscoroutinefunction(approve)
    ):
        msg = f"`approve` must be True, False or a plain function of the proposal, got {approve!r}."
        raise TypeError(msg)
    refuse_misplaced(given)
    refuse_unknown(given, RouterFields.model_fields, "create_cascade")
    parts = Parts(RouterFields(**given))
    return _Builder(parts, tools, nodes or {}).build(approving=approve)


def node_names(names: Sequence[str]) -> dict[str, str]:
    """A legal node name for each candidate.

    Raises:
        ValueError: If a candidate has the name of one of the graph's own nodes.
    """
    own = {_PREDICT, _DECIDE, _VERIFY, _APPROVE, START, END}
    taken = sorted(own & set(names))
    if taken:
        msg = f"Candidates cannot be named {taken}: the graph has nodes of those names."
        raise ValueError(msg)
    found: dict[str, str] = {}
    for name in names:
        legal = "".join("_" if letter in _RESERVED else letter for letter in name)
        while legal in own or legal in found.values() or (legal != name and legal in names):
            legal += "_"
        found[name] = legal
    return found


class _Builder:
    """Puts the nodes and edges of one graph together."""

    def __init__(
        self, parts: Parts, tools: Sequence[Any], functions: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._parts, self._tools, self._functions = parts, tools, functions
        self._node_of = node_names(parts.names)
        self._ask_label = {
            name: f"{i + 1} {'ask' if i == 0 or not parts.policy.verifies else 'escalate'}"
            for i, name in enumerate(parts.names)
        }
        self._graph = StateGraph(
            CascadeState, input_schema=CascadeMessages, output_schema=CascadeMessages
        )

    def build(
        self, *, approving: bool | Callable[[dict[str, Any]], bool]
    ) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
        """The whole graph."""
        graph = self._graph
        self._check_functions(approves=approving is not False)
        self._add(_PREDICT, "predict", Request.prepare)
        graph.add_edge(START, _PREDICT)
        graph.add_edge(_PREDICT, _DECIDE)
        decide = self._add(_DECIDE, "decide", Request.decide)
        asking: dict[Hashable, str] = {
            self._ask_label[name]: node for name, node in self._node_of.items()
        }
        targets: dict[Hashable, str] = {**asking, "accept": END}
        for node in self._node_of.values():
            self._add(node, "candidate", Request.act)
            graph.add_edge(node, _DECIDE)
        if self._parts.policy.verifies:
            self._add(_VERIFY, "self_evaluate", Request.act)
            graph.add_edge(_VERIFY, _DECIDE)
            targets["verify"] = _VERIFY

        def after_decision(state: CascadeState) -> str:
            if approving is False:
                return self._label(state)
            proposed = proposal(decide.request(state, None).restore(state))
            if proposed is None or (callable(approving) and not approving(proposed)):
                return self._label(state)
            return "ask a person"

        if approving is not False:
            self._add(_APPROVE, "approve", approve_stage)
            after: dict[Hashable, str] = {**asking, "accept": END, "decide again": _DECIDE}
            graph.add_conditional_edges(_APPROVE, self._after_approval, after)
            targets["ask a person"] = _APPROVE
        graph.add_conditional_edges(_DECIDE, after_decision, targets)
        return graph

    def _add(self, name: str, kind: Kind, stage: Callable[[Request], Stage]) -> StageNode:
        function = self._functions.get(name)
        own = StageNode(self._parts, self._tools, stage)
        node: Any = own
        if function is not None and wraps(function):
            node = WrappedNode(name, function, own)
        elif function is not None:
            user_node = UserNode(name, kind, function)
            node = own = StageNode(self._parts, self._tools, stage, user_node)
        self._graph.add_node(name, node)
        return own

    def _check_functions(self, *, approves: bool) -> None:
        known = [_PREDICT, _DECIDE, *self._node_of.values()]
        known += [_VERIFY] if self._parts.policy.verifies else []
        known += [_APPROVE] if approves else []
        for name, function in self._functions.items():
            if name not in known:
                msg = f"Unknown node {name!r} in `nodes`: this graph has {known}."
                raise ValueError(msg)
            if not callable(function):
                msg = f"`nodes[{name!r}]` must be a function of the state, got {function!r}."
                raise TypeError(msg)
            check_parameters(name, function)

    def _label(self, state: CascadeState) -> str:
        """The label of the edge that the last decision takes."""
        step = state["steps"][-1]
        if step["action"] == "ask":
            return self._ask_label[step["candidate"]]
        return str(step["action"])

    def _after_approval(self, state: CascadeState) -> str:
        step = state["steps"][-1]
        asked = [entry["attempt"]["candidate"] for entry in state["trace"]]
        if step["action"] != "accept" and step["candidate"] in asked:
            # What was approved is no longer allowed.
            return "decide again"
        return self._label(state)
