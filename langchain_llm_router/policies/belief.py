"""What to believe after any history of verdicts, and what is best to do next: exact, offline.

A particle is a training row: how good each candidate's answer to that query was, and what its
verifier said about it. After a history of observations the particles are weighted by how well they
explain it, so every belief is a weighted mean over rows. With k + 1 scores a candidate there are
finitely many histories, whose masses and qualities do not depend on λ: they are tabulated once,
and one backward pass over the table solves the decision problem for any λ in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from langchain_llm_router.types.arrays import Floats

__all__ = [
    "MAX_HISTORIES",
    "Beliefs",
    "Option",
    "Plan",
    "View",
    "best_option",
    "build_beliefs",
    "group_centers",
    "group_weights",
    "nearest_group",
    "solve",
]


MAX_HISTORIES = 3_000_000
"""Largest table of histories; a larger one takes too much memory for a policy."""

_CHUNK = 8192
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Masses and qualities of all histories.

    A history has one index per candidate but the last (whose answer is never verified): 0..k for an
    observed score, k + 1 for a verdict that is missing, k + 2 for "not observed".

    Attributes:
        mass: P(history), of shape (k + 3,) * (n_candidates - 1).
        quality: mass × E[quality of each candidate | history], with one more axis at the end.
    """

    mass: Floats
    quality: Floats

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return int(self.quality.shape[-1])

    @property
    def unseen(self) -> int:
        """The index that says "not observed"."""
        return int(self.mass.shape[0]) - 1 if self.mass.ndim > 0 else 0

    def expected_quality(self, history: tuple[int, ...]) -> Floats:
        """E[quality of each candidate | history], of shape (n_candidates,)."""
        expected: Floats = self.quality[history] / self.mass[history]
        return expected


def build_beliefs(
    performance: Floats, likelihoods: Sequence[Floats], weights: Floats | None = None
) -> Beliefs:
    """Tabulate the beliefs after every history.

    Args:
        performance: Quality of each candidate on each particle, (n_particles, n_candidates).
        likelihoods: For each candidate but the last, P(observation | particle) of shape
            (k + 2, n_particles): scores 0..k, then a missing verdict.
        weights: Belief before any observation, of shape (n_particles,); None: uniform.

    Raises:
        ValueError: If there are more histories than `MAX_HISTORIES`.
    """
    n_particles, n_candidates = performance.shape
    sides = [len(table) + 1 for table in likelihoods]
    if math.prod(sides) * (n_candidates + 1) > MAX_HISTORIES:
        msg = (
            f"{n_candidates} candidates with {sides[0] - 3} verdicts each have "
            f"{math.prod(sides)} histories of observations: too many to tabulate. "
            "Use fewer candidates, or a smaller `n_samples`."
        )
        raise ValueError(msg)
    first = np.ones(n_particles) if weights is None else weights
    half = len(likelihoods) // 2
    table = np.zeros((math.prod(sides[:half]), math.prod(sides[half:]), n_candidates + 1))
    for start in range(0, n_particles, _CHUNK):
        part = slice(start, start + _CHUNK)
        left = _products([rows[:, part] for rows in likelihoods[:half]], performance[part])
        left = left * first[part]
        right = _products([rows[:, part] for rows in likelihoods[half:]], performance[part])
        table[:, :, 0] += left @ right.T
        for j in range(n_candidates):
            table[:, :, j + 1] += (left * performance[part, j]) @ right.T
    table = table.reshape(*sides, n_candidates + 1) / first.sum()
    return Beliefs(np.ascontiguousarray(table[..., 0]), np.ascontiguousarray(table[..., 1:]))


def _products(likelihoods: Sequence[Floats], performance: Floats) -> Floats:
    """Joint likelihoods of all combinations, "not observed" included: (n_combinations, n)."""
    product = np.ones((1, len(performance)))
    for table in likelihoods:
        whole = np.vstack([table, np.ones(len(performance))])
        product = (product[:, None, :] * whole[None, :, :]).reshape(-1, len(performance))
    return product


class Option(NamedTuple):
    """One possible action, and its expected outcome under the best continuation."""

    candidate: int
    verify: bool
    """Whether its answer is verified afterwards; False: it is accepted unseen."""

    quality: float
    """Expected quality of the answer accepted in the end."""

    cost_usd: float
    """Expected cost from here on."""

    utility: float
    """quality - λ·cost_usd."""


def group_centers(predicted: Floats, n_groups: int) -> Floats:
    """Typical rows of predictions, by k-means from quantiles along their main direction."""
    mean = predicted.mean(axis=0)
    _, _, axes = np.linalg.svd(predicted - mean, full_matrices=False)
    order = np.argsort((predicted - mean) @ axes[0], kind="stable")
    centers = np.array([predicted[rows].mean(axis=0) for rows in np.array_split(order, n_groups)])
    for _ in range(50):
        nearest = _distances(predicted, centers).argmin(axis=1)
        kept = np.unique(nearest)
        moved = np.array([predicted[nearest == g].mean(axis=0) for g in kept])
        if moved.shape == centers.shape and np.allclose(moved, centers):
            break
        centers = moved
    return centers


def group_weights(predicted: Floats, centers: Floats) -> Floats:
    """How much each particle counts for a query of each group, of shape (n_groups, n_particles).

    A Gaussian kernel around the group's center, as wide as groups are, over a thin uniform base.
    """
    squared = _distances(predicted, centers)
    width = max(float(squared.min(axis=1).mean()), 1e-12)
    kernel = np.exp(-squared.T / (2 * width))
    kernel = kernel / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-300)
    weights: Floats = 0.98 * kernel + 0.02 / len(predicted)
    return weights


def nearest_group(row: Floats, centers: Floats) -> int:
    """The group of a query by its predictions, -1 where there are none (NaN: unknown)."""
    known = ~np.isnan(row)
    if len(centers) == 0 or not known.any():
        return -1
    return int(_distances(row[None, known], centers[:, known]).argmin())


def _distances(rows: Floats, centers: Floats) -> Floats:
    squared: Floats = ((rows[:, None, :] - centers[None]) ** 2).sum(axis=2)
    return squared


@dataclass(frozen=True, eq=False)
class Plan:
    """What is best after every history, for one λ.

    Attributes:
        gains: For each candidate that may be asked and verified: the expected (quality, cost) under
            the best continuation, times the mass of the history before, each of shape
            (k + 3,) * j for candidate j; None for the other candidates.
    """

    beliefs: Beliefs
    lambda_: float
    cost_usd: Floats
    verification_cost_usd: Floats
    available: tuple[bool, ...]
    gains: tuple[tuple[Floats, Floats] | None, ...]

    def options(self, history: tuple[int, ...], after: int) -> list[Option]:
        """Every candidate that may be asked after `after` (-1: none was asked yet)."""
        mass = float(self.beliefs.mass[history])
        quality = self.beliefs.quality[history].tolist()
        costs = self.cost_usd.tolist()
        found = []
        for j in range(after + 1, len(self.available)):
            if self.available[j]:
                found.append(self._option(j, quality[j] / mass, costs[j], verify=False))
                gain = self.gains[j]
                if gain is not None:
                    a, b = float(gain[0][history[:j]]) / mass, float(gain[1][history[:j]]) / mass
                    found.append(self._option(j, a, b, verify=True))
        return found

    def worth_verifying(self, history: tuple[int, ...], j: int) -> bool:
        """Whether candidate j's answer, which is there already, should be verified."""
        gain = self.gains[j]
        if gain is None or not any(self.available[j + 1 :]):
            return False
        mass = float(self.beliefs.mass[history])
        a, b = (float(part[history[:j]]) / mass for part in gain)
        keep = float(self.beliefs.quality[history][j]) / mass
        return a - self.lambda_ * (b - float(self.cost_usd[j])) > keep + _TIE

    def _option(self, j: int, quality: float, cost: float, *, verify: bool) -> Option:
        return Option(j, verify, quality, cost, quality - self.lambda_ * cost)


class View:
    """A situation as the tables see it.

    Args:
        plan: What is best after every history.
        history: What was observed, as an index into the tables.
        held: Candidates that answered, in order.
    """

    __slots__ = ("expected", "held", "history", "plan")

    def __init__(self, plan: Plan, history: tuple[int, ...], held: tuple[int, ...]) -> None:
        self.plan, self.history, self.held = plan, history, held
        self.expected = plan.beliefs.expected_quality(history)


def best_option(options: Sequence[Option]) -> Option:
    """The option of highest utility; ties go to the one listed first."""
    best = options[0]
    for option in options[1:]:
        if option.utility > best.utility + _TIE:
            best = option
    return best


def solve(
    beliefs: Beliefs,
    lambda_: float,
    cost_usd: Floats,
    verification_cost_usd: Floats,
    *,
    available: tuple[bool, ...],
    recall: bool = False,
) -> Plan:
    """Exact expectimax by one backward pass over the table of histories.

    After candidate i is verified, the policy keeps its answer (with `recall`: the best-looking
    answer so far), or asks any candidate j > i, skipping those between, and verifies it or not.

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
        quality, cost = _best_after(beliefs, lambda_, cost_usd, gains, available, j, recall=recall)
        before = _before(beliefs.mass, j, beliefs.unseen)
        paid = float(cost_usd[j] + verification_cost_usd[j])
        gains[j] = (quality.sum(axis=-1), cost.sum(axis=-1) + paid * before)
    return Plan(beliefs, lambda_, cost_usd, verification_cost_usd, available, tuple(gains))


def _before(table: Floats, j: int, unseen: int) -> Floats:
    """The part of a table in which candidates j, j + 1, … are not observed."""
    index = (slice(None),) * j + (unseen,) * (table.ndim - j)
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
    recall: bool,
) -> tuple[Floats, Floats]:
    """(quality, cost) × mass of the best continuation once candidate j's verdict is in."""
    unseen, n = beliefs.unseen, beliefs.n_candidates
    observed = slice(0, unseen)
    mass = _before(beliefs.mass, j + 1, unseen)[..., observed]
    held = [_before(beliefs.quality[..., i], j + 1, unseen)[..., observed] for i in range(n)]
    best_quality = _recalled(held, j, unseen) if recall else held[j]
    best_cost = np.zeros_like(mass)
    best_utility = best_quality
    for i in range(j + 1, n):
        if not available[i]:
            continue
        choices = [(held[i], cost_usd[i] * mass)]
        gain = gains[i]
        if gain is not None:
            choices.append(
                (
                    _before(gain[0], j + 1, unseen)[..., observed],
                    _before(gain[1], j + 1, unseen)[..., observed],
                )
            )
        for quality, cost in choices:
            utility = quality - lambda_ * cost
            better = utility > best_utility + _TIE * mass
            best_utility = np.where(better, utility, best_utility)
            best_quality = np.where(better, quality, best_quality)
            best_cost = np.where(better, cost, best_cost)
    return best_quality, best_cost


def _recalled(held: Sequence[Floats], j: int, unseen: int) -> Floats:
    """Mass × quality of the best-looking answer among candidate j and those observed before."""
    best = held[j]
    for i in range(j):
        seen = np.arange(unseen + 1) != unseen
        shape = [1] * best.ndim
        shape[i] = unseen + 1
        best = np.where(seen.reshape(shape), np.maximum(best, held[i]), best)
    return best
