"""The nodes of the cascade's graph, each of which drives one stage of the turn's request."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config, set_config_context
from langgraph.func import task
from langgraph.types import CachePolicy

from langchain_llm_router.budgets.ledgers import process_id
from langchain_llm_router.budgets.spending import EarlierRuns
from langchain_llm_router.calls.langchain_internals import RUNTIME_KEY, has_checkpointer
from langchain_llm_router.router.drivers import adrive, drive
from langchain_llm_router.router.parallel_drafts import stage_beside
from langchain_llm_router.router.parts import Parts
from langchain_llm_router.router.request import Request, Stage
from langchain_llm_router.types import Attempt, Decision
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import Evaluation, evaluated

__all__ = [
    "NEVER_CACHED",
    "AgentNode",
    "Kind",
    "StageNode",
    "UserNode",
    "WrappedNode",
    "check_parameters",
    "merge_entries",
    "wraps",
]

Kind = Literal["predict", "decide", "candidate", "self_evaluate", "approve", "person"]
"""The purpose of a node, which determines what a function in its place must return."""

NEVER_CACHED: CachePolicy[Any] = CachePolicy(key_func=lambda *_: uuid4().hex, ttl=1)
"""For the node that makes the decision id; the others may be cached, also by
`set_node_defaults(cache_policy=...)`."""


class StageNode(Runnable[Any, dict[str, Any]]):
    """A node for one stage of the turn's request; LangGraph traces it, so it makes no run itself.

    Args:
        parts: The router's parts.
        tools: Tools that are bound to every candidate.
        stage: The stage to run.
        user_node: A user-defined node that is called in place of the stage's own operation.
        candidate: The candidate that this node asks, where two may be asked at the same time.
        needs_checkpointer: Whether the graph may be interrupted, which this node refuses without
            a checkpointer, before anything is spent.
    """

    def __init__(
        self,
        parts: Parts,
        tools: Sequence[Any],
        stage: Callable[[Request], Stage],
        user_node: UserNode | None = None,
        candidate: str | None = None,
        *,
        needs_checkpointer: bool = False,
    ) -> None:
        self.needs_checkpointer = needs_checkpointer
        self._parts, self._stage, self._user_node = parts, stage, user_node
        self._candidate = candidate
        self._kwargs = {"tools": tuple(tools)} if tools else {}

    @property
    def starts_turn(self) -> bool:
        """Whether a turn starts with this node."""
        return self._stage is Request.prepare

    def request(self, state: Mapping[str, Any], config: RunnableConfig | None) -> Request:
        """Make a request from the state's messages, not restored yet."""
        request = Request(
            self._parts,
            state["messages"],
            ensure_config() if config is None else config,
            dict(self._kwargs),
            in_nodes=True,
        )
        given = state.get("request")
        if self.starts_turn and given and "version" not in given:
            # From a `WrappedNode` around this node; what has a version is of an earlier turn.
            request.nodes = dict(given["nodes"])
        if self.needs_checkpointer and not has_checkpointer(request.config):
            msg = (
                "The graph asks a person (`approve`, or a policy with `do='interrupt'`), which "
                "needs a checkpointer: compile the graph with one, or give it a function in "
                "`nodes` for 'approve' or 'person'."
            )
            raise ValueError(msg)
        runtime = (request.config.get("configurable") or {}).get(RUNTIME_KEY)
        request.emits_events = runtime is not None
        budgets = self._parts.fields.budgets
        if budgets is not None:
            info = getattr(runtime, "execution_info", None)
            n_retries = 0 if info is None else info.node_attempt - 1
            request.mark_step = _MarkOperation(budgets.ledger.identity, n_retries)
        if self._user_node is not None:
            request.user_node = self._user_node.in_state(state)
            request.nodes = {self._user_node.node: self._user_node.label}
        return request

    def _run(self, state: Mapping[str, Any], config: RunnableConfig | None) -> Any:
        earlier, stage = None if self.starts_turn else state, self._stage
        if self._candidate is not None:
            stage = stage_beside(self._candidate, state["steps"][-1]["candidate"])
        return self.request(state, config).run_stage(stage, earlier)

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage."""
        return self._only_new(drive(self._run(input, config)), input)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage."""
        return self._only_new(await adrive(self._run(input, config)), input)

    def _only_new(self, update: dict[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        """Return an update with only those attempts and steps that are new or changed."""
        for key in ("trace", "steps") if not self.starts_turn else ():
            if key not in update:
                continue
            now, before = update[key], state.get(key) or ()
            same = _n_same(before, now)
            if same == len(now) == len(before):
                del update[key]
            elif same < len(now):
                update[key] = [{**now[i], "n": i} for i in range(same, len(now))]
        return update


def _n_same(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> int:
    """Return how many entries at the beginning are the same in both lists."""
    for i, (old, new) in enumerate(zip(before, now, strict=False)):
        # An answer does not change; comparing two messages takes long.
        if old is not new and ("attempt" not in new or old["attempt"] != new["attempt"]):
            return i
    return min(len(before), len(now))


def merge_entries(
    before: Sequence[Mapping[str, Any]], update: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """Return the attempts or steps of a turn after an update, for the graph's state.

    Each entry has its place in the turn as `n`. An update replaces the list from the place of its
    first entry on, so a whole list, or one whose entries have no place, replaces all of it.
    """
    kept = update[0].get("n", 0) if update else 0
    return [*before[:kept], *update]


class AgentNode(RunnableLambda[Any, dict[str, Any]]):
    """A stage node that runs an agent, in which LangGraph finds it as a subgraph."""

    def __init__(self, stage_node: StageNode, agent: Any) -> None:
        super().__init__(stage_node.invoke, stage_node.ainvoke)
        self._stage_node, self._agent = stage_node, agent

    @property
    def deps(self) -> list[Runnable[Any, Any]]:
        """The agent."""
        return [self._agent]

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage, without a run of its own."""
        return self._stage_node.invoke(input, config)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the stage, without a run of its own."""
        return await self._stage_node.ainvoke(input, config)


@dataclass(frozen=True)
class _MarkOperation(Operation):
    """The operation that marks the beginning of a step and counts its earlier runs.

    The mark is the result of a LangGraph task: it is in the checkpoint as soon as it exists, and a
    node that runs again gets the earlier mark back.

    Args:
        books: The ledger's identity.
        n_retries: Number of retries of the node in this process, under its retry policy.
    """

    books: str
    n_retries: int

    def perform(self) -> EarlierRuns:
        """Write the mark, and count the earlier runs."""
        mark = self._mark()
        return self._count_earlier_runs(mark, _marked(mark).result())

    async def aperform(self) -> EarlierRuns:
        """Write the mark, and count the earlier runs."""
        mark = self._mark()
        return self._count_earlier_runs(mark, await _marked(mark))

    def _mark(self) -> dict[str, str]:
        return {"id": uuid4().hex, "process": process_id(), "books": self.books}

    def _count_earlier_runs(self, mark: dict[str, str], stored: dict[str, str]) -> EarlierRuns:
        # `n_retries` counts the retries in this process; the mark may be that of the first run.
        is_retry = stored["process"] == mark["process"] and self.n_retries > 0
        lost = 0 if stored == mark or is_retry else 1
        # In the same ledger, an interrupted run has been settled or its money is still reserved.
        uncharged = lost if stored["books"] != mark["books"] else 0
        return EarlierRuns(n_unfinished=self.n_retries + lost, n_uncharged=uncharged)


@task
def _marked(mark: dict[str, str]) -> dict[str, str]:
    return mark


class _FunctionNode(Runnable[Any, Any]):
    """A node that calls a user's function, sync or async, and reads its result."""

    def __init__(self, node: str, function: Callable[..., Any]) -> None:
        self.node, self._function = node, function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.label = f"{getattr(function, '__module__', '')}.{name}"

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the function."""
        with set_config_context(ensure_config(config)) as context:
            result = context.run(self._call, input, self._config_kwargs(config))
        if inspect.iscoroutine(result):
            result.close()
            msg = (
                f"The function of the node {self.node!r} is async: run the graph with `ainvoke` "
                "or `astream`."
            )
            raise TypeError(msg)
        return self._read(result)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the function."""
        # A model that the function calls without a config gets this one, with its quiet callbacks.
        with set_config_context(ensure_config(config)) as context:
            result = context.run(self._call, input, self._config_kwargs(config))
            if inspect.iscoroutine(result):
                result = asyncio.create_task(result, context=context)
            return self._read(await result if inspect.isawaitable(result) else result)

    def _config_kwargs(self, config: RunnableConfig | None) -> dict[str, Any]:
        return {"config": config} if "config" in _parameters(self._function) else {}

    def _call(self, input: Any, kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _read(self, result: Any) -> Any:
        raise NotImplementedError


class UserNode(_FunctionNode):
    """A user's function in place of a node; its result becomes the stage's result.

    Args:
        node: The name of the node.
        kind: The purpose of the node.
        function: A function of the state, and of the config if it has a parameter `config`.
        state: The state to call the function with; the input that a stage passes is ignored.
    """

    def __init__(
        self, node: str, kind: Kind, function: Callable[..., Any], state: Any = None
    ) -> None:
        super().__init__(node, function)
        self._kind, self._state = kind, state

    def in_state(self, state: Mapping[str, Any]) -> UserNode:
        """Return the same node, to be called with this state."""
        return UserNode(self.node, self._kind, self._function, state)

    def _call(self, input: Any, kwargs: dict[str, Any]) -> Any:
        return self._function(self._state, **kwargs)

    def _read(self, result: Any) -> Any:
        reading = _READERS[self._kind](result)
        if reading is None:
            msg = (
                f"The function of the node {self.node!r} must return {_EXPECTED[self._kind]}, "
                f"got {result!r}."
            )
            raise TypeError(msg)
        return reading[0]


class WrappedNode(_FunctionNode):
    """A user's function that wraps one of the graph's nodes and calls that node itself.

    Args:
        node: The name of the node.
        function: A function of the state, of `node`, and of the config if it has a parameter
            `config`. It returns the result of `node.invoke(state, config)`, changed or not.
        stage_node: The wrapped node.
    """

    def __init__(self, node: str, function: Callable[..., Any], stage_node: StageNode) -> None:
        super().__init__(node, function)
        self._stage_node = stage_node

    def _call(self, input: Any, kwargs: dict[str, Any]) -> Any:
        # Where a turn starts, the request in the state is that of an earlier turn.
        rest = {} if self._stage_node.starts_turn else input.get("request") or {}
        nodes = {**rest.get("nodes", {}), self.node: self.label}
        state = {**input, "request": {**rest, "nodes": nodes}}
        return self._function(state, node=self._stage_node, **kwargs)

    def _read(self, result: Any) -> Any:
        if isinstance(result, Mapping):
            return dict(result)
        msg = (
            f"The function around the node {self.node!r} must return the result of "
            f"`node.invoke(state, config)`, changed or not, got {result!r}."
        )
        raise TypeError(msg)


def wraps(function: Callable[..., Any]) -> bool:
    """Return whether a function wraps a node, which means that it has a parameter `node`."""
    return "node" in _parameters(function)


def check_parameters(node: str, function: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called as a node.

    Raises:
        TypeError: If it does not take the state, or requires more than it, `config` and `node`.
    """
    kwargs = {name: None for name in ("config", "node") if name in _parameters(function)}
    try:
        inspect.signature(function).bind(None, **kwargs)
    except TypeError as error:
        msg = (
            f"`nodes[{node!r}]` must take the state, and may take `config` and `node`, "
            f"got a function with another signature: {error}."
        )
        raise TypeError(msg) from error


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


# Each reader returns the result of one kind of node in a tuple, or None if it cannot be read.


def _read_qualities(result: Any) -> tuple[Any] | None:
    return (result,) if result is None or isinstance(result, Mapping) else None


def _read_decision(result: Any) -> tuple[Any] | None:
    if isinstance(result, Decision):
        return (result,)
    if isinstance(result, Mapping) and {"action", "candidate"} <= result.keys():
        return (Decision(**{"policy": "user", "reason": "a node of the user's", **result}),)
    return None


def _read_answer(result: Any) -> tuple[Any] | None:
    if isinstance(result, Mapping) and result.get("messages"):
        result = result["messages"][-1]
    return (result,) if isinstance(result, AIMessage) else None


def _read_verdict(result: Any) -> tuple[Any] | None:
    if result is None or isinstance(result, int | float):
        result = Evaluation(None if result is None else float(result))
    if isinstance(result, Evaluation):
        return (evaluated(Attempt(), result),)
    if isinstance(result, Mapping) and "confidence" in result:
        return ({**result, **evaluated(Attempt(), Evaluation(result["confidence"]))},)
    return None


def _read_approval(result: Any) -> tuple[Any] | None:
    return (result,) if isinstance(result, bool | Mapping) else None


def _read_reply(result: Any) -> tuple[Any] | None:
    return (result,) if result is None or isinstance(result, str | AIMessage) else None


_READERS: dict[Kind, Callable[[Any], tuple[Any] | None]] = {
    "predict": _read_qualities,
    "decide": _read_decision,
    "candidate": _read_answer,
    "self_evaluate": _read_verdict,
    "approve": _read_approval,
    "person": _read_reply,
}

_EXPECTED: dict[Kind, str] = {
    "predict": "a mapping from candidate to quality in [0, 1], or None",
    "decide": "a `Decision`, or a mapping with `action` and `candidate`",
    "candidate": "an `AIMessage`, or a mapping with `messages`",
    "self_evaluate": (
        "a confidence in [0, 1], None, an `Evaluation`, or a mapping with `confidence`"
    ),
    "approve": "True or False",
    "person": "a text, an `AIMessage`, or None",
}
