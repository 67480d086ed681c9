"""Observation models: from a verifier's score to P(the answer is good).

Scores need calibration: if a model calls every answer correct, a score of 1.0 is no evidence. An
observation model compares a score with those of answers known to be good or poor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data.artifacts import (
    Artifact,
    incomplete_error,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Arrays, Bools, Floats, Indices
from langchain_llm_router.types.errors import NotFittedError

__all__ = [
    "BetaBinomial",
    "KernelDensity",
    "LikelihoodKind",
    "ObservationModel",
    "normal_density",
    "score_index",
    "score_likelihoods",
]

LikelihoodKind = Literal["rows", "kde", "beta_binomial"]


class ObservationModel(CheckedArguments, ABC):
    """Base class of models that convert a verifier's score to P(the answer is good).

    Attributes:
        base_rate_: Share of good answers in the training data.
    """

    base_rate_: float

    @abstractmethod
    def fit(self, scores: ArrayLike, good: ArrayLike) -> Self:
        """Fit on scores in [0, 1] (NaN, no verdict, is left out) and whether answers were good.

        Args:
            scores: The verifier's scores, of shape (n_rows,).
            good: True or 1 for a good answer and False or 0 for a poor one, of the same shape;
                of qualities, pass `quality >= 0.5`.

        Raises:
            ValueError: If `good` has another value for a score that counts, or `scores` has none
                or one outside [0, 1].
        """

    @abstractmethod
    def likelihoods(self, score: float) -> tuple[float, float]:
        """Return the density or probability of the score for good and for poor answers."""

    def p_good(
        self, score: float | None, *, prior: float | None = None, missing: float = 0.0
    ) -> float:
        """Return P(the answer is good | score), in [0, 1].

        Args:
            score: The verifier's score in [0, 1]; if None (no verdict), the prior is returned.
            prior: P(good) before the score, e.g. an estimator's prediction; if None, the base
                rate.
            missing: Share of the verifier's samples that failed, in [0, 1]: the fewer verdicts a
                score has, the less it changes the prior.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If the score, the prior or `missing` is outside [0, 1].
        """
        self._check_fitted()
        before = self.base_rate_ if prior is None else prior
        for name, value in (("score", score), ("prior", before), ("missing", missing)):
            if value is not None and not 0 <= value <= 1:
                msg = f"`{name}` must lie in [0, 1], got {value!r}."
                raise ValueError(msg)
        if score is None:
            return before
        return self._posterior(score, before, missing)

    def _check_fitted(self) -> None:
        if not hasattr(self, "base_rate_"):
            name = type(self).__name__
            msg = f"This {name} is not fitted: call `fit(scores, good)` first."
            raise NotFittedError(msg)

    def _posterior(self, score: float, prior: float, missing: float) -> float:
        good, poor = (value ** (1 - missing) for value in self.likelihoods(score))
        total = prior * good + (1 - prior) * poor
        return prior if total <= 0 else prior * good / total

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model into a folder.

        Raises:
            NotFittedError: Before `fit`.
        """
        self._check_fitted()
        settings, arrays = self._state()
        return write_artifact(folder, Artifact(type(self).__name__, settings, arrays))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote."""
        artifact = read_artifact(folder, cls.__name__)
        try:
            return cls._from_state(artifact.settings, artifact.arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise incomplete_error(folder, cls.__name__, error) from error

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], Arrays]: ...

    @classmethod
    @abstractmethod
    def _from_state(cls, settings: Mapping[str, Any], arrays: Arrays) -> Self: ...


def _drop_missing(scores: ArrayLike, good: ArrayLike) -> tuple[Floats, Bools]:
    values = np.asarray(scores, dtype=np.float64).ravel()
    labels = np.asarray(good).ravel()
    if values.shape != labels.shape:
        msg = f"`scores` and `good` must have the same length, got {len(values)} and {len(labels)}."
        raise ValueError(msg)
    known = ~np.isnan(values)
    values, labels = values[known], labels[known]
    unclear = [label for label in labels.tolist() if label not in (0, 1)]
    if unclear:
        msg = (
            "`good` must be True or 1 for a good answer and False or 0 for a poor one, got "
            f"{unclear[0]!r}: of qualities, pass `quality >= 0.5`, without the unknown ones."
        )
        raise ValueError(msg)
    if len(values) == 0:
        msg = "`scores` must have at least one score that is not NaN: every verdict is missing."
        raise ValueError(msg)
    if values.min() < 0 or values.max() > 1:
        msg = f"`scores` must lie in [0, 1], got {values.min()!r} to {values.max()!r}."
        raise ValueError(msg)
    return values, labels.astype(bool)


def normal_density(x: Floats | float, mean: Floats | float, width: float) -> Floats:
    """Return the density at `x` of normal distributions with standard deviation `width`."""
    return np.asarray(
        np.exp(-(((x - mean) / width) ** 2) / 2.0) / (math.sqrt(2 * math.pi) * width), np.float64
    )


_NARROWEST = 0.001
"""Smallest standard deviation of a kernel: the step of the grid that densities are tabulated on."""

_CONSTANT = 1e-6
"""Standard deviation of scores up to which they count as equal; scipy would raise an error."""


def _spread(scores: Floats) -> float:
    return float(scores.std(ddof=1)) if len(scores) > 1 else 0.0


def _mean_kernel(scores: Floats, width: float) -> Callable[[Floats], Floats]:
    """Return the mean of normal densities around the scores as a function."""
    spread = _spread(scores)
    if spread <= _CONSTANT:
        return lambda x: normal_density(x, float(scores.mean()), width)
    from scipy.stats import gaussian_kde  # noqa: PLC0415 - takes 1 s, and only fitting needs it

    kde = gaussian_kde(scores, bw_method=width / spread)
    return lambda x: np.asarray(kde(x), dtype=np.float64)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


_BandwidthRule = Literal["scott", "silverman", "cv"]


@dataclass(eq=False)
class KernelDensity(ObservationModel):
    """Gaussian kernel density estimates of the scores of good and of poor answers.

    P(good | s) = π·f_good(s) / (π·f_good(s) + (1-π)·f_poor(s)), times a gate that falls to 0 where
    there were hardly any training scores, because a score unlike those of the training data is no
    evidence. Kernels are reflected at 0 and 1 and the default bandwidth has a lower bound, so that
    constant scores, a single point and mass at the ends cause no errors.

    Args:
        base_rate: Whether π is the prior, or without one the share of good answers; if False,
            π = ½ as in the seed article.
        gate: Share of the highest density of all training scores below which the gate falls in
            proportion; 0 disables the gate.
        bandwidth: Standard deviation of every kernel, fixed, in units of the score, at least
            0.001 (the article draws 0.05). Not together with `bw_method`.
        reflect: Whether to reflect kernels at 0 and 1; if not, mass leaves [0, 1] (the article).
        bw_method: Rule for the standard deviation of the kernels, separately for good, poor and all
            scores: that of `scipy.stats.gaussian_kde`, i.e. `scott`, `silverman`, or a number as
            a factor of the standard deviation of the scores (the article computes with 0.3); or
            `cv`, which maximizes the likelihood of each score given the others. If neither this
            nor `bandwidth` is given, Scott's rule, but at least `min_bandwidth`.
        min_bandwidth: Smallest standard deviation of a kernel by the default rule or by `cv`. The
            other rules are scipy's, and use it only where theirs would be below 0.001, e.g. for
            scores that are all equal.
        hard_gate: Share of the highest density of all training scores up to which a score is not
            trusted at all, i.e. P(good) = 0 (the article has 0.1 and 0.2); 0 disables it.

    Measured on eleven pairs of verifier and model that ship with the package, fitted on 100 labels:
    by default the Brier score of P(good) is 0.169, and P(good) ≥ ½ is right for 77 % of the unseen
    answers; by `article()` 0.225 and 60 %. Of what it changes, each alone has 0.213 (no base rate),
    0.177 or 0.193 (a hard gate at 0.1 or 0.2 in place of the soft one), 0.174 (`bw_method=0.3`) and
    0.169 (no reflection). `bandwidth=0.05` has 0.172, `silverman` 0.170, `cv` 0.177; on 700 labels
    all bandwidths are alike (0.166).

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, appendix A.3 (Gaussian KDE as observation
        model). Deviations: reflection, bandwidth floor, density gate.

    Example:
        >>> model = KernelDensity().fit([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
        >>> model.p_good(0.85) > 0.9 > 0.1 > model.p_good(0.15)
        True
    """

    base_rate: bool = True
    gate: float = 0.05
    bandwidth: float | None = None
    reflect: bool = True
    bw_method: float | _BandwidthRule | None = None
    min_bandwidth: float = 0.02
    hard_gate: float = 0.0

    _GRID = 1001

    def __post_init__(self) -> None:
        check_range(self, "gate", "hard_gate", high=1)
        check_range(self, "bandwidth", "min_bandwidth", low=_NARROWEST)
        if self.bandwidth is not None and self.bw_method is not None:
            msg = (
                f"`bandwidth` ({self.bandwidth!r}, a fixed standard deviation) and `bw_method` "
                f"({self.bw_method!r}, a rule for it) exclude each other: give one of them."
            )
            raise ValueError(msg)
        if not isinstance(self.bw_method, str):
            check_range(self, "bw_method", above=True)

    @classmethod
    def article(cls) -> Self:
        """Return the seed article's model, fitted on the article's synthetic scores.

        A number 0.3 as `bw_method`, no base rate, no reflection, and the hard gate at 0.1 in place
        of the soft one. At score 0.6 its densities are 3.579 and 4.540 and P(good) is 44 %; at 0.2
        it trusts nothing. `fit` replaces the synthetic scores by those of a real verifier.
        It is less accurate than the defaults, see above.
        """
        # The article seeds NumPy's global generator; the same numbers come from one of its own.
        rng = np.random.RandomState(0)
        poor, high, low = (
            rng.normal(mean, width, 50) for mean, width in ((0.55, 0.05), (0.9, 0.03), (0.6, 0.03))
        )
        scores = np.concatenate([high, low, poor])
        model = cls(base_rate=False, gate=0.0, reflect=False, bw_method=0.3, hard_gate=0.1)
        return model.fit(scores, np.repeat([True, False], [100, 50]))

    def fit(self, scores: ArrayLike, good: ArrayLike) -> Self:
        """Tabulate the densities of good, poor and all answers on a fine grid."""
        values, labels = _drop_missing(scores, good)
        self.base_rate_ = float(labels.mean())
        self.scores_good_, self.scores_poor_ = values[labels], values[~labels]
        grid = np.linspace(0, 1, self._GRID)
        self.density_good_ = self._density(self.scores_good_, grid)
        self.density_poor_ = self._density(self.scores_poor_, grid)
        self.density_total_ = self._density(values, grid)
        return self

    def likelihoods(self, score: float) -> tuple[float, float]:
        """Return both densities at the score, interpolated between grid points."""
        return self._interpolate(self.density_good_, score), self._interpolate(
            self.density_poor_, score
        )

    def trust(self, score: float) -> float:
        """Return the density gates: 1 near training scores, towards 0 far from them.

        Raises:
            NotFittedError: Before `fit`.
        """
        self._check_fitted()
        share = self._interpolate(self.density_total_, score) / float(self.density_total_.max())
        if self.hard_gate > 0 and share <= self.hard_gate:
            return 0.0
        return 1.0 if self.gate <= 0 else min(1.0, share / self.gate)

    def kernel_width(self, scores: Floats) -> float:
        """Return the standard deviation of the kernels for these scores."""
        if self.bandwidth is not None:
            return self.bandwidth
        n, spread = len(scores), _spread(scores)
        if self.bw_method == "cv":
            return self._cross_validate(scores)
        if isinstance(self.bw_method, str):
            effective = n if self.bw_method == "scott" else 0.75 * n
            factor = float(effective ** (-1 / 5)) if n > 0 else 0.0
        elif self.bw_method is not None:
            factor = self.bw_method
        else:
            scott: float = spread * max(n, 1) ** (-1 / 5)
            return max(self.min_bandwidth, scott)
        width = factor * spread
        return width if width >= _NARROWEST else self.min_bandwidth

    def _cross_validate(self, scores: Floats) -> float:
        """Return the width under which each score is most likely given the others."""
        # Scores are rounded so that the pairs of distinct ones stay few.
        at, counts = np.unique(np.rint(scores * (self._GRID - 1)), return_counts=True)
        at, n = at / (self._GRID - 1), len(scores)
        if n < 2:
            return self.min_bandwidth
        widths = np.geomspace(self.min_bandwidth, max(0.5, self.min_bandwidth), 24)

        def likelihood(width: float) -> float:
            pairs = normal_density(at[:, None], at[None, :], width)
            if self.reflect:
                for mirrored in (-at, 2 - at):
                    pairs = pairs + normal_density(at[:, None], mirrored[None, :], width)
            others = (pairs @ counts - pairs.diagonal()) / (n - 1)
            return float(counts @ np.log(np.maximum(others, 1e-300)))

        return float(max(widths, key=likelihood))

    def _posterior(self, score: float, prior: float, missing: float) -> float:
        prior = prior if self.base_rate else 0.5
        return self.trust(score) * super()._posterior(score, prior, missing)

    def _interpolate(self, density: Floats, score: float) -> float:
        position = score * (self._GRID - 1)
        low = min(int(position), self._GRID - 2)
        weight = position - low
        return float(density[low] * (1 - weight) + density[low + 1] * weight)

    def _density(self, values: Floats, grid: Floats) -> Floats:
        if len(values) == 0:
            return np.zeros_like(grid)
        kernel = _mean_kernel(values, self.kernel_width(values))
        density = kernel(grid)
        if self.reflect:
            density = density + kernel(-grid) + kernel(2 - grid)
        return density

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        return settings, {"good": self.scores_good_, "poor": self.scores_poor_}

    @classmethod
    def _from_state(cls, settings: Mapping[str, Any], arrays: Arrays) -> Self:
        good, poor = arrays["good"], arrays["poor"]
        labels = np.repeat([True, False], [len(good), len(poor)])
        if "min_bandwidth" not in settings:
            # In earlier versions `bandwidth` was the lower bound.
            settings = {**settings, "bandwidth": None, "min_bandwidth": settings["bandwidth"]}
        return cls(**settings).fit(np.concatenate([good, poor]), labels)


@dataclass(eq=False)
class BetaBinomial(ObservationModel):
    """Beta-binomial model of the number of "correct" verdicts, for good and for poor answers.

    It suits scores c/k: the probability mass is on the k + 1 possible scores, so none leaves [0, 1]
    and constant scores are no special case.

    Args:
        n_samples: k, the number of verdicts per score.
        prior_strength: Pseudo-verdicts of the uniform prior that stabilizes fits on little data.

    Attributes:
        shapes_: (α, β) for good and for poor answers, of shape (2, 2).
    """

    n_samples: int = 8
    prior_strength: float = 1.0

    def __post_init__(self) -> None:
        if self.n_samples < 1:
            msg = f"`n_samples` must be >= 1, got {self.n_samples!r}."
            raise ValueError(msg)
        check_range(self, "prior_strength")

    def fit(self, scores: ArrayLike, good: ArrayLike) -> Self:
        """Fit by the method of moments, shrunk towards a uniform distribution."""
        values, labels = _drop_missing(scores, good)
        self.base_rate_ = float(labels.mean())
        self.shapes_ = np.array([self._shape(values[labels]), self._shape(values[~labels])])
        return self

    def likelihoods(self, score: float) -> tuple[float, float]:
        """Return the probability of the nearest count for good and for poor answers."""
        return self._count_likelihoods(score, self.n_samples)

    def _posterior(self, score: float, prior: float, missing: float) -> float:
        good, poor = self._count_likelihoods(score, round(self.n_samples * (1 - missing)))
        return prior * good / (prior * good + (1 - prior) * poor)

    def _count_likelihoods(self, score: float, k: int) -> tuple[float, float]:
        count = round(score * k)
        # C(k, count) = 1 / ((k + 1) B(count + 1, k - count + 1)), whose logarithm cannot overflow.
        choose = -math.log(k + 1) - _log_beta(count + 1, k - count + 1)
        good, poor = (
            math.exp(choose + _log_beta(count + alpha, k - count + beta) - _log_beta(alpha, beta))
            for alpha, beta in self.shapes_.tolist()
        )
        return good, poor

    def _shape(self, values: Floats) -> tuple[float, float]:
        k, strength = self.n_samples, self.prior_strength
        grid: Sequence[float] = np.linspace(0, 1, k + 1).tolist()
        # The uniform prior enters as pseudo-observations spread over all k + 1 counts.
        weight = np.concatenate([np.ones(len(values)), np.full(k + 1, strength / (k + 1))])
        point = np.concatenate([values, grid])
        mean = float(np.average(point, weights=weight))
        variance = float(np.average((point - mean) ** 2, weights=weight))
        binomial = mean * (1 - mean) / k
        largest = mean * (1 - mean)
        if k == 1 or variance <= binomial:
            rho = 1e-3
        else:
            rho = min(max((variance - binomial) / (largest - binomial), 1e-3), 1 - 1e-3)
        total = 1 / rho - 1
        return mean * total, (1 - mean) * total

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        settings = {
            "n_samples": self.n_samples,
            "prior_strength": self.prior_strength,
            "base_rate": self.base_rate_,
        }
        return settings, {"shapes": self.shapes_}

    @classmethod
    def _from_state(cls, settings: Mapping[str, Any], arrays: Arrays) -> Self:
        model = cls(settings["n_samples"], settings["prior_strength"])
        model.base_rate_ = float(settings["base_rate"])
        model.shapes_ = arrays["shapes"]
        return model


def score_index(score: ArrayLike, n_samples: int) -> Indices:
    """Return the index 0..k of the nearest score of 0/k..k/k; NaN, no verdict, is k + 1."""
    values = np.asarray(score, dtype=np.float64)
    missing = np.isnan(values)
    nearest = np.rint(np.where(missing, 0.0, values) * n_samples)
    return np.asarray(np.where(missing, n_samples + 1, nearest), dtype=np.intp)


def score_likelihoods(
    scores: ArrayLike,
    quality: ArrayLike,
    *,
    n_samples: int,
    kind: LikelihoodKind = "rows",
    bandwidth: float = 0.05,
) -> Floats:
    """Return P(observation | training row) of each observation: k + 1 scores, or no verdict.

    `rows` smooths each row's own score by a Gaussian kernel: a weighted mean over rows is then the
    kernel estimate of E[· | score], and correlations are kept, e.g. that the next model often fails
    on the same queries. `kde` and `beta_binomial` use only whether the row's answer was good, of
    quality 0.5 or more. A missing verdict is equally likely on every row.

    Args:
        scores: The verifier's scores in [0, 1], of shape (n_rows,); NaN means no verdict.
        quality: Quality of the verified answers in [0, 1], of the same shape.
        n_samples: k, the number of verdicts per score.
        kind: The likelihood, see above.
        bandwidth: Smallest standard deviation of a kernel.

    Returns:
        Probabilities of shape (n_samples + 2, n_rows), whose columns sum to 1.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, appendix A.3: P(o | s) by kernel density
        estimates with one kernel per training point.
    """
    values = np.asarray(scores, dtype=np.float64)
    good = np.asarray(quality, dtype=np.float64) >= 0.5
    known = ~np.isnan(values)
    share = (float((~known).sum()) + 0.5) / (len(values) + 1)
    if not known.any():
        table = np.full((n_samples + 1, len(values)), 1 / (n_samples + 1))
    elif kind == "rows":
        table = _row_kernels(values, n_samples, bandwidth)
    else:
        table = _class_likelihoods(values, good, n_samples, kind, bandwidth)
    return np.vstack([(1 - share) * table, np.full(len(values), share)])


_FLOOR = 1e-3
"""Uniform share of every likelihood, because an unseen score must leave the belief unchanged."""


def _row_kernels(values: Floats, n_samples: int, bandwidth: float) -> Floats:
    known = ~np.isnan(values)
    width = max(bandwidth, float(values[known].std()) * float(known.sum()) ** (-1 / 5))
    grid = np.linspace(0, 1, n_samples + 1)[:, None]
    centers = np.where(known, values, 0.0)[None, :]
    kernels = sum(normal_density(grid, at, width) for at in (centers, -centers, 2 - centers))
    table = np.asarray(kernels, dtype=np.float64)
    table = table / table.sum(axis=0, keepdims=True)
    table[:, ~known] = table[:, known].mean(axis=1, keepdims=True)
    return np.asarray((1 - _FLOOR) * table + _FLOOR / (n_samples + 1), dtype=np.float64)


def _class_likelihoods(
    values: Floats,
    good: Bools,
    n_samples: int,
    kind: LikelihoodKind,
    bandwidth: float,
) -> Floats:
    model: ObservationModel = BetaBinomial(n_samples)
    if kind == "kde":
        model = KernelDensity(min_bandwidth=max(bandwidth, _NARROWEST))
    model.fit(values, good)
    grid = np.linspace(0, 1, n_samples + 1)
    both = np.array([model.likelihoods(float(score)) for score in grid])
    totals = both.sum(axis=0)
    # Without training scores of a class its likelihood is uniform.
    both = np.where(totals > 0, both / np.where(totals > 0, totals, 1), 1 / (n_samples + 1))
    both = (1 - _FLOOR) * both + _FLOOR / (n_samples + 1)
    return np.where(good[None, :], both[:, :1], both[:, 1:])
