"""A node of the cascade's graph: sync and async, and heard when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

__all__ = ["ACall", "Call", "Node", "OverError"]

Call = Callable[[Any, RunnableConfig], dict[str, Any]]
ACall = Callable[[Any, RunnableConfig], Awaitable[dict[str, Any]]]


class OverError(Exception):
    """On its way out of a node: the last candidate's own error, with the state that it leaves."""

    def __init__(self, state: Mapping[str, Any], error: Exception) -> None:
        super().__init__()
        self.state, self.error = state, error


class Node(Runnable[Any, dict[str, Any]]):
    """A node sync and async; LangGraph traces it, so it needs no run of its own."""

    def __init__(self, call: Call, acall: ACall, failed: Callable[..., None]) -> None:
        self._call, self._acall, self._failed = call, acall, failed

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Do what the node does; a failure is told before it is raised."""
        config = {} if config is None else config
        with self._heard(input, config):
            return self._call(input, config)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Do what the node does; a failure is told before it is raised."""
        config = {} if config is None else config
        with self._heard(input, config):
            return await self._acall(input, config)

    @contextmanager
    def _heard(self, state: Any, config: RunnableConfig) -> Iterator[None]:
        try:
            yield
        except OverError as over:
            self._failed(over.state, config, over.error)
            raise over.error from over.error.__cause__
        except BaseException as error:
            self._failed(state, config, error)
            raise
