"""Targets in words, and the margins by which rows meet them."""

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
    r"(?P<metric>quality|cost_usd|strong share)\s*+(?P<relation>>=|<=|=)\s*+"
    r"(?P<value>\d++(?:\.\d*+)?(?:e-?\d++)?|\.\d++(?:e-?\d++)?)(?P<best>\s*+\*\s*best)?"
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
    """A requirement on a router's mean quality, mean cost or share of strong calls.

    Example:
        >>> Target.parse("quality >= 0.95 * best").value
        0.95
    """

    metric: Literal["quality", "cost_usd", "strong share"]
    relation: Literal[">=", "<=", "="]
    value: float
    best: bool = False
    """Whether `value` is a fraction of the best single model's quality or cost."""

    def __post_init__(self) -> None:
        check_range(self, "value")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse a target.

        Raises:
            ValueError: If the text has none of the allowed forms, which the message lists.
        """
        found = _FORM.fullmatch(text.strip())
        form: Any = found and (found["metric"], found["relation"], found["best"] is not None)
        if found is None or form not in _FORMS:
            msg = (
                f"A target must have a form such as {', '.join(map(repr, ALLOWED))}, got {text!r}."
            )
            raise ValueError(msg)
        target = cls(form[0], form[1], float(found["value"]), form[2])
        if target.metric != "cost_usd" and not target.value <= 1:
            msg = f"The value of a {target.metric} target must be in [0, 1], got {text!r}."
            raise ValueError(msg)
        return target

    def __str__(self) -> str:
        best = " * best" if self.best else ""
        return f"{self.metric} {self.relation} {self.value:g}{best}"

    def margins(self, trials: Trials, best: int) -> list[Floats]:
        """Compute the margin of each row at each setting, in arrays of shape (n_knobs, n_rows).

        Every array must have a mean of at least 0. A target relative to the best model's quality
        has one array per candidate, because the best candidate is not known for certain.

        Args:
            trials: Quality and cost of every setting on every row.
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
        """Return the smallest and the largest possible margin."""
        v = self.value
        if self.metric == "quality":
            return (-v, 1.0) if self.best else (-v, 1 - v)
        if self.metric == "strong share":
            return v - 1, v
        dearest = trials.cost_ceiling_usd
        most = v * float(trials.single_cost_usd[:, best].max()) if self.best else v
        return -dearest, most
