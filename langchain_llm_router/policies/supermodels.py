"""The mathematics of cascade routing: estimates updated by observations, and sets of candidates.

A supermodel is a set of candidates that are all run, with the answer of the highest estimate
accepted. Its expected quality is the expected maximum of their later quality estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["LinearUpdate", "Planner", "Search", "Stage", "sobol_normals"]

_Group = tuple[int, ...]

_TIE = 1e-12
_RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)


@dataclass(frozen=True, eq=False)
class LinearUpdate:
    """Linear-Gaussian model of E[targets | observed features].

    Means and covariances determine the best linear estimate for *any* subset of the features, so
    that no subset needs a fit of its own.

    Attributes:
        mean_x: Means of the features, of shape (n_features,).
        mean_y: Means of the targets, of shape (n_targets,).
        cov_xx: Covariance of the features, with the ridge on its diagonal.
        cov_xy: Covariance of features and targets, of shape (n_features, n_targets).
    """

    mean_x: Floats
    mean_y: Floats
    cov_xx: Floats
    cov_xy: Floats

    @classmethod
    def fit(cls, x: Floats, y: Floats) -> LinearUpdate:
        """Fit on rows; NaN features are set to their mean, the ridge is cross-validated."""
        known = ~np.isnan(x)
        mean_x = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centered = np.where(known, x - mean_x, 0.0)
        scale = centered.std(axis=0)
        varies = scale > 1e-12
        ridge = _best_ridge(centered / np.where(varies, scale, 1), y - y.mean(axis=0))
        cov = centered.T @ centered / len(x)
        # A constant feature has zero variance; a penalty of 1 keeps the inverse finite.
        penalty = np.where(varies, ridge * scale**2, 1.0)
        cross = centered.T @ (y - y.mean(axis=0)) / len(x)
        return cls(mean_x, y.mean(axis=0), cov + np.diag(penalty), cross)

    def weights(self, observed: _Group) -> Floats:
        """Return the coefficients of all features if only these are observed; others have 0."""
        full = np.zeros_like(self.cov_xy)
        if len(observed) > 0:
            index = np.array(observed)
            full[index] = np.linalg.solve(self.cov_xx[np.ix_(index, index)], self.cov_xy[index])
        return full

    def predict(self, x: Floats, weights: Floats) -> Floats:
        """Return the estimates for rows of features, of shape (n_rows, n_targets)."""
        filled = np.where(np.isnan(x), self.mean_x, x)
        estimate: Floats = self.mean_y + (filled - self.mean_x) @ weights
        return estimate

    def spread(self, now: Floats, later: Floats) -> Floats:
        """Return the covariance of (later estimate - current estimate) over training rows.

        References:
            Dekoninck et al., 2024, arXiv:2410.10347, section 4: Σ is the covariance of the
            difference between the estimates before and after all answers are known.
        """
        change = later - now
        covariance: Floats = change.T @ self.cov_xx @ change
        return covariance


def _best_ridge(x: Floats, y: Floats) -> float:
    """Return the ridge with the least leave-one-out error if all features are observed."""
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
    """Return scrambled Sobol points as standard normals, of shape (n_draws, dimension)."""
    from scipy.stats import qmc  # noqa: PLC0415 - takes 1 s, and only fitting needs it

    sampler = qmc.Sobol(d=dimension, scramble=True, rng=np.random.default_rng(seed))
    points = sampler.random_base2(int(np.ceil(np.log2(n_draws))))[:n_draws]
    return np.asarray(ndtri(np.clip(points, 1e-9, 1 - 1e-9)), dtype=np.float64)


@dataclass(frozen=True)
class Search:
    """Search for the candidate to run next, for rows on which the same candidates have run.

    Args:
        noise: Draws of the further change of the estimates, of shape (n_draws, n_candidates), zero
            for candidates that have run.
        run: Candidates that have run.
        allowed: Candidates that may still be run, in declared order.
        depth: Maximum number of further candidates.
        greedy: Whether to plan only one candidate ahead.
        chain: Whether to run in declared order without skipping (the optimal cascade).
        exit_worth: What it is worth to end without an answer; it counts as one more answer, of
            known quality. -∞ if that is not possible.
    """

    noise: Floats
    run: _Group
    allowed: _Group
    depth: int
    greedy: bool = False
    chain: bool = False
    exit_worth: float = -np.inf

    def next(self, quality: Floats, cost: Floats, lambda_: Floats) -> Indices:
        """Return the candidate to run next on each row, -1 to stop.

        Args:
            quality: Current estimates, of shape (n_rows, n_candidates).
            cost: Expected costs, of the same shape.
            lambda_: λ of each row, of shape (n_rows,).

        References:
            Dekoninck et al., 2024, arXiv:2410.10347, theorems 2 and 3: run the supermodel with the
            highest q̂ - λĉ; the cheapest of its candidates that were not run goes first. Lemma 1:
            if adding a candidate to a set does not pay, it does not pay in any larger set.
        """
        n_rows = len(quality)
        top = quality[:, self.run].max(axis=1, initial=self.exit_worth)
        state = _BestSets(quality, cost, lambda_, top)
        start = np.broadcast_to(top[:, None], (n_rows, len(self.noise)))
        depth = min(self.depth, len(self.allowed))
        if depth > 0:
            self._grow(state, start, top, np.zeros(n_rows), (), 1 if self.greedy else depth)
        return state.first

    def _grow(
        self,
        state: _BestSets,
        highest: Floats,
        value: Floats,
        paid: Floats,
        added: _Group,
        depth: int,
    ) -> None:
        """Try every superset of a set; `highest` is its maximum per row and draw."""
        for j in self._extensions(added):
            drawn = state.quality[:, j, None] + self.noise[None, :, j]
            higher = np.maximum(highest, drawn)
            mean = higher.mean(axis=1)
            cost = paid + state.cost[:, j]
            gain = mean - value - state.lambda_ * state.cost[:, j]
            # The first candidate always pays, because there must be an answer.
            pays = np.ones(len(gain), bool) if not np.isfinite(value[0]) else gain >= 0
            state.offer(mean, cost, (*added, j), cheapest_first=not self.chain)
            if depth > 1 and (self.chain or bool(pays.any())):
                self._grow(state, higher, mean, cost, (*added, j), depth - 1)

    def _extensions(self, added: _Group) -> Sequence[int]:
        if self.chain:
            return self.allowed[len(added) : len(added) + 1]
        start = 0 if len(added) == 0 else self.allowed.index(added[-1]) + 1
        return self.allowed[start:]


class _BestSets:
    """The best supermodel so far of every row."""

    __slots__ = ("best", "cost", "first", "lambda_", "paid", "quality")

    def __init__(self, quality: Floats, cost: Floats, lambda_: Floats, top: Floats) -> None:
        self.quality, self.cost, self.lambda_ = quality, cost, lambda_
        self.best, self.paid = top.copy(), np.zeros(len(top))
        self.first = np.full(len(top), -1, dtype=np.intp)

    def offer(self, value: Floats, cost: Floats, group: _Group, *, cheapest_first: bool) -> None:
        """Store a set on rows where it has a higher utility, or an equal one at a lower cost."""
        utility = value - self.lambda_ * cost
        tied = (np.abs(utility - self.best) <= _TIE) & (cost < self.paid)
        better = (utility > self.best + _TIE) | tied
        if bool(better.any()):
            self.best[better], self.paid[better] = utility[better], cost[better]
            first = np.full(len(utility), group[0])
            if cheapest_first and len(group) > 1:
                first = np.array(group)[self.cost[:, list(group)].argmin(axis=1)]
            self.first[better] = first[better]


@dataclass(frozen=True)
class Stage:
    """The progress of routing a query.

    Args:
        run: Candidates that have answered.
        observed: Candidates whose answers have a verdict.
        allowed: Candidates that may still be asked, in declared order.
        depth: Maximum number of further candidates.
    """

    run: _Group
    observed: _Group
    allowed: _Group
    depth: int

    @property
    def can_continue(self) -> bool:
        """Whether any candidate may still be asked."""
        return self.depth > 0 and len(self.allowed) > 0


class Planner:
    """The computations of cascade routing for any number of rows at one stage.

    Args:
        update: Model of how predictions (if any) and confidences change expected qualities.
        cost_update: Model of how known cost ratios (actual / expected) change the other ratios.
        verification_cost_usd: Mean cost of verifying each candidate's answer; NaN for candidates
            whose answers are never verified.
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
        # `lru_cache` is thread-safe, and the values depend on the fitted arrays alone.
        self.weights = lru_cache(maxsize=4096)(self._weights)
        self.cost_weights = lru_cache(maxsize=4096)(cost_update.weights)
        self.noise = lru_cache(maxsize=4096)(self._noise)
        self._all_weights = self.weights(tuple(range(self.n_candidates)))

    def quality(self, features: Floats, observed: _Group) -> Floats:
        """Return the expected quality of every candidate, of shape (n_rows, n_candidates)."""
        return self.update.predict(features, self.weights(observed))

    def cost(self, expected: Floats, ratio: Floats, stage: Stage) -> Floats:
        """Return the expected cost of asking and verifying every candidate, of the same shape."""
        weights = self.cost_weights(stage.run)
        scale = np.maximum(self.cost_update.predict(ratio, weights), 0.1)
        # Verifying the last candidate is not charged here: it only helps to choose among answers.
        verifying = self.verifying if stage.depth > 1 and len(stage.allowed) > 1 else 0.0
        total: Floats = expected * scale / np.maximum(self.cost_update.mean_y, 0.1) + verifying
        return total

    def next(
        self,
        stage: Stage,
        quality: Floats,
        cost: Floats,
        lambda_: Floats,
        exit_worth: float = -np.inf,
    ) -> Indices:
        """Return the candidate to ask next on each row, -1 to stop."""
        if not stage.can_continue:
            return np.full(len(quality), -1, dtype=np.intp)
        search = Search(
            self.noise(stage.run, stage.observed),
            stage.run,
            stage.allowed,
            stage.depth,
            greedy=self.greedy,
            chain=self.chain,
            exit_worth=exit_worth,
        )
        return search.next(quality, cost, lambda_)

    def worth_verifying(
        self,
        stage: Stage,
        last: int,
        quality: Floats,
        lambda_: Floats,
        exit_worth: float = -np.inf,
    ) -> Bools:
        """Return whether to verify the last answer, to continue or to choose among answers."""
        if stage.can_continue and self.verifiable[last]:
            return np.ones(len(quality), dtype=bool)
        if (len(stage.run) < 2 and exit_worth == -np.inf) or not self.verifiable[last]:
            return np.zeros(len(quality), dtype=bool)
        later = self.weights((*stage.observed, last))
        spread = self.update.spread(self.weights(stage.observed), later)
        columns = list(stage.run)
        drawn = self.normals[:, : len(columns)] @ _square_root(spread[np.ix_(columns, columns)]).T
        current = quality[:, columns]
        later_best = (current[:, None, :] + drawn[None]).max(axis=2, initial=exit_worth)
        gain = later_best.mean(axis=1) - current.max(axis=1, initial=exit_worth)
        worth: Bools = gain > lambda_ * self.verifying[last] + 1e-9
        return worth

    def _weights(self, observed: _Group) -> Floats:
        p = self.n_priors
        return self.update.weights((*range(p), *(p + j for j in sorted(observed))))

    def _noise(self, run: _Group, observed: _Group) -> Floats:
        spread = self.update.spread(self.weights(observed), self._all_weights)
        noise = np.zeros((len(self.normals), self.n_candidates))
        unrun = [j for j in range(self.n_candidates) if j not in run]
        root = _square_root(spread[np.ix_(unrun, unrun)])
        noise[:, unrun] = self.normals[:, : len(unrun)] @ root.T
        return noise


def _square_root(covariance: Floats) -> Floats:
    """Return a matrix R with R Rᵀ equal to the covariance, of any rank."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0))
    return root
