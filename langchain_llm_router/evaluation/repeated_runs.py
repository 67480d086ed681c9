"""What perfect routing is worth where questions were answered several times.

The best of several candidates, chosen by the answers that then count, looks better than it is:
luck is chosen, too. With several runs the choice can be made on one half of them and tested on
the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation.table_replay import best_single
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.figures import format_share

__all__ = ["RepeatedRuns"]

_MOST_SPLITS = 20

_Point = tuple[float, float | None]


@dataclass(frozen=True)
class RepeatedRuns:
    """Perfect routing of questions that were answered several times; `of` computes it.

    Attributes:
        n_queries: Number of different questions that were answered at least twice.
        n_rows: Number of their rows, each of them one run of every candidate.
        best: Name of the candidate with the highest mean quality.
        alone: Its mean quality and mean cost in USD.
        naive: Mean quality and mean cost in USD if the best candidate of every question is chosen
            by the runs that then count, which takes luck for skill.
        honest: The same if it is chosen by one half of the runs and tested on the other, by all
            ways to halve them. Of equally good candidates the one with the lower mean cost is
            chosen. A cost is None if one is unknown.
        differing: By candidate, the share of the questions on which its own runs differ.
    """

    n_queries: int
    n_rows: int
    best: str
    alone: _Point
    naive: _Point
    honest: _Point
    differing: Mapping[str, float]

    @classmethod
    def of(cls, outcomes: Outcomes) -> Self | None:
        """Compare the runs of equal questions, which are rows with the same query and group.

        Returns:
            The comparison; None if no question has two rows.
        """
        by_size = _runs_by_number(outcomes)
        if not by_size:
            return None
        rows = np.concatenate([runs.ravel() for runs in by_size.values()])
        known = outcomes.take(rows)
        naive, honest, differing = [], [], []
        for n, runs in by_size.items():
            every = tuple(range(n))
            naive.append(_tested(outcomes, runs, [(every, every)]))
            honest.append(_tested(outcomes, runs, _halves(n)))
            differing.append(np.ptp(outcomes.quality[runs], axis=1) > 0)
        best = best_single(known)
        costs = known.mean_cost_usd
        return cls(
            n_queries=sum(len(runs) for runs in by_size.values()),
            n_rows=len(rows),
            best=outcomes.candidates[best],
            alone=_point(known.quality[:, best].mean(), np.nan if costs is None else costs[best]),
            naive=_point(*np.concatenate(naive).mean(axis=0)),
            honest=_point(*np.concatenate(honest).mean(axis=0)),
            differing=dict(
                zip(
                    outcomes.candidates,
                    np.concatenate(differing).mean(axis=0).tolist(),
                    strict=True,
                )
            ),
        )

    @property
    def headroom(self) -> float:
        """Quality that perfect routing adds to the best candidate, as tested on other runs."""
        return self.honest[0] - self.alone[0]

    @property
    def sentence(self) -> str:
        """What perfect routing is worth, in words."""
        return (
            f"{self.n_queries:,} questions were answered several times. If the best model of each "
            f"is chosen by one half of its runs and tested on the other, quality is "
            f"{format_share(self.honest[0], 1)}, {100 * self.headroom:+.1f} points against "
            f"{self.best} alone; chosen by the runs that then count it is "
            f"{format_share(self.naive[0], 1)}, which is partly luck."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        points = {"alone": self.alone, "naive": self.naive, "honest": self.honest}
        return {
            "n_queries": self.n_queries,
            "n_rows": self.n_rows,
            "best": self.best,
            **{name: {"quality": q, "cost_usd": c} for name, (q, c) in points.items()},
            "headroom": self.headroom,
            "differing": dict(self.differing),
        }


def _runs_by_number(outcomes: Outcomes) -> dict[int, Indices]:
    """Return the rows of each repeated question, of shape (n_questions, n), by their number n."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    groups = outcomes.groups or [""] * len(outcomes)
    for i, key in enumerate(zip(outcomes.queries, groups, strict=True)):
        rows[key].append(i)
    found: dict[int, list[list[int]]] = defaultdict(list)
    for same in rows.values():
        if len(same) > 1:
            found[len(same)].append(same)
    return {n: np.array(same, dtype=np.intp) for n, same in sorted(found.items())}


def _halves(n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return ways to choose on one half of n runs and to test on the other, spread evenly."""
    every = range(n)
    # Among many runs, those in a row stand for all combinations.
    chosen = (
        list(combinations(every, n // 2))
        if n <= 6
        else [tuple((start + k) % n for k in range(n // 2)) for start in every][:_MOST_SPLITS]
    )
    return [(half, tuple(i for i in every if i not in half)) for half in chosen]


def _tested(
    outcomes: Outcomes,
    runs: Indices,
    splits: list[tuple[tuple[int, ...], tuple[int, ...]]],
) -> Floats:
    """Return quality and cost of each question, as the mean over the splits."""
    costs = outcomes.cost_usd
    quality = outcomes.quality[runs]
    cost = np.full(quality.shape, np.nan) if costs is None else costs[runs]
    # The mean over all rows says which candidate is cheaper; one of unknown cost is the dearest.
    price = np.full(quality.shape[2], np.inf) if costs is None else costs.mean(axis=0)
    order = np.argsort(np.nan_to_num(price, nan=np.inf), kind="stable")
    total = np.zeros((len(runs), 2))
    rows = np.arange(len(runs))
    for seen, tested in splits:
        mean = quality[:, seen].mean(axis=1)
        best = mean >= mean.max(axis=1, keepdims=True) - 1e-12
        chosen = order[best[:, order].argmax(axis=1)]
        total[:, 0] += quality[:, tested].mean(axis=1)[rows, chosen]
        total[:, 1] += cost[:, tested].mean(axis=1)[rows, chosen]
    return total / len(splits)


def _point(quality: float, cost_usd: float) -> _Point:
    return float(quality), None if np.isnan(cost_usd) else float(cost_usd)
