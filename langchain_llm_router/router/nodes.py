"""The nodes of the cascade's graph: each drives one stage of the turn's request."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.func import task

from langchain_llm_router.budgets.ledgers import process_id
from langchain_llm_router.budgets.spending import EarlierRuns
from langchain_llm_router.calls.langchain_internals import graph_runtime
from langchain_llm_router.router.drivers import adrive, drive
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request, Stage, new_id
from langchain_llm_router.types import Attempt, Decision
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import Evaluation, evaluated

__all__ = [
    "Kind",
    "StageNode",
    "UserNode",
    "WrappedNode",
    "check_parameters",
    "wraps",
]

Kind = Literal["predict", "decide", "candidate", "self_evaluate", "approve"]
"""What a node is for, and so what a node in its place must return."""


class StageNode(Runnable[Any, dict[str, Any]]):
    """One stage of the turn's request; LangGraph traces it, so it needs no run of its own.

    Args:
        parts: The router's parts.
        tools: Bound to every candidate.
        stage: Which.
        user_node: What the stage calls in place of its own operation.
    """

    def __init__(
        self,
        parts: Parts,
        tools: Sequence[Any],
        stage: Callable[[Request], Stage],
        user_node: UserNode | None = None,
    ) -> None:
        self._parts, self._stage, self._user_node = parts, stage, user_node
        self._kwargs = {"tools": tuple(tools)} if tools else {}

    @property
    def begins(self) -> bool:
        """Whether a turn begins with this node."""
        return self._stage is Request.prepare

    def request(self, state: Mapping[str, Any], config: RunnableConfig | None) -> Request:
        """A request over the state's messages, not restored yet."""
        request = Request(
            self._parts,
            state["messages"],
            {} if config is None else config,
            dict(self._kwargs),
            in_nodes=True,
        )
        if self.begins and "version" not in (state.get("request") or {"version": None}):
            request.nodes = dict(state["request"]["nodes"])
        runtime = graph_runtime(request.config)
        request.tells = runtime is not None
        budgets = self._parts.fields.budgets
        if budgets is not None:
            info = getattr(runtime, "execution_info", None)
            n_retries = 0 if info is None else info.node_attempt - 1
            request.begin = _Begin(budgets.ledger.identity, n_retries)
        if self._user_node is not None:
            request.custom = self._user_node.in_state(state)
            request.nodes = {self._user_node.node: self._user_node.label}
        return request

    def _run(self, state: Mapping[str, Any], config: RunnableConfig | None) -> Any:
        earlier = None if self.begins else state
        return self.request(state, config).run_stage(self._stage, earlier)

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage."""
        return drive(self._run(input, config))

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage."""
        return await adrive(self._run(input, config))


@dataclass(frozen=True)
class _Begin(Operation):
    """Leave a mark that a step begins, and return how often earlier runs of it had begun.

    The mark is a LangGraph task: its result is in the checkpoint as soon as it exists, and a node
    that runs again gets the earlier one back.

    Args:
        books: The ledger's identity.
        n_retries: How often a retry policy has already run the node again in this process.
    """

    books: str
    n_retries: int

    def perform(self) -> EarlierRuns:
        """Leave the mark."""
        mark = self._mark()
        return self._earlier_runs(mark, _marked(mark).result())

    async def aperform(self) -> EarlierRuns:
        """Leave the mark."""
        mark = self._mark()
        return self._earlier_runs(mark, await _marked(mark))

    def _mark(self) -> dict[str, str]:
        return {"id": new_id(), "process": process_id(), "books": self.books}

    def _earlier_runs(self, mark: dict[str, str], found: dict[str, str]) -> EarlierRuns:
        # Retries of this process are counted; the mark may be that of the first of them.
        ours = found["process"] == mark["process"] and self.n_retries > 0
        lost = 0 if found == mark or ours else 1
        # Where the ledger is the same, that run has settled in it, or its money is still reserved.
        uncharged = lost if found["books"] != mark["books"] else 0
        return EarlierRuns(n_unfinished=self.n_retries + lost, n_uncharged=uncharged)


@task
def _marked(mark: dict[str, str]) -> dict[str, str]:
    return mark


class _FunctionNode(Runnable[Any, Any]):
    """Calls a user's function, sync or async, and reads its result."""

    def __init__(self, node: str, function: Callable[..., Any]) -> None:
        self.node, self._function = node, function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.label = f"{getattr(function, '__module__', '')}.{name}"

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the function."""
        result = self._call(input, self._wanted(config))
        if inspect.iscoroutine(result):
            result.close()
            msg = f"The node {self.node!r} is async: run the graph with `ainvoke` or `astream`."
            raise TypeError(msg)
        return self._read(result)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the function."""
        result = self._call(input, self._wanted(config))
        return self._read(await result if inspect.isawaitable(result) else result)

    def _wanted(self, config: RunnableConfig | None) -> dict[str, Any]:
        return {"config": config} if "config" in _parameters(self._function) else {}

    def _call(self, input: Any, given: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _read(self, result: Any) -> Any:
        raise NotImplementedError


class UserNode(_FunctionNode):
    """A user's function in place of a node: what it returns is the stage's result.

    Args:
        node: Its name.
        kind: What it is for.
        function: Gets the state, and the config if it has a parameter `config`.
        state: The state it is called with, whatever a stage passes.
    """

    def __init__(
        self, node: str, kind: Kind, function: Callable[..., Any], state: Any = None
    ) -> None:
        super().__init__(node, function)
        self._kind, self._state = kind, state

    def in_state(self, state: Mapping[str, Any]) -> UserNode:
        """The same node, to be called with this state."""
        return UserNode(self.node, self._kind, self._function, state)

    def _call(self, input: Any, given: dict[str, Any]) -> Any:
        return self._function(self._state, **given)

    def _read(self, result: Any) -> Any:
        found = _READ[self._kind](result)
        if found is None:
            msg = f"The node {self.node!r} must return {_WANTED[self._kind]}, got {result!r}."
            raise TypeError(msg)
        return found[0]


class WrappedNode(_FunctionNode):
    """A user's function that wraps one of the graph's own nodes and calls it itself.

    Args:
        node: Its name.
        function: Gets the state, `node`, and the config if it has a parameter `config`; returns
            what `node.invoke(state, config)` returned, changed or not.
        own: The graph's own node.
    """

    def __init__(self, node: str, function: Callable[..., Any], own: StageNode) -> None:
        super().__init__(node, function)
        self._own = own

    def _call(self, input: Any, given: dict[str, Any]) -> Any:
        # An earlier turn's request does not belong to this one.
        rest = {} if self._own.begins else input.get("request") or {}
        nodes = {**rest.get("nodes", {}), self.node: self.label}
        state = {**input, "request": {**rest, "nodes": nodes}}
        return self._function(state, node=self._own, **given)

    def _read(self, result: Any) -> Any:
        if isinstance(result, Mapping):
            return dict(result)
        msg = (
            f"The function around the node {self.node!r} must return what "
            f"`node.invoke(state, config)` gave, changed or not, got {result!r}."
        )
        raise TypeError(msg)


def wraps(function: Callable[..., Any]) -> bool:
    """Whether a function wraps a node: it has a parameter `node`."""
    return "node" in _parameters(function)


def check_parameters(node: str, function: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called as a node.

    Raises:
        TypeError: If it takes no state, or wants more than the state, `config` and `node`.
    """
    given = {name: None for name in ("config", "node") if name in _parameters(function)}
    try:
        inspect.signature(function).bind(None, **given)
    except TypeError as error:
        msg = f"`nodes[{node!r}]` must take (state), and may take `config` and `node`: {error}."
        raise TypeError(msg) from error


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


# What the result of each kind of node is read as, in a tuple; None: it cannot be read.


def _qualities(result: Any) -> tuple[Any] | None:
    return (result,) if result is None or isinstance(result, Mapping) else None


def _decision(result: Any) -> tuple[Any] | None:
    if isinstance(result, Decision):
        return (result,)
    if isinstance(result, Mapping) and {"action", "candidate"} <= result.keys():
        return (Decision(**{"policy": "user", "reason": "a node of the user's", **result}),)
    return None


def _answer(result: Any) -> tuple[Any] | None:
    if isinstance(result, Mapping) and result.get("messages"):
        result = result["messages"][-1]
    return (result,) if isinstance(result, AIMessage) else None


def _verdict(result: Any) -> tuple[Any] | None:
    if result is None or isinstance(result, int | float):
        result = Evaluation(None if result is None else float(result))
    if isinstance(result, Evaluation):
        return (evaluated(Attempt(), result),)
    if isinstance(result, Mapping) and "confidence" in result:
        return ({**result, **evaluated(Attempt(), Evaluation(result["confidence"]))},)
    return None


def _reply(result: Any) -> tuple[Any] | None:
    return (result,) if isinstance(result, bool | Mapping) else None


_READ: dict[Kind, Callable[[Any], tuple[Any] | None]] = {
    "predict": _qualities,
    "decide": _decision,
    "candidate": _answer,
    "self_evaluate": _verdict,
    "approve": _reply,
}

_WANTED: dict[Kind, str] = {
    "predict": "a quality in [0, 1] by candidate, or None",
    "decide": "a `Decision`, or a mapping with `action` and `candidate`",
    "candidate": "an `AIMessage`, or a mapping with `messages`",
    "self_evaluate": "a confidence in [0, 1], None, an `Evaluation`, or a mapping with that key",
    "approve": "True or False",
}
