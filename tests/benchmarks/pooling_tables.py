"""Recorded answers of many models, with the groups of equal ones: ZeroEval and RouterBench."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.verification import read_letter, same_answer

LETTERED = ("mixtral-8x7b-chat", "yi-34b-chat", "gpt-4-1106-preview")


@dataclass(frozen=True)
class Answers:
    """What every model answered to every question.

    Attributes:
        outcomes: Correctness, cost, output tokens; the groups are the data sets.
        groups: Equal answers of a row have equal numbers; -1 if unreadable.
    """

    outcomes: Outcomes
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def evaluations(self) -> SelfEvaluations:
        """The groups as a verifier's table; comparing costs nothing."""
        nothing = np.full(self.groups.shape, np.nan)
        return SelfEvaluations(
            self.outcomes.candidates, nothing, np.zeros(nothing.shape), answer_groups=self.groups
        )

    def take(self, rows: Any) -> Answers:
        """Select rows."""
        return Answers(self.outcomes.take(rows), self.groups[rows])

    def select(self, names: Sequence[str]) -> Answers:
        """Select models."""
        columns = [list(self.outcomes.candidates).index(name) for name in names]
        return Answers(self.outcomes.select(names), self.groups[:, columns])


def equal_groups(answers: Sequence[str | None]) -> list[int]:
    """Number the groups of equal answers; -1 for an answer that cannot be read."""
    firsts: list[str] = []
    numbers = []
    for answer in answers:
        if answer is None or not str(answer).strip():
            numbers.append(-1)
            continue
        found = next((g for g, first in enumerate(firsts) if same_answer(first, answer)), None)
        if found is None:
            firsts.append(answer)
            found = len(firsts) - 1
        numbers.append(found)
    return numbers


def zeroeval(folder: Path) -> Answers:
    """The complete priced models of ZeroEval, from cheap to dear; o1 hides a part of its cost."""
    place = folder / "zeroeval"
    models = pd.read_csv(place / "models.csv")
    kept = models[models.complete & models.mean_cost_usd.notna()]
    kept = kept[~kept.model.str.startswith("o1")]
    names = kept.sort_values("mean_cost_usd").model.tolist()
    queries = pd.read_parquet(place / "queries.parquet")
    scores = pd.read_parquet(place / "scores.parquet")
    scores = scores[scores.model.isin(names)].assign(model=lambda it: it.model.astype(str))

    def table(column: str) -> np.ndarray:
        wide = scores.pivot(index="id", columns="model", values=column)
        return wide.loc[queries.id, names].to_numpy()

    parsed, texts = table("parsed").astype(bool), table("answer")
    groups = [
        equal_groups([text if ok else None for text, ok in zip(row, oks, strict=True)])
        for row, oks in zip(texts, parsed, strict=True)
    ]
    outcomes = Outcomes(
        queries.question.tolist(),
        names,
        table("correct").astype(float),
        table("cost_usd").astype(float),
        queries.dataset.astype(str).tolist(),
        output_tokens=table("output_tokens").astype(float),
    )
    return Answers(outcomes, np.array(groups))


def routerbench_letters(folder: Path) -> Answers:
    """The multiple-choice questions of RouterBench (ARC, Winogrande), of three models."""
    place = folder / "routerbench"
    queries = pd.read_parquet(place / "queries.parquet")
    queries = queries[queries.dataset.isin(["arc_challenge", "winogrande"])]
    scores = pd.read_parquet(place / "scores.parquet")
    responses = pd.read_parquet(place / "responses.parquet")

    def table(rows: pd.DataFrame, column: str) -> np.ndarray:
        rows = rows[rows.model.isin(LETTERED)]
        wide = rows.pivot(index="id", columns="model", values=column)
        return wide.loc[queries.id, list(LETTERED)].to_numpy()

    groups = []
    for row in table(responses, "response"):
        letters = [read_letter(str(text)) for text in row]
        groups.append([-1 if letter is None else ord(letter) - ord("A") for letter in letters])
    outcomes = Outcomes(
        queries.question.tolist(),
        LETTERED,
        (table(scores, "score") >= 0.5).astype(float),
        table(scores, "cost_usd").astype(float),
        queries.dataset.tolist(),
    )
    return Answers(outcomes, np.array(groups))
