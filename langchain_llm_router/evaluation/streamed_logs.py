"""Off-policy estimates from logs of any size, in batches, on several processors or machines.

A batch of lines becomes columns of numbers, and only these are kept. Every decision is made by the
function that a live router calls, one request after another: most of the time is spent on reading
the lines and on comparing decisions, whose reasons are texts, so that arrays would save little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from langchain_llm_router.evaluation import Resampling
from langchain_llm_router.evaluation.logged_chances import LoggedChances
from langchain_llm_router.evaluation.off_policy_estimates import OffPolicy, estimate
from langchain_llm_router.history.log_batches import LogBatch, count_batches, log_batches
from langchain_llm_router.history.log_columns import Ids, ScoreColumns, last_of_each, to_ids
from langchain_llm_router.history.log_reader import (
    Feedback,
    LineCounts,
    check_readable,
    readable_items,
)
from langchain_llm_router.history.log_replay import Changes, replay_entry
from langchain_llm_router.history.replay_figures import ReplayColumns, Replayed, ReplayFigures
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types.arrays import Indices
from langchain_llm_router.types.progress import Progress, Watch
from langchain_llm_router.types.workers import map_in_processes, map_on_ray

__all__ = ["off_policy_of_logs"]

_DEFAULT = Resampling()
_UNDECIDED = -1


def off_policy_of_logs(
    paths: Sequence[str | Path],
    policy: Policy,
    *,
    changes: Changes | None = None,
    key: str | None = None,
    resampling: Resampling = _DEFAULT,
    n_workers: int = 1,
    ray: bool = False,
    watch: Watch | None = None,
) -> OffPolicy:
    """Do the same as `off_policy` of `read_log(*paths)`, for logs that do not fit in memory.

    The figures are the same to the last bit, for any number of workers, too.

    Args:
        paths: The decision logs.
        policy: The policy to evaluate.
        changes: Other differences from the log.
        key: Key of the feedback to use. If None, the mean of all feedback of a request.
        resampling: Settings of the bootstrap.
        n_workers: Number of processes. With more than one, a script must be guarded by
            `if __name__ == "__main__"`.
        ray: Whether to use a Ray cluster in place of them (extra `ray`), see `collect_on_ray`.
        watch: Callback that receives the progress.

    Raises:
        ValueError: As in `read_log` and `off_policy`.
        OSError: If a file cannot be read.
        LlmRouterError: If workers are lost.
    """
    if n_workers < 1:
        msg = f"`n_workers` must be at least 1, got {n_workers!r}."
        raise ValueError(msg)
    files = [Path(path) for path in paths]
    changes = changes or Changes()
    changes.check(policy)
    replay_batch = _BatchReplay(policy, changes, key)
    progress = Progress(watch, count_batches(files))
    batches = log_batches(files)
    results = (
        map_on_ray(replay_batch, batches)
        if ray
        else map_in_processes(replay_batch, batches, n_workers)
    )
    parts = []
    for part in results:
        progress.begin("deciding again")
        parts.append(part)
    return _added_up(files, parts or [replay_batch(LogBatch(0, []))], resampling)


@dataclass(frozen=True, eq=False)
class _Part:
    """What is kept of a batch of lines.

    Attributes:
        file: Index of the file.
        counts: How many lines could be read.
        ids: Id of each request.
        row: Its row in `columns` and `chances`, -1 if it reached no decision.
    """

    file: int
    counts: LineCounts
    ids: Ids
    row: Indices
    columns: ReplayColumns
    chances: LoggedChances
    scores: ScoreColumns


@dataclass(frozen=True)
class _BatchReplay:
    """The replay of one batch of lines, by the same policy as that of every other batch."""

    policy: Policy
    changes: Changes
    key: str | None

    def __call__(self, batch: LogBatch) -> _Part:
        ids: list[object] = []
        row: list[int] = []
        rows: list[Replayed] = []
        scores: list[Feedback] = []
        counts = LineCounts()
        for read in readable_items(batch.lines, counts):
            if isinstance(read, Feedback):
                scores.append(read)
                continue
            done = replay_entry(read, self.policy, changes=self.changes)
            ids.append(read.decision_id)
            row.append(_UNDECIDED if done is None else len(rows))
            if done is not None:
                rows.append(done)
        return _Part(
            batch.file,
            counts,
            to_ids(ids),
            np.array(row, dtype=np.intp),
            ReplayColumns.of(rows),
            LoggedChances.of(rows, self.policy),
            ScoreColumns.of(scores, self.key),
        )


def _added_up(files: Sequence[Path], parts: Sequence[_Part], resampling: Resampling) -> OffPolicy:
    for i, path in enumerate(files):
        of_file = [part.counts for part in parts if part.file == i]
        n_read, n_bad = sum(it.n_read for it in of_file), sum(it.n_bad for it in of_file)
        check_readable(path, LineCounts(n_read, n_bad))
    begins = np.cumsum([0, *(len(part.columns) for part in parts)])
    ids = np.concatenate([part.ids for part in parts])
    row = np.concatenate(
        [
            np.where(part.row == _UNDECIDED, _UNDECIDED, part.row + begin)
            for part, begin in zip(parts, begins[:-1], strict=True)
        ]
    )
    # The retry of a graph node supersedes its failure.
    last = last_of_each(ids)
    kept = last[row[last] != _UNDECIDED]
    columns = ReplayColumns.joined([part.columns for part in parts])
    chances = LoggedChances.joined([part.chances for part in parts])
    reward = ScoreColumns.joined([part.scores for part in parts]).mean_by_request(ids[kept])
    if len(kept) < len(columns):
        columns, chances = columns.take(row[kept]), chances.take(row[kept])
    n_torn = sum(part.counts.n_bad for part in parts)
    figures = ReplayFigures(columns, len(last) - len(kept), n_torn)
    scored = ~np.isnan(reward) & chances.usable
    return estimate(chances.take(scored), reward[scored], figures, resampling)
