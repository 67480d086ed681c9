"""What fitting returns: the winner, and what it is worth on rows that nothing was fitted on."""

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
    """How one contender did on the rows that picked the winner."""

    name: str
    utility: float
    """Mean quality - λ·cost, with the λ common to all contenders."""

    quality: float
    cost_usd: float
    lambda_: float
    """Its own setting: the common λ, or with a target the one that met it."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The winner, and what it is worth on the untouched rows.

    Attributes:
        router: What `ChatLLMRouter.load` reads once it is saved.
        lambda_: λ, quality per dollar, that all contenders were ranked by.
        standings: All contenders, the best first.
        left_out: Contenders that do not apply to these data or miss the target, and why.
        calibrated: How the target was met, on rows not used to choose; None without a target.
        n_rows: How many rows trained, picked, calibrated, tested.
        test: The untouched rows.
        replay: What the winner did on them.
        single: The best single model on the other rows: the rival.
        gain: Mean utility on the untouched rows above the rival's, with its interval.
        sweep: What the winner gets on them with other λ.
        margins: λ → gain of the winner with that λ above the single model that is best there.
        quality: Mean quality on the untouched rows.
        cost_usd: Mean cost of a query there.
        saved: Share of the cost saved there against mixing single models of equal quality.
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
        """Whether the interval of its gain is above 0: utility, or with a target the cost saved."""
        return self.gain.low > 0 if self.calibrated is None else self.saved.low > 0

    def save(self, folder: str | Path) -> Path:
        """Write the router; `ChatLLMRouter.load` reads it."""
        return self.router.save(folder)
