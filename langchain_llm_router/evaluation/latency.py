"""What a router costs in time: the wait for the first token, with it and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.evaluation.table_replay import total_seconds
from langchain_llm_router.types.arrays import Bools, Floats, Indices

__all__ = ["LatencyCost", "Steps", "Waiting", "latency_cost"]


class Steps(Protocol):
    """Which calls each row took, from a `Replay` or from the winner of `fit_router`."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates, in the order of the columns."""

    @property
    def accepted(self) -> Indices:
        """Column of the accepted answer of each row, of shape (n_rows,)."""

    @property
    def asked(self) -> Bools:
        """Whether each candidate was asked, of shape (n_rows, n_candidates)."""

    @property
    def verified(self) -> Bools:
        """Whether each candidate's answer was verified, same shape."""

    @property
    def streamed(self) -> Bools:
        """Whether the accepted answer can be passed on while it is written, of shape (n_rows,)."""


@dataclass(frozen=True)
class Waiting:
    """Seconds of waiting, over the queries where they are known."""

    median_s: float
    p95_s: float


@dataclass(frozen=True)
class LatencyCost:
    """The time to the first token and to the whole answer, with a router and with one model alone.

    Attributes:
        single: Name of the model alone.
        first_token: Seconds to the first token with the router: a draft that is verified is shown
            when its verdict is there, an answer that is accepted unverified as it is written.
        first_token_alone: Seconds to the first token of the model alone.
        whole: Seconds to the end of the answer with the router.
        whole_alone: Seconds to the end of the answer of the model alone.
        n_rows: Number of queries where all of these are known.
    """

    single: str
    first_token: Waiting
    first_token_alone: Waiting
    whole: Waiting
    whole_alone: Waiting
    n_rows: int

    def text(self) -> str:
        """Return the times to the first token as a sentence."""
        return (
            f"The first token comes after {_seconds(self.first_token.median_s)} (median; 95 % of "
            f"the answers begin within {_seconds(self.first_token.p95_s)}), with `{self.single}` "
            f"alone after {_seconds(self.first_token_alone.median_s)} (within "
            f"{_seconds(self.first_token_alone.p95_s)}), on {self.n_rows:,} questions."
        )


def latency_cost(
    done: Steps,
    single: str,
    candidates: Sequence[str],
    latency_s: ArrayLike | None,
    ttft_s: ArrayLike | None,
    verification_s: ArrayLike | None = None,
) -> LatencyCost | None:
    """Estimate how long the queries of a replay wait, from recorded latencies of every step.

    The calls of a cascade follow each other, so their latencies add up.

    Args:
        done: The replay, with n rows.
        single: The model to compare with, one of `candidates`.
        candidates: Names of the columns, among them those of the replay.
        latency_s: Seconds of each whole answer, of shape (n, n_candidates), NaN where unknown; None
            if unknown. `Collected.latency_s` has them.
        ttft_s: Seconds to its first token, same shape, as in `Collected.ttft_s`.
        verification_s: Seconds of each verification, same shape, as in `SelfEvaluations.latency_s`;
            needed if the replay verifies.

    Returns:
        The times; None if they are known on no row.

    Raises:
        ValueError: If a shape is not that of the candidates, or a name is unknown.
    """
    if latency_s is None or ttft_s is None:
        return None
    names, n = list(candidates), len(done.accepted)
    unknown = [name for name in (*done.candidates, single) if name not in names]
    if unknown:
        msg = f"`candidates` must include {unknown}, got {names}."
        raise ValueError(msg)
    verifying = np.full((n, len(names)), np.nan) if verification_s is None else verification_s
    tables = {"latency_s": latency_s, "ttft_s": ttft_s, "verification_s": verifying}
    own = [names.index(name) for name in done.candidates]
    whole, first, check = (_table(name, it, (n, len(names))) for name, it in tables.items())
    rows, j = np.arange(n), names.index(single)
    end_s = total_seconds(done.asked, done.verified, whole[:, own], check[:, own])
    accepted = np.array(own)[done.accepted]
    begin_s = np.where(done.streamed, end_s - whole[rows, accepted] + first[rows, accepted], end_s)
    times = np.column_stack([begin_s, first[:, j], end_s, whole[:, j]])
    known = times[~np.isnan(times).any(axis=1)]
    if len(known) == 0:
        return None
    first_token, first_token_alone, ended, ended_alone = map(_waiting, known.T)
    return LatencyCost(single, first_token, first_token_alone, ended, ended_alone, len(known))


def _table(name: str, values: ArrayLike, shape: tuple[int, int]) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        msg = f"`{name}` must have shape {shape}, got {table.shape}."
        raise ValueError(msg)
    return table


def _waiting(seconds: Floats) -> Waiting:
    return Waiting(float(np.median(seconds)), float(np.quantile(seconds, 0.95)))


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
