"""Targets in words, and by how much each row keeps or misses them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from langchain_llm_router.training.trials import Trials
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Floats

__all__ = ["ALLOWED", "Target"]


ALLOWED = (
    "quality >= 0.9",
    "quality >= 0.95 * best",
    "cost_usd <= 0.002",
    "cost_usd <= 0.5 * best",
    "strong share <= 0.3",
    "strong share = 0.3",
)
"""One example of each form."""

_FORM = re.compile(
    r"(?P<metric>quality|cost_usd|strong share)\s*(?P<relation>>=|<=|=)\s*"
    r"(?P<value>\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?)(?P<best>\s*\*\s*best)?"
)
_FORMS = {
    ("quality", ">=", False),
    ("quality", ">=", True),
    ("cost_usd", "<=", False),
    ("cost_usd", "<=", True),
    ("strong share", "<=", False),
    ("strong share", "=", False),
}


@dataclass(frozen=True)
class Target(CheckedArguments):
    """What a router must keep, on average over queries.

    Example:
        >>> Target.parse("quality >= 0.95 * best").value
        0.95
    """

    metric: Literal["quality", "cost_usd", "strong share"]
    relation: Literal[">=", "<=", "="]
    value: float
    best: bool = False
    """Whether `value` is a fraction of the best single model's figure."""

    def __post_init__(self) -> None:
        check_range(self, "value")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a target.

        Raises:
            ValueError: If it has none of the allowed forms; the message lists them.
        """
        found = _FORM.fullmatch(text.strip())
        form: Any = found and (found["metric"], found["relation"], found["best"] is not None)
        if found is None or form not in _FORMS:
            msg = (
                f"Unknown target {text!r}: allowed are forms like {', '.join(map(repr, ALLOWED))}."
            )
            raise ValueError(msg)
        target = cls(form[0], form[1], float(found["value"]), form[2])
        if target.metric != "cost_usd" and not target.value <= 1:
            msg = f"A {target.metric} lies in [0, 1], so {text!r} cannot be meant."
            raise ValueError(msg)
        return target

    def __str__(self) -> str:
        best = " * best" if self.best else ""
        return f"{self.metric} {self.relation} {self.value:g}{best}"

    def margins(self, trials: Trials, best: int) -> list[Floats]:
        """By how much each row keeps the target at each setting, of shape (n_knobs, n_rows).

        One table per promise that must hold: where the target is a fraction of the best model's
        quality, it must hold against every candidate, whichever one really is the best.

        Args:
            trials: What every setting got on every row.
            best: Column of the best single model, for targets relative to its cost.
        """
        v = self.value
        if self.metric == "strong share":
            return [v - trials.strong.astype(np.float64)]
        if self.metric == "cost_usd":
            limit = v * trials.single_cost_usd[:, best] if self.best else v
            return [limit - trials.cost_usd]
        if not self.best:
            return [trials.quality - v]
        return [trials.quality - v * column for column in trials.single_quality.T]

    def bounds(self, trials: Trials, best: int) -> tuple[float, float]:
        """Smallest and largest possible margin."""
        v = self.value
        if self.metric == "quality":
            return (-v, 1.0) if self.best else (-v, 1 - v)
        if self.metric == "strong share":
            return v - 1, v
        dearest = trials.cost_ceiling_usd
        most = v * float(trials.single_cost_usd[:, best].max()) if self.best else v
        return -dearest, most
