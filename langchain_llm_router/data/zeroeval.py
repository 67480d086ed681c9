"""Recorded answers of five models to the 2,840 questions of ZeroEval, with correctness and tokens.

Source: github.com/WildEval/ZeroEval (Apache-2.0), GSM8K, MATH level 5 and CRUX; greedy decoding,
graded by the answer field of the recorded JSON. Token counts are cl100k_base counts for every
model, so costs are estimates; prices are list prices of late 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.recorded_model import RecordedChatModel
from langchain_llm_router.data.row_files import read_shipped
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.arrays import Indices
from langchain_llm_router.types.decisions import share_true

__all__ = ["ZeroEval"]


@dataclass(frozen=True, eq=False)
class ZeroEval:
    """The recorded table of ZeroEval.

    Attributes:
        outcomes: Correctness (0 or 1), cost and output tokens of every model's answer; groups are
            the data sets.
        answers: Recorded answers by model; "" where an answer is unreadable.
        tokens: (input, output) tokens by model, one pair per question.
        prices: Prices by model.
    """

    outcomes: Outcomes
    answers: dict[str, list[str]]
    tokens: dict[str, list[tuple[int, int]]]
    prices: dict[str, Price]

    @classmethod
    def load(cls) -> ZeroEval:
        """Read the table that is part of the package."""
        table = read_shipped("zeroeval")
        models = table["models"]
        prompt_tokens: list[int] = table["prompt_tokens"]
        prices = {
            name: Price(m["input_usd_per_mtok"], m["output_usd_per_mtok"])
            for name, m in models.items()
        }
        tokens = {
            name: list(zip(prompt_tokens, m["output_tokens"], strict=True))
            for name, m in models.items()
        }
        cost = [
            [prices[n].estimate_usd(input_tokens=i, output_tokens=o) for i, o in tokens[n]]
            for n in models
        ]
        quality = [m["correct"] for m in models.values()]
        outcomes = Outcomes(
            table["question"],
            list(models),
            np.transpose(quality),
            np.transpose(cost),
            table["group"],
            output_tokens=np.transpose([m["output_tokens"] for m in models.values()]),
        )
        answers = {name: m["answer"] for name, m in models.items()}
        return cls(outcomes, answers, tokens, prices)

    def candidates(self, names: Sequence[str], *, known: Outcomes | None = None) -> list[Candidate]:
        """Return candidates that replay the recorded answers.

        Args:
            names: Names of the models, from cheap to strong.
            known: Rows whose mean cost is the expected cost of a call. If None, the expected cost
                is the price times the expected tokens.
        """
        means = None if known is None else known.select(names).mean_cost_usd
        return [
            Candidate(
                name,
                RecordedChatModel(
                    dict(zip(self.outcomes.queries, self.answers[name], strict=True)),
                    usage=dict(zip(self.outcomes.queries, self.tokens[name], strict=True)),
                    model=name,
                ),
                self.prices[name],
                expected_cost_usd=None if means is None else float(means[i]),
            )
            for i, name in enumerate(names)
        ]

    def agreement(
        self,
        drafter: str,
        peers: Sequence[str],
        candidates: Sequence[str],
        *,
        same: Callable[[str, str], bool],
    ) -> SelfEvaluations:
        """Compute the scores of `Agreement(peers)` for the answers of one candidate.

        Args:
            drafter: Name of the candidate; other candidates have no verdicts.
            peers: Names of the models that answer the same question.
            candidates: Names of the columns.
            same: Function as in `Agreement`.
        """
        n, column = len(self.outcomes), list(candidates).index(drafter)
        confidence = np.full((n, len(candidates)), np.nan)
        cost = np.zeros((n, len(candidates)))
        peer_outcomes = self.outcomes.select(peers)
        assert peer_outcomes.cost_usd is not None
        cost[:, column] = peer_outcomes.cost_usd.sum(axis=1)
        for i, answer in enumerate(self.answers[drafter]):
            share = share_true([same(answer, self.answers[peer][i]) for peer in peers])
            confidence[i, column] = np.nan if share is None else share
        return SelfEvaluations(candidates, confidence, cost)

    def answer_groups(
        self, candidates: Sequence[str], *, same: Callable[[str, str], bool]
    ) -> SelfEvaluations:
        """Compute which of the recorded answers to each question are the same.

        Args:
            candidates: Names of the columns.
            same: Function that returns whether two answers are the same, e.g. `same_answer`.

        Returns:
            `answer_groups`, without scores and at no cost; an answer joins the group of the first
            of the models before whose answer is the same, and unreadable answers have -1.
        """
        groups = self._groups.get(same)
        if groups is None:
            rows = zip(*self.answers.values(), strict=True)
            groups = self._groups[same] = np.array([_partition(row, same) for row in rows])
        shape = groups.shape
        return SelfEvaluations(
            list(self.answers), np.full(shape, np.nan), np.zeros(shape), answer_groups=groups
        ).select(candidates)

    @cached_property
    def _groups(self) -> dict[Callable[[str, str], bool], Indices]:
        # Comparing all answers takes seconds, and benchmarks ask for them again and again.
        return {}


def _partition(answers: Sequence[str], same: Callable[[str, str], bool]) -> list[int]:
    """Number the groups of equal answers; an empty answer has -1."""
    numbers: list[int] = []
    for i, answer in enumerate(answers):
        earlier = zip(numbers, answers[:i], strict=True)
        equal = (n for n, one in earlier if n >= 0 and (one == answer or same(one, answer)))
        numbers.append(next(equal, max(numbers, default=-1) + 1) if answer else -1)
    return numbers
