"""From users' feedback on answers to an estimator fitted on it.

A score rates only the answer that was given; the quality of the other candidates' answers stays
unknown (NaN). `NearestNeighbors` adds such rows as they are, without a refit. Every other estimator
is refitted on its training table and these rows, with the unknown cells filled by its earlier
predictions, so that they add no information and do not shift it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.history.log_reader import Entry, History
from langchain_llm_router.types.arrays import Floats

__all__ = [
    "FeedbackClient",
    "Imported",
    "ScoredRows",
    "import_langsmith",
    "refit",
    "scored_rows",
]

_AT_ONCE = 100


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Requests with a score, as a table whose unknown cells are NaN.

    Attributes:
        queries: The texts, n of them.
        candidates: Names of the k candidates: the columns.
        quality: Of shape (n, k): the score for the candidate that answered, NaN for the others.
        decision_ids: Of the rows.
    """

    queries: Sequence[str]
    candidates: Sequence[str]
    quality: Floats
    decision_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.queries)


def scored_rows(
    history: History, candidates: Sequence[str], *, key: str | None = None
) -> ScoredRows:
    """The answered requests that got feedback.

    Requests whose text was not kept, or which another candidate answered, are left out.

    Args:
        history: A log with feedback.
        candidates: The columns, e.g. an estimator's `fitted_candidates`.
        key: Which feedback counts; None: the mean of all that a request got.
    """
    queries: list[str] = []
    ids: list[str] = []
    cells: list[list[float]] = []
    for entry in history.entries:
        score = history.score(entry.decision_id, key)
        name = _model(entry)
        if score is None or entry.query is None or name not in candidates:
            continue
        queries.append(entry.query)
        ids.append(entry.decision_id)
        cells.append([score if name == candidate else np.nan for candidate in candidates])
    quality = np.array(cells, dtype=np.float64).reshape(len(cells), len(candidates))
    return ScoredRows(tuple(queries), tuple(candidates), quality, tuple(ids))


def _model(entry: Entry) -> str | None:
    """The candidate that answered; the model's name where it is one of several endpoints."""
    if entry.candidate is None or len(entry.frames) == 0:
        return entry.candidate
    arms = {arm["candidate"]: arm.get("model") for arm in entry.frames[0]["arms"]}
    return arms.get(entry.candidate) or entry.candidate


def refit(
    estimator: QualityEstimator, rows: ScoredRows, training: Outcomes | None = None
) -> QualityEstimator:
    """A copy of the estimator fitted on the rows too; the given one is unchanged.

    Args:
        estimator: A fitted one.
        rows: From `scored_rows`, with the estimator's candidates.
        training: The data it was fitted on; only `NearestNeighbors`, which keeps it, needs none.

    Raises:
        ValueError: If the candidates differ, or `training` is missing.
        NotFittedError: If the estimator is not fitted.
    """
    names = tuple(estimator.fitted_candidates)
    if tuple(rows.candidates) != names:
        msg = f"The rows are about {list(rows.candidates)}, the estimator about {list(names)}."
        raise ValueError(msg)
    if len(rows) == 0:
        return estimator
    if training is None:
        if isinstance(estimator, NearestNeighbors):
            return estimator.extended(rows.queries, rows.quality)
        kind = type(estimator).__name__
        msg = f"A {kind} does not keep its training rows: give `training`, `--data`."
        raise ValueError(msg)
    training = training.select(names)
    predicted = estimator.predict(rows.queries)
    # Where it abstained, the candidate's mean is the least informative guess.
    guess = np.where(np.isnan(predicted), training.quality.mean(axis=0), predicted)
    filled = np.where(np.isnan(rows.quality), guess, rows.quality)
    both = Outcomes(
        [*training.queries, *rows.queries], names, np.vstack([training.quality, filled])
    )
    return estimator.unfitted().fit(both)


class FeedbackClient(Protocol):
    """The part of `langsmith.Client` that is used."""

    def list_feedback(
        self, *, run_ids: Any, feedback_key: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Feedback on runs."""


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        n_imported: Scores written to the log.
        n_without_score: Feedback with only a comment or a value.
        n_ambiguous: Feedback on a whole trace in which several requests were routed.
    """

    n_imported: int
    n_without_score: int
    n_ambiguous: int


def import_langsmith(
    log: DecisionLog,
    history: History,
    client: FeedbackClient,
    *,
    keys: Sequence[str] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Imported:
    """Write LangSmith's feedback to the log; importing it again changes nothing.

    Feedback on the router's own run belongs to that request. Feedback on a whole trace (where chat
    frontends put thumbs up or down) belongs to the request routed in it, if there is only one.

    Args:
        log: Where the scores are written.
        history: The same log as read, with the runs' ids.
        client: `langsmith.Client()`.
        keys: Only feedback of these names; None: all.
        scale: The worst and the best possible score, mapped to 0 and 1.

    Raises:
        ValueError: If a score is outside the scale.
    """
    by_run = {entry.run_id: entry.decision_id for entry in history.entries if entry.run_id}
    by_trace: dict[str, list[str]] = {}
    for entry in history.entries:
        if entry.trace_id:
            by_trace.setdefault(entry.trace_id, []).append(entry.decision_id)
    runs = list(dict.fromkeys([*by_run, *by_trace]))
    n_imported = n_without = n_ambiguous = 0
    for start in range(0, len(runs), _AT_ONCE):
        part = runs[start : start + _AT_ONCE]
        for given in client.list_feedback(run_ids=part, feedback_key=keys):
            decision_id = _request_of(str(given.run_id), by_run, by_trace)
            if decision_id is None:
                n_ambiguous += 1
            elif given.score is None:
                n_without += 1
            else:
                score = _scaled(float(given.score), scale)
                log.feedback(decision_id, score, key=given.key, id=f"langsmith:{given.id}")
                n_imported += 1
    return Imported(n_imported, n_without, n_ambiguous)


def _request_of(
    run_id: str, by_run: Mapping[str, str], by_trace: Mapping[str, Sequence[str]]
) -> str | None:
    if run_id in by_run:
        return by_run[run_id]
    routed = by_trace.get(run_id, ())
    return routed[0] if len(routed) == 1 else None


def _scaled(score: float, scale: tuple[float, float]) -> float:
    worst, best = scale
    value = (score - worst) / (best - worst)
    if not 0 <= value <= 1:
        msg = f"A score of {score!r} is outside the scale {scale!r}: give its ends as `scale`."
        raise ValueError(msg)
    return value
