"""What would it have cost and scored? Replay a policy on recorded outcomes, and judge the curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.loop import Routed, begin, check_policy, routing, spent_usd
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types import Arm, Attempt, Decision

__all__ = [
    "Curve",
    "Interval",
    "Replay",
    "apgr",
    "best_single",
    "bootstrap",
    "cost_saved",
    "cpt",
    "curve",
    "hull_quality",
    "oracle",
    "pgr",
    "random_mix_hull",
    "replay",
    "win_rate_curve",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@dataclass(frozen=True, eq=False)
class Replay:
    """What a policy did on every row of a table.

    Attributes:
        candidates: Names, in the order of the columns.
        accepted: Column of the accepted answer per row, of shape (n_queries,).
        asked: Who was asked per row, of shape (n_queries, n_candidates).
        quality: Quality of the accepted answer per row.
        cost_usd: Everything spent per row, verification included; NaN where unknown.
        decisions: The decision that ended each row.
    """

    candidates: tuple[str, ...]
    accepted: NDArray[np.intp]
    asked: NDArray[np.bool_]
    quality: Floats
    cost_usd: Floats
    decisions: tuple[Decision, ...]

    @property
    def mean_quality(self) -> float:
        """Mean quality of the accepted answers."""
        return float(self.quality.mean())

    @property
    def mean_cost_usd(self) -> float | None:
        """Mean cost per query; None if any is unknown."""
        mean = float(self.cost_usd.mean())
        return None if np.isnan(mean) else mean

    @property
    def shares(self) -> dict[str, float]:
        """Share of queries whose accepted answer came from each candidate."""
        counts = np.bincount(self.accepted, minlength=len(self.candidates)) / len(self.accepted)
        return {name: float(share) for name, share in zip(self.candidates, counts, strict=True)}

    @property
    def asked_shares(self) -> dict[str, float]:
        """Share of queries on which each candidate was asked."""
        means = self.asked.mean(axis=0)
        return {name: float(share) for name, share in zip(self.candidates, means, strict=True)}


def replay(
    policy: Policy,
    quality: ArrayLike | None,
    outcomes: Outcomes,
    *,
    evaluations: SelfEvaluations | None = None,
    expected_cost_usd: ArrayLike | None = None,
) -> Replay:
    """Ask what `policy` would have done on recorded outcomes; no model is called.

    Args:
        policy: The policy to replay; the same object a live router uses.
        quality: Predicted quality in [0, 1], of shape (n_queries, n_candidates); None: no
            estimator.
        outcomes: What each candidate really scored and cost, same rows and columns.
        evaluations: What verifiers said, for policies that verify; same rows and columns.
        expected_cost_usd: What the policy believes a call costs, of shape (n_candidates,) or
            (n_queries, n_candidates); None: the mean cost of each candidate in `outcomes`.

    Raises:
        ValueError: If shapes differ, or a verifying policy has no `evaluations`.
    """
    check_policy(policy, outcomes.candidates)
    if policy.verifies and evaluations is None:
        msg = f"{type(policy).__name__} verifies answers: pass the recorded `evaluations`."
        raise ValueError(msg)
    tables = _Tables(outcomes, evaluations, quality, expected_cost_usd)
    rows = [tables.route(policy, i) for i in range(len(outcomes))]
    accepted = np.array([row.accepted for row in rows], dtype=np.intp)
    return Replay(
        candidates=tuple(outcomes.candidates),
        accepted=accepted,
        asked=np.array([row.asked for row in rows], dtype=bool).reshape(outcomes.quality.shape),
        quality=outcomes.quality[np.arange(len(rows)), accepted],
        cost_usd=np.array([np.nan if row.cost_usd is None else row.cost_usd for row in rows]),
        decisions=tuple(row.decision for row in rows),
    )


@dataclass(frozen=True)
class _Row:
    accepted: int
    asked: list[bool]
    cost_usd: float | None
    decision: Decision


class _Tables:
    """Answers the routing loop from recorded tables, as a live router answers it with calls."""

    def __init__(
        self,
        outcomes: Outcomes,
        evaluations: SelfEvaluations | None,
        quality: ArrayLike | None,
        expected_cost_usd: ArrayLike | None,
    ) -> None:
        shape = outcomes.quality.shape
        if evaluations is not None and evaluations.confidence.shape != shape:
            msg = f"`evaluations` has shape {evaluations.confidence.shape}, expected {shape}."
            raise ValueError(msg)
        believed = outcomes.mean_cost_usd if expected_cost_usd is None else expected_cost_usd
        if believed is not None:
            believed = np.broadcast_to(np.asarray(believed, dtype=np.float64), shape)
        self.names = list(outcomes.candidates)
        self.outcomes, self.evaluations = outcomes, evaluations
        self.quality = _table("quality", quality, shape)
        self.believed = _table("expected_cost_usd", believed, shape)

    def route(self, policy: Policy, i: int) -> _Row:
        """Drive one row to its end."""
        arms = [
            Arm(name, quality=_cell(self.quality, i, j), cost_usd=_cell(self.believed, i, j))
            for j, name in enumerate(self.names)
        ]
        steps = routing(policy, begin(self.outcomes.queries[i], arms))
        try:
            step = next(steps)
            while True:
                step = steps.send(self._answer(step, i))
        except StopIteration as stop:
            routed: Routed = stop.value
        decision = routed.decision
        assert decision is not None, "a recorded answer cannot fail"
        asked = {attempt["candidate"] for attempt in routed.situation.attempts}
        return _Row(
            accepted=self.names.index(decision.candidate),
            asked=[name in asked for name in self.names],
            cost_usd=spent_usd(routed.situation),
            decision=decision,
        )

    def _answer(self, step: Decision, i: int) -> Attempt:
        j = self.names.index(step.candidate)
        attempt = Attempt(candidate=step.candidate, cost_usd=_cell(self.outcomes.cost_usd, i, j))
        if step.action == "verify" and self.evaluations is not None:
            attempt["verified"] = True
            attempt["confidence"] = _cell(self.evaluations.confidence, i, j)
            attempt["verification_cost_usd"] = _cell(self.evaluations.cost_usd, i, j)
        return attempt


def _table(name: str, values: ArrayLike | None, shape: tuple[int, ...]) -> Floats | None:
    if values is None:
        return None
    table = np.asarray(values, dtype=np.float64)
    if table.shape != shape:
        msg = f"`{name}` has shape {table.shape}, but the outcomes have {shape}."
        raise ValueError(msg)
    return table


def _cell(table: Floats | None, i: int, j: int) -> float | None:
    if table is None or np.isnan(table[i, j]):
        return None
    return float(table[i, j])


@dataclass(frozen=True, eq=False)
class Curve:
    """Quality and cost while a knob is turned, in the order of the knob.

    Attributes:
        knob: The knob's values, of shape (n_points,).
        quality: Mean quality at each.
        cost_usd: Mean cost at each; NaN where unknown.
        strong_share: Share of queries that asked the dearest (last) candidate.
    """

    knob: Floats
    quality: Floats
    cost_usd: Floats
    strong_share: Floats


def curve(
    make_policy: Callable[[float], Policy],
    knobs: Sequence[float],
    quality: ArrayLike | None,
    outcomes: Outcomes,
    *,
    evaluations: SelfEvaluations | None = None,
    expected_cost_usd: ArrayLike | None = None,
    strong: str | None = None,
) -> Curve:
    """Replay a family of policies, one per knob value.

    Args:
        make_policy: From a knob's value to a policy, e.g. `Threshold` itself.
        knobs: The values to try.
        quality: As in `replay`.
        outcomes: As in `replay`.
        evaluations: As in `replay`.
        expected_cost_usd: As in `replay`.
        strong: Whose share of calls is recorded; None: the last candidate.
    """
    name = outcomes.candidates[-1] if strong is None else strong
    points = []
    for knob in knobs:
        done = replay(
            make_policy(knob),
            quality,
            outcomes,
            evaluations=evaluations,
            expected_cost_usd=expected_cost_usd,
        )
        points.append((knob, done.mean_quality, done.cost_usd.mean(), done.asked_shares[name]))
    return Curve(*np.array(points, dtype=np.float64).T)


def win_rate_curve(
    win_rate: ArrayLike, weak_quality: ArrayLike, strong_quality: ArrayLike
) -> Curve:
    """The whole curve of a threshold router over two candidates: one point per distinct win rate.

    Queries with equal win rates move together, as they do behind a real threshold. Costs are
    unknown here; the strong share stands for them.

    Args:
        win_rate: Predicted win rate of the strong candidate, of shape (n_queries,).
        weak_quality: Measured quality of the weak candidate, same shape.
        strong_quality: Measured quality of the strong candidate, same shape.
    """
    rate = np.asarray(win_rate, dtype=np.float64)
    weak, strong = np.asarray(weak_quality, np.float64), np.asarray(strong_quality, np.float64)
    if not rate.shape == weak.shape == strong.shape or rate.ndim != 1 or len(rate) == 0:
        msg = f"Need three equally long vectors, got {rate.shape}, {weak.shape}, {strong.shape}."
        raise ValueError(msg)
    order = np.argsort(-rate, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(rate)
    ends = np.concatenate([[0], np.flatnonzero(np.diff(-rate[order])) + 1, [len(rate)]])
    knob = np.concatenate([[np.inf], rate[order][ends[1:] - 1]])
    share = ends / len(rate)
    return Curve(knob, weak.mean() + gain[ends], np.full(len(ends), np.nan), share)


def pgr(quality: float, weak_quality: float, strong_quality: float) -> float:
    """Performance gap recovered: 0 is the weak candidate alone, 1 the strong one alone.

    Raises:
        ValueError: If both are equally good, so that there is no gap.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 3.
    """
    gap = strong_quality - weak_quality
    if gap == 0:
        msg = f"There is no gap to recover: both candidates score {weak_quality!r}."
        raise ValueError(msg)
    return (quality - weak_quality) / gap


def _pgr_points(points: Curve) -> tuple[Floats, Floats]:
    order = np.argsort(points.strong_share, kind="stable")
    share, quality = points.strong_share[order], points.quality[order]
    if share[0] > 1e-12 or share[-1] < 1 - 1e-12:
        msg = (
            f"The curve covers strong shares {share[0]:.3g} to {share[-1]:.3g}; it must reach "
            "from 0 (always weak) to 1 (always strong)."
        )
        raise ValueError(msg)
    return share, np.array([pgr(float(q), float(quality[0]), float(quality[-1])) for q in quality])


def apgr(points: Curve) -> float:
    """Average performance gap recovered: ∫ PGR d(strong share), by the trapezoid rule.

    A random router has 0.5. Deviation from RouteLLM's code: over every threshold instead of
    eleven deciles.

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, equation 4.
    """
    share, recovered = _pgr_points(points)
    return float(np.trapezoid(recovered, share))


def cpt(points: Curve, recovered: float) -> float:
    """Call-performance threshold: the smallest strong share whose PGR reaches `recovered`.

    The first crossing, linear between neighbouring points. (Interpolating the inverse, as
    RouteLLM's code does, is wrong where the curve is not monotone.)

    References:
        Ong et al., 2024, RouteLLM, arXiv:2406.18665, section 2.3.
    """
    share, gained = _pgr_points(points)
    first = int(np.argmax(gained >= recovered))
    if gained[first] < recovered:
        msg = (
            f"No point recovers {recovered!r} of the gap; the best one recovers {gained.max():.3f}."
        )
        raise ValueError(msg)
    if first == 0:
        return float(share[0])
    low, high = gained[first - 1], gained[first]
    part = (recovered - low) / (high - low)
    return float(share[first - 1] + part * (share[first] - share[first - 1]))


def best_single(outcomes: Outcomes) -> int:
    """Column of the candidate with the highest mean quality."""
    return int(outcomes.quality.mean(axis=0).argmax())


def random_mix_hull(cost_usd: ArrayLike, quality: ArrayLike) -> tuple[Floats, Floats]:
    """Corners (cost, quality) of what random mixing of single models reaches, cheapest first.

    The upper concave hull, non-decreasing in cost: beyond its last corner more money buys nothing.
    """
    points = sorted(
        zip(np.asarray(cost_usd, float), np.asarray(quality, float), strict=True),
        key=lambda point: (point[0], -point[1]),
    )
    hull: list[tuple[float, float]] = []
    for cost, value in points:
        if hull and value <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (cost, value)):
            hull.pop()
        hull.append((float(cost), float(value)))
    corners = np.array(hull)
    return corners[:, 0], corners[:, 1]


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def hull_quality(cost_usd: float, hull: tuple[Floats, Floats]) -> float:
    """Quality that a random mix of single models reaches at a mean cost."""
    return float(np.interp(cost_usd, *hull))


def oracle(outcomes: Outcomes) -> NDArray[np.intp]:
    """Column of the cheapest among the best answers of each row: what perfect routing would ask."""
    best = outcomes.quality >= outcomes.quality.max(axis=1, keepdims=True)
    cost = outcomes.cost_usd
    if cost is None:
        return np.asarray(np.argmax(best, axis=1), np.intp)
    priced = np.where(best & ~np.isnan(cost), cost, np.inf)
    return np.asarray(np.argmin(priced, axis=1), np.intp)


def cost_saved(done: Replay, outcomes: Outcomes) -> float:
    """Share of the best single model's cost that is saved, counted at equal quality.

    The policy's mean cost is compared with what a random mix of single models costs at the
    policy's mean quality; above the best single model's quality, with that model's cost. Negative
    where the policy is dearer than the mix.
    """
    quality, cost = outcomes.quality.mean(axis=0), outcomes.mean_cost_usd
    if cost is None or np.isnan(cost).any() or done.mean_cost_usd is None:
        msg = "Savings need every cost: some prices are unknown."
        raise ValueError(msg)
    hull_cost, hull_q = random_mix_hull(cost, quality)
    mix_cost = float(np.interp(done.mean_quality, hull_q, hull_cost))
    return 1 - done.mean_cost_usd / mix_cost


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    n: int,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over rows.

    Args:
        statistic: From row numbers (with repeats) to a figure.
        n: Number of rows.
        n_resamples: How often rows are redrawn.
        confidence: Coverage of the interval.
        seed: Same seed, same interval.
    """
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, n, n)) for _ in range(n_resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(statistic(np.arange(n)), float(low), float(high))
