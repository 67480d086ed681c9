"""Quality and cost of every setting of a policy's knob on every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.evaluation.table_replay import replay_all
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types.arrays import Bools, Floats

__all__ = ["Family", "Trials", "family_of", "known_latency", "try_all"]

Family = Callable[[float], Policy]


@dataclass(frozen=True, eq=False)
class Trials:
    """Quality, cost and use of the strong candidate at every knob value and of single models.

    Attributes:
        knob: Values of the knob, of shape (n_knobs,).
        quality: Quality of the accepted answers, of shape (n_knobs, n_rows).
        cost_usd: Cost of each query in USD, same shape; NaN where unknown.
        strong: Whether the last candidate was asked, same shape.
        single_quality: Quality of each candidate alone, of shape (n_rows, n_candidates).
        single_cost_usd: Cost of each candidate alone in USD, same shape; NaN where unknown.
        cost_ceiling_usd: Upper bound of the cost of a query.
        candidates: Names of the single models, in the order of their columns.
        latency_s: Seconds until the accepted answer is complete, of shape (n_knobs, n_rows); None
            if one is unknown.
        single_latency_s: The same of each candidate alone, of shape (n_rows, n_candidates), NaN
            where unknown; None if there are none.
    """

    knob: Floats
    quality: Floats
    cost_usd: Floats
    strong: Bools
    single_quality: Floats
    single_cost_usd: Floats
    cost_ceiling_usd: float
    candidates: tuple[str, ...] = ()
    latency_s: Floats | None = None
    single_latency_s: Floats | None = None

    @classmethod
    def of_sweep(
        cls, sweep: Sweep, outcomes: Outcomes, *, strong: ArrayLike | None = None
    ) -> Trials:
        """Build trials from a sweep.

        Args:
            sweep: Quality and cost at each setting.
            outcomes: Outcomes of the same rows.
            strong: Whether the last candidate was asked, of shape (n_knobs, n_rows). If None, it
                counts as never asked, so do not use targets for its share.
        """
        shape = sweep.quality.shape
        costs = outcomes.cost_usd
        singles = np.full(outcomes.quality.shape, np.nan) if costs is None else costs
        # A query costs at most the highest cost of every candidate together.
        ceiling = max(float(singles.max(axis=0).sum()), float(sweep.cost_usd.max()))
        asked = np.zeros(shape, bool) if strong is None else np.asarray(strong, bool)
        return cls(
            sweep.knob,
            sweep.quality,
            sweep.cost_usd,
            asked,
            outcomes.quality,
            singles,
            ceiling,
            tuple(outcomes.candidates),
            single_latency_s=outcomes.latency_s,
        )

    def take(self, rows: ArrayLike) -> Trials:
        """Select rows by index, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return replace(
            self,
            quality=self.quality[:, index],
            cost_usd=self.cost_usd[:, index],
            strong=self.strong[:, index],
            single_quality=self.single_quality[index],
            single_cost_usd=self.single_cost_usd[index],
            latency_s=None if self.latency_s is None else self.latency_s[:, index],
            single_latency_s=(
                None if self.single_latency_s is None else self.single_latency_s[index]
            ),
        )

    def pick(self, setting: int) -> Trials:
        """Select one setting by index."""
        one = slice(setting, setting + 1)
        return replace(
            self,
            knob=self.knob[one],
            quality=self.quality[one],
            cost_usd=self.cost_usd[one],
            strong=self.strong[one],
            latency_s=None if self.latency_s is None else self.latency_s[one],
        )

    def __len__(self) -> int:
        return len(self.single_quality)


def known_latency(latency_s: Floats) -> Floats | None:
    """Return the latencies, or None if one of them is unknown."""
    return None if bool(np.isnan(latency_s).any()) else latency_s


def family_of(policy: Policy) -> tuple[str, Family]:
    """Return the name of a policy's knob and the function from its value to a policy.

    Raises:
        ValueError: If the policy has no knob.
    """
    return policy.require_knob().name, policy.with_knob


def try_all(
    family: Family,
    knobs: Sequence[float],
    data: Outcomes,
    *,
    quality: ArrayLike | None,
    evaluations: SelfEvaluations | None,
    expected_cost_usd: ArrayLike | None = None,
) -> Trials:
    """Replay every policy of a family on every row; the arguments are those of `replay`."""
    done = replay_all(
        [family(knob) for knob in knobs],
        quality,
        data,
        evaluations=evaluations,
        expected_cost_usd=expected_cost_usd,
    )
    sweep = Sweep(
        np.asarray(knobs, dtype=np.float64),
        np.array([each.quality for each in done]),
        np.array([each.cost_usd for each in done]),
    )
    strong = np.array([each.asked[:, -1] for each in done])
    latency_s = known_latency(np.array([each.latency_s for each in done]))
    trials = replace(Trials.of_sweep(sweep, data, strong=strong), latency_s=latency_s)
    if evaluations is None or evaluations.cost_usd is None:
        return trials
    verifying = float(np.nan_to_num(evaluations.cost_usd).max(axis=0).sum())
    return replace(trials, cost_ceiling_usd=trials.cost_ceiling_usd + verifying)
