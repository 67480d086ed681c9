"""One router driven in all ways: as chat model, as graph, and as an agent's middleware."""

from collections.abc import Awaitable, Callable
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, ChatLLMRouter, create_cascade, route_of
from langchain_llm_router.budgets import Budgets
from langchain_llm_router.history import DecisionLog, Entry, read_log
from langchain_llm_router.router import Shadow
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from tests.support.fakes import ScriptedModel

DRIVERS = ("chat", "graph", "agent")
TIMES = ("latency_s", "ttft_s", "finished_at_s")
"""What differs from call to call in every driver."""

Config = dict[str, Any] | None


class Drivers:
    """The same router three times, each with candidates and books of its own.

    Args:
        pool: Makes the candidates.
        folder: Where each driver keeps its log; None: there is none.
        budgets: Makes the budgets.
        shadow: Decides beside each of them.
        **parts: What they have in common: policy, verifier, estimator.
    """

    def __init__(
        self,
        pool: Callable[[], list[Candidate]],
        *,
        folder: Path | None = None,
        budgets: Callable[[], Budgets] | None = None,
        shadow: Shadow | None = None,
        **parts: Any,
    ) -> None:
        self._pool, self._parts = pool, {**parts, **({} if shadow is None else {"shadow": shadow})}
        self.budgets = {} if budgets is None else {name: budgets() for name in DRIVERS}
        logs = {} if folder is None else {name: folder / f"{name}.jsonl" for name in DRIVERS}
        self.logs = {name: DecisionLog(path) for name, path in logs.items()}

    @cached_property
    def chat(self) -> ChatLLMRouter:
        """The chat model."""
        return ChatLLMRouter(candidates=self._pool(), **self._parts, **self._books("chat"))

    @cached_property
    def graph(self) -> Any:
        """The compiled graph."""
        return create_cascade(self._pool(), **self._parts, **self._books("graph")).compile()

    @cached_property
    def agent(self) -> Any:
        """The agent, whose own model is never asked."""
        never = ScriptedModel(AssertionError("the agent's own model was asked"))
        router = ChatLLMRouter(candidates=self._pool(), **self._parts, **self._books("agent"))
        return create_agent(never, [], middleware=[LLMRouterMiddleware(router)])

    def _books(self, driver: str) -> dict[str, Any]:
        books: dict[str, Any] = {}
        if self.budgets:
            books["budgets"] = self.budgets[driver]
        if self.logs:
            books["log"] = self.logs[driver]
        return books

    def ask(self, driver: str, question: str, config: Config = None) -> AIMessage:
        """The answer of one driver."""
        if driver == "chat":
            return self.chat.invoke(question, config)
        if driver == "chat, streamed":
            return _joined(list(self.chat.stream(question, config)))
        app = self.graph if driver == "graph" else self.agent
        return app.invoke({"messages": [("human", question)]}, config)["messages"][-1]

    async def aask(self, driver: str, question: str, config: Config = None) -> AIMessage:
        """The same, async."""
        if driver == "chat":
            return await self.chat.ainvoke(question, config)
        if driver == "chat, streamed":
            return _joined([chunk async for chunk in self.chat.astream(question, config)])
        app = self.graph if driver == "graph" else self.agent
        return (await app.ainvoke({"messages": [("human", question)]}, config))["messages"][-1]

    def entries(self, driver: str) -> list[Entry]:
        """The lines of its log."""
        self.logs[driver].flush()
        return list(read_log(self.logs[driver].path).entries)


def _joined(chunks: list[Any]) -> AIMessage:
    first, *rest = chunks
    return sum(rest, first)


def outcome(call: Callable[[], AIMessage]) -> dict[str, Any]:
    """What came of a call, less times and ids: the answer with its record, or the error."""
    try:
        return facts(call())
    except Exception as error:  # noqa: BLE001 - whatever it is, all drivers must raise the same
        return {"error": f"{type(error).__name__}: {error}"}


async def aoutcome(call: Awaitable[AIMessage]) -> dict[str, Any]:
    """The same, async."""
    try:
        return facts(await call)
    except Exception as error:  # noqa: BLE001 - whatever it is, all drivers must raise the same
        return {"error": f"{type(error).__name__}: {error}"}


def facts(message: AIMessage) -> dict[str, Any]:
    """An answer and its record, less times and ids."""
    record = route_of(message)
    assert record is not None
    kept = {key: value for key, value in record.items() if key != "decision_id"}
    return {**kept, "text": message.text, "attempts": list(map(timeless, record["attempts"]))}


def entry_facts(entry: Entry) -> dict[str, Any]:
    """A line of the log, less times and ids."""
    passing = ("decision_id", "at_s", "run_id", "trace_id")
    kept = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in passing}
    return {**kept, "attempts": list(map(timeless, entry.attempts))}


def timeless(attempt: Any) -> dict[str, Any]:
    """An attempt less its times."""
    kept = {key: value for key, value in attempt.items() if key not in TIMES}
    if "failures" in kept:
        kept["failures"] = list(map(timeless, kept["failures"]))
    return kept
