"""`collect` on a Ray cluster: shards on several machines, one journal where it was called.

Each shard is an ordinary run that sends its facts to the process that holds the journal, and makes
its next call when they are on disk. The shards are Ray tasks, not a Ray Data pipeline, because a
pipeline passes on results in blocks: a run that is killed would lose every answer of an unfinished
block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_llm_router.collect.background_loop import run_in_background
from langchain_llm_router.collect.collector import Collector, Limits, Watcher
from langchain_llm_router.collect.journal import Journal, Record
from langchain_llm_router.collect.quote import Workload
from langchain_llm_router.collect.readability import split_trial, why_unreadable
from langchain_llm_router.collect.run import Questions, Setup, finish, make_workload, open_journal
from langchain_llm_router.collect.shards import Shard, split_into_shards
from langchain_llm_router.collect.tables import Collected
from langchain_llm_router.types.errors import CollectionError, import_extra
from langchain_llm_router.types.workers import open_cluster, raise_own_error

__all__ = ["Wire", "collect_on_ray"]

# A shard whose worker was lost is restarted, unless that happens repeatedly.
_MAX_STARTS = 4


def collect_on_ray(
    questions: Questions,
    setup: Callable[[], Setup],
    *,
    journal: str | Path,
    n_shards: int = 4,
    limits: Limits | None = None,
    watcher: Watcher | None = None,
) -> Collected:
    """Do the same as `collect` on a Ray cluster; each can resume the other's journals.

    An existing cluster is used (an earlier `ray.init`, `RAY_ADDRESS`, `ray start`); without one, a
    local cluster is started. Workers need this package, and the providers' keys in their
    environment.

    Args:
        questions: The questions, as in `collect`.
        setup: A function that returns candidates, grader, verifiers and preamble. It is called here
            and in every shard, because models hold connections and cannot be pickled.
        journal: Path of the journal, as in `collect`; only this process reads and writes it.
        n_shards: Number of shards, each a process of its own.
        limits: Limits, as in `collect`. Concurrency and budget are divided among the shards;
            `failures` are counted per shard.
        watcher: The watcher, as in `collect`.

    Raises:
        ValueError: As in `collect`, or if `n_shards` is larger than the concurrency of a model.
        CollectionError: As in `collect`, or if Ray fails. If a shard stops early, the others
            continue.
    """
    ray = import_extra("ray", "ray")
    work = make_workload(questions, setup())
    limits, watcher = limits or Limits(), watcher or Watcher()
    # Checked before the journal is opened, so that a run that cannot be split does not begin.
    split_into_shards(work, Record(), limits, n_shards)
    with open_journal(work, journal, limits, watcher) as log:
        stopped = _try_first(work, log, limits, watcher)
        if stopped is None:
            shards = split_into_shards(work, log.record, limits, n_shards)
            stopped = _RayRun(ray, work, log, setup, watcher).run(shards)
        return finish(work, log, limits, stopped)


def _try_first(work: Workload, log: Journal, limits: Limits, watcher: Watcher) -> str | None:
    """Do the first of many questions in this process; return why the run stops there, or None."""
    first, rest = split_trial(work, log.record)
    if len(rest) == 0:
        return None
    stopped = run_in_background(Collector(work, log, limits, watcher).run(first))
    return stopped or why_unreadable(work, log.record, first, watcher.confirm_unreadable)


class Wire:
    """Queue from the shards to the process with the journal; a sender waits for the write."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[tuple[Any, asyncio.Event]] = asyncio.Queue()
        self._received: list[asyncio.Event] = []

    async def send(self, thing: Any) -> None:
        """Send a thing, and return once the receiver has processed it."""
        processed = asyncio.Event()
        self._sent.put_nowait((thing, processed))
        await processed.wait()

    async def receive(self) -> list[Any]:
        """Wait for things and return all of them; the previous batch counts as processed."""
        for processed in self._received:
            processed.set()
        self._received = []
        batch = [await self._sent.get()]
        while not self._sent.empty():
            batch.append(self._sent.get_nowait())
        self._received = [processed for _, processed in batch]
        return [thing for thing, _ in batch]


class _ShardLog(Watcher):
    """The log and the watcher of a shard, which send everything over the wire."""

    def __init__(self, wire: Any, shard: str, record: Record) -> None:
        self._wire, self._shard, self.record = wire, shard, record

    def write(self, kind: str, **fields: Any) -> None:
        line = {"kind": kind, **fields}
        self._send(line)
        self.record.add(line)

    def advance(self, done: int, total: int, spent_usd: float) -> None:
        self._send((self._shard, done))

    def _send(self, thing: dict[str, Any] | tuple[str, int]) -> None:
        import_extra("ray", "ray").get(self._wire.send.remote(thing))


def _collect_shard(
    wire: Any, setup: Callable[[], Setup], shard: Shard, record: Record
) -> str | None:
    """Run one shard; return why it stopped early, or None."""
    work = make_workload(shard.questions, setup())
    log = _ShardLog(wire, shard.name, record)
    # One worker process may run several shards.
    return run_in_background(Collector(work, log, shard.limits, log).run(work.questions))


class _RayRun:
    """One run on Ray, in the process that holds the journal."""

    def __init__(
        self,
        ray: Any,
        work: Workload,
        log: Journal,
        setup: Callable[[], Setup],
        watcher: Watcher,
    ) -> None:
        self._ray, self._log, self._setup, self._watcher = ray, log, setup, watcher
        self._n_candidates = len(work.candidates)
        self._total = self._n_candidates * len(work.questions)
        self._done: dict[str, int] = {}
        self._running: dict[Any, Shard] = {}
        self._starts: dict[str, int] = {}
        self._stopped: list[str] = []

    def run(self, shards: Sequence[Shard]) -> str | None:
        """Run all shards to the end; return why the first one stopped early, or None."""
        n_pending = self._n_candidates * sum(len(shard.questions) for shard in shards)
        self._advance("before", self._total - n_pending)
        if len(shards) == 0:
            return None
        try:
            with open_cluster(self._ray):
                self._drive(shards)
        except self._ray.exceptions.RayError as error:
            raise_own_error(self._ray, error)
            msg = (
                f"Ray failed: {_one_line(error)}. {self._log.path.name} has everything so far: "
                "call this again to resume."
            )
            raise CollectionError(msg) from error
        return self._stopped[0] if self._stopped else None

    def _drive(self, shards: Sequence[Shard]) -> None:
        this_node = import_extra(
            "ray.util.scheduling_strategies", "ray"
        ).NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        wire = self._ray.remote(Wire).options(num_cpus=0, scheduling_strategy=this_node).remote()
        try:
            for shard in shards:
                self._start(wire, shard)
            received = wire.receive.remote()
            while self._running:
                (ready,), _ = self._ray.wait([received, *self._running], num_returns=1)
                if ready == received:
                    for thing in self._ray.get(ready):
                        self._store(thing)
                    received = wire.receive.remote()
                else:
                    self._finish_task(wire, ready)
        finally:
            # In a user's cluster, tasks of this run would otherwise keep making calls.
            for task in self._running:
                self._ray.cancel(task, force=True)
            self._ray.kill(wire)

    def _start(self, wire: Any, shard: Shard) -> None:
        self._starts[shard.name] = self._starts.get(shard.name, 0) + 1
        # Shards mostly wait for models. Ray must not restart one, because the new one needs the
        # answers that were received since.
        task = self._ray.remote(_collect_shard).options(
            num_cpus=0.1, max_retries=0, scheduling_strategy="SPREAD"
        )
        record = shard.select(self._log.record)
        self._running[task.remote(wire, self._setup, shard, record)] = shard

    def _store(self, thing: dict[str, Any] | tuple[str, int]) -> None:
        """Store a fact, or the number of answers that a shard has processed."""
        if not isinstance(thing, dict):
            self._advance(*thing)
        elif not self._log.record.holds(thing):
            # Facts of a lost worker may arrive after its successor has sent the same ones.
            self._log.write(**thing)

    def _advance(self, shard: str, done: int) -> None:
        self._done[shard] = done
        spent = self._log.record.spent_usd
        self._watcher.advance(sum(self._done.values()), self._total, spent)

    def _finish_task(self, wire: Any, task: Any) -> None:
        shard = self._running.pop(task)
        try:
            stopped = self._ray.get(task)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            if self._starts[shard.name] < _MAX_STARTS:
                self._start(wire, shard)
                return
            stopped = (
                f"The worker of shard {shard.name} was lost {_MAX_STARTS} times, the last time "
                f"with: {_one_line(error)}."
            )
        if stopped is not None:
            self._stopped.append(stopped)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
