"""Beliefs after every history of verdicts, and exact plans over them.

A particle is a training row: the quality of each candidate's answer to that query and the
verifier's score of it. After a history of observations the particles are weighted by their
likelihood, so every belief is a weighted mean over rows. With k + 1 scores per candidate there are
finitely many histories, whose masses and qualities do not depend on λ: they are tabulated once, and
one backward pass over the table solves the decision problem for any λ in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from langchain_llm_router.policies.supermodels import LinearUpdate
from langchain_llm_router.types.arrays import Floats

__all__ = [
    "MAX_HISTORIES",
    "TIE",
    "Beliefs",
    "Option",
    "Plan",
    "best_option",
    "build_beliefs",
    "group_centers",
    "group_weights",
    "nearest_group",
    "solve",
    "tilted_weights",
]


MAX_HISTORIES = 3_000_000
"""Maximum size of a table of histories, because a larger one takes too much memory."""

_CHUNK = 8192
_CLOSE = 1e-9
"""Error of a mean quality that counts as none."""
TIE = 1e-12
"""Utilities that differ by less, per mass, are equal."""


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Masses and qualities of all histories.

    A history has one index per candidate whose answer may be verified, which are all, or all except
    the last: 0..k for an observed score, k + 1 for a missing verdict, k + 2 for "not observed".

    Attributes:
        mass: P(history), of shape (k + 3,) * n_verified.
        quality: mass × E[quality of each candidate | history], with one more axis at the end.
    """

    mass: Floats
    quality: Floats

    @property
    def n_candidates(self) -> int:
        """The number of candidates."""
        return int(self.quality.shape[-1])

    @property
    def unobserved(self) -> int:
        """The index that means "not observed"."""
        return int(self.mass.shape[0]) - 1 if self.mass.ndim > 0 else 0

    def expected_quality(self, history: tuple[int, ...]) -> Floats:
        """Return E[quality of each candidate | history], of shape (n_candidates,)."""
        expected: Floats = self.quality[history] / self.mass[history]
        return expected


def build_beliefs(
    performance: Floats, likelihoods: Sequence[Floats], weights: Floats | None = None
) -> Beliefs:
    """Tabulate the beliefs after every history.

    Args:
        performance: Quality of each candidate on each particle, of shape (n_particles,
            n_candidates).
        likelihoods: P(observation | particle) for each candidate whose answer may be verified, each
            of shape (k + 2, n_particles): scores 0..k, then a missing verdict.
        weights: Weights of the particles before any observation, of shape (n_particles,); if None,
            uniform.

    Raises:
        ValueError: If there are more histories than `MAX_HISTORIES`.
    """
    n_particles, n_candidates = performance.shape
    sides = [len(table) + 1 for table in likelihoods]
    if math.prod(sides) * (n_candidates + 1) > MAX_HISTORIES:
        msg = (
            f"{n_candidates} candidates with {sides[0] - 3} verdicts each have "
            f"{math.prod(sides)} histories of observations, too many to tabulate: "
            "use fewer candidates or a smaller `n_samples`."
        )
        raise ValueError(msg)
    prior = np.ones(n_particles) if weights is None else weights
    half = len(likelihoods) // 2
    table = np.zeros((math.prod(sides[:half]), math.prod(sides[half:]), n_candidates + 1))
    for start in range(0, n_particles, _CHUNK):
        part = slice(start, start + _CHUNK)
        left = _products([rows[:, part] for rows in likelihoods[:half]], performance[part])
        left = left * prior[part]
        right = _products([rows[:, part] for rows in likelihoods[half:]], performance[part])
        table[:, :, 0] += left @ right.T
        for j in range(n_candidates):
            table[:, :, j + 1] += (left * performance[part, j]) @ right.T
    table = table.reshape(*sides, n_candidates + 1) / prior.sum()
    return Beliefs(np.ascontiguousarray(table[..., 0]), np.ascontiguousarray(table[..., 1:]))


def _products(likelihoods: Sequence[Floats], performance: Floats) -> Floats:
    """Return joint likelihoods of all combinations of observations, (n_combinations, n)."""
    product = np.ones((1, len(performance)))
    for table in likelihoods:
        extended = np.vstack([table, np.ones(len(performance))])  # The last row: not observed.
        product = (product[:, None, :] * extended[None, :, :]).reshape(-1, len(performance))
    return product


class Option(NamedTuple):
    """A possible action and its expected outcome under the best continuation."""

    candidate: int
    verify: bool
    """Whether its answer is verified; if not, it is accepted unverified."""

    quality: float
    """Expected quality of the answer that is finally accepted."""

    cost_usd: float
    """Expected further cost."""

    utility: float
    """quality - λ·cost_usd."""

    @classmethod
    def of(cls, j: int, quality: float, cost: float, lambda_: float, *, verify: bool) -> Option:
        """Return the option to ask candidate j, with its utility."""
        return cls(j, verify, quality, cost, quality - lambda_ * cost)


def group_centers(predicted: Floats, n_groups: int) -> Floats:
    """Cluster predictions by k-means, started from quantiles along their main direction."""
    mean = predicted.mean(axis=0)
    _, _, axes = np.linalg.svd(predicted - mean, full_matrices=False)
    order = np.argsort((predicted - mean) @ axes[0], kind="stable")
    centers = np.array([predicted[rows].mean(axis=0) for rows in np.array_split(order, n_groups)])
    for _ in range(50):
        nearest = _distances(predicted, centers).argmin(axis=1)
        groups = np.unique(nearest)
        means = np.array([predicted[nearest == g].mean(axis=0) for g in groups])
        if means.shape == centers.shape and np.allclose(means, centers):
            break
        centers = means
    return centers


def group_weights(predicted: Floats, centers: Floats) -> Floats:
    """Return the weight of each particle in each group, of shape (n_groups, n_particles).

    The weight is a Gaussian kernel around the group's center, as wide as a typical group, plus a
    small uniform part.
    """
    squared = _distances(predicted, centers)
    width = max(float(squared.min(axis=1).mean()), 1e-12)
    kernel = np.exp(-squared.T / (2 * width))
    kernel = kernel / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-300)
    weights: Floats = 0.98 * kernel + 0.02 / len(predicted)
    return weights


def tilted_weights(predicted: Floats, quality: Floats, centers: Floats) -> Floats:
    """Return the weight of each particle in each group, of shape (n_groups, n_particles).

    The weights are the most even ones (of highest entropy) under which the mean quality of each
    candidate is what a linear regression on the predictions expects at the center of the group,
    plus a small uniform part. All particles count in every group, so that groups may be small.

    Args:
        predicted: Predictions of the particles, of shape (n_particles, n_candidates).
        quality: Measured qualities of the particles, same shape.
        centers: Predictions at the centers of the groups, of shape (n_groups, n_candidates).
    """
    update = LinearUpdate.fit(predicted, quality)
    expected = update.predict(centers, update.weights(tuple(range(predicted.shape[1]))))
    weights = np.array([_tilted(quality, np.clip(row, 0, 1)) for row in expected])
    mixed: Floats = 0.98 * weights + 0.02 / len(predicted)
    return mixed


def _tilted(quality: Floats, target: Floats) -> Floats:
    """Return the weights ∝ exp(θ·quality) of mean quality `target`, by Newton's method."""
    n, k = quality.shape
    theta = np.zeros(k)
    # A penalty of one row keeps θ finite where no weights reach the target.
    penalty = 1 / n
    for _ in range(100):
        exponent = quality @ theta
        weights = np.exp(exponent - exponent.max())
        weights /= weights.sum()
        mean = weights @ quality
        slope = target - mean - penalty * theta
        if float(np.abs(slope).max()) < _CLOSE:
            break
        centered = quality - mean
        curvature = (centered * weights[:, None]).T @ centered + penalty * np.eye(k)
        step = np.linalg.solve(curvature, slope)
        # Far from the solution a full step may overshoot.
        theta += step / max(1.0, float(np.abs(step).max()))
    return np.asarray(weights, dtype=np.float64)


def nearest_group(row: Floats, centers: Floats) -> int:
    """Return the group nearest to a row of predictions, -1 if all are NaN (unknown)."""
    known = ~np.isnan(row)
    if len(centers) == 0 or not known.any():
        return -1
    return int(_distances(row[None, known], centers[:, known]).argmin())


def _distances(rows: Floats, centers: Floats) -> Floats:
    squared: Floats = ((rows[:, None, :] - centers[None]) ** 2).sum(axis=2)
    return squared


@dataclass(frozen=True, eq=False)
class Plan:
    """The best action after every history, for one λ.

    Attributes:
        gains: The expected (quality, cost) of asking and verifying each candidate under the best
            continuation, times the mass of the history before it, each of shape (k + 3,) * j for
            candidate j; None for candidates that cannot be verified.
        exit_worth: What it is worth to end without an answer, after any verdict; -∞ if that is
            not possible. In `gains` it counts as the quality of an answer that costs nothing.
    """

    beliefs: Beliefs
    lambda_: float
    cost_usd: Floats
    verification_cost_usd: Floats
    available: tuple[bool, ...]
    gains: tuple[tuple[Floats, Floats] | None, ...]
    exit_worth: float = -math.inf

    def options(self, history: tuple[int, ...], answered: Sequence[int]) -> list[Option]:
        """Return the options after these candidates have answered, the last one last."""
        mass = float(self.beliefs.mass[history])
        quality = self.beliefs.quality[history].tolist()
        costs = self.cost_usd.tolist()
        options, after = [], answered[-1] if len(answered) > 0 else -1
        for j in range(after + 1, len(self.available)):
            if self.available[j]:
                options.append(
                    Option.of(j, quality[j] / mass, costs[j], self.lambda_, verify=False)
                )
                gain = self.gains[j]
                if gain is not None:
                    a, b = float(gain[0][history[:j]]) / mass, float(gain[1][history[:j]]) / mass
                    options.append(Option.of(j, a, b, self.lambda_, verify=True))
        return options

    def best_answer(self, expected: Floats, answered: Sequence[int]) -> int:
        """Return the answer to keep, which is the last."""
        return answered[-1]

    def worth_verifying(self, history: tuple[int, ...], answered: Sequence[int]) -> bool:
        """Return whether to verify the last answer."""
        j = answered[-1]
        gain = self.gains[j]
        if gain is None or not any(self.available[j + 1 :]):
            return False
        mass = float(self.beliefs.mass[history])
        a, b = (float(part[history[:j]]) / mass for part in gain)
        keep = float(self.beliefs.quality[history][j]) / mass
        return a - self.lambda_ * (b - float(self.cost_usd[j])) > max(keep, self.exit_worth) + TIE


def best_option(options: Sequence[Option]) -> Option:
    """Return the option of highest utility; ties go to the first one."""
    best = options[0]
    for option in options[1:]:
        if option.utility > best.utility + TIE:
            best = option
    return best


def solve(
    beliefs: Beliefs,
    lambda_: float,
    cost_usd: Floats,
    verification_cost_usd: Floats,
    *,
    available: tuple[bool, ...],
    exit_worth: float = -math.inf,
) -> Plan:
    """Solve the decision problem exactly (expectimax) in one backward pass over the histories.

    After candidate i is verified, the policy keeps its answer, or asks any candidate j > i and
    verifies its answer or not, or ends without an answer, which is worth `exit_worth`.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, appendix A.3: V(b) = max_a R(b, a) +
        Σ_o P(o | b, a)·V(b'), R = P - λC. Deviations: an answer may also be accepted without
        paying for its verification, and the first candidate may be skipped as well.
    """
    n = beliefs.n_candidates
    gains: list[tuple[Floats, Floats] | None] = [None] * n
    for j in range(n - 2, -1, -1):
        if not available[j]:
            continue
        quality, cost = _best_after(
            beliefs, lambda_, cost_usd, gains, available, j, exit_worth=exit_worth
        )
        mass = _take_unobserved(beliefs.mass, j, beliefs.unobserved)
        paid = float(cost_usd[j] + verification_cost_usd[j])
        gains[j] = (quality.sum(axis=-1), cost.sum(axis=-1) + paid * mass)
    return Plan(
        beliefs, lambda_, cost_usd, verification_cost_usd, available, tuple(gains), exit_worth
    )


def _take_unobserved(table: Floats, j: int, unobserved: int) -> Floats:
    """Return the part of a table in which candidates j, j + 1, … are not observed."""
    index = (slice(None),) * j + (unobserved,) * (table.ndim - j)
    part: Floats = table[index]
    return part


def _best_after(
    beliefs: Beliefs,
    lambda_: float,
    cost_usd: Floats,
    gains: Sequence[tuple[Floats, Floats] | None],
    available: tuple[bool, ...],
    j: int,
    *,
    exit_worth: float,
) -> tuple[Floats, Floats]:
    """Return (quality, cost) × mass of the best continuation after candidate j's verdict."""
    unobserved, n = beliefs.unobserved, beliefs.n_candidates
    observed = slice(0, unobserved)
    mass = _take_unobserved(beliefs.mass, j + 1, unobserved)[..., observed]
    qualities = [
        _take_unobserved(beliefs.quality[..., i], j + 1, unobserved)[..., observed]
        for i in range(n)
    ]
    best_quality = qualities[j]
    if exit_worth > 0:
        best_quality = np.maximum(best_quality, exit_worth * mass)
    best_cost = np.zeros_like(mass)
    best_utility = best_quality
    for i in range(j + 1, n):
        if not available[i]:
            continue
        choices = [(qualities[i], cost_usd[i] * mass)]
        gain = gains[i]
        if gain is not None:
            choices.append(
                (
                    _take_unobserved(gain[0], j + 1, unobserved)[..., observed],
                    _take_unobserved(gain[1], j + 1, unobserved)[..., observed],
                )
            )
        for quality, cost in choices:
            utility = quality - lambda_ * cost
            better = utility > best_utility + TIE * mass
            best_utility = np.where(better, utility, best_utility)
            best_quality = np.where(better, quality, best_quality)
            best_cost = np.where(better, cost, best_cost)
    return best_quality, best_cost
