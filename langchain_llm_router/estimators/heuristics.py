"""A baseline that scores a query by rules: length, code, keywords."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["Heuristics", "complexity"]


@dataclass(frozen=True)
class _Rule:
    """Words that count for a weight, in full from `enough` of them on."""

    weight: float
    enough: int
    words: re.Pattern[str]


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_LENGTH_WEIGHT = 0.2
_SHORT, _LONG = 60, 1_600
"""Characters, some 15 and 400 tokens."""

_READ = 20_000
"""Characters that are searched for words, so that a long text takes no longer."""

_RULES = (
    _Rule(
        0.3,
        2,
        re.compile(
            r"```|\b(?:def|class|import|return|async|function|python|javascript|typescript|java|"
            r"rust|sql|html|css|regex|api|json|yaml|debug|bug|compile[rd]?|refactor|unit tests?|"
            r"stack trace|exception|git|docker|kubernetes)\b|[;{}]\s*$|\w\(\w*\)",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    _Rule(
        0.25,
        2,
        _words(
            *("step by step", "think", "reason(?:ing)?", "why", "prove", "proof", "derive"),
            *("deduce", "infer", "analy[sz]e", "analysis", "compare", "contrast", "evaluate"),
            *("justify", "explain", "trade-?offs?", "pros and cons", "implications?"),
        ),
    ),
    _Rule(
        0.15,
        3,
        _words(
            *("algorithms?", "architecture", "distributed", "concurren(?:t|cy)", "latency"),
            *("theorems?", "equations?", "integrals?", "derivatives?", "matri(?:x|ces)"),
            *("probability", "polynomials?", "vectors?", "optimi[sz](?:e|ation)", "encryption"),
            *("protocols?", "statistic(?:s|al)", "hypothes[ie]s", "thermodynamics?", "quantum"),
            *("enzymes?", "liability", "statutes?", "equilibrium", "regression"),
        ),
    ),
    _Rule(
        0.1,
        2,
        re.compile(
            r"\b(?:first(?:ly)?|then|after that|finally|next|steps? \d+)\b|"
            r"^[ \t]*(?:\d+[.)]|[-*])\s",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
)
_SIMPLE = _Rule(
    -0.15,
    1,
    _words(
        *("hello", "hi", "hey", "thanks", "thank you", "what is", "who is", "who was", "define"),
        *("when was", "where is", "how old", "capital of", "translate", "spell"),
    ),
)


def complexity(text: str) -> float:
    """Score how hard a query looks by its length and its words, in [0, 1], without any data.

    What counts: length (0.2), code (0.3), words of reasoning (0.25), technical words (0.15) and
    several steps (0.1); greetings and plain questions of fact count against it.
    """
    length = math.log(max(len(text), 1) / _SHORT) / math.log(_LONG / _SHORT)
    score = _LENGTH_WEIGHT * min(max(length, 0.0), 1.0)
    for rule in (*_RULES, _SIMPLE):
        found = sum(1 for _ in islice(rule.words.finditer(text[:_READ]), rule.enough))
        score += rule.weight * found / rule.enough
    return min(max(score, 0.0), 1.0)


@dataclass(eq=False)
class Heuristics(QualityEstimator):
    """A baseline that predicts quality from `complexity`, as routers by rule do.

    Only a line per candidate, from that score to its quality, is fitted. What another estimator
    gains over it is what learning from the queries adds.

    Args:
        n_prior_rows: The slope of each line is shrunk as by so many rows without a slope, with a
            score one tenth from the mean.

    Attributes:
        lines_: Quality at the mean score, and the slope, of shape (2, n_candidates).
        center_: Mean score of the training queries.

    References:
        LiteLLM's complexity router weighs the same signs (token count, code, reasoning words,
        technical words, simple questions, several steps). Deviations: own lists of words, and a
        fitted scale instead of four tiers that the user fills with models.
    """

    n_prior_rows: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.n_prior_rows < math.inf:
            msg = f"`n_prior_rows` must be > 0, got {self.n_prior_rows!r}."
            raise ValueError(msg)

    def _fit(self, data: Outcomes) -> None:
        scores = _scores(data.queries)
        self.center_ = float(scores.mean())
        off = scores - self.center_
        mean = data.quality.mean(axis=0)
        slope = off @ (data.quality - mean) / (off @ off + 0.01 * self.n_prior_rows)
        self.lines_ = np.array([mean, slope])

    def _predict(self, queries: Sequence[str]) -> Floats:
        level, slope = self.lines_
        return np.asarray(level + np.outer(_scores(queries) - self.center_, slope))

    def _settings(self) -> dict[str, Any]:
        return {"center": self.center_}

    def _arrays(self) -> Arrays:
        return {"lines": self.lines_}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self.center_ = float(settings["center"])
        self.lines_ = arrays["lines"]
        if self.lines_.shape != (2, len(self.candidates_)):
            msg = f"lines have shape {self.lines_.shape}, expected (2, {len(self.candidates_)})"
            raise ValueError(msg)


def _scores(queries: Sequence[str]) -> Floats:
    return np.array([complexity(query) for query in queries], dtype=np.float64)
