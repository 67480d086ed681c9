"""ZeroEval: recorded answers of five models to 2,840 questions, with correctness and tokens.

Source: github.com/WildEval/ZeroEval (Apache-2.0), GSM8K, MATH level 5 and CRUX; greedy decoding,
graded by the answer field of the recorded JSON. Token counts are cl100k_base counts for every
model, so costs are estimates; prices are list prices of late 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.recorded_model import RecordedChatModel
from langchain_llm_router.data.row_files import read_shipped
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.decisions import share_true

__all__ = ["ZeroEval"]


@dataclass(frozen=True, eq=False)
class ZeroEval:
    """The recorded table, ready to be routed over.

    Attributes:
        outcomes: Correctness (0 or 1) and cost of every model's answer; groups are the data sets.
        answers: Recorded answers by model; "" where none could be read.
        tokens: (input, output) tokens by model, one pair per question.
        prices: Price by model.
    """

    outcomes: Outcomes
    answers: dict[str, list[str]]
    tokens: dict[str, list[tuple[int, int]]]
    prices: dict[str, Price]

    @classmethod
    def load(cls) -> ZeroEval:
        """Read the table that ships with the package."""
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
        )
        answers = {name: m["answer"] for name, m in models.items()}
        return cls(outcomes, answers, tokens, prices)

    def candidates(self, names: Sequence[str], *, known: Outcomes | None = None) -> list[Candidate]:
        """Candidates that replay the recorded answers.

        Args:
            names: Which models, from cheap to strong.
            known: Rows whose mean cost is taken for the expected cost of a call; None: price
                times expected tokens.
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
        """What `Agreement(peers)` says of the drafter's answers; other candidates have no verdict.

        Args:
            drafter: Whose answers are judged.
            peers: The models that are asked the same question.
            candidates: The columns.
            same: As in `Agreement`.
        """
        n, column = len(self.outcomes), list(candidates).index(drafter)
        confidence = np.full((n, len(candidates)), np.nan)
        cost = np.zeros((n, len(candidates)))
        asked = self.outcomes.select(peers)
        assert asked.cost_usd is not None
        cost[:, column] = asked.cost_usd.sum(axis=1)
        for i, own in enumerate(self.answers[drafter]):
            share = share_true([same(own, self.answers[peer][i]) for peer in peers])
            confidence[i, column] = np.nan if share is None else share
        return SelfEvaluations(candidates, confidence, cost)
