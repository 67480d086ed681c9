"""The belief over classes of difficulty: from predicted qualities, then from answers' lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, logit

from langchain_llm_router.types.arrays import Arrays, Floats, Indices

__all__ = ["ClassBeliefs", "Gate", "Lengths", "class_means", "log_tokens"]

_ROWS = 5.0
"""Number of rows that a candidate's mean over all classes counts for in each class."""
_LEAST_VARIANCE = 0.02
_RIDGE = 30.0
_NEAR = 0.01


def class_means(table: Floats, patterns: Indices, shares: Floats) -> Floats:
    """Return the mean of each column in each class, drawn towards its mean over all rows.

    Args:
        table: Numbers of shape (n_rows, n_candidates), NaN where unknown.
        patterns: Number of the pattern of each row.
        shares: P(class | pattern), of shape (n_patterns, n_classes).

    Returns:
        Of shape (n_classes, n_candidates); NaN where a column is unknown.
    """
    n = len(shares)
    means = np.empty((shares.shape[1], table.shape[1]))
    for j, column in enumerate(table.T):
        known = ~np.isnan(column)
        if not known.any():
            means[:, j] = np.nan
            continue
        total = np.bincount(patterns[known], column[known], minlength=n)
        count = np.bincount(patterns[known], minlength=n)
        overall = column[known].mean()
        means[:, j] = (shares.T @ total + _ROWS * overall) / (shares.T @ count + _ROWS)
    return means


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long answers are in each class: the logarithm of their tokens is normal.

    Attributes:
        typical: Mean log of the number of tokens, of shape (n_candidates, n_classes); 0 for a
            candidate without known lengths.
        powers: What 1, log tokens and its square add to log P(class), of shape (n_candidates, 3,
            n_classes); 0 for a candidate without known lengths. It contains the weight of this
            evidence, below 1 because the lengths of several answers to one question depend on each
            other.
    """

    typical: Floats
    powers: Floats

    @classmethod
    def fit(cls, output_tokens: Floats, patterns: Indices, shares: Floats, weight: float) -> Self:
        """Fit on the tokens of training rows; the first arguments are those of `class_means`."""
        log = log_tokens(output_tokens)
        mean = class_means(log, patterns, shares).T
        square = class_means(log**2, patterns, shares).T
        variance = np.maximum(square - mean**2, _LEAST_VARIANCE)
        constant = -(mean**2) / (2 * variance) - 0.5 * np.log(variance)
        powers = weight * np.stack([constant, mean / variance, -0.5 / variance], axis=1)
        # The same layout as after loading: the order of a sum must not depend on it.
        return cls(*(np.ascontiguousarray(np.nan_to_num(table)) for table in (mean, powers)))

    def evidence(self, candidate: int, log: Floats) -> Floats:
        """Return what the lengths of a candidate's answers add to log P(class).

        Args:
            candidate: Number of the candidate.
            log: Log of the number of tokens, of shape (n_rows,); NaN where unknown, which is no
                evidence.
        """
        known = ~np.isnan(log)
        length = np.where(known, log, 0.0)
        powers = np.stack([known, length, length**2], axis=1)
        added: Floats = powers @ self.powers[candidate]
        return added


def log_tokens(output_tokens: Floats) -> Floats:
    """Return the logarithm of numbers of tokens, at least 1; NaN stays."""
    log: Floats = np.log(np.maximum(output_tokens, 1.0))
    return log


@dataclass(frozen=True, eq=False)
class Gate:
    """Softmax regression from the candidates' predicted qualities to classes.

    Attributes:
        weights: Of the log-odds of the qualities, of shape (n_candidates, n_classes).
        bias: Of shape (n_classes,).
        center: Mean log-odds of each candidate's predicted quality, in place of unknown ones.
    """

    weights: Floats
    bias: Floats
    center: Floats

    @classmethod
    def fit(cls, quality: Floats, shares: Floats) -> Self:
        """Fit on predictions of an estimator for rows that it was not fitted on.

        Args:
            quality: Predicted quality in [0, 1], of shape (n_rows, n_candidates).
            shares: P(class | row), of shape (n_rows, n_classes).
        """
        from scipy.optimize import minimize  # noqa: PLC0415 - slow, and only fitting needs it

        raw = _log_odds(quality)
        center, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6
        x = (raw - center) / scale
        n, k = x.shape[1], shares.shape[1]

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights, bias = flat[: n * k].reshape(n, k), flat[n * k :]
            log = log_softmax(x @ weights + bias, axis=1)
            away = np.exp(log) - shares
            slope = np.concatenate([(x.T @ away + 2 * _RIDGE * weights).ravel(), away.sum(axis=0)])
            return float(-(shares * log).sum() + _RIDGE * (weights**2).sum()), slope

        start = np.concatenate([np.zeros(n * k), np.log(shares.mean(axis=0) + 1e-6)])
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
        weights = found[: n * k].reshape(n, k) / scale[:, None]
        return cls(weights, found[n * k :] - center @ weights, center)


def _log_odds(quality: Floats) -> Floats:
    odds: Floats = logit(np.clip(quality, _NEAR, 1 - _NEAR))
    return odds


@dataclass(frozen=True, eq=False)
class ClassBeliefs:
    """The belief over classes before the first answer, and how lengths change it.

    Beliefs are log P(class) up to a constant.

    Attributes:
        prior: P(class), for queries without predicted qualities.
        gate: How predicted qualities replace it; None if there were none in training.
        lengths: How lengths change it; None if none were known in training.
    """

    prior: Floats
    gate: Gate | None = None
    lengths: Lengths | None = None

    def before(self, quality: Floats | None, n_rows: int) -> Floats:
        """Return the belief of each row before the first answer, of shape (n_rows, n_classes).

        Args:
            quality: Predicted quality of every candidate's answer; None if unknown.
            n_rows: Number of rows.
        """
        if self.gate is None or quality is None:
            return np.repeat(np.log(self.prior)[None], n_rows, axis=0)
        belief: Floats = _log_odds(quality) @ self.gate.weights + self.gate.bias
        return belief

    def after(self, belief: Floats, candidate: int, log: Floats) -> Floats:
        """Return the belief of each row after an answer of this log of the number of tokens."""
        if self.lengths is None:
            return belief
        moved: Floats = belief + self.lengths.evidence(candidate, log)
        return moved

    def of_request(
        self, quality: Sequence[float | None] | None, tokens: Sequence[tuple[int, int]]
    ) -> list[float]:
        """Return P(class) of one request: as `before` and `after`, without their overhead.

        Args:
            quality: Predicted qualities, None where a candidate cannot be asked; None if unknown.
            tokens: Candidates that have answered, each with its number of tokens.
        """
        if self.gate is None or quality is None:
            log = self._log_prior
        else:
            centers = self.gate.center
            odds = [
                centers[j] if q is None else math.log(max(q, _NEAR) / max(1 - q, _NEAR))
                for j, q in enumerate(quality)
            ]
            log = np.array(odds) @ self.gate.weights + self.gate.bias
        if self.lengths is not None:
            for j, n in tokens:
                length = math.log(max(n, 1))
                log = log + np.array((1.0, length, length * length)) @ self.lengths.powers[j]
        values = log.tolist()
        highest = max(values)
        weights = [math.exp(value - highest) for value in values]
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    @cached_property
    def _log_prior(self) -> Floats:
        return np.log(self.prior)

    def examples(self, quality: Floats | None, output_tokens: Floats | None, most: int) -> Floats:
        """Return beliefs that occur, each a row of P(class): the prior, before and after lengths.

        Args:
            quality: Predicted qualities of training rows; None without.
            output_tokens: Their tokens; None if unknown.
            most: Largest number of rows.
        """
        prior = self.prior[None]
        n_rows = max((len(t) for t in (quality, output_tokens) if t is not None), default=0)
        if n_rows == 0 or (self.gate is None and self.lengths is None):
            return prior
        log = self.before(quality, n_rows)
        found = [log]
        if self.lengths is not None and output_tokens is not None:
            for j, column in enumerate(log_tokens(output_tokens).T):
                log = self.after(log, j, column)
                found.append(log)
        rows = np.concatenate(found)
        chosen = np.random.default_rng(0).permutation(len(rows))[:most]
        return np.vstack([prior, np.exp(log_softmax(rows[chosen], axis=1))])

    def arrays(self) -> Arrays:
        """Return the parameters by name, to save them."""
        arrays = {"prior": self.prior}
        for name, part in (("gate", self.gate), ("lengths", self.lengths)):
            if part is not None:
                arrays |= {f"{name}_{key}": value for key, value in vars(part).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Build what `arrays` returned."""
        gate, lengths = None, None
        if "gate_bias" in arrays:
            gate = Gate(*(arrays[f"gate_{name}"] for name in Gate.__dataclass_fields__))
        if "lengths_powers" in arrays:
            lengths = Lengths(*(arrays[f"lengths_{name}"] for name in Lengths.__dataclass_fields__))
        return cls(arrays["prior"], gate, lengths)
