"""The cascade's graph: its nodes and the edges between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Unpack

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph

from langchain_llm_router.calls.tracing import RUN_NAME
from langchain_llm_router.router.agent_runs import AgentHandOver, AgentRules
from langchain_llm_router.router.approval import approve as approve_stage
from langchain_llm_router.router.approval import ask_person, proposal
from langchain_llm_router.router.fields import RouterArguments, RouterFields, refuse_misplaced
from langchain_llm_router.router.nodes import (
    NEVER_CACHED,
    AgentNode,
    Kind,
    StageNode,
    UserNode,
    WrappedNode,
    check_parameters,
    wraps,
)
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.router.state import CascadeMessages, CascadeState
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import refuse_unknown

__all__ = ["create_cascade", "node_names"]

_PREDICT, _DECIDE, _VERIFY, _APPROVE = "predict", "decide", "self_evaluate", "approve"
_PERSON = "person"
_RESERVED = "|:"
"""Characters that LangGraph does not allow in the name of a node."""


def create_cascade(
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    tools: Sequence[Any] = (),
    approve: bool | Callable[[dict[str, Any]], bool] = False,
    nodes: Mapping[str, Callable[..., Any]] | None = None,
    parallel: Literal[1, 2] = 1,
    hand_over: AgentHandOver = "nothing",
    prepare: Callable[[str], Any] | None = None,
    restore: Callable[[str, Any], Any] | None = None,
    **arguments: Unpack[RouterArguments],
) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
    """Build the cascade as a graph, to be compiled or added to a larger graph.

    Args:
        candidates: The candidates, ordered from cheap to strong. Each becomes a node with its name;
            characters that LangGraph reserves are replaced by `_` there, but not in records. The
            model of a `Candidate` may be an agent: a compiled graph with `messages` in its state,
            or another runnable from messages to messages. Its run is a subgraph, which `live` does
            not repeat, hedge or time: limits of single calls are those of the agent's own models.
        tools: Tools that are bound to every candidate.
        approve: Whether to interrupt before a draft is escalated (this needs a checkpointer): True
            for every escalation, or a function that returns True for those that a person must
            approve. Resume with True, or with False to keep the draft.
        nodes: Functions of your own, by the name of a node. A function `f(state)` or
            `f(state, config)` replaces the node and returns its result: for `predict` a mapping
            from candidate to quality, for `decide` a `Decision`, for a candidate an `AIMessage`,
            for `self_evaluate` a confidence in [0, 1], for `approve` True or False, for `person`
            (see `Unsure`) the answer, a text or an `AIMessage`, or None. A function with
            a parameter `node` wraps the node: it gets the graph's node as `node`, and returns the
            result of `node.invoke(state, config)`, changed or not. The decision record names every
            such node that ran.
        parallel: Number of candidates that may be asked at the same time. With 2, the node of the
            candidate that the policy will probably ask next runs beside that of the first, so that
            the user waits for the slower one only. It costs more where the second answer turns out
            not to be needed; then it is used all the same. Budgets must cover both.
        hand_over: What an agent learns of the attempt before it: "nothing"; "last", its last words
            and what the checks said; or the messages that a function returns, called with the
            conversation and that attempt (a mapping with `attempt`, `message`, `state`).
        prepare: Called with the candidate's name before each run of an agent, e.g. to make a git
            worktree or a snapshot; may be async in an async graph. What it returns is kept in the
            checkpoint.
        restore: Called with the name of a rejected agent and with what `prepare` returned for it,
            before the next candidate is asked, and before the request is refused (`Unsure`). It is
            repeated after a process that was killed in it. If it raises, the request stops with a
            `RestoreError`.
        **arguments: All other arguments of `ChatLLMRouter`: `policy`, `verifier`, `estimator`,
            `live`, `budgets`, `log`, `temperature` and so on.

    Returns:
        An uncompiled `StateGraph` whose input and output are messages.

    Raises:
        TypeError: If an argument is unknown or has the wrong type.
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """
    if arguments.get("streaming_mode") == "commit":
        msg = (
            "`streaming_mode` must be 'buffer' or 'events' in a graph, got 'commit': use a "
            "ChatLLMRouter to stream a draft before it is complete."
        )
        raise ValueError(msg)
    fields: dict[str, Any] = {**arguments, "candidates": candidates}
    if not isinstance(approve, bool) and (
        not callable(approve) or inspect.iscoroutinefunction(approve)
    ):
        msg = (
            "`approve` must be True, False or a synchronous function of the proposal, "
            f"got {approve!r}."
        )
        raise TypeError(msg)
    refuse_misplaced(fields)
    refuse_unknown(fields, RouterFields.model_fields, "create_cascade")
    rules = AgentRules(hand_over, prepare, restore)
    parts = Parts(RouterFields(**fields), rules=rules)
    if tools or parallel == 2:
        rules.check(parts.candidates, {"`tools`": len(tools) > 0, "`parallel=2`": parallel == 2})
    if not any(candidate.is_agent for candidate in parts.candidates):
        parts.rules = None
    _check_parallel(parallel, parts, nodes or {}, approves=approve is not False)
    builder = _GraphBuilder(parts, tools, nodes or {}, approve=approve, asks_two=parallel == 2)
    return builder.build()


def _check_parallel(
    parallel: int, parts: Parts, functions: Mapping[str, Any], *, approves: bool
) -> None:
    """Refuse two calls at the same time where they cannot be honoured."""
    if isinstance(parallel, bool) or parallel not in (1, 2):
        msg = f"`parallel` must be 1 or 2, got {parallel!r}."
        raise ValueError(msg)
    problem = None
    if parallel == 1:
        return
    if not parts.policy.looks_ahead:
        problem = (
            f"{type(parts.policy).__name__} does not say which candidate it will ask next before "
            "it has an answer: use a policy that pools answers, such as `AnswerPool`"
        )
    elif approves:
        problem = "a second candidate would be asked before a person approves: leave `approve` out"
    elif _DECIDE in functions:
        problem = "a function decides: leave it out of `nodes`"
    if problem is not None:
        msg = f"`parallel` must be 1, got {parallel!r}, because {problem}."
        raise ValueError(msg)


def node_names(names: Sequence[str], *, more: Sequence[str] = ()) -> dict[str, str]:
    """Return a legal node name for each candidate.

    Args:
        names: Names of the candidates.
        more: Names of other nodes of the graph than the usual ones.

    Raises:
        ValueError: If a candidate has the name of one of the graph's other nodes.
    """
    reserved = {_PREDICT, _DECIDE, _VERIFY, _APPROVE, START, END, *more}
    taken = sorted(reserved & set(names))
    if taken:
        msg = f"The graph has other nodes with the names {taken}: rename these candidates."
        raise ValueError(msg)
    nodes: dict[str, str] = {}
    for name in names:
        legal = "".join("_" if letter in _RESERVED else letter for letter in name)
        while legal in reserved or legal in nodes.values() or (legal != name and legal in names):
            legal += "_"
        nodes[name] = legal
    return nodes


def _replaces(function: Callable[..., Any] | None) -> bool:
    """Return whether a user's function takes the place of a node."""
    return callable(function) and not wraps(function)


class _CascadeGraph(StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]):
    """A graph whose runs are named like those of a router, unless it is compiled with a name."""

    def compile(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Compile the graph."""
        return super().compile(*args, name=name or RUN_NAME, **kwargs)


class _Edge(Runnable[Any, Any]):
    """A function of the state that chooses an edge; it makes no run in traces."""

    def __init__(self, function: Callable[[CascadeState], Any]) -> None:
        self._function = function
        self.name = getattr(function, "__name__", None)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the labels of the edges to take."""
        return self._function(input)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the labels of the edges to take."""
        return self._function(input)


class _GraphBuilder:
    """Builder of one graph's nodes and edges."""

    _decide: StageNode

    def __init__(
        self,
        parts: Parts,
        tools: Sequence[Any],
        functions: Mapping[str, Callable[..., Any]],
        *,
        approve: bool | Callable[[dict[str, Any]], bool],
        asks_two: bool,
    ) -> None:
        self._parts, self._tools, self._functions = parts, tools, functions
        self._approve, self._approves = approve, approve is not False
        self._asks_two = asks_two
        terms = parts.policy.exit_terms
        self._exits = terms is not None
        self._asks_person = terms is not None and terms.do == "interrupt"
        self._interrupts = self._asks_person and not _replaces(functions.get(_PERSON))
        self._node_of = node_names(parts.names, more=(_PERSON,) if self._asks_person else ())
        self._ask_label = {
            name: f"{i + 1} {'ask' if i == 0 or not parts.policy.verifies else 'escalate'}"
            for i, name in enumerate(parts.names)
        }
        self._agents = {self._node_of[c.name]: c.model for c in parts.candidates if c.is_agent}
        self._graph = _CascadeGraph(
            CascadeState, input_schema=CascadeMessages, output_schema=CascadeMessages
        )

    def build(self) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
        """Add all nodes and edges, and return the graph."""
        graph = self._graph
        self._check_functions()
        pauses = self._approves and not _replaces(self._functions.get(_APPROVE))
        self._add(_PREDICT, "predict", Request.prepare, interrupts=self._interrupts or pauses)
        graph.add_edge(START, _PREDICT)
        graph.add_edge(_PREDICT, _DECIDE)
        self._decide = self._add(_DECIDE, "decide", Request.decide)
        asking: dict[Hashable, str] = {
            self._ask_label[name]: node for name, node in self._node_of.items()
        }
        targets: dict[Hashable, str] = {**asking, "accept": END}
        for name, node in self._node_of.items():
            candidate = name if self._asks_two else None
            self._add(node, "candidate", Request.act, candidate=candidate)
            graph.add_edge(node, _DECIDE)
        if self._parts.policy.verifies:
            self._add(_VERIFY, "self_evaluate", Request.act)
            graph.add_edge(_VERIFY, _DECIDE)
            targets["verify"] = _VERIFY
        if self._asks_person:
            self._add(_PERSON, "person", ask_person)
            graph.add_edge(_PERSON, END)
            targets["abstain: ask a person"] = _PERSON
        elif self._exits:
            targets["abstain"] = END
        if self._approves:
            self._add(_APPROVE, "approve", approve_stage)
            after: dict[Hashable, str] = {**asking, "accept": END, "decide again": _DECIDE}
            graph.add_conditional_edges(_APPROVE, _Edge(self._after_approval), after)
            targets["ask a person"] = _APPROVE
        graph.add_conditional_edges(_DECIDE, _Edge(self.after_decision), targets)
        return graph

    def _add(
        self,
        name: str,
        kind: Kind,
        stage: Callable[[Request], Stage],
        *,
        candidate: str | None = None,
        interrupts: bool = False,
    ) -> StageNode:
        function = self._functions.get(name)
        make = partial(
            StageNode,
            self._parts,
            self._tools,
            stage,
            candidate=candidate,
            needs_checkpointer=interrupts,
        )
        stage_node = make()
        node: Any = stage_node
        if function is not None and wraps(function):
            node = WrappedNode(name, function, stage_node)
        elif function is not None:
            user_node = UserNode(name, kind, function)
            node = stage_node = make(user_node=user_node)
        agent = self._agents.get(name)
        if agent is not None and function is None:
            node = AgentNode(stage_node, agent)
        # An agent has effects beside its answer.
        policy = NEVER_CACHED if kind == "decide" or agent is not None else None
        self._graph.add_node(name, node, cache_policy=policy)
        return stage_node

    def _check_functions(self) -> None:
        nodes = [_PREDICT, _DECIDE, *self._node_of.values()]
        nodes += [_VERIFY] if self._parts.policy.verifies else []
        nodes += [_APPROVE] if self._approves else []
        nodes += [_PERSON] if self._asks_person else []
        for name, function in self._functions.items():
            if name not in nodes:
                msg = f"Unknown node {name!r} in `nodes`: this graph has {nodes}."
                raise ValueError(msg)
            if not callable(function):
                msg = f"`nodes[{name!r}]` must be a function of the state, got {function!r}."
                raise TypeError(msg)
            check_parameters(name, function)

    def after_decision(self, state: CascadeState) -> str | list[str]:
        """Return the labels of the edges to follow; LangGraph traces it under this name."""
        if self._asks_two:
            other = self._decided(state).loop.alongside()
            return [self._label(state), *([] if other is None else [self._ask_label[other]])]
        if not self._approves:
            return self._label(state)
        proposed = proposal(self._decided(state))
        if proposed is None or (callable(self._approve) and not self._approve(proposed)):
            return self._label(state)
        return "ask a person"

    def _decided(self, state: CascadeState) -> Request:
        """Return the request after its last decision."""
        return self._decide.request(state, None).restore(state)

    def _label(self, state: CascadeState) -> str:
        """Return the label of the edge that follows from the last decision."""
        step = state["steps"][-1]
        if step["action"] == "ask":
            return self._ask_label[step["candidate"]]
        if step.get("ending") == "interrupt":
            return "abstain: ask a person"
        return str(step["action"])

    def _after_approval(self, state: CascadeState) -> str:
        step = state["steps"][-1]
        asked = [entry["attempt"]["candidate"] for entry in state["trace"]]
        if step["action"] != "accept" and step["candidate"] in asked:
            # The approved candidate may no longer be asked.
            return "decide again"
        return self._label(state)
