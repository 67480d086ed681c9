"""The mathematics of cascade routing: estimates updated by observations, and sets of candidates.

A supermodel is a set of candidates: run them all and keep the answer that then looks best. Its
expected quality is E[max] over what their estimates may still become.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["LinearUpdate", "Planner", "Search", "Stage", "sobol_normals"]

Group = tuple[int, ...]

_TIE = 1e-12
_RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)


@dataclass(frozen=True, eq=False)
class LinearUpdate:
    """How observations change expectations: E[target | observed], Gaussian.

    From means and covariances alone the best linear estimate given *any* subset of the features
    follows, so no subset needs a fit of its own.

    Attributes:
        mean_x: Feature means, of shape (n_features,).
        mean_y: Target means, of shape (n_targets,).
        cov_xx: Feature covariance, with the ridge on its diagonal.
        cov_xy: Covariance of features and targets, of shape (n_features, n_targets).
    """

    mean_x: Floats
    mean_y: Floats
    cov_xx: Floats
    cov_xy: Floats

    @classmethod
    def fit(cls, x: Floats, y: Floats) -> LinearUpdate:
        """Learn from rows; NaN features are set to their mean. Ridge by leave-one-out error."""
        known = ~np.isnan(x)
        mean_x = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centered = np.where(known, x - mean_x, 0.0)
        scale = centered.std(axis=0)
        varies = scale > 1e-12
        ridge = _best_ridge(centered / np.where(varies, scale, 1), y - y.mean(axis=0))
        cov = centered.T @ centered / len(x)
        # A constant feature has no covariance with anything; a floor keeps the inverse finite.
        penalty = np.where(varies, ridge * scale**2, 1.0)
        cross = centered.T @ (y - y.mean(axis=0)) / len(x)
        return cls(mean_x, y.mean(axis=0), cov + np.diag(penalty), cross)

    def weights(self, observed: Group) -> Floats:
        """Coefficients of all features when only these are observed; 0 for the others."""
        full = np.zeros_like(self.cov_xy)
        if len(observed) > 0:
            index = np.array(observed)
            full[index] = np.linalg.solve(self.cov_xx[np.ix_(index, index)], self.cov_xy[index])
        return full

    def predict(self, x: Floats, weights: Floats) -> Floats:
        """Estimates for rows of features, of shape (n_rows, n_targets)."""
        filled = np.where(np.isnan(x), self.mean_x, x)
        estimate: Floats = self.mean_y + (filled - self.mean_x) @ weights
        return estimate

    def spread(self, now: Floats, later: Floats) -> Floats:
        """Covariance of (later estimate - estimate now) over training rows.

        References:
            Dekoninck et al., 2024, arXiv:2410.10347, section 4: Σ is the covariance of the
            difference between the estimates before and after all answers are known.
        """
        change = later - now
        covariance: Floats = change.T @ self.cov_xx @ change
        return covariance


def _best_ridge(x: Floats, y: Floats) -> float:
    """The ridge with the least leave-one-out error when everything is observed."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    best, least = _RIDGES[0], np.inf
    for ridge in _RIDGES:
        shrink = s**2 / (s**2 + ridge * len(x))
        residual = y - u @ (shrink[:, None] * projected)
        leverage = np.minimum((u**2) @ shrink + 1 / len(x), 1 - 1e-9)
        error = float(((residual / (1 - leverage)[:, None]) ** 2).sum())
        if error < least:
            best, least = ridge, error
    return best


def sobol_normals(n_draws: int, dimension: int, seed: int) -> Floats:
    """Scrambled Sobol points as standard normals, of shape (n_draws, dimension)."""
    sampler = qmc.Sobol(d=dimension, scramble=True, rng=np.random.default_rng(seed))
    points = sampler.random_base2(int(np.ceil(np.log2(n_draws))))[:n_draws]
    return np.asarray(ndtri(np.clip(points, 1e-9, 1 - 1e-9)), dtype=np.float64)


@dataclass(frozen=True)
class Search:
    """Which candidate to run next, for rows on which the same candidates have run.

    Args:
        noise: How much the estimates may still change, of shape (n_draws, n_candidates): zero for
            those already run.
        run: Candidates that were run.
        allowed: Candidates that may still be run, in declared order.
        depth: How many may still be run.
        greedy: Look only one candidate ahead.
        chain: Only in declared order, without skipping (the optimal cascade).
    """

    noise: Floats
    run: Group
    allowed: Group
    depth: int
    greedy: bool = False
    chain: bool = False

    def next(self, quality: Floats, cost: Floats, lambda_: Floats) -> Indices:
        """The candidate to run next on each row, -1 to stop.

        Args:
            quality: Estimates now, of shape (n_rows, n_candidates).
            cost: Expected costs, same shape.
            lambda_: λ of each row, of shape (n_rows,).

        References:
            Dekoninck et al., 2024, arXiv:2410.10347, theorems 2 and 3: run the supermodel with the
            highest q̂ - λĉ; the cheapest of its candidates that were not run goes first. Lemma 1:
            if adding a candidate to a set does not pay, it does not pay in any larger set.
        """
        n_rows = len(quality)
        top = quality[:, self.run].max(axis=1, initial=-np.inf)
        state = _State(quality, cost, lambda_, top)
        start = np.broadcast_to(top[:, None], (n_rows, len(self.noise)))
        depth = min(self.depth, len(self.allowed))
        if depth > 0:
            self._grow(state, start, top, np.zeros(n_rows), (), 1 if self.greedy else depth)
        return state.found

    def _grow(
        self,
        state: _State,
        highest: Floats,
        value: Floats,
        paid: Floats,
        added: Group,
        depth: int,
    ) -> None:
        """Try every larger set than this one; `highest` is its maximum per row and draw."""
        for j in self._extensions(added):
            drawn = state.quality[:, j, None] + self.noise[None, :, j]
            higher = np.maximum(highest, drawn)
            mean = higher.mean(axis=1)
            cost = paid + state.cost[:, j]
            gain = mean - value - state.lambda_ * state.cost[:, j]
            # The first candidate of an empty set always pays: one has to answer.
            pays = np.ones(len(gain), bool) if not np.isfinite(value[0]) else gain >= 0
            state.offer(mean, cost, (*added, j), cheapest_first=not self.chain)
            if depth > 1 and (self.chain or bool(pays.any())):
                self._grow(state, higher, mean, cost, (*added, j), depth - 1)

    def _extensions(self, added: Group) -> Sequence[int]:
        if self.chain:
            return self.allowed[len(added) : len(added) + 1]
        start = 0 if len(added) == 0 else self.allowed.index(added[-1]) + 1
        return self.allowed[start:]


class _State:
    """The best supermodel of every row so far."""

    __slots__ = ("best", "cost", "found", "lambda_", "paid", "quality")

    def __init__(self, quality: Floats, cost: Floats, lambda_: Floats, held: Floats) -> None:
        self.quality, self.cost, self.lambda_ = quality, cost, lambda_
        self.best, self.paid = held.copy(), np.zeros(len(held))
        self.found = np.full(len(held), -1, dtype=np.intp)

    def offer(self, value: Floats, cost: Floats, group: Group, *, cheapest_first: bool) -> None:
        """Take a set where it is worth more, or the same at a lower cost."""
        utility = value - self.lambda_ * cost
        tied = (np.abs(utility - self.best) <= _TIE) & (cost < self.paid)
        better = (utility > self.best + _TIE) | tied
        if bool(better.any()):
            self.best[better], self.paid[better] = utility[better], cost[better]
            first = np.full(len(utility), group[0])
            if cheapest_first and len(group) > 1:
                first = np.array(group)[self.cost[:, list(group)].argmin(axis=1)]
            self.found[better] = first[better]


@dataclass(frozen=True)
class Stage:
    """How far the routing of a query has got.

    Args:
        run: Candidates that answered.
        observed: Those among them whose answer got a verdict.
        allowed: Candidates that may still be asked, in declared order.
        depth: How many of them may be asked at most.
    """

    run: Group
    observed: Group
    allowed: Group
    depth: int

    @property
    def can_go_on(self) -> bool:
        """Whether any candidate may still be asked."""
        return self.depth > 0 and len(self.allowed) > 0


class Planner:
    """What cascade routing computes at a stage, for any number of rows at that stage.

    Args:
        update: How predictions (if any) and confidences change expected qualities.
        cost_update: How the cost ratios (actual / expected) of those that ran change the others.
        verification_cost_usd: Mean cost of verifying each candidate's answer; NaN for those whose
            answers are never verified.
        normals: Standard normal draws, of shape (n_draws, n_candidates).
        greedy: As in `Search`.
        chain: As in `Search`.
    """

    def __init__(
        self,
        update: LinearUpdate,
        cost_update: LinearUpdate,
        verification_cost_usd: Floats,
        normals: Floats,
        *,
        greedy: bool = False,
        chain: bool = False,
    ) -> None:
        self.update, self.cost_update = update, cost_update
        self.verifiable = ~np.isnan(verification_cost_usd)
        self.verifying = np.where(self.verifiable, verification_cost_usd, 0.0)
        self.normals = normals
        self.greedy, self.chain = greedy, chain
        self.n_candidates = len(update.mean_y)
        self.n_priors = len(update.mean_x) - self.n_candidates
        # Thread-safe, and the cached values are pure functions of the fitted arrays.
        self.weights = lru_cache(maxsize=4096)(self._weights)
        self.cost_weights = lru_cache(maxsize=4096)(cost_update.weights)
        self.noise = lru_cache(maxsize=4096)(self._noise)
        self._everything = self.weights(tuple(range(self.n_candidates)))

    def quality(self, features: Floats, observed: Group) -> Floats:
        """Expected quality of every candidate, of shape (n_rows, n_candidates)."""
        return self.update.predict(features, self.weights(observed))

    def cost(self, expected: Floats, ratio: Floats, stage: Stage) -> Floats:
        """Expected cost of asking and verifying every candidate, same shape."""
        weights = self.cost_weights(stage.run)
        scale = np.maximum(self.cost_update.predict(ratio, weights), 0.1)
        # The last candidate's answer is verified only to choose among answers.
        verifying = self.verifying if stage.depth > 1 and len(stage.allowed) > 1 else 0.0
        total: Floats = expected * scale / np.maximum(self.cost_update.mean_y, 0.1) + verifying
        return total

    def next(self, stage: Stage, quality: Floats, cost: Floats, lambda_: Floats) -> Indices:
        """Which candidate to ask next on each row, -1 to stop."""
        if not stage.can_go_on:
            return np.full(len(quality), -1, dtype=np.intp)
        search = Search(
            self.noise(stage.run, stage.observed),
            stage.run,
            stage.allowed,
            stage.depth,
            greedy=self.greedy,
            chain=self.chain,
        )
        return search.next(quality, cost, lambda_)

    def worth_verifying(self, stage: Stage, last: int, quality: Floats, lambda_: Floats) -> Bools:
        """Whether to verify the last answer: to decide whether to continue, or which to keep."""
        if stage.can_go_on and self.verifiable[last]:
            return np.ones(len(quality), dtype=bool)
        if len(stage.run) < 2 or not self.verifiable[last]:
            return np.zeros(len(quality), dtype=bool)
        later = self.weights((*stage.observed, last))
        spread = self.update.spread(self.weights(stage.observed), later)
        columns = list(stage.run)
        drawn = self.normals[:, : len(columns)] @ _root(spread[np.ix_(columns, columns)]).T
        held = quality[:, columns]
        gain = (held[:, None, :] + drawn[None]).max(axis=2).mean(axis=1) - held.max(axis=1)
        worth: Bools = gain > lambda_ * self.verifying[last] + 1e-9
        return worth

    def _weights(self, observed: Group) -> Floats:
        p = self.n_priors
        return self.update.weights((*range(p), *(p + j for j in sorted(observed))))

    def _noise(self, run: Group, observed: Group) -> Floats:
        spread = self.update.spread(self.weights(observed), self._everything)
        noise = np.zeros((len(self.normals), self.n_candidates))
        open_ones = [j for j in range(self.n_candidates) if j not in run]
        root = _root(spread[np.ix_(open_ones, open_ones)])
        noise[:, open_ones] = self.normals[:, : len(open_ones)] @ root.T
        return noise


def _root(covariance: Floats) -> Floats:
    """A matrix whose square is the covariance, whatever its rank."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0))
    return root
