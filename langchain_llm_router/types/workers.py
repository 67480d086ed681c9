"""The same function of many items, in processes of this machine or on a Ray cluster (extra `ray`).

The results come in the order of the items, so that they are the same for any number of workers.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from langchain_llm_router.types.errors import LlmRouterError, import_extra

__all__ = ["map_in_processes", "map_on_ray", "open_cluster", "raise_own_error"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_OBJECTS_BETWEEN_COLLECTIONS = 200_000
_MAX_RETRIES = 3
"""How often an item is done again whose worker was killed, or lost on Ray."""


def map_in_processes(
    function: Callable[[_Item], _Result], items: Iterable[_Item], n_workers: int
) -> Iterator[_Result]:
    """Yield the function of every item, in their order; an item of a killed worker is done again.

    At most one item for each worker is in memory at a time. A script that uses several workers must
    be guarded by `if __name__ == "__main__"`, because every worker imports it.

    Args:
        function: The function; it is copied to every worker once.
        items: The items, which are taken one by one.
        n_workers: Number of processes; 1: this one.

    Raises:
        LlmRouterError: If a process ends before its work is done, or is killed again and again.
    """
    if n_workers == 1:
        yield from map(function, items)
        return
    workers = [_Worker(function) for _ in range(n_workers)]
    n_items = 0
    try:
        for item in items:
            worker = workers[n_items % n_workers]
            n_items += 1
            if n_items <= n_workers:
                worker.send(item)
            else:
                result = worker.receive()
                # The next item is on its way before the result is looked at.
                worker.send(item)
                yield result
        for i in range(max(0, n_items - n_workers), n_items):
            yield workers[i % n_workers].receive()
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that returns the function of one item after another."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._start()

    def send(self, item: Any) -> None:
        self._item = item
        # If the process is gone, `receive` finds out.
        with suppress(OSError):
            self._connection.send(item)

    def receive(self) -> Any:
        for retries in range(_MAX_RETRIES + 1):
            try:
                result = self._connection.recv()
                break
            except (EOFError, OSError) as error:
                self._process.join()
                # A process that ended by itself would do so again.
                if (self._process.exitcode or 0) >= 0 or retries == _MAX_RETRIES:
                    raise self._loss_error() from error
                self._connection.close()
                self._start()
                self.send(self._item)
        if isinstance(result, _Raised):
            raise result.error
        return result

    def stop(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _start(self) -> None:
        # Not forked, because threads of numeric libraries do not survive it.
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._function, other), daemon=True)
        self._process.start()
        # Without its end in this process, a process that is gone ends the pipe.
        other.close()

    def _loss_error(self) -> LlmRouterError:
        return LlmRouterError(
            f"A worker process was lost (exit code {self._process.exitcode}), perhaps because "
            "memory ran out: use fewer workers."
        )


class _Raised:
    """An error of a worker."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    # Items and results are many objects without cycles, which a collection would look at in vain.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    with suppress(EOFError):
        while True:
            item = connection.recv()
            try:
                result = function(item)
            except Exception as error:  # noqa: BLE001 - it is raised in the process that waits
                result = _Raised(error)
            connection.send(result)


def map_on_ray(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Do the same as `map_in_processes` on a Ray cluster; an item of a lost worker is done again.

    An existing cluster is used (an earlier `ray.init`, `RAY_ADDRESS`, `ray start`); without one, a
    local cluster is started. Workers need this package.

    Args:
        function: The function; it is copied to every machine once.
        items: The items, which are taken one by one, two for each processor at a time.

    Raises:
        LlmRouterError: If Ray fails, or loses an item's worker again and again.
    """
    ray = import_extra("ray", "ray")
    with open_cluster(ray):
        shared = ray.put(function)
        call = ray.remote(_call).options(
            num_cpus=1, max_retries=_MAX_RETRIES, scheduling_strategy="SPREAD"
        )
        most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(call.remote(shared, item))
                if len(waiting) == most:
                    yield _get(ray, waiting.popleft())
            while waiting:
                yield _get(ray, waiting.popleft())
        finally:
            # In a user's cluster, tasks would otherwise go on after an error.
            for task in waiting:
                ray.cancel(task, force=True)


def _call(function: Callable[[_Item], _Result], item: _Item) -> _Result:
    return function(item)


def _get(ray: Any, task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        raise_own_error(ray, error)
        msg = f"Ray failed: {' '.join(str(error).split())[:300].rstrip('.')}."
        raise LlmRouterError(msg) from error


def raise_own_error(ray: Any, error: Exception) -> None:
    """Raise the error of a function in a worker as if it had happened here.

    Args:
        ray: The module.
        error: What Ray raised; if it is about Ray itself, nothing is raised.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError):
        raise cause from None


@contextmanager
def open_cluster(ray: Any) -> Iterator[None]:
    """Use Ray as it is, or connect to it or start it for the duration of the context.

    Args:
        ray: The module.
    """
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
