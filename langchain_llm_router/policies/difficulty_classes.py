"""How likely answers are right, and wrong answers equal, given how difficult the question is.

The difficulty of a question is a latent class. Given the class, candidates answer independently:
right, wrong or unreadable. Wrong answers fall into equal groups as a Chinese-restaurant process, so
that a class in which mistakes are shared has a small concentration θ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import expit, logit

from langchain_llm_router.policies.answer_partitions import (
    NOT_ASKED,
    UNREADABLE,
    AnswerPartitions,
    Members,
    canonical_rows,
    count_members,
)
from langchain_llm_router.types.arrays import Arrays, Bools, Floats, Indices

__all__ = ["AnswerPatterns", "ClassModel"]

_THETAS = np.geomspace(0.05, 200, 60)
_LOG_PRIOR_OF_THETA = -0.1 * (np.log(_THETAS) - 1) ** 2
_STRENGTH = 2.0
"""Number of answers that a candidate's rates over all classes count for in each class."""
_LEAST = 0.05
_N_DRAWS = 32
_AGREEMENT = 4.0
_CLASS_SHIFTS = (2.0, 0.0, -2.0)
_FULL_RATIO = 30.0
_LEAST_ABILITY = 0.1
_NEVER = 1e-12
"""Stands for 0, which has no logarithm."""


@dataclass(frozen=True, eq=False)
class AnswerPatterns:
    """The different rows of a table of answers, each with all the ways in which it can be right.

    A row with known correctness has one way; without, each of its groups may be right, or none.

    Attributes:
        kinds: 1 where an answer is of a kind, else 0, of shape (5, n_ways, n_candidates): right,
            wrong, unreadable, unreadable but known to be right, unreadable and known to be wrong.
        uncompared: 1 where an answer was judged but not compared, else 0, of shape (2, n_ways,
            n_candidates): right, wrong.
        members: The groups of wrong answers of each way.
        pattern: Number of the pattern of each way, ascending.
        n_rows: Number of rows of each pattern.
        rows: Number of the pattern of each row of the table.
    """

    kinds: Floats
    uncompared: Floats
    members: Members
    pattern: Indices
    n_rows: Floats
    rows: Indices

    @classmethod
    def build(cls, groups: Indices, good: Bools | None) -> Self:
        """Count the patterns of a table.

        Args:
            groups: Group of each answer, of shape (n_rows, n_candidates): equal answers of a row
                have equal numbers >= 0; -1 for an unreadable answer, -2 for none.
            good: Whether each answer is right, same shape; None if that is unknown.
        """
        if good is None:
            return cls.build_partly(groups, np.full(groups.shape, np.nan))
        numbered, n = canonical_rows(groups), groups.shape[1]
        known = np.hstack([numbered, good])
        patterns, rows, n_rows = np.unique(known, axis=0, return_inverse=True, return_counts=True)
        answers, right = patterns[:, :n], patterns[:, n:] == 1
        unread = answers == UNREADABLE
        kinds = [right, ~right, unread & right, unread & ~right]
        none = np.zeros((2, *answers.shape))
        return cls._of_ways(answers, kinds, none, np.arange(len(patterns)), n_rows, rows)

    @classmethod
    def build_partly(cls, groups: Indices, quality: Floats) -> Self:
        """Count the patterns of a table in which some answers were judged.

        Args:
            groups: As in `build`.
            quality: Measured quality (at least 0.5 counts as right), same shape, NaN where unknown.
                An equal answer is as right. Judgements of a row that contradict each other are
                ignored. One of an answer without a group (-2) tells how able its candidate is.
        """
        numbered, n = canonical_rows(groups), groups.shape[1]
        label = np.where(np.isnan(quality), -1, quality >= 0.5).astype(np.intp)
        known = np.hstack([numbered, label])
        patterns, rows, n_rows = np.unique(known, axis=0, return_inverse=True, return_counts=True)
        n_ways = np.maximum(patterns[:, :n].max(axis=1), -1) + 2
        pattern = np.repeat(np.arange(len(patterns)), n_ways)
        way = np.arange(len(pattern)) - np.repeat(np.cumsum(n_ways) - n_ways, n_ways)
        answers, said = patterns[pattern, :n], patterns[pattern, n:]
        right = answers == way[:, None]
        possible = ((answers < 0) | (said < 0) | (right == (said == 1))).all(axis=1)
        possible |= ~np.isin(pattern, pattern[possible])
        answers, said, right, pattern = (it[possible] for it in (answers, said, right, pattern))
        unread = answers == UNREADABLE
        kinds = [right, ~right, unread & (said == 1), unread & (said == 0)]
        uncompared = np.stack([said == 1, said == 0]) & (answers == NOT_ASKED)
        return cls._of_ways(answers, kinds, uncompared.astype(float), pattern, n_rows, rows)

    @classmethod
    def _of_ways(
        cls,
        answers: Indices,
        kinds: Sequence[Bools],
        uncompared: Floats,
        pattern: Indices,
        n_rows: Any,
        rows: Any,
    ) -> Self:
        right, wrong, unread_right, unread_wrong = kinds
        readable, unread = answers >= 0, answers == UNREADABLE
        wrong = readable & wrong
        return cls(
            np.stack([readable & right, wrong, unread, unread_right, unread_wrong]).astype(float),
            uncompared,
            count_members(answers, wrong),
            pattern,
            n_rows.astype(np.float64),
            rows.reshape(-1),
        )

    def join(self, other: AnswerPatterns) -> AnswerPatterns:
        """Return the patterns of both tables, rows of the other one last."""
        n = len(self.n_rows)
        members = zip(vars(self.members).values(), vars(other.members).values(), strict=True)
        return AnswerPatterns(
            np.concatenate([self.kinds, other.kinds], axis=1),
            np.concatenate([self.uncompared, other.uncompared], axis=1),
            Members(*(np.concatenate(pair) for pair in members)),
            np.concatenate([self.pattern, other.pattern + n]),
            np.concatenate([self.n_rows, other.n_rows]),
            np.concatenate([self.rows, other.rows + n]),
        )

    @property
    def first(self) -> Indices:
        """Number of the first way of each pattern."""
        return np.searchsorted(self.pattern, np.arange(len(self.n_rows)))

    @property
    def weights(self) -> Floats:
        """Number of rows of each way before anything is fitted: larger groups are right more often.

        Without that, fitting on unlabelled rows could mistake right answers for wrong ones.
        """
        likely = _AGREEMENT ** self.kinds[0].sum(axis=1)
        total = np.add.reduceat(likely, self.first)
        weights: Floats = likely * (self.n_rows / total)[self.pattern]
        return weights


@dataclass(frozen=True, eq=False)
class ClassModel:
    """Latent classes of difficulty, and how the candidates answer in each of them.

    Attributes:
        prior: P(class), of shape (n_classes,).
        rates: P(right), P(wrong) and P(unreadable) of each candidate's answer in each class, of
            shape (n_classes, n_candidates, 3).
        right_unread: P(right | unreadable), of shape (n_classes, n_candidates).
        theta: Concentration of wrong answers, of shape (n_classes,): the larger, the more rarely
            they are equal.
    """

    prior: Floats
    rates: Floats
    right_unread: Floats
    theta: Floats

    @classmethod
    def fit(cls, patterns: AnswerPatterns, *, n_classes: int = 8, n_steps: int = 60) -> Self:
        """Fit by expectation maximization; see `log_posterior` for what never falls.

        Args:
            patterns: The training rows, with or without known correctness.
            n_classes: Number of classes.
            n_steps: Number of steps.
        """
        center = _Center.of(patterns)
        weights = _start(patterns, n_classes)
        model = cls._maximize(patterns, weights, center)
        for _ in range(n_steps - 1):
            weights, _ = model._explain(patterns)
            model = cls._maximize(patterns, weights, center)
        return model

    @classmethod
    def from_prices(cls, prices: Sequence[float]) -> Self:
        """Return the model to use without any data: the dearer a candidate, the more able it is.

        It assumes four equally frequent classes: easy, medium and hard questions, and questions
        whose answers cannot be compared, as of free text. In the medium class ability rises by 0.4
        where the price is 30 times as high: from 0.5 to 0.9 for such a pair, in a narrower range
        around 0.7 for closer prices, so that equal prices mean equal ability, and further down, to
        0.1, for prices that are further below, so that many very cheap candidates cannot outvote a
        dear one. The log-odds are shifted by ±2 in the easy and the hard class. In these three all
        answers can be compared; in the last one none, and each candidate's is half as often right
        as the next dearer one's, so that after an unreadable answer the dearest candidate is asked.
        Wrong answers are rarely equal (θ = 8). A free candidate counts as a 30th of the dearest, or
        as the cheapest that is not free if that is less. A candidate that is weak for its price is
        overrated, and so is one that repeats others' mistakes.

        Args:
            prices: Price or expected cost of each candidate, in any unit, >= 0.

        Raises:
            ValueError: If a price is no such number, or all are 0.
        """
        given = np.asarray(prices, dtype=np.float64)
        is_table = given.ndim == 1 and len(given) > 0
        if not (is_table and (np.isfinite(given) & (given >= 0)).all() and (given > 0).any()):
            msg = (
                "Prices must be numbers >= 0, one per candidate and not all 0, because their order "
                f"is all that is known of the candidates, got {list(prices)!r}."
            )
            raise ValueError(msg)
        paid = given[given > 0]
        log = np.log(np.where(given > 0, given, min(paid.min(), paid.max() / _FULL_RATIO)))
        below, full = log.max() - log, np.log(_FULL_RATIO)
        highest = 0.7 + 0.2 * min(1.0, float(below.max()) / full)
        ability = np.maximum(highest - 0.4 * below / full, _LEAST_ABILITY)
        right = expit(logit(ability) + np.array([*_CLASS_SHIFTS, 0.0])[:, None])
        unreadable = np.full(right.shape, _NEVER)
        unreadable[-1] = 1 - _NEVER
        n_dearer = (np.unique(log)[None] > log[:, None]).sum(axis=1)
        n_classes = len(right)
        return cls(
            np.full(n_classes, 1 / n_classes),
            np.stack([right, 1 - right, unreadable], axis=2)
            * np.stack([1 - unreadable, 1 - unreadable, np.ones_like(right)], axis=2),
            np.broadcast_to(highest / 2.0**n_dearer, right.shape).copy(),
            np.full(n_classes, 8.0),
        )

    def learned(self, patterns: AnswerPatterns, *, strength: float, n_steps: int = 30) -> Self:
        """Return the model after seeing answers, with or without known correctness.

        Args:
            patterns: The answers.
            strength: Number of rows that this model counts for. How rarely wrong answers are equal
                stays as it is, because without labels shared mistakes look like right answers.
            n_steps: Number of steps of expectation maximization.
        """
        before = strength * self.prior
        rates = before[:, None, None] * self.rates
        unread = before[:, None, None] * self._readable()[1]
        model = self
        for _ in range(n_steps):
            weights, _ = model._explain(patterns)
            counts = np.stack([weights.T @ part for part in patterns.kinds[:3]], axis=2) + rates
            judged = np.stack([weights.T @ part for part in patterns.kinds[3:]], axis=2) + unread
            # An answer that was not compared is one of those that can be read, or of the others.
            hidden = np.stack([weights.T @ part for part in patterns.uncompared], axis=2)
            read, unreadable = model._readable()
            in_groups = hidden * read / (read + unreadable)
            counts[..., :2] += in_groups
            counts[..., 2] += (hidden - in_groups).sum(axis=2)
            judged += hidden - in_groups
            of_class = weights.sum(axis=0) + before
            model = type(self)(
                of_class / of_class.sum(),
                counts / counts.sum(axis=2, keepdims=True),
                judged[..., 0] / judged.sum(axis=2),
                self.theta,
            )
        return model

    def select(self, n_candidates: int) -> ClassModel:
        """Return the model of the first candidates alone."""
        rates, unread = self.rates[:, :n_candidates], self.right_unread[:, :n_candidates]
        return ClassModel(
            self.prior, np.ascontiguousarray(rates), np.ascontiguousarray(unread), self.theta
        )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.prior)

    def responsibilities(self, patterns: AnswerPatterns) -> Floats:
        """Return P(class | row) of each pattern, of shape (n_patterns, n_classes)."""
        weights, _ = self._explain(patterns)
        shares: Floats = np.add.reduceat(weights, patterns.first, axis=0)
        return shares / patterns.n_rows[:, None]

    def log_posterior(self, patterns: AnswerPatterns) -> float:
        """Return log P(rows | model) + log P(model), up to a constant.

        A step of `fit` never lowers it. The prior of the rates is centered on each candidate's
        rates over all classes, that of θ on e.
        """
        _, log_likelihood = self._explain(patterns)
        center = _Center.of(patterns)
        nearest = np.abs(np.log(_THETAS) - np.log(self.theta)[:, None]).argmin(axis=1)
        return float(
            patterns.n_rows @ log_likelihood
            + np.log(self.prior).sum()
            + (center.rates * np.log(self.rates)).sum()
            + (
                center.unread
                * np.log(np.stack([self.right_unread, 1 - self.right_unread])).transpose(1, 2, 0)
            ).sum()
            + _LOG_PRIOR_OF_THETA[nearest].sum()
        )

    def likelihoods(self, partitions: AnswerPartitions) -> Floats:
        """Return P(state, which group is right | class) of all states of this pool.

        Returns:
            Of shape (n_states, n_candidates + 1, n_classes); the last group stands for none.
        """
        states = np.broadcast_to(partitions.states[:, None, :], partitions.right.shape).astype(int)
        wrong = (states >= 0) & ~partitions.right
        log = self._log_rates(
            partitions.right, wrong, states == UNREADABLE, count_members(states, wrong)
        )
        likelihoods: Floats = np.where(partitions.possible[..., None], np.exp(log), 0.0)
        return likelihoods

    def arrays(self) -> Arrays:
        """Return the parameters by name, to save them."""
        return dict(vars(self))

    def _log_rates(
        self, right: Floats | Bools, wrong: Floats | Bools, unread: Floats | Bools, members: Members
    ) -> Floats:
        log = np.log(self.rates)
        total: Floats = (
            right @ log[:, :, 0].T
            + wrong @ log[:, :, 1].T
            + unread @ log[:, :, 2].T
            + members.log_probability(self.theta)
        )
        return total

    def _readable(self) -> tuple[Floats, Floats]:
        """Return P(right) and P(wrong) of an answer that can be read, and of one that cannot.

        Each is of shape (n_classes, n_candidates, 2).
        """
        share = np.stack([self.right_unread, 1 - self.right_unread], axis=2)
        return self.rates[..., :2], self.rates[..., 2:] * share

    def _explain(self, patterns: AnswerPatterns) -> tuple[Floats, Floats]:
        """Return the expected number of rows of each way and class, and log P of each pattern."""
        right, wrong, unread, unread_right, unread_wrong = patterns.kinds
        joint = self._log_rates(right, wrong, unread, patterns.members)
        joint += unread_right @ np.log(self.right_unread).T
        joint += unread_wrong @ np.log1p(-self.right_unread).T
        read, unreadable = self._readable()
        chance = np.log(read + unreadable)
        joint += patterns.uncompared[0] @ chance[..., 0].T
        joint += patterns.uncompared[1] @ chance[..., 1].T
        joint += np.log(self.prior)
        first = patterns.first
        highest = np.maximum.reduceat(joint.max(axis=1), first)
        weights = np.exp(joint - highest[patterns.pattern, None])
        total = np.add.reduceat(weights.sum(axis=1), first)
        weights *= (patterns.n_rows / total)[patterns.pattern, None]
        return weights, highest + np.log(total)

    @classmethod
    def _maximize(cls, patterns: AnswerPatterns, weights: Floats, center: _Center) -> Self:
        """Return the model of highest posterior, given the expected number of rows."""
        counts = np.stack([weights.T @ part for part in patterns.kinds[:3]], axis=2) + center.rates
        unread = np.stack([weights.T @ part for part in patterns.kinds[3:]], axis=2) + center.unread
        spread = weights.T @ patterns.members.log_probability(_THETAS) + _LOG_PRIOR_OF_THETA
        of_class = weights.sum(axis=0) + 1
        return cls(
            of_class / of_class.sum(),
            counts / counts.sum(axis=2, keepdims=True),
            unread[..., 0] / unread.sum(axis=2),
            _THETAS[spread.argmax(axis=1)],
        )


class _Center(NamedTuple):
    """What the rates of each class are drawn to, as a number of answers of each kind."""

    rates: Floats
    unread: Floats

    @classmethod
    def of(cls, patterns: AnswerPatterns) -> Self:
        """Return the rates over all classes; without known correctness, the weighted ones."""
        weights = patterns.weights
        rates = np.stack([weights @ part for part in patterns.kinds[:3]], axis=1) + 1e-3
        unread = np.stack([weights @ part for part in patterns.kinds[3:]], axis=1) + np.array(
            [_LEAST, 1.0]
        )
        return cls(
            _STRENGTH * rates / rates.sum(axis=1, keepdims=True) + _LEAST,
            _STRENGTH * unread / unread.sum(axis=1, keepdims=True),
        )


def _start(patterns: AnswerPatterns, n_classes: int) -> Floats:
    """Return expected numbers of rows to start from: classes by the share of right answers.

    The share is blurred at random, differently for each candidate, so that classes differ.
    """
    rng = np.random.default_rng(0)
    right = patterns.kinds[0]
    n_ways, n_candidates = right.shape
    noise = rng.normal(0, 0.15, (n_ways, _N_DRAWS))
    taste = 0.15 * rng.normal(size=(n_candidates, _N_DRAWS)) / np.sqrt(n_candidates)
    share = right.mean(axis=1, keepdims=True) + noise
    share += (right - right.mean(axis=0)) @ taste
    weights = patterns.weights
    order = np.argsort(share, axis=None)
    heaviness = np.repeat(weights, _N_DRAWS)[order]
    place = np.empty(len(order))
    place[order] = (np.cumsum(heaviness) - heaviness / 2) / heaviness.sum()
    chosen = np.minimum((place * n_classes).astype(np.intp), n_classes - 1)
    hits = np.eye(n_classes)[chosen].reshape(n_ways, _N_DRAWS, n_classes).mean(axis=1)
    started: Floats = weights[:, None] * (0.9 * hits + 0.1 / n_classes)
    return started
