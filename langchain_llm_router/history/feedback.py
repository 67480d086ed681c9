"""Feedback: importing users' scores, and refitting an estimator on them.

A score rates the answer that was returned, or that of a named candidate; the quality of the other
answers is unknown (NaN). `NearestNeighbors` adds such rows as they are, without being refitted.
Every other estimator is refitted on its training table and these rows. For that, the unknown cells
are filled with its earlier predictions, which add no information and do not shift it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.history.log_reader import Entry, History
from langchain_llm_router.types.arrays import Bools, Floats

__all__ = [
    "ComparedRows",
    "FeedbackClient",
    "Imported",
    "ScoredRows",
    "compared_rows",
    "import_langsmith",
    "refit",
    "scored_rows",
]

_RUNS_PER_REQUEST = 100


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Requests with a score, as a table whose unknown cells are NaN.

    Attributes:
        queries: Text of each of the n requests.
        candidates: Names of the k candidates.
        quality: Array of shape (n, k): the score of the returned answer, and of any other that
            feedback names (`candidate=`); NaN elsewhere.
        decision_ids: Decision id of each row.
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
    """Tabulate the requests that have feedback.

    Requests without a text, sensitive ones, and those with scores of other candidates alone are
    left out.

    Args:
        history: A log with feedback.
        candidates: Names of the columns, e.g. an estimator's `fitted_candidates`.
        key: The feedback key to read; if None, the mean of all feedback on a request is used.
    """
    columns = {name: j for j, name in enumerate(candidates)}
    queries: list[str] = []
    ids: list[str] = []
    cells = array("d")
    for entry in history.entries:
        scores = _scores(history, entry, columns, key)
        if entry.query is None or len(scores) == 0:
            continue
        if entry.sensitive is not None:
            # An estimator that is fitted on them may embed them at a service.
            continue
        queries.append(entry.query)
        ids.append(entry.decision_id)
        cells.extend(scores.get(j, np.nan) for j in range(len(columns)))
    quality = np.array(cells, dtype=np.float64).reshape(len(queries), len(columns))
    return ScoredRows(tuple(queries), tuple(candidates), quality, tuple(ids))


@dataclass(frozen=True, eq=False)
class ComparedRows:
    """Answered requests whose answers were compared or scored, as tables of shape (n, k).

    Attributes:
        evaluations: The groups of equal answers.
        asked: Whether each candidate answered and was compared.
        quality: The scores, also of answers that were not compared; NaN where there is none.
    """

    evaluations: SelfEvaluations
    asked: Bools
    quality: Floats

    def __len__(self) -> int:
        return len(self.asked)


def compared_rows(
    history: History, candidates: Sequence[str], *, key: str | None = None
) -> ComparedRows:
    """Tabulate the answers that `AnswerGroups` compared, and all scores of answers.

    An answer that is accepted whatever it is, such as the dearest candidate's, is not compared.

    Args:
        history: A log, with or without feedback; the texts of its queries are not needed.
        candidates: Names of the columns, e.g. those of an `AnswerPool`.
        key: The feedback key to read; if None, the mean of all feedback on a request is used.
    """
    columns = {name: j for j, name in enumerate(candidates)}
    groups, asked, quality = [], [], []
    for entry in history.entries:
        compared = {
            columns[name]: None if attempt.get("flaw") else attempt.get("answer_group")
            for attempt in entry.attempts
            if (name := _model_of(entry, attempt["candidate"])) in columns
            and attempt.get("verified", False)
        }
        scores = _scores(history, entry, columns, key)
        if entry.outcome != "answered" or len(compared) + len(scores) == 0:
            continue
        row = [compared.get(j) for j in range(len(columns))]
        groups.append([-1 if group is None else group for group in row])
        asked.append([j in compared for j in range(len(columns))])
        quality.append([scores.get(j, np.nan) for j in range(len(columns))])
    shape = (len(groups), len(columns))
    return ComparedRows(
        SelfEvaluations(
            candidates, np.full(shape, np.nan), answer_groups=np.reshape(groups, shape).astype(int)
        ),
        np.reshape(asked, shape).astype(bool),
        np.reshape(quality, shape).astype(np.float64),
    )


def _scores(
    history: History, entry: Entry, columns: Mapping[str, int], key: str | None
) -> dict[int, float]:
    """Return the scores of a request's answers by column: the returned one, and named ones."""
    items = history.feedback.get(entry.decision_id, {}).values()
    found: dict[int, float] = {}
    for candidate in {item.candidate for item in items if item.candidate is not None}:
        score = history.score(entry.decision_id, key, candidate=candidate)
        column = columns.get(_model_of(entry, candidate))
        if score is not None and column is not None:
            found[column] = score
    score, returned = history.score(entry.decision_id, key), columns.get(_model_name(entry) or "")
    if score is not None and returned is not None:
        found[returned] = score
    return found


def _model_name(entry: Entry) -> str | None:
    """Return the candidate that answered, or its model's name if it is an endpoint."""
    return None if entry.candidate is None else _model_of(entry, entry.candidate)


def _model_of(entry: Entry, candidate: str) -> str:
    arms = entry.frames[0]["arms"] if len(entry.frames) > 0 else ()
    models = {arm["candidate"]: arm.get("model") for arm in arms}
    return models.get(candidate) or candidate


def refit(
    estimator: QualityEstimator, rows: ScoredRows, training: Outcomes | None = None
) -> QualityEstimator:
    """Return an estimator fitted on the rows too; the argument itself is not changed.

    Args:
        estimator: A fitted estimator.
        rows: Rows from `scored_rows`, with the estimator's candidates.
        training: The data that it was fitted on. `NearestNeighbors` keeps these itself and does not
            need them.

    Raises:
        ValueError: If the candidates differ, or `training` is missing.
        NotFittedError: If the estimator is not fitted.
    """
    names = tuple(estimator.fitted_candidates)
    if tuple(rows.candidates) != names:
        msg = (
            f"`rows` must have the estimator's candidates {list(names)}, got "
            f"{list(rows.candidates)}: pass `fitted_candidates` to `scored_rows`."
        )
        raise ValueError(msg)
    if len(rows) == 0:
        return estimator
    if training is None:
        if isinstance(estimator, NearestNeighbors):
            return estimator.extended(rows.queries, rows.quality)
        kind = type(estimator).__name__
        msg = (
            f"A {kind} does not keep its training rows: pass them as `training` "
            "(`--data` on the command line)."
        )
        raise ValueError(msg)
    training = training.select(names)
    predicted = estimator.predict(rows.queries)
    # For a query without a prediction, the candidate's mean is the least informative value.
    guess = np.where(np.isnan(predicted), training.quality.mean(axis=0), predicted)
    filled = np.where(np.isnan(rows.quality), guess, rows.quality)
    both = Outcomes(
        [*training.queries, *rows.queries], names, np.vstack([training.quality, filled])
    )
    return estimator.unfitted().fit(both)


class FeedbackClient(Protocol):
    """The part of `langsmith.Client` that is used here."""

    def list_feedback(
        self, *, run_ids: Any, feedback_key: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        """List the feedback on runs."""


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        n_imported: Number of scores written to the log.
        n_without_score: Number of feedback items that have only a comment or a value.
        n_ambiguous: Number of feedback items on a trace in which several requests were routed.
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
    """Import LangSmith's feedback into the log; importing it again changes nothing.

    Feedback on the router's run belongs to that request. Feedback on a trace (where chat frontends
    put thumbs up or down) belongs to the request routed in it, if there is only one.

    Args:
        log: The log that the scores are written to.
        history: The contents of the same log, with the ids of the runs.
        client: A `langsmith.Client`.
        keys: Feedback keys to import; if None, all feedback is imported.
        scale: The worst and the best possible score, which are mapped to 0 and 1.

    Raises:
        ValueError: If a score is outside the scale.
    """
    by_run: dict[str, str] = {}
    by_trace: dict[str, list[str]] = {}
    for entry in history.entries:
        if entry.run_id:
            by_run[entry.run_id] = entry.decision_id
        if entry.trace_id:
            by_trace.setdefault(entry.trace_id, []).append(entry.decision_id)
    runs = list(dict.fromkeys([*by_run, *by_trace]))
    n_imported = n_without = n_ambiguous = 0
    for start in range(0, len(runs), _RUNS_PER_REQUEST):
        part = runs[start : start + _RUNS_PER_REQUEST]
        for item in client.list_feedback(run_ids=part, feedback_key=keys):
            decision_id = _find_decision(str(item.run_id), by_run, by_trace)
            if decision_id is None:
                n_ambiguous += 1
            elif item.score is None:
                n_without += 1
            else:
                score = _rescale(float(item.score), scale)
                log.feedback(decision_id, score, key=item.key, id=f"langsmith:{item.id}")
                n_imported += 1
    return Imported(n_imported, n_without, n_ambiguous)


def _find_decision(
    run_id: str, by_run: Mapping[str, str], by_trace: Mapping[str, Sequence[str]]
) -> str | None:
    if run_id in by_run:
        return by_run[run_id]
    routed = by_trace.get(run_id, ())
    return routed[0] if len(routed) == 1 else None


def _rescale(score: float, scale: tuple[float, float]) -> float:
    worst, best = scale
    value = (score - worst) / (best - worst)
    if not 0 <= value <= 1:
        msg = (
            f"A score must be on the scale from {worst!r} to {best!r}, got {score!r}: pass the "
            "worst and the best possible score as `scale`."
        )
        raise ValueError(msg)
    return value
