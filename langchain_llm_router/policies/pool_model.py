"""All that is fitted for a pool of candidates whose answers are compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import expit, logit

from langchain_llm_router.policies.answer_partitions import (
    NOT_ASKED,
    answer_partitions,
    canonical_rows,
)
from langchain_llm_router.policies.class_beliefs import (
    ClassBeliefs,
    Gate,
    Lengths,
    class_means,
    log_tokens,
)
from langchain_llm_router.policies.difficulty_classes import AnswerPatterns, ClassModel
from langchain_llm_router.policies.pool_search import STOP, PoolTables
from langchain_llm_router.types.arrays import Arrays, Bools, Floats, Indices

__all__ = ["Calibration", "PoolModel", "PoolRows", "PoolSettings", "replay_pool"]

_MAX_EXAMPLES = 3_000
_MAX_CALIBRATED = 6_000
_N_FOLDS = 3
_LIKELY = 0.02
"""Classes that are less likely are left out where all likely ones are looked at."""

_WORTHS = np.geomspace(0.02, 0.5, 6)
"""Values of λ × the cost of the dearest candidate at which stated probabilities are checked."""


class PoolSettings(NamedTuple):
    """The settings of a fit, see `AnswerPool`."""

    n_classes: int
    length_weight: float
    n_beliefs: int


class PoolRows(NamedTuple):
    """Training rows, each table of shape (n_rows, n_candidates).

    Attributes:
        groups: Groups of equal answers, -1 for unreadable ones; columns of candidates that are not
            in the pool come last.
        quality: Measured quality, same shape.
        cost_usd: Cost of the pool's answers, NaN where unknown.
        predicted: Predicted qualities; None without.
        output_tokens: Tokens of the answers, NaN where unknown; None if all are.
        unlabelled: Groups of further rows, in the shape of `groups`, whose quality is unknown; None
            without.
    """

    groups: Indices
    quality: Floats
    cost_usd: Floats
    predicted: Floats | None
    output_tokens: Floats | None
    unlabelled: Indices | None

    def take(self, rows: Indices) -> PoolRows:
        """Select labelled rows."""
        predicted, tokens = self.predicted, self.output_tokens
        return PoolRows(
            self.groups[rows],
            self.quality[rows],
            self.cost_usd[rows],
            None if predicted is None else predicted[rows],
            None if tokens is None else tokens[rows],
            self.unlabelled,
        )

    @property
    def good(self) -> Bools:
        """Whether each answer counts as right."""
        good: Bools = self.quality >= 0.5
        return good


@dataclass(frozen=True, eq=False)
class PoolModel:
    """Classes of difficulty, the belief over them, and costs.

    Attributes:
        classes: How candidates answer in each class.
        beliefs: The belief over classes.
        centers: The beliefs for which plans are made, of shape (n_beliefs, n_classes).
        cost_usd: Mean cost of each candidate's answer.
        relative_cost: Cost in each class over the mean, of shape (n_classes, n_candidates).
    """

    classes: ClassModel
    beliefs: ClassBeliefs
    centers: Floats
    cost_usd: Floats
    relative_cost: Floats

    @classmethod
    def fit(cls, rows: PoolRows, cost_usd: Floats, settings: PoolSettings) -> Self:
        """Fit on training rows.

        Args:
            rows: The rows.
            cost_usd: Mean cost of each candidate's answer.
            settings: Number of classes, weight of lengths, number of beliefs.
        """
        labelled = AnswerPatterns.build(rows.groups, rows.good)
        n_labelled = len(rows.groups)
        patterns = labelled
        if rows.unlabelled is not None:
            patterns = labelled.join(AnswerPatterns.build(rows.unlabelled, None))
        everyone = ClassModel.fit(patterns, n_classes=settings.n_classes)
        classes = everyone.select(len(cost_usd))
        shares, of_rows = everyone.responsibilities(patterns), patterns.rows[:n_labelled]
        costs = class_means(rows.cost_usd, of_rows, shares)
        # A free candidate is as free in every class; a fold may lack all costs of a candidate.
        relative = np.where(cost_usd > 0, costs / np.maximum(cost_usd, 1e-300), 1.0)
        relative = np.where(np.isnan(relative), 1.0, relative)
        gate, lengths = None, None
        if rows.predicted is not None:
            gate = Gate.fit(rows.predicted, shares[of_rows])
        if rows.output_tokens is not None and settings.length_weight > 0:
            lengths = Lengths.fit(rows.output_tokens, of_rows, shares, settings.length_weight)
        beliefs = ClassBeliefs(classes.prior, gate, lengths)
        examples = beliefs.examples(rows.predicted, rows.output_tokens, _MAX_EXAMPLES)
        centers = _cluster(examples, settings.n_beliefs)
        return cls(classes, beliefs, centers, cost_usd, relative)

    @classmethod
    def from_prices(cls, cost_usd: Sequence[float]) -> Self:
        """Return the model without any data, see `ClassModel.from_prices`."""
        return cls._of(ClassModel.from_prices(cost_usd), np.asarray(cost_usd, dtype=np.float64))

    def learned(self, groups: Indices, quality: Floats, strength: float) -> Self:
        """Return the model after seeing answers, see `ClassModel.learned`."""
        patterns = AnswerPatterns.build_partly(groups, quality)
        return self._of(self.classes.learned(patterns, strength=strength), self.cost_usd)

    @classmethod
    def _of(cls, classes: ClassModel, cost_usd: Floats) -> Self:
        beliefs, relative = ClassBeliefs(classes.prior), np.ones(classes.rates.shape[:2])
        return cls(classes, beliefs, classes.prior[None], cost_usd, relative)

    def tables(self) -> PoolTables:
        """Return the tables that plans are made from."""
        order = np.argsort(self.cost_usd, kind="stable")
        return PoolTables.build(self.classes, self.centers, self.relative_cost, order)

    def nearby(self, candidate: int, center: int) -> Indices:
        """Return the centers nearest to a belief before and after a candidate's typical answers.

        Typical are the lengths to expect in each class that is likely.
        """
        lengths = self.beliefs.lengths
        here = np.array([center], dtype=np.intp)
        if lengths is None:
            return here
        belief = self.centers[center]
        typical = lengths.typical[candidate, belief >= _LIKELY]
        log = np.log(np.maximum(belief, 1e-300)) + lengths.evidence(candidate, typical)
        roots = np.exp((log - log.max(axis=1, keepdims=True)) / 2)
        found: Indices = np.append(here, (roots @ np.sqrt(self.centers).T).argmax(axis=1))
        return np.unique(found)

    def arrays(self) -> Arrays:
        """Return the parameters by name, to save them."""
        return {
            **{f"classes_{name}": array for name, array in self.classes.arrays().items()},
            **{f"beliefs_{name}": array for name, array in self.beliefs.arrays().items()},
            "centers": self.centers,
            "cost_usd": self.cost_usd,
            "relative_cost": self.relative_cost,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Build what `arrays` returned."""
        classes = ClassModel(*(arrays[f"classes_{n}"] for n in ClassModel.__dataclass_fields__))
        start = "beliefs_"
        beliefs = ClassBeliefs.from_arrays(
            {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
        )
        return cls(classes, beliefs, arrays["centers"], arrays["cost_usd"], arrays["relative_cost"])


def _cluster(beliefs: Floats, n_beliefs: int) -> Floats:
    """Return the means of clusters of similar beliefs."""
    from scipy.cluster.vq import kmeans2  # noqa: PLC0415 - slow, and only fitting needs it

    distinct = np.unique(beliefs.round(9), axis=0)
    if len(distinct) <= n_beliefs:
        only: Floats = distinct / distinct.sum(axis=1, keepdims=True)
        return only
    with warnings.catch_warnings():
        # An empty cluster is left out below.
        warnings.simplefilter("ignore", UserWarning)
        _, nearest = kmeans2(
            np.sqrt(beliefs), n_beliefs, iter=20, minit="++", rng=np.random.default_rng(0)
        )
    return np.array([beliefs[nearest == g].mean(axis=0) for g in np.unique(nearest)])


def replay_pool(
    model: PoolModel, tables: PoolTables, rows: PoolRows, lambdas: Sequence[float]
) -> tuple[Indices, Indices, Floats]:
    """Replay plans on recorded rows, all rows at once.

    Args:
        model: The fitted pool.
        tables: Its `tables()`.
        rows: The rows.
        lambdas: Values of λ in quality per USD.

    Returns:
        Of each λ and row the candidates that were asked, as a set whose bit j is candidate j, the
        one whose answer is accepted, and P(it is right), each of shape (n_lambdas, n_rows).
    """
    n, everyone = tables.n_candidates, np.arange(len(rows.groups))
    after = answer_partitions(n).after(canonical_rows(rows.groups[:, :n]))
    tokens = None if rows.output_tokens is None else log_tokens(rows.output_tokens)
    begin = model.beliefs.before(rows.predicted, len(everyone))
    begin = begin - begin.max(axis=1, keepdims=True)
    roots = np.sqrt(model.centers).T
    first = (np.exp(begin / 2) @ roots).argmax(axis=1)
    asked = np.zeros((len(lambdas), len(everyone)), dtype=np.intp)
    accepted, chance = np.empty_like(asked), np.empty(asked.shape)
    for k, lambda_ in enumerate(lambdas):
        plan = tables.solve(lambda_, model.cost_usd, (True,) * n)
        log, column, live = begin.copy(), first.copy(), everyone
        while len(live) > 0:
            action = plan.action[after[live, asked[k, live]], column[live]]
            live, action = live[action != STOP], action[action != STOP]
            asked[k, live] |= 1 << action.astype(np.intp)
            if tokens is None or model.beliefs.lengths is None:
                continue
            for j in range(n):
                chosen = live[action == j]
                log[chosen] = model.beliefs.after(log[chosen], j, tokens[chosen, j])
                highest = log[chosen].max(axis=1, keepdims=True)
                column[chosen] = (np.exp((log[chosen] - highest) / 2) @ roots).argmax(axis=1)
        state = after[everyone, asked[k]]
        accepted[k], chance[k] = _best_answers(tables, state, log)
    return asked, accepted, chance


def _best_answers(tables: PoolTables, states: Indices, log: Floats) -> tuple[Indices, Floats]:
    """Return the best answer of each row, as its candidate, and P(it is right)."""
    belief = np.exp(log - log.max(axis=1, keepdims=True))
    chance = np.einsum("smk,sk->sm", tables.right[states], belief)
    asked = answer_partitions(tables.n_candidates).states[states] != NOT_ASKED
    right = np.where(asked, chance[:, :-1], -1.0)[:, tables.order]
    best = right.max(axis=1, keepdims=True)
    first = (right >= best * (1 - 1e-12)).argmax(axis=1)
    return tables.order[first], best[:, 0] / chance[:, -1]


class Calibration(NamedTuple):
    """Recalibration of stated probabilities: log-odds are shifted and stretched (Platt)."""

    intercept: float = 0.0
    slope: float = 1.0

    @classmethod
    def fit(cls, rows: PoolRows, cost_usd: Floats, settings: PoolSettings) -> Self:
        """Compare what models that were fitted on other rows state with what is measured.

        Args:
            rows: The training rows, as in `PoolModel.fit`.
            cost_usd: Mean cost of each candidate's answer.
            settings: As in `PoolModel.fit`.
        """
        n = len(rows.groups)
        if n < 2 * _N_FOLDS or not (cost_usd > 0).any():
            return cls()
        order = np.random.default_rng(0).permutation(n)[:_MAX_CALIBRATED]
        coarse = PoolSettings(
            settings.n_classes, settings.length_weight, max(1, settings.n_beliefs // 4)
        )
        stated, measured = [], []
        for fold in np.array_split(order, _N_FOLDS):
            model = PoolModel.fit(rows.take(np.setdiff1d(order, fold)), cost_usd, coarse)
            held = rows.take(fold)
            lambdas = (_WORTHS / cost_usd.max()).tolist()
            _, accepted, chance = replay_pool(model, model.tables(), held, lambdas)
            stated.append(chance.ravel())
            measured.append(held.quality[np.arange(len(fold)), accepted].ravel())
        return cls._regress(np.concatenate(stated), np.concatenate(measured))

    def apply(self, chance: float) -> float:
        """Return the recalibrated probability."""
        near = min(max(chance, 1e-6), 1 - 1e-6)
        odds = self.intercept + self.slope * math.log(near / (1 - near))
        return 1 / (1 + math.exp(-odds))

    def invert(self, probability: float) -> float:
        """Return the chance that `apply` turns into this probability."""
        near = min(max(probability, 1e-6), 1 - 1e-6)
        odds = (math.log(near / (1 - near)) - self.intercept) / self.slope
        return 1 / (1 + math.exp(-odds))

    @classmethod
    def _regress(cls, stated: Floats, measured: Floats) -> Self:
        """Fit by Newton's method, drawn to no change by the weight of a few answers."""
        x = np.stack([np.ones(len(stated)), logit(np.clip(stated, 1e-6, 1 - 1e-6))], axis=1)
        found, ridge = np.array([0.0, 1.0]), np.array([2.0, 2.0])
        for _ in range(30):
            p = expit(x @ found)
            slope = x.T @ (measured - p) - ridge * (found - [0.0, 1.0])
            curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
            found = found + np.linalg.solve(curvature, slope)
        # A decreasing map would turn the order of answers round.
        return cls(float(found[0]), max(float(found[1]), 0.05))
