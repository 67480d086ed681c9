"""A decision model's guesses as predictions of quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from scipy.special import expit, logit

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.data.yes_probabilities import (
    YesNoRequest,
    ask_probabilities,
    decision_model_name,
)
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.types.arrays import Arrays, Floats
from langchain_llm_router.types.errors import ArtifactError

__all__ = ["DecisionModelEstimator"]

_LEAST = 0.01
_SLOPE_ROWS, _OFFSET_ROWS = 10.0, 2.0


@dataclass(eq=False)
class DecisionModelEstimator(QualityEstimator):
    """Asks a decision model how probably each candidate answers a query well.

    One call per query asks about all candidates. A few dozen labels recalibrate what it says: the
    logit of a candidate's quality is a slope, the same for all, times the logit of the stated
    probability, plus an offset of its own. Without a label, `for_candidates` takes the model at
    its word. The calls of the model are not part of any budget; each prediction waits for one.

    Args:
        model: A `BaseDecisionModel` of langchain-core >= 1.8, OpenAI's `OpenAIDecisions`, or a
            chat model with structured output. It is not saved: pass it to `load`, or set it.
        descriptions: Description of each candidate for the decision model's prompt, by name, e.g.
            its size and strengths.
        max_concurrency: Most calls at the same time.

    Attributes:
        slope_: The slope; 1 and offsets of 0 leave probabilities as they were stated.
        offsets_: One offset per candidate, of shape (n_candidates,).
        model_name_: The model that was asked.

    References:
        Platt, 1999, Probabilistic outputs for support vector machines (a logistic curve on
        scores). Deviations: one slope for all candidates, and shrinkage towards no change.
    """

    model: Any = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
    max_concurrency: int = 8

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            msg = f"`max_concurrency` must be >= 1, got {self.max_concurrency!r}."
            raise ValueError(msg)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        embeddings: Embeddings | None = None,
        model: Any = None,
    ) -> Self:
        """Read an estimator that `save` wrote.

        Args:
            folder: The artifact's folder.
            embeddings: Not used.
            model: The decision model of the fit. If None, set the field `model` before `predict`.

        Raises:
            ArtifactError: If the folder is corrupted, has a newer schema, or was fitted with
                another model.
        """
        loaded = cls._load(folder, embeddings, model=model)
        if model is not None and decision_model_name(model) != loaded.model_name_:
            msg = (
                f"`model` must be the one of the fit, {loaded.model_name_!r}, whose probabilities "
                f"were calibrated, got {decision_model_name(model)!r}."
            )
            raise ArtifactError(msg)
        return loaded

    def for_candidates(self, names: Sequence[str]) -> Self:
        """Take the model at its word about these candidates, without any label."""
        self.report_ = None
        self.candidates_ = tuple(names)
        self.data_hash_ = data_hash(self.candidates_, self.model_name)
        self._calibrate(np.empty((0, len(names))), np.empty((0, len(names))))
        return self

    @property
    def model_name(self) -> str:
        """Class and name of the decision model.

        Raises:
            ValueError: If there is no model.
        """
        if self.model is None:
            was = getattr(self, "model_name_", "a decision model")
            msg = f"`model` is not set: set it to {was} (it is not saved, so that no key is)."
            raise ValueError(msg)
        return decision_model_name(self.model)

    def _fit(self, data: Outcomes) -> None:
        self._calibrate(self._stated(data.queries), data.quality)

    def _calibrate(self, stated: Floats, quality: Floats) -> None:
        """Fit slope and offsets to the stated probabilities, NaN where one is missing."""
        from scipy.optimize import minimize  # noqa: PLC0415 - slow, and only fitting needs it

        self.model_name_ = self.model_name
        known = np.isfinite(stated)
        scores = logit(np.clip(np.where(known, stated, 0.5), _LEAST, 1 - _LEAST))

        def loss(parameters: Floats) -> tuple[float, Floats]:
            slope, offsets = parameters[0], parameters[1:]
            logits = slope * scores + offsets
            each = np.logaddexp(0, logits) - quality * logits
            excess = np.where(known, expit(logits) - quality, 0)
            pull = _SLOPE_ROWS * (slope - 1) ** 2 + _OFFSET_ROWS * (offsets @ offsets)
            gradient = [(excess * scores).sum() + _SLOPE_ROWS * (slope - 1)]
            on_offsets = excess.sum(axis=0) + _OFFSET_ROWS * offsets
            return float(each[known].sum() + pull / 2), np.concatenate([gradient, on_offsets])

        n = stated.shape[1]
        # A model that is wrong more often than not is ignored, not turned around.
        bounds = [(0.0, None), *[(None, None)] * n]
        start = np.array([1.0, *[0.0] * n])
        solution = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
        self.slope_, self.offsets_ = float(solution[0]), np.asarray(solution[1:], np.float64)

    def _predict(self, queries: Sequence[str]) -> Floats:
        stated = np.clip(self._stated(queries), _LEAST, 1 - _LEAST)
        return np.asarray(expit(self.slope_ * logit(stated) + self.offsets_), dtype=np.float64)

    def _stated(self, queries: Sequence[str]) -> Floats:
        """Ask the model, and return the probabilities, NaN where it stated none."""
        asked = self.model_name, [self._question(name) for name in self.candidates_]
        keys = [f"candidate_{i}" for i in range(len(asked[1]))]
        questions = dict(zip(keys, asked[1], strict=True))
        requests = [YesNoRequest(query, questions) for query in queries]
        runnable = ask_probabilities(self.model)
        answers = runnable.batch(requests, {"max_concurrency": self.max_concurrency})
        return np.array([[answer.yes.get(key, np.nan) for key in keys] for answer in answers])

    def _question(self, name: str) -> str:
        told = self.descriptions.get(name)
        who = f"{name!r}" if told is None else f"{name!r} ({told})"
        return f"Would the language model {who} answer this request correctly and completely?"

    def _params(self) -> dict[str, Any]:
        return {
            "descriptions": dict(self.descriptions),
            "max_concurrency": self.max_concurrency,
        }

    def _settings(self) -> dict[str, Any]:
        return {"slope": self.slope_, "model_name": self.model_name_}

    def _arrays(self) -> Arrays:
        return {"offsets": self.offsets_}

    def _restore(
        self,
        settings: Mapping[str, Any],
        arrays: Arrays,
        embeddings: Embeddings | None,
    ) -> None:
        self.slope_, self.model_name_ = float(settings["slope"]), str(settings["model_name"])
        self.offsets_ = arrays["offsets"]
        if self.offsets_.shape != (len(self.candidates_),):
            msg = f"offsets have shape {self.offsets_.shape}, not one per candidate"
            raise ValueError(msg)
