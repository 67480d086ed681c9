"""The tables of journals: their rows, what is left out, and what the candidates said."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from langchain_llm_router.collect.journal import Key, Record, read_journal
from langchain_llm_router.collect.merged_journals import merge
from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.verification import AnswerGroups, AnswerLogprob
from langchain_llm_router.verification.answer_reader import is_non_answer
from langchain_llm_router.verification.description import describe_verifier

__all__ = ["Collected", "load_journal", "repeated_sentence", "tabulate"]


@dataclass(frozen=True, eq=False)
class Collected:
    """The tables of a journal; rows are the questions whose answers by all candidates are graded.

    Attributes:
        ids: Question id of each of the n rows.
        outcomes: Quality and cost, of shape (n, n_candidates).
        evaluations: Evaluations by verifier name, with the same rows and columns. The entry
            `answer_logprob` is the geometric mean of the answers' token probabilities, if the
            candidates returned `logprobs`; the entry `answer_groups` has the groups of equal
            answers to each question, compared as texts.
        answers: Text of each answer, per row by candidate.
        latency_s: Seconds per answer, of shape (n, n_candidates), NaN if unknown.
        ttft_s: Seconds to the first token, same shape.
        itl_s: Mean seconds between two tokens, same shape.
        input_tokens: Number of input tokens, same shape.
        output_tokens: Number of output tokens, same shape.
        battles: Pairwise preferences, or None if there are none.
        incomplete: The reason why a question is left out, by question id.
        left_out: Number of questions that are left out, by what they lack.
        repeated: Number of rows that were merged into others because they have the same question;
            such a row has the means of what was measured.
        n_verdicts: Number of verdicts that could be read, and of all, left out questions included.
        runs: The single measurements of the questions that every candidate answered more than once,
            in rows of their own; None if there are none.
    """

    ids: tuple[str, ...]
    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    answers: Sequence[Mapping[str, str]]
    latency_s: Floats
    ttft_s: Floats
    itl_s: Floats
    input_tokens: Floats
    output_tokens: Floats
    battles: Battles | None
    incomplete: Mapping[str, str]
    left_out: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    n_verdicts: tuple[int, int] = (0, 0)
    runs: Outcomes | None = None

    @property
    def left_out_sentence(self) -> str:
        """What was left out and what was merged, in words; an empty text if nothing was."""
        n = sum(self.left_out.values())
        parts = []
        if n > 0:
            lacks = ", ".join(f"{count:,} {what}" for what, count in self.left_out.items())
            parts.append(f"{n:,} of {len(self.ids) + n:,} questions are left out: {lacks}.")
        return " ".join(filter(None, [*parts, repeated_sentence(self.repeated)]))


def repeated_sentence(n: int) -> str:
    """Say how many rows were averaged with others; an empty text if none was."""
    if n == 0:
        return ""
    if n == 1:
        return "1 repeated measurement of a question is averaged with the first."
    return f"{n:,} repeated measurements of questions are averaged with the first."


def load_journal(*paths: str | Path) -> Collected:
    """Load journals of `collect` as tables.

    Args:
        paths: One journal, or several that add up to one table. Rows are known by their questions:
            journals may have other questions, or other candidates for the same ones. A question
            that a candidate has answered more than once has the mean of what was measured.

    Raises:
        ValueError: If a line cannot be read, if no question has a graded answer from every
            candidate, or if one question has different references or graders.
    """
    return tabulate(map(read_journal, paths), " + ".join(Path(path).name for path in paths))


def tabulate(records: Iterable[Record], name: str) -> Collected:
    """Turn the records of journals into tables."""
    records = list(records)
    record, repeated = merge(records)
    candidates: list[str] = list(record.settings.get("candidates", ()))
    missing = {id: _first_missing(record, id, candidates) for id in record.questions}
    ids = [id for id, reason in missing.items() if reason is None]
    incomplete = {id: lack.reason for id, lack in missing.items() if lack is not None}
    if len(ids) == 0:
        id, reason = next(iter(incomplete.items()), ("", "nothing was asked"))
        msg = f"{name} has no complete row: e.g. question {id!r}: {reason}."
        raise ValueError(msg)

    def table(lines: Mapping[Key, Mapping[str, Any]], fact: str, *tail: str) -> Any:
        cells = [[lines.get((id, c, *tail), {}).get(fact) for c in candidates] for id in ids]
        return np.array(cells, dtype=np.float64)

    groups = [record.questions[id].group for id in ids]
    outcomes = Outcomes(
        [record.questions[id].query for id in ids],
        candidates,
        table(record.grades, "quality"),
        _none_if_unknown(table(record.answers, "cost_usd")),
        None if not any(groups) else [group or "" for group in groups],
        _none_if_unknown(table(record.answers, "latency_s")),
        _none_if_unknown(table(record.answers, "output_tokens")),
    )
    facts = ("latency_s", "ttft_s", "itl_s", "input_tokens", "output_tokens")
    return Collected(
        ids=tuple(ids),
        outcomes=outcomes,
        evaluations=_evaluations(record, ids, candidates, table),
        answers=[{c: record.answers[id, c]["text"] for c in candidates} for id in ids],
        battles=_battles(record),
        incomplete=incomplete,
        left_out=Counter(lack.what for lack in missing.values() if lack is not None),
        repeated=repeated,
        n_verdicts=_count_verdicts(record),
        runs=_single_runs(records, candidates) if repeated else None,
        **{fact: table(record.answers, fact) for fact in facts},
    )


def _single_runs(records: Sequence[Record], candidates: Sequence[str]) -> Outcomes | None:
    """Return the rows before equal questions were merged, of the questions that have several."""
    rows: dict[tuple[object, ...], list[tuple[str, list[float], list[float | None]]]] = defaultdict(
        list
    )
    for record in records:
        for id, question in record.questions.items():
            if _first_missing(record, id, candidates) is None:
                quality = [record.grades[id, name]["quality"] for name in candidates]
                cost = [record.answers[id, name].get("cost_usd") for name in candidates]
                key = (question.query, question.context)
                rows[key].append((question.query, quality, cost))
    repeated = [row for same in rows.values() if len(same) > 1 for row in same]
    if len(repeated) == 0:
        return None
    costs = np.array([cost for _, _, cost in repeated], dtype=np.float64)
    return Outcomes(
        [query for query, _, _ in repeated],
        candidates,
        [quality for _, quality, _ in repeated],
        _none_if_unknown(costs),
    )


class _Lack(NamedTuple):
    what: str
    reason: str


def _first_missing(record: Record, id: str, candidates: Sequence[str]) -> _Lack | None:
    """Return what a question lacks of a row: the kind, and the reason for this question."""
    for name in candidates:
        if (id, name) not in record.answers:
            reason = record.failures.get((id, name), f"{name!r} has not answered")
            return _Lack(f"without an answer of {name!r}", reason)
        if not record.is_graded((id, name)):
            why = record.grades.get((id, name), {}).get("rationale")
            reason = f"the answer of {name!r} has no grade" + (f": {why}" if why else "")
            return _Lack(f"without a readable grade of {name!r}", reason)
    return None


def _count_verdicts(record: Record) -> tuple[int, int]:
    """Count the verdicts that could be read, and all; a verifier may give a score alone."""
    verdicts = [
        verdict
        for line in record.evaluations.values()
        if "answer_group" not in line
        for verdict in line.get("verdicts") or [line.get("confidence")]
    ]
    return sum(verdict is not None for verdict in verdicts), len(verdicts)


def _none_if_unknown(values: Any) -> Any:
    return None if np.isnan(values).all() else values


def _evaluations(
    record: Record, ids: Sequence[str], candidates: Sequence[str], table: Any
) -> dict[str, SelfEvaluations]:
    evaluations: dict[str, SelfEvaluations] = {}
    evaluations["answer_groups"] = _groups_by_text(record, ids, candidates)
    for verifier in dict.fromkeys(key[2] for key in record.evaluations):
        samples = [
            [
                record.evaluations.get((id, c, verifier), {}).get("verdicts") or []
                for c in candidates
            ]
            for id in ids
        ]
        n_verdicts = max(len(cell) for row in samples for cell in row)
        verdicts = np.full((len(ids), len(candidates), n_verdicts), np.nan)
        for i, row in enumerate(samples):
            for j, cell in enumerate(row):
                verdicts[i, j, : len(cell)] = [np.nan if v is None else float(v) for v in cell]
        evaluations[verifier] = SelfEvaluations(
            candidates,
            table(record.evaluations, "confidence", verifier),
            _none_if_unknown(table(record.evaluations, "cost_usd", verifier)),
            verdicts if n_verdicts > 0 else None,
            record.settings.get("verifiers", {}).get(verifier),
            _none_if_unknown(table(record.evaluations, "latency_s", verifier)),
            _recorded_groups(record, ids, candidates, verifier),
        )
    logprob = table(record.answers, "mean_logprob")
    if not np.isnan(logprob).all():
        no_cost = np.where(np.isnan(logprob), np.nan, 0.0)
        probability = np.exp(np.minimum(logprob, 0.0))
        evaluations["answer_logprob"] = SelfEvaluations(
            candidates,
            probability,
            no_cost,
            verifier=describe_verifier(AnswerLogprob()),
            latency_s=no_cost,
        )
    return evaluations


def _groups_by_text(
    record: Record, ids: Sequence[str], candidates: Sequence[str]
) -> SelfEvaluations:
    """Group the answers by their texts, which takes no call and is not in the journal."""
    comparing, free = AnswerGroups(), np.zeros((len(ids), len(candidates)))
    return SelfEvaluations(
        candidates,
        np.full(free.shape, np.nan),
        free,
        verifier=describe_verifier(comparing),
        latency_s=free,
        answer_groups=[
            comparing.partition([_evidence(record.answers[id, c]) for c in candidates])
            for id in ids
        ],
    )


def _evidence(answer: Mapping[str, Any]) -> str:
    """Return the text of an answer; "" if it is no evidence, as `AnswerGroups` sees it."""
    text = str(answer.get("text") or "")
    return "" if answer.get("flaw") or is_non_answer(text) else text


def _recorded_groups(
    record: Record, ids: Sequence[str], candidates: Sequence[str], verifier: str
) -> list[list[int]] | None:
    """Return the groups that a verifier made, -1 for an answer without one.

    None if it made none.
    """
    lines = [[record.evaluations.get((id, c, verifier), {}) for c in candidates] for id in ids]
    if not any("answer_group" in line for row in lines for line in row):
        return None
    groups = []
    for id, row in zip(ids, lines, strict=True):
        known = [
            line.get("answer_group") if _evidence(record.answers.get((id, c), {})) else None
            for c, line in zip(candidates, row, strict=True)
        ]
        groups.append([-1 if group is None else group for group in known])
    return groups


def _battles(record: Record) -> Battles | None:
    lines = [line for line in record.battles.values() if line.get("score_a") is not None]
    if len(lines) == 0:
        return None
    return Battles(
        [record.questions[line["id"]].query for line in lines],
        [line["a"] for line in lines],
        [line["b"] for line in lines],
        [line["score_a"] for line in lines],
    )
