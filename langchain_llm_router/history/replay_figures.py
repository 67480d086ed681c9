"""Replayed requests, and their figures from columns that take little memory for each request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from langchain_llm_router.history.log_reader import Entry
from langchain_llm_router.history.retraced import Retraced
from langchain_llm_router.types import Situation
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["ReplayColumns", "ReplayFigures", "Replayed"]

_NO_NAME = -1


@dataclass(frozen=True)
class Replayed:
    """One replayed request."""

    entry: Entry
    situations: Sequence[Situation]
    """The situation before each recorded step, with the changes applied."""

    went: Retraced
    """The steps taken in the replay."""

    identical: bool
    """Whether every recorded decision was reproduced, equal to the last bit: choice, reason,
    every arm's numbers, confidence, propensity."""

    @property
    def agrees(self) -> bool:
        """Whether the same steps were taken, even if their numbers differ."""
        taken = [(step.action, step.candidate) for step in self.went.steps]
        return taken == [(step.action, step.candidate) for step in self.entry.steps]


@dataclass(frozen=True, eq=False)
class ReplayColumns:
    """Replayed requests as columns, most of them of shape (n,).

    Attributes:
        names: Names of candidates; the other columns hold indices of them, -1 for none.
        pools: The candidates that requests could ask, in their order.
        pool: Index in `pools`.
        answered: Whether it was answered.
        abandoned: Whether its caller left before it was.
        identical: Whether every recorded decision was reproduced.
        agrees: Whether the same steps were taken.
        on_record: Whether every replayed step was recorded.
        recorded: The candidate whose answer was returned.
        replayed: The candidate whose answer is returned in the replay.
        recorded_usd: Recorded cost; NaN if unknown.
        path_usd: Cost of the replayed steps that were recorded; NaN if unknown.
        beyond_usd: Expected cost of the replayed step that was not recorded; NaN if unknown.
        attempt_row: Row of each attempt with a known and an expected cost, of shape (n_attempts,).
        attempt_name: Its candidate.
        attempt_usd: Its cost.
        attempt_expected_usd: Its expected cost.
    """

    names: tuple[str, ...]
    pools: tuple[tuple[str, ...], ...]
    pool: Indices
    answered: Bools
    abandoned: Bools
    identical: Bools
    agrees: Bools
    on_record: Bools
    recorded: Indices
    replayed: Indices
    recorded_usd: Floats
    path_usd: Floats
    beyond_usd: Floats
    attempt_row: Indices
    attempt_name: Indices
    attempt_usd: Floats
    attempt_expected_usd: Floats

    def __len__(self) -> int:
        return len(self.answered)

    @classmethod
    def of(cls, rows: Iterable[Replayed]) -> Self:
        """Tabulate replayed requests.

        Raises:
            ValueError: If a cost in the log is not a number.
        """
        names: dict[str | None, int] = {None: _NO_NAME}
        pools: dict[tuple[str, ...], int] = {}
        cells: list[tuple[Any, ...]] = []
        attempts: list[tuple[int, int, float, float]] = []
        for i, row in enumerate(rows):
            entry, went = row.entry, row.went
            pool = tuple(arm["candidate"] for arm in entry.frames[0]["arms"])
            try:
                expected = {arm.candidate: arm.cost_usd for arm in went.situation.arms}
                for attempt in entry.attempts:
                    name, cost = attempt["candidate"], attempt.get("cost_usd")
                    estimate = expected.get(name)
                    if cost is not None and estimate is not None:
                        code = names.setdefault(name, len(names) - 1)
                        attempts.append((i, code, float(cost), float(estimate)))
                costs = entry.cost_usd, went.recorded_cost_usd, went.expected_cost_usd
                usd = [math.nan if cost is None else float(cost) for cost in costs]
            except (TypeError, ValueError, OverflowError) as error:
                msg = f"A cost of the request {entry.decision_id!r} is not a number: {error}."
                raise ValueError(msg) from error
            cells.append(
                (
                    pools.setdefault(pool, len(pools)),
                    entry.outcome == "answered",
                    entry.outcome == "abandoned",
                    row.identical,
                    row.agrees,
                    went.on_record,
                    names.setdefault(entry.candidate, len(names) - 1),
                    names.setdefault(went.candidate, len(names) - 1),
                    *usd,
                )
            )
        del names[None]
        columns = [*_columns(cells, "p?????ppddd"), *_columns(attempts, "ppdd")]
        return cls(tuple(name for name in names if name is not None), tuple(pools), *columns)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the columns of rows that follow each other; there is at least one part."""
        names = {name: None for part in parts for name in part.names}
        pools = {pool: None for part in parts for pool in part.pools}
        place = {name: i for i, name in enumerate(names)}
        pool_place = {pool: i for i, pool in enumerate(pools)}
        begins = np.cumsum([0, *(len(part) for part in parts)])
        moved: dict[str, list[Any]] = {}
        for part, begin in zip(parts, begins[:-1], strict=True):
            # The last place is that of no name, -1.
            codes = np.array([*(place[name] for name in part.names), _NO_NAME], dtype=np.intp)
            pool_codes = np.array([pool_place[pool] for pool in part.pools], dtype=np.intp)
            changed = {
                "pool": pool_codes[part.pool],
                "recorded": codes[part.recorded],
                "replayed": codes[part.replayed],
                "attempt_name": codes[part.attempt_name],
                "attempt_row": part.attempt_row + begin,
            }
            for name in _COLUMNS:
                moved.setdefault(name, []).append(changed.get(name, getattr(part, name)))
        columns = {name: np.concatenate(values) for name, values in moved.items()}
        return cls(tuple(names), tuple(pools), **columns)

    def take(self, rows: Indices) -> Self:
        """Select rows by their indices, which ascend."""
        place = np.full(len(self), _NO_NAME)
        place[rows] = np.arange(len(rows))
        of_attempt = place[self.attempt_row]
        kept = of_attempt >= 0
        columns = {
            name: getattr(self, name)[kept if name in _OF_ATTEMPTS else rows] for name in _COLUMNS
        }
        return type(self)(self.names, self.pools, **{**columns, "attempt_row": of_attempt[kept]})


_COLUMNS = [one.name for one in fields(ReplayColumns) if one.name not in ("names", "pools")]
_OF_ATTEMPTS = {name for name in _COLUMNS if name.startswith("attempt_")}


def _columns(rows: Sequence[tuple[Any, ...]], kinds: str) -> list[Any]:
    """Return the columns of rows, each with the type of its letter."""
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return [np.array(cells, dtype=kind) for cells, kind in zip(columns, kinds, strict=True)]


@dataclass(frozen=True, eq=False)
class ReplayFigures:
    """What a replay adds up to.

    Attributes:
        columns: The requests that reached a decision.
        n_undecided: Number of requests that did not, because no candidate was allowed or an option
            was invalid.
        n_torn: Number of lines of the log that could not be read.
    """

    columns: ReplayColumns
    n_undecided: int = 0
    n_torn: int = 0

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def n_identical(self) -> int:
        """Number of requests whose decisions were all reproduced, equal to the last bit."""
        return int(self.columns.identical.sum())

    @property
    def n_answered(self) -> int:
        """Number of answered requests."""
        return int(self.columns.answered.sum())

    @property
    def n_abandoned(self) -> int:
        """Number of requests whose caller left before they were answered."""
        return int(self.columns.abandoned.sum())

    @property
    def n_failed(self) -> int:
        """Number of requests that reached a decision and failed."""
        return len(self) - self.n_answered - self.n_abandoned

    @property
    def recorded_cost_usd(self) -> float | None:
        """Mean recorded cost of an answered request; None if any cost is unknown."""
        return _mean(self.columns.recorded_usd[self.columns.answered])

    @property
    def cost_usd(self) -> float | None:
        """Mean cost of the same requests in the replay; None if any cost is unknown.

        If a replayed step was not recorded, its expected cost is used, times the candidate's ratio
        of actual to expected cost. Steps after it are not counted: see `share_on_record`.
        """
        columns = self.columns
        # The last place is that of no candidate.
        ratio = np.array([*self._cost_ratios(), 1.0])
        usd = columns.path_usd + columns.beyond_usd * ratio[columns.replayed]
        return _mean(usd[columns.answered])

    @property
    def share_on_record(self) -> float:
        """Share of answered requests in which every replayed step was recorded."""
        return self._share(self.columns.on_record)

    @property
    def share_agreeing(self) -> float:
        """Share of answered requests in which the same steps are taken."""
        return self._share(self.columns.agrees)

    def shares(self) -> dict[str, tuple[float, float]]:
        """Return every candidate's share of the answers, as recorded and in the replay."""
        columns = self.columns
        pools, first = np.unique(columns.pool[columns.answered], return_index=True)
        ordered = [columns.pools[code] for code in pools[np.argsort(first)]]
        names = dict.fromkeys(name for pool in ordered for name in pool)
        codes = {name: code for code, name in enumerate(columns.names)}
        # A candidate that never answered may have no index.
        return {
            name: (
                self._share(columns.recorded == codes.get(name, _NO_NAME - 1)),
                self._share(columns.replayed == codes.get(name, _NO_NAME - 1)),
            )
            for name in names
        }

    def _share(self, chosen: Bools) -> float:
        answered = self.columns.answered
        return int(chosen[answered].sum()) / self.n_answered if answered.any() else math.nan

    def _cost_ratios(self) -> Floats:
        """Return the ratio of actual to expected cost by candidate; 1 where it is unknown.

        They differ because expected costs are based on estimated answer lengths.
        """
        columns, n = self.columns, len(self.columns.names)
        paid = np.bincount(columns.attempt_name, columns.attempt_usd, minlength=n)
        expected = np.bincount(columns.attempt_name, columns.attempt_expected_usd, minlength=n)
        known = expected > 0
        return np.where(known, paid / np.where(known, expected, 1.0), 1.0)


def _mean(values: Floats) -> float | None:
    if len(values) == 0 or np.isnan(values).any():
        return None
    return math.fsum(values.tolist()) / len(values)
