"""One event loop for all runs of a process, in a thread of its own.

Providers' clients keep connections that belong to the event loop that opened them, and share them
between models. A loop per run would leave the next run connections of a closed loop. It also lets
`collect` run where a loop is running already, as in a notebook.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from threading import Lock, Thread
from typing import Any, TypeVar

__all__ = ["run_in_background"]

_T = TypeVar("_T")

_lock = Lock()
_loops: list[asyncio.AbstractEventLoop] = []

if hasattr(os, "register_at_fork"):
    # The child of a fork has no thread that runs the loop.
    os.register_at_fork(after_in_child=_loops.clear)


def run_in_background(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in the loop of the process and wait for its result.

    If the wait is interrupted (Ctrl-C), the work is cancelled first.
    """
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            Thread(target=_run, args=(loop,), name="llm-router-collect", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while not loop.is_closed():
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            # A task that raises one ends `run_forever`, but what awaits the task needs the loop.
            continue
