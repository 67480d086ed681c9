"""Collect on several machines: shards on a Ray cluster, one journal where the run was started.

The only file that imports Ray (extra `ray`). Each shard is an ordinary run that sends its facts
over a wire to the process that holds the journal; it makes its next call when they are on disk.
These are Ray tasks, not a Ray Data pipeline, which passes on results in blocks: if a run were
killed, every answer of an unfinished block would be lost and asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_llm_router.collect.collector import Collector, Limits, Watcher
from langchain_llm_router.collect.journal import Collected, Journal, Record
from langchain_llm_router.collect.quote import Workload
from langchain_llm_router.collect.run import Questions, Setup, finish, make_workload, opened
from langchain_llm_router.collect.shards import Shard, deal
from langchain_llm_router.types.errors import CollectionError, import_extra

__all__ = ["Wire", "collect_on_ray"]

# A lost worker is not the run's fault, until it happens repeatedly.
_STARTS = 4


def collect_on_ray(
    questions: Questions,
    setup: Callable[[], Setup],
    *,
    journal: str | Path,
    n_shards: int = 4,
    limits: Limits | None = None,
    watcher: Watcher | None = None,
) -> Collected:
    """As `collect`, on a Ray cluster; either resumes a journal that the other began.

    A cluster is used if there is one (`ray.init` before, `RAY_ADDRESS`, `ray start`), else a local
    one is started. Workers need this package and, in their environment, the providers' keys.

    Args:
        questions: As in `collect`.
        setup: Returns candidates, grader, verifiers and preamble; called here and in every shard,
            since models hold connections and cannot be pickled.
        journal: As in `collect`; only this process touches it.
        n_shards: How many processes ask at once.
        limits: Concurrency and budget apply to all shards together, each gets a part of them;
            `failures` are counted per shard.
        watcher: As in `collect`.

    Raises:
        ValueError: As in `collect`, or if there are more shards than calls in flight to divide.
        CollectionError: As in `collect`, or if Ray fails; shards continue when another one stops.
    """
    ray = import_extra("ray", "ray")
    work = make_workload(questions, setup())
    limits, watcher = limits or Limits(), watcher or Watcher()
    # Before the journal is opened: a run that cannot be split is not begun.
    deal(work, Record(), limits, n_shards)
    with opened(work, journal, limits, watcher) as log:
        shards = deal(work, log.record, limits, n_shards)
        stopped = _Job(ray, work, log, setup, watcher).run(shards)
        return finish(work, log, limits, stopped)


class Wire:
    """Between the shards and the process with the journal: a sender waits for the write."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[tuple[Any, asyncio.Event]] = asyncio.Queue()
        self._received: list[asyncio.Event] = []

    async def send(self, thing: Any) -> None:
        """Send a thing; returns once the other side has processed it."""
        dealt_with = asyncio.Event()
        self._sent.put_nowait((thing, dealt_with))
        await dealt_with.wait()

    async def receive(self) -> list[Any]:
        """Everything in the queue, at least one thing; the previous batch counts as processed."""
        for dealt_with in self._received:
            dealt_with.set()
        self._received = []
        got = [await self._sent.get()]
        while not self._sent.empty():
            got.append(self._sent.get_nowait())
        self._received = [dealt_with for _, dealt_with in got]
        return [thing for thing, _ in got]


class _Far(Watcher):
    """A shard's end of the wire: its journal and its watcher."""

    def __init__(self, wire: Any, shard: str, known: Record) -> None:
        self._wire, self._shard, self.record = wire, shard, known

    def write(self, kind: str, **fields: Any) -> None:
        line = {"kind": kind, **fields}
        self._send(line)
        self.record.add(line)

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        self._send((self._shard, done))

    def _send(self, thing: dict[str, Any] | tuple[str, int]) -> None:
        import_extra("ray", "ray").get(self._wire.send.remote(thing))


def _collect_shard(
    wire: Any, setup: Callable[[], Setup], shard: Shard, known: Record
) -> str | None:
    """Run one worker's part; return what made it stop early."""
    work = make_workload(shard.questions, setup())
    far = _Far(wire, shard.name, known)
    return asyncio.run(Collector(work, far, shard.limits, far).everything())


class _Job:
    """One run on Ray, seen from the process that holds the journal."""

    def __init__(
        self,
        ray: Any,
        work: Workload,
        log: Journal,
        setup: Callable[[], Setup],
        watcher: Watcher,
    ) -> None:
        self._ray, self._log, self._setup, self._watcher = ray, log, setup, watcher
        self._each = len(work.candidates)
        self._total = self._each * len(work.questions)
        self._done: dict[str, int] = {}
        self._running: dict[Any, Shard] = {}
        self._starts: dict[str, int] = {}
        self._stopped: list[str] = []

    def run(self, shards: Sequence[Shard]) -> str | None:
        """Run all shards to the end; return what made the first one stop early."""
        left = self._each * sum(len(shard.questions) for shard in shards)
        self._advance("before", self._total - left)
        if len(shards) == 0:
            return None
        try:
            with _cluster(self._ray):
                self._drive(shards)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception) and not isinstance(
                cause, self._ray.exceptions.RayError
            ):
                # An error in a worker is raised as if it had happened here.
                raise cause from None
            msg = f"Ray failed: {_brief(error)}. {self._log.path.name} has everything so far."
            raise CollectionError(msg) from error
        return self._stopped[0] if self._stopped else None

    def _drive(self, shards: Sequence[Shard]) -> None:
        near = import_extra("ray.util.scheduling_strategies", "ray").NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=True
        )
        wire = self._ray.remote(Wire).options(num_cpus=0, scheduling_strategy=near).remote()
        try:
            for shard in shards:
                self._start(wire, shard)
            received = wire.receive.remote()
            while self._running:
                (ready,), _ = self._ray.wait([received, *self._running], num_returns=1)
                if ready == received:
                    for thing in self._ray.get(ready):
                        self._keep(thing)
                    received = wire.receive.remote()
                else:
                    self._ended(wire, ready)
        finally:
            # In the user's own cluster, no task of this run may keep making calls.
            for task in self._running:
                self._ray.cancel(task, force=True)
            self._ray.kill(wire)

    def _start(self, wire: Any, shard: Shard) -> None:
        self._starts[shard.name] = self._starts.get(shard.name, 0) + 1
        # Shards wait for models and hardly compute. Ray itself must not restart one: it would not
        # know what has been answered since.
        task = self._ray.remote(_collect_shard).options(
            num_cpus=0.1, max_retries=0, scheduling_strategy="SPREAD"
        )
        known = shard.known(self._log.record)
        self._running[task.remote(wire, self._setup, shard, known)] = shard

    def _keep(self, thing: dict[str, Any] | tuple[str, int]) -> None:
        """Store a fact, or how many answers a shard has processed."""
        if not isinstance(thing, dict):
            self._advance(*thing)
        elif not self._log.record.holds(thing):
            # Facts of a lost worker may arrive after its replacement has sent the same ones.
            self._log.write(**thing)

    def _advance(self, shard: str, done: int) -> None:
        self._done[shard] = done
        spent = self._log.record.spent_usd
        self._watcher.advance(sum(self._done.values()), self._total, spent)

    def _ended(self, wire: Any, task: Any) -> None:
        shard = self._running.pop(task)
        try:
            stopped = self._ray.get(task)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            if self._starts[shard.name] < _STARTS:
                self._start(wire, shard)
                return
            stopped = (
                f"Shard {shard.name} was lost {_STARTS} times, most recently: {_brief(error)}."
            )
        if stopped is not None:
            self._stopped.append(stopped)


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Ray as it is, or else connected or started for the duration of the context."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
