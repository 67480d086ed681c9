"""The only four loops that perform a request's operations: sync and async, plain and streaming.

An operation's failure is thrown into the request, which settles its money and is logged however it
ends. The loops close the request themselves instead of leaving it to the garbage collector.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, TypeVar

from langchain_llm_router.calls.ask import AskOperation
from langchain_llm_router.types.operations import Operation

__all__ = ["adrive", "astream", "drive", "stream"]

_End = TypeVar("_End")


def drive(steps: Generator[Operation, Any, _End]) -> _End:
    """Perform each operation and send back its result, or throw its failure."""
    try:
        operation = next(steps)
        while True:
            try:
                result = operation.perform()
            except BaseException as error:  # noqa: BLE001 - the request decides what it means
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as stop:
        end: _End = stop.value
        return end
    finally:
        steps.close()


async def adrive(steps: Generator[Operation, Any, _End]) -> _End:
    """Do the same as `drive`, without blocking the event loop."""
    try:
        operation = next(steps)
        while True:
            try:
                result = await operation.aperform()
            except BaseException as error:  # noqa: BLE001 - the request decides what it means
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as stop:
        end: _End = stop.value
        return end
    finally:
        steps.close()


def stream(steps: Generator[Operation, Any, _End]) -> Generator[Any, None, _End]:
    """Do the same as `drive`, and yield the chunks that may be shown at once."""
    try:
        operation = next(steps)
        while True:
            try:
                if isinstance(operation, AskOperation) and operation.streams:
                    yield from operation.stream()
                    result = operation.answer
                else:
                    result = operation.perform()
            except BaseException as error:  # noqa: BLE001 - the request decides what it means
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as stop:
        end: _End = stop.value
        return end
    finally:
        steps.close()


async def astream(steps: Generator[Operation, Any, _End], ended: list[_End]) -> AsyncGenerator[Any]:
    """Do the same as `stream`, without blocking the event loop; append the result to `ended`."""
    try:
        operation = next(steps)
        while True:
            try:
                if isinstance(operation, AskOperation) and operation.streams:
                    # Closed before the request settles: what it has cost is known only then.
                    async with aclosing(operation.astream()) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    result = operation.answer
                else:
                    result = await operation.aperform()
            except BaseException as error:  # noqa: BLE001 - the request decides what it means
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as stop:
        ended.append(stop.value)
    finally:
        steps.close()
