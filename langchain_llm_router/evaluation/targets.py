"""Targets in words, and the margins by which rows meet them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from langchain_llm_router.evaluation.trials import Trials
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.arrays import Floats

__all__ = ["ALLOWED", "DEFAULT_TARGET", "Target", "parse_targets"]


ALLOWED = (
    "quality >= 0.9",
    "quality >= best - 1 point",
    "at least 99 % of large",
    "quality >= 0.95 * best",
    "cost <= half of large",
    "cost_usd <= 0.002",
    "cost_usd <= 0.5 * best",
    "p95 latency <= 2 s",
    "strong share <= 0.3",
    "strong share = 0.3",
)
"""One example of each form."""

DEFAULT_TARGET = "quality >= best - 2 points"
"""The target where none is given."""

_NUMBER = r"(?P<value>\d++(?:\.\d*+)?(?:e-?\d++)?|\.\d++(?:e-?\d++)?)"
_PERCENT = r"(?P<percent>\s*+%)?"
_AT_LEAST = r"\s*+(?:>=|≥|\bat\s++least\b)\s*+"
_AT_MOST = r"\s*+(?:<=|≤|\bat\s++most\b|\bno\s++more\s++than\b)\s*+"
_MODEL = r"(?P<model>(?=\S*?[^\W\d])\S++)"
_OF = rf"\s*+(?:\*|of\b)\s*+{_MODEL}"
_QUALITY, _COST = r"(?:quality)?", r"(?:cost_usd|cost)"
_POINTS = r"(?P<points>points?|pts?)"
_FRACTIONS = {"half": 0.5, "a third": 1 / 3, "a quarter": 0.25, "a tenth": 0.1}
_FRACTION = rf"(?P<fraction>{'|'.join(_FRACTIONS)})"

_Metric = Literal["quality", "cost_usd", "strong share", "latency_s"]
_Found = dict[str, Any]


def _amount(found: _Found) -> float:
    if found.get("fraction"):
        return _FRACTIONS[" ".join(found["fraction"].lower().split())]
    return float(found["value"]) / (100 if found.get("percent") or found.get("points") else 1)


def _of(metric: _Metric, relation: Any) -> Callable[[_Found], Target]:
    return lambda found: Target(
        metric, relation, _amount(found), _is_best(found), model=_name(found)
    )


def _plain(metric: _Metric, relation: Any) -> Callable[[_Found], Target]:
    return lambda found: Target(metric, relation, _amount(found))


def _below(found: _Found) -> Target:
    less = 0.0 if found.get("value") is None else _amount(found)
    return Target("quality", ">=", 1.0, _is_best(found), less, _name(found))


def _latency(found: _Found) -> Target:
    seconds = float(found["value"]) / (1000 if found["unit"].lower() == "ms" else 1)
    rank = found["rank"]
    percentile = None if rank is None or rank.lower() == "mean" else float(rank[1:])
    return Target("latency_s", "<=", seconds, percentile=percentile)


def _is_best(found: _Found) -> bool:
    return str(found["model"]).lower() == "best"


def _name(found: _Found) -> str | None:
    return None if _is_best(found) else str(found["model"])


_FORMS: tuple[tuple[re.Pattern[str], Callable[[_Found], Target]], ...] = (
    (re.compile(rf"\A{_QUALITY}{_AT_LEAST}{_NUMBER}{_PERCENT}", re.I), _plain("quality", ">=")),
    (re.compile(rf"\A{_QUALITY}{_AT_LEAST}{_NUMBER}{_PERCENT}{_OF}", re.I), _of("quality", ">=")),
    (
        re.compile(rf"\A{_QUALITY}{_AT_LEAST}(?P<model>best)[-−]\s*+{_NUMBER}\s*+{_POINTS}?", re.I),
        _below,
    ),
    (
        re.compile(
            rf"\A{_QUALITY}{_AT_LEAST}{_MODEL}(?:\s*+[-−]\s*+{_NUMBER}\s*+{_POINTS}?)?", re.I
        ),
        _below,
    ),
    (
        re.compile(
            rf"\A(?:at\s++most|no\s++more\s++than)\s++{_NUMBER}\s++{_POINTS}\s++"
            rf"(?:below|under|worse\s++than)\s++{_MODEL}",
            re.I,
        ),
        _below,
    ),
    (re.compile(rf"\A{_COST}{_AT_MOST}\$?{_NUMBER}", re.I), _plain("cost_usd", "<=")),
    (
        re.compile(rf"\A{_COST}{_AT_MOST}(?:{_NUMBER}{_PERCENT}|{_FRACTION}){_OF}", re.I),
        _of("cost_usd", "<="),
    ),
    (
        re.compile(rf"\Astrong\s++share{_AT_MOST}{_NUMBER}{_PERCENT}", re.I),
        _plain("strong share", "<="),
    ),
    (
        re.compile(rf"\Astrong\s++share\s*+=\s*+{_NUMBER}{_PERCENT}", re.I),
        _plain("strong share", "="),
    ),
    (
        re.compile(
            rf"\A(?:(?P<rank>p\d++|mean)\s++)?latency{_AT_MOST}{_NUMBER}\s*+(?P<unit>ms|s)\b", re.I
        ),
        _latency,
    ),
)
_MAX_CHARACTERS = 1000


@dataclass(frozen=True)
class Target(CheckedArguments):
    """A requirement on a router's quality, cost, latency or share of strong calls.

    Example:
        >>> Target.parse("quality >= 0.95 * best").value
        0.95
    """

    metric: _Metric
    relation: Literal[">=", "<=", "="]
    value: float
    best: bool = False
    """Whether `value` is a fraction of the best single model's quality or cost."""

    less: float = 0.0
    """Quality in [0, 1] by which the router may be below `value` times the other quality."""

    model: str | None = None
    """Name of the single model with whose quality or cost `value` is multiplied, if any."""

    percentile: float | None = None
    """Percentile of the latency, in (0, 100); None for the mean."""

    def __post_init__(self) -> None:
        check_range(self, "value")
        if not 0 <= self.less < 1:
            msg = f"`less` must be a quality in [0, 1), got {self.less!r}: 1 point is 0.01."
            raise ValueError(msg)
        if self.percentile is not None and not 0 < self.percentile < 100:
            msg = f"`percentile` must be in (0, 100), got {self.percentile!r}."
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse one target; `parse_targets` parses several.

        Raises:
            ValueError: If the text has none of the allowed forms, which the message lists.
        """
        for form, make in _FORMS:
            found = form.fullmatch(text[:_MAX_CHARACTERS].strip())
            if found is not None and len(text) <= _MAX_CHARACTERS:
                target = make(found.groupdict())
                if target.metric in ("quality", "strong share") and not target.value <= 1:
                    break
                return target
        msg = (
            f"A target must have a form such as {', '.join(map(repr, ALLOWED))}, with values of "
            f"quality and shares in [0, 1], got {text[:_MAX_CHARACTERS]!r}."
        )
        raise ValueError(msg)

    def __str__(self) -> str:
        name = "best" if self.best else self.model
        if self.metric == "latency_s":
            rank = "mean" if self.percentile is None else f"p{self.percentile:g}"
            return f"{rank} latency <= {_shortest(self.value)} s"
        if name is None:
            return f"{self.metric} {self.relation} {_shortest(self.value)}"
        plain = self.value == 1 and self.metric == "quality"
        times = name if plain else f"{_shortest(self.value)} * {name}"
        if self.less > 0:
            points = f"{100 * self.less:g}"
            times += f" - {points} point{'' if points == '1' else 's'}"
        return f"{self.metric} {self.relation} {times}"

    def easier(self, points: int) -> Target | None:
        """Return a target for quality that is easier, in whole points.

        Args:
            points: Points below `best` or the named model; below the value if it is a number.

        Returns:
            None if that is no easier, or if the target is not about quality.
        """
        less = points / 100
        if self.metric != "quality":
            return None
        if not self.best and self.model is None:
            return None if less >= self.value else replace(self, value=round(self.value - less, 9))
        tolerance = self.less + max(0.0, 1 - self.value)
        return None if less <= tolerance + 1e-9 else replace(self, value=1.0, less=less)

    def check(self, candidates: tuple[str, ...], *, timed: bool = True) -> None:
        """Raise ValueError if the target is about another model, or about unknown latencies."""
        if self.metric == "latency_s" and not timed:
            msg = (
                f"The target {str(self)!r} needs latencies, but the data has none: collect it with "
                "a version that records them, or leave the target out."
            )
            raise ValueError(msg)
        if self.model is not None and self.model not in candidates:
            msg = (
                f"The target {str(self)!r} names {self.model!r}, but the candidates are "
                f"{list(candidates)}: name one of them, or 'best'."
            )
            raise ValueError(msg)

    def margins(self, trials: Trials, best: int) -> list[Floats]:
        """Compute the margin of each row at each setting, in arrays of shape (n_knobs, n_rows).

        Every array must have a mean of at least 0. A target relative to the best model's quality
        has one array per candidate, because the best candidate is not known for certain.

        Args:
            trials: Quality and cost of every setting on every row.
            best: Column of the best single model, for targets relative to its cost.

        Raises:
            ValueError: If the trials lack what the target is about.
        """
        v = self.value
        if self.metric == "strong share":
            return [v - trials.strong.astype(np.float64)]
        if self.metric == "latency_s":
            return [self._latency_margin(trials)]
        if self.metric == "cost_usd":
            column = self._column(trials, best)
            limit = v if column is None else v * trials.single_cost_usd[:, column]
            return [np.asarray(limit - trials.cost_usd, dtype=np.float64)]
        if self.best:
            return [trials.quality - v * column + self.less for column in trials.single_quality.T]
        column = self._column(trials, best)
        if column is None:
            return [trials.quality - v]
        return [trials.quality - v * trials.single_quality[:, column] + self.less]

    def _latency_margin(self, trials: Trials) -> Floats:
        self.check(trials.candidates, timed=trials.latency_s is not None)
        assert trials.latency_s is not None, "checked"
        if self.percentile is None:
            return self.value - trials.latency_s
        late = trials.latency_s > self.value
        return np.asarray((1 - self.percentile / 100) - late, dtype=np.float64)

    def _column(self, trials: Trials, best: int) -> int | None:
        if self.model is None:
            return best if self.best else None
        self.check(trials.candidates)
        return trials.candidates.index(self.model)

    def bounds(self, trials: Trials, best: int) -> tuple[float, float]:
        """Return the smallest and the largest possible margin; infinite where there is none."""
        v = self.value
        if self.metric == "quality":
            relative = self.best or self.model is not None
            return (-v + self.less, 1.0 + self.less) if relative else (-v, 1 - v)
        if self.metric == "strong share":
            return v - 1, v
        if self.metric == "latency_s":
            if self.percentile is None:
                return -np.inf, v
            return -self.percentile / 100, 1 - self.percentile / 100
        column = self._column(trials, best)
        dearest = trials.cost_ceiling_usd
        most = v if column is None else v * float(trials.single_cost_usd[:, column].max())
        return -dearest, most


def _shortest(value: float) -> str:
    """Return the shortest text that is read as the same number."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


def parse_targets(text: str) -> tuple[Target, ...]:
    """Parse one or several targets, separated by "and", a comma or a semicolon.

    Example:
        >>> [str(t) for t in parse_targets("quality >= best - 1 point and cost <= half of large")]
        ['quality >= best - 1 point', 'cost_usd <= 0.5 * large']

    Raises:
        ValueError: If a part has none of the forms of `Target.parse`.
    """
    return tuple(Target.parse(part) for part in re.split(r"(?<!\s)\s++(?i:and)(?=\s)|[,;]", text))
