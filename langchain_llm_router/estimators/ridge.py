"""Ridge and logistic regression: of few rows on their principal axes, of many by their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.sparse import csr_array
from scipy.special import expit, logit

from langchain_llm_router.data.embeddings import dense
from langchain_llm_router.types.arrays import Floats, Indices, Vectors

__all__ = ["Block", "NormalEquations", "Spectrum", "block_factors"]

Block = Vectors | csr_array
"""Some of the features of some rows, of shape (n_rows, n_of_these_features)."""

_BATCH = 8192
_ROUNDING = 1e-8
_CONSTANT = 1e-6
"""Mean squared length of a centered block, relative to that of its rows, up to which it is 0."""

_DENSE_SHARE = 0.04
"""Share of entries other than 0 from which a product is quicker with all of the zeros."""


def block_factors(shares: Sequence[float], lengths: Sequence[float]) -> Floats:
    """Compute the factor that gives each block of features its share of the squared length.

    Args:
        shares: Shares of the blocks.
        lengths: Mean squared length of each block's rows, centered.
    """
    return np.asarray(np.sqrt(np.array(shares) / np.maximum(lengths, 1e-12)), np.float64)


class Spectrum:
    """Centered features on their principal axes, on which every ridge penalty is solved cheaply."""

    def __init__(self, features: Vectors) -> None:
        n, width = features.shape
        if width < n:
            values, axes = np.linalg.eigh((features.T @ features).astype(np.float64))
            self._axes: Floats | None = axes
            self._set(features @ axes, values)
        else:
            self._axes = None
            values, vectors = np.linalg.eigh((features @ features.T).astype(np.float64))
            self._set(vectors * np.sqrt(np.maximum(values, 0)), values)

    def _set(self, scores: Floats, values: Floats) -> None:
        kept = values > 1e-8 * max(float(values[-1]), 1e-12)
        self.scores, self.values = scores[:, kept].astype(np.float64), values[kept]
        self._kept = kept
        self._squares = self.scores**2

    def on_features(self, weights: Floats, features: Vectors) -> Floats:
        """Convert weights on the axes to weights on the features, of shape (n_features, n)."""
        if self._axes is not None:
            found: Floats = self._axes[:, self._kept] @ weights
            return found
        # Small products first: the map from axes to features would be a large matrix.
        on_rows = self.scores @ (weights / self.values[:, None])
        back: Floats = (on_rows.T.astype(np.float32) @ features).T.astype(np.float64)
        return back

    def ridge(self, alpha: float, targets: Floats) -> Floats:
        """Solve for the weights on the axes for centered targets."""
        weights: Floats = (self.scores.T @ targets) / (self.values + alpha)[:, None]
        return weights

    def loo_error(self, alpha: float, targets: Floats, counts: Floats) -> float:
        """Compute the mean squared leave-one-out error of `ridge`, intercept included.

        Args:
            alpha: The penalty.
            targets: Centered targets, of shape (n_rows, n_targets).
            counts: How many equal rows each row stands for; it and its targets have been
                multiplied by the square root. All of them are left out at once.
        """
        residual = targets - self.scores @ self.ridge(alpha, targets)
        leverage = counts / counts.sum() + self._squares @ (1 / (self.values + alpha))
        return float(np.mean((residual / np.maximum(1 - leverage, 1e-6)[:, None]) ** 2))

    def logistic(self, alpha: float, target: Floats) -> tuple[Floats, float]:
        """Fit the weights and the intercept of a penalized logistic regression of one column."""
        p = _level(target)
        # At the mean, the curvature of the logistic loss is p(1 - p) times that of squared loss.
        penalty = alpha * p * (1 - p)

        def loss(values: Floats) -> tuple[float, Floats]:
            weights, raw = values[1:], self.scores @ values[1:] + values[0]
            misses = expit(raw) - target
            total = np.logaddexp(0, raw).sum() - target @ raw + penalty / 2 * weights @ weights
            return float(total), np.append(misses.sum(), self.scores.T @ misses + penalty * weights)

        found = _minimum(loss, np.append(float(logit(p)), np.zeros(len(self.values))))
        return found[1:], float(found[0])


class NormalEquations:
    """The normal equations of ridge regression, summed over the rows a batch at a time.

    Time and memory grow with the number of rows only as much as reading them does: what is solved
    has the size of the number of features.

    Args:
        read: Function from indices of rows to the blocks of their features; all blocks
            together have one order of features.
        targets: Centered targets, of shape (n_rows, n_targets).
        shares: Share of each block in the squared length of a row.

    Attributes:
        means: Mean of each feature, of shape (n_features,).
        scales: Factor of each feature once it is centered, same shape.
    """

    def __init__(
        self,
        read: Callable[[Indices], Sequence[Block]],
        targets: Floats,
        shares: Sequence[float],
    ) -> None:
        self._read, self._n_rows = read, len(targets)
        widths = [block.shape[1] for block in read(np.arange(1))]
        ends = np.cumsum([0, *widths])
        self._slices = [slice(a, b) for a, b in pairwise(ends)]
        self._gram = np.zeros((ends[-1], ends[-1]))
        self._cross = np.zeros((ends[-1], targets.shape[1]))
        self.means = np.zeros(ends[-1])
        for part in self._parts():
            self._add(read(part), targets[part])
        self._center_and_scale(shares)

    def ridge(self, alpha: float, targets: slice) -> Floats:
        """Solve for the weights of centered and scaled features, of shape (n_features, n)."""
        root = self._root(alpha)
        found: Floats = cho_solve((root, False), self._cross[:, targets], check_finite=False)
        return found

    def logistic(self, alpha: float, target: Floats) -> tuple[Floats, float]:
        """Fit the weights and the intercept of a penalized logistic regression of one column."""
        p = _level(target)
        curvature = p * (1 - p)
        # In these variables the loss is about as steep in every direction.
        root, unit = self._root(alpha) * np.sqrt(curvature), np.sqrt(self._n_rows * curvature)
        batches = [(part, [_lean(block) for block in self._read(part)]) for part in self._parts()]

        def loss(values: Floats) -> tuple[float, Floats]:
            weights = solve_triangular(root, values[1:], check_finite=False)
            on_raw = self.scales * weights
            level = values[0] / unit - self.means @ on_raw
            total, missed = curvature * alpha / 2 * float(weights @ weights), 0.0
            slope = np.zeros(len(weights))
            for part, blocks in batches:
                raw = np.full(blocks[0].shape[0], level)
                for block, columns in zip(blocks, self._slices, strict=True):
                    raw += block @ on_raw[columns].astype(np.float32)
                misses = expit(raw) - target[part]
                total += float(np.logaddexp(0, raw).sum() - target[part] @ raw)
                missed += float(misses.sum())
                for block, columns in zip(blocks, self._slices, strict=True):
                    slope[columns] += block.T @ misses.astype(np.float32)
            slope = self.scales * (slope - missed * self.means) + curvature * alpha * weights
            back = solve_triangular(root, slope, trans=1, check_finite=False)
            return total, np.append(missed / unit, back)

        found = _minimum(loss, np.append(unit * float(logit(p)), np.zeros(len(self.means))))
        weights = solve_triangular(root, found[1:], check_finite=False)
        return np.asarray(weights, np.float64), float(found[0]) / unit

    def _parts(self) -> Iterator[Indices]:
        for start in range(0, self._n_rows, _BATCH):
            yield np.arange(start, min(start + _BATCH, self._n_rows))

    def _add(self, blocks: Sequence[Block], targets: Floats) -> None:
        lean = [_lean(block) for block in blocks]
        for i, (left, rows) in enumerate(zip(lean, self._slices, strict=True)):
            self.means[rows] += left.sum(axis=0, dtype=np.float64)
            self._cross[rows] += left.T @ targets
            for right, columns in zip(lean[: i + 1], self._slices, strict=False):
                product: Any = left.T @ right
                self._gram[rows, columns] += dense(product)

    def _center_and_scale(self, shares: Sequence[float]) -> None:
        self.means /= self._n_rows
        # Only the lower triangle of blocks is summed, and only the lower triangle is read.
        self._gram -= np.outer(self._n_rows * self.means, self.means)
        squares, slices = np.diag(self._gram) / self._n_rows, self._slices
        raw = squares + self.means**2
        lengths = [float(squares[part].sum()) for part in slices]
        factors = block_factors(shares, lengths)
        # What is left of a block that never varies is rounding.
        least = [_CONSTANT * float(raw[part].sum()) for part in slices]
        factors[np.array(lengths) <= least] = 0.0
        self.scales = np.repeat(factors, [part.stop - part.start for part in self._slices])
        self._gram *= self.scales[:, None]
        self._gram *= self.scales
        self._cross *= self.scales[:, None]

    def _root(self, alpha: float) -> Floats:
        """Return the upper Cholesky factor of the penalized equations."""
        penalized = self._gram.copy()
        # A smaller penalty is lost in the rounding of the sums.
        penalized[np.diag_indices_from(penalized)] += max(alpha, _ROUNDING * self._n_rows)
        # The transpose lies in memory as the solver needs it, so that nothing is copied again.
        root: Floats = cholesky(penalized.T, overwrite_a=True, check_finite=False)
        return root


def _lean(block: Block) -> Block:
    """Return a block in the form whose products are quicker."""
    if isinstance(block, csr_array) and block.nnz > _DENSE_SHARE * block.shape[0] * block.shape[1]:
        return dense(block)
    return block


def _level(target: Floats) -> float:
    return float(np.clip(target.mean(), 1e-3, 1 - 1e-3))


def _minimum(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    from scipy.optimize import minimize  # noqa: PLC0415 - slow, and only fitting needs it

    solution = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(solution.x, np.float64)
