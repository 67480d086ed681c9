"""The result of fitting: the winner and its test on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Replay, Sweep, cost_saved_interval
from langchain_llm_router.evaluation.intervals import Interval, mean_interval
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import Calibrated

__all__ = ["Fitted", "Standing"]


@dataclass(frozen=True)
class Standing:
    """The result of one contender on the rows that picked the winner."""

    name: str
    utility: float
    """Mean quality - λ·cost, with the same λ for all contenders."""

    quality: float
    cost_usd: float
    lambda_: float
    """The contender's setting: the common λ, or the λ that met the target."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The winner of `fit_router` and its test on held-out rows.

    Attributes:
        router: The fitted router, which can be saved.
        lambda_: λ in quality per dollar, by which contenders were ranked.
        standings: Results of the compared contenders, the winner first.
        left_out: Reason by name for each contender that does not apply or misses the target.
        calibrated: Calibration of the winner to the target; None without a target.
        n_rows: Number of rows for training, picking, calibration and testing.
        test: The test rows.
        replay: Replay of the winner on the test rows.
        single: Name of the best single model on the training and picking rows.
        gain: Mean utility on the test rows minus that of `single`.
        sweep: Results of the winner's family on the test rows at other λ.
        margins: Pairs of λ and the gain at this λ over the single model that is best at it.
        quality: Mean quality on the test rows.
        cost_usd: Mean cost of a query on the test rows.
        saved: Share of the cost saved on the test rows against a random mix of single models of
            equal quality.
    """

    router: SavedRouter
    lambda_: float
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    calibrated: Calibrated | None
    n_rows: Mapping[str, int]
    test: Outcomes
    replay: Replay
    single: str
    gain: Interval
    sweep: Sweep
    margins: Sequence[tuple[float, Interval]]
    quality: Interval = field(init=False)
    cost_usd: Interval = field(init=False)
    saved: Interval = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quality", mean_interval(self.replay.quality))
        object.__setattr__(self, "cost_usd", mean_interval(self.replay.cost_usd))
        object.__setattr__(self, "saved", cost_saved_interval(self.replay, self.test))

    @property
    def worth_it(self) -> bool:
        """Whether the interval of `gain`, or with a target of `saved`, is above 0."""
        return self.gain.low > 0 if self.calibrated is None else self.saved.low > 0

    def save(self, folder: str | Path) -> Path:
        """Write the router into a folder, for `ChatLLMRouter.load`."""
        return self.router.save(folder)
