"""Recorded answers of three small local models, with several verifiers' scores.

Recorded with `collect` (see `tests/support/local_models/record.py`). README.md in this folder
describes the questions and the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.recorded_model import RecordedChatModel
from langchain_llm_router.data.row_files import read_shipped
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.arrays import Floats

__all__ = ["LocalModels"]


@dataclass(frozen=True, eq=False)
class LocalModels:
    """The recorded tables, with a row per question and a column per model from weak to strong.

    Attributes:
        outcomes: Correctness (0 or 1) and notional cost; groups are the sources of the questions.
        evaluations: `self_k8` (eight sampled verdicts), `token_probability` (one call),
            `answer_logprob` (the answer's own mean token probability, free).
        answers: Answers of each model by its name.
        references: The correct answers.
        tokens: Input and output tokens, of shape (n_questions, n_models, 2).
        latency_s: Seconds per answer, of shape (n_questions, n_models), on a machine under varying
            load.
        prices: Notional prices by model: $0.10 per billion parameters and million tokens.
    """

    outcomes: Outcomes
    evaluations: Mapping[str, SelfEvaluations]
    answers: Mapping[str, list[str]]
    references: list[str]
    tokens: NDArray[np.int64]
    latency_s: Floats
    prices: Mapping[str, Price]

    @classmethod
    def load(cls) -> LocalModels:
        """Read the table that ships with the package."""
        table = read_shipped("local_models")
        models: dict[str, dict[str, Any]] = table["models"]
        names = tuple(models)
        outcomes = Outcomes(
            table["queries"],
            names,
            _columns(models, "quality"),
            _columns(models, "cost_usd"),
            table["groups"],
        )
        verdicts = np.array([m["self_k8"] for m in models.values()], dtype=np.float64)
        evaluations = {
            "self_k8": _evaluations(names, models, "self_k8", verdicts.transpose(1, 0, 2)),
            "token_probability": _evaluations(names, models, "token_probability"),
            "answer_logprob": SelfEvaluations(
                names,
                np.exp(_columns(models, "mean_logprob")),
                np.zeros(outcomes.quality.shape),
            ),
        }
        tokens = [_columns(models, f"{side}_tokens") for side in ("input", "output")]
        rates = {name: model["usd_per_mtok"] for name, model in models.items()}
        return cls(
            outcomes=outcomes,
            evaluations=evaluations,
            answers={name: model["answers"] for name, model in models.items()},
            references=table["references"],
            tokens=np.stack(tokens, axis=-1).astype(np.int64),
            latency_s=_columns(models, "latency_s"),
            prices={name: Price(rate, rate) for name, rate in rates.items()},
        )

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        """Return candidates that replay the recorded answers, usage and log-probabilities.

        Args:
            names: Names of the models, from weak to strong.
        """
        return [self._candidate(name) for name in names]

    def _candidate(self, name: str) -> Candidate:
        queries, j = self.outcomes.queries, self.outcomes.candidates.index(name)
        n_input, n_output = self.tokens[:, j].T.tolist()
        mean_logprobs = np.log(self.evaluations["answer_logprob"].confidence[:, j]).tolist()
        model = RecordedChatModel(
            dict(zip(queries, self.answers[name], strict=True)),
            usage=dict(zip(queries, zip(n_input, n_output, strict=True), strict=True)),
            mean_logprobs=dict(zip(queries, mean_logprobs, strict=True)),
            model=name,
        )
        return Candidate(name, model, self.prices[name], expected_output_tokens=2)


def _columns(models: Mapping[str, Mapping[str, Any]], name: str) -> Floats:
    return np.array([model[name] for model in models.values()], dtype=np.float64).T


def _evaluations(
    names: tuple[str, ...],
    models: Mapping[str, Mapping[str, Any]],
    verifier: str,
    verdicts: Floats | None = None,
) -> SelfEvaluations:
    scores = _columns(models, verifier) if verdicts is None else np.nanmean(verdicts, axis=-1)
    return SelfEvaluations(names, scores, _columns(models, f"{verifier}_cost_usd"), verdicts)
