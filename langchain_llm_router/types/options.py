"""The options of a single request, as a mapping or as one line of text.

    config={"configurable": {"llm_router": {"force": "large"}}}
    config={"configurable": {"llm_router": "router@q:1|c:40|models:small,large|itl<20"}}

The line follows Unify's syntax: a router's name, `@`, then settings `key:value` and filters
`metric<limit` separated by `|`. Its weights are those of `Utility` (per USD, per second). Limits on
latencies are in milliseconds unless a unit is given: `itl<20`, `itl<20ms` and `itl<0.02s` are the
same.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from langchain_llm_router.types.arguments import CheckedArguments, check_range

__all__ = ["NO_OPTIONS", "Filter", "RoutingOptions"]

_Metric = Literal["quality", "cost", "ttft", "itl", "throughput"]
_Comparison = Literal["<=", ">=", "<", ">"]

_METRICS: tuple[_Metric, ...] = get_args(_Metric)
_WEIGHTED = ("quality", "cost", "ttft", "itl")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_SHORT_NAMES: dict[str, _Metric] = {"q": "quality", "c": "cost", "t": "ttft", "i": "itl"}
_LATENCIES = ("ttft", "itl")
_UNIT_S = {"ms": 1e-3, "s": 1.0}
# Possessive quantifiers, so that a long line of spaces takes linear time.
_FILTER = re.compile(r"^\s*+([a-z]++)\s*+(<=|>=|<|>)\s*+([^\s<>=]++)\s*+(ms|s)?+\s*+$")


@dataclass(frozen=True, slots=True)
class Filter(CheckedArguments):
    """A condition on a candidate's expected values; a candidate that fails it is not asked.

    Example:
        >>> Filter.parse("itl<20")
        Filter(metric='itl', comparison='<', limit=0.02)
    """

    metric: _Metric
    """quality in [0, 1], cost in USD per call, ttft and itl in seconds, throughput in tokens per
    second."""

    comparison: _Comparison
    limit: float

    def __post_init__(self) -> None:
        check_range(self, "limit")

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Parse `metric<limit`; latencies are in ms unless a unit is given, q, c, t, i are short.

        Raises:
            ValueError: If the text is not a filter.
        """
        match = _FILTER.match(text)
        if match is None:
            msg = (
                f"{text!r} is not a filter: write a metric of {list(_METRICS)}, a comparison of "
                f"{list(_COMPARE)} and a number, e.g. 'itl<20'."
            )
            raise ValueError(msg)
        name, comparison, number, unit = match.groups()
        if unit is None:
            unit = next((one for one in _UNIT_S if number.endswith(one)), None)
            number = number.removesuffix(unit or "")
        metric = _SHORT_NAMES.get(name, name)
        if metric not in _METRICS:
            msg = f"The metric of a filter must be one of {list(_METRICS)}, got {metric!r}."
            raise ValueError(msg)
        limit = _parse_number(name, number)
        if metric in _LATENCIES:
            limit *= _UNIT_S[unit or "ms"]
        elif unit is not None:
            msg = f"{text!r}: only latencies {list(_LATENCIES)} have a unit of time."
            raise ValueError(msg)
        return cls(metric, comparison, limit)  # type: ignore[arg-type]

    def admits(self, value: float | None) -> bool:
        """Return whether the value is known and meets the condition."""
        return value is not None and _COMPARE[self.comparison](value, self.limit)

    def __str__(self) -> str:
        unit = "s" if self.metric in _LATENCIES else ""
        return f"{self.metric}{self.comparison}{self.limit:g}{unit}"


@dataclass(frozen=True)
class RoutingOptions(CheckedArguments):
    """Options of a single request: `config={"configurable": {"llm_router": {...}}}`.

    Example:
        >>> RoutingOptions.parse({"force": "large"}).force
        'large'
        >>> RoutingOptions.parse("router@q:1|c:40|models:small,large").candidates
        ('small', 'large')
    """

    force: str | None = None
    """Name of the candidate to ask, whose answer is accepted."""

    candidates: tuple[str, ...] | None = None
    """Names of the only candidates that may be asked."""

    threshold: float | None = None
    """Replaces the policy's own threshold."""

    lambda_: float | None = None
    """Replaces the policy's own λ, in quality per USD: the higher, the cheaper the answers. Spelled
    `"lambda"` in mappings."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Replaces weights of the utility by name: quality, cost, ttft, itl."""

    max_cost_usd: float | None = None
    """Cap on this request: a candidate whose expected cost would exceed it is not asked."""

    filters: tuple[Filter, ...] = ()
    """Conditions on a candidate's expected quality, cost, latencies and throughput."""

    sticky: bool | Literal["escalate"] | None = None
    """Replaces the router's own `sticky`: whether to stay with the candidate that answered last.
    With `"escalate"` the choice is free among the strongest one that has answered and all stronger
    ones."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(_WEIGHTED))
        if unknown:
            msg = f"`weights` must be keyed by {list(_WEIGHTED)}, got {unknown}."
            raise ValueError(msg)
        if self.candidates is not None and len(self.candidates) == 0:
            msg = "`candidates` is empty: name at least one candidate or leave it out."
            raise ValueError(msg)
        numbers = {name: getattr(self, name) for name in ("lambda_", "max_cost_usd", "threshold")}
        numbers |= {f"weights[{name!r}]": weight for name, weight in self.weights.items()}
        for name, value in numbers.items():
            if value is not None and not 0 <= value <= sys.float_info.max:
                msg = f"`{name.rstrip('_')}` must be a finite number >= 0, got {value!r}."
                raise ValueError(msg)
        invalid = [item for item in self.filters if not isinstance(item, Filter)]
        if invalid:
            msg = f"`filters` must hold filters such as 'itl<20', got {invalid[0]!r}."
            raise TypeError(msg)

    @classmethod
    def parse(cls, value: RoutingOptions | Mapping[str, Any] | str | None) -> RoutingOptions:
        """Parse options, a mapping, or a line such as `router@q:1|c:40|itl<20`.

        Raises:
            ValueError: If a key is unknown or a value is invalid.
            TypeError: If the value is none of these.
        """
        if value is None:
            return NO_OPTIONS
        if isinstance(value, RoutingOptions):
            return value
        if isinstance(value, str):
            return _parse_line(value)
        if not isinstance(value, Mapping):
            msg = (
                "Routing options must be a `RoutingOptions`, a mapping, a 'router@...' string or "
                f"None, got {value!r}."
            )
            raise TypeError(msg)
        settings = {("lambda_" if key == "lambda" else key): item for key, item in value.items()}
        allowed = [name.rstrip("_") for name in cls.__dataclass_fields__]
        unknown = sorted(str(key) for key in value if key not in allowed)
        if unknown:
            msg = f"Unknown routing options {unknown}: they must be among {allowed}."
            raise ValueError(msg)
        for name, single in (("candidates", str), ("filters", (str, Filter))):
            if isinstance(settings.get(name), single):
                settings[name] = (settings[name],)
        if settings.get("candidates") is not None:
            settings["candidates"] = tuple(settings["candidates"])
        settings["filters"] = tuple(
            Filter.parse(item) if isinstance(item, str) else item
            for item in settings.get("filters") or ()
        )
        return cls(**settings)


NO_OPTIONS = RoutingOptions()

# Key in a line → key in a mapping.
_NUMBERS = {"threshold": "threshold", "lambda": "lambda", "max_cost": "max_cost_usd"}
_SWITCHES: dict[str, bool | Literal["escalate"]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
    "escalate": "escalate",
}
_KEYS = (*_SHORT_NAMES, *_WEIGHTED, *_NUMBERS, "models", "force", "sticky")


def _parse_line(line: str) -> RoutingOptions:
    """Parse Unify's syntax."""
    head, separator, tail = line.partition("@")
    if separator == "" or head.strip() != "router":
        msg = f"A routing line must start with 'router@', got {line!r}."
        raise ValueError(msg)
    settings: dict[str, Any] = {}
    weights: dict[str, float] = {}
    filters: list[Filter] = []
    seen: set[str] = set()
    for part in filter(None, (part.strip() for part in tail.split("|"))):
        if _FILTER.match(part):
            filters.append(Filter.parse(part))
            continue
        key, colon, text = (piece.strip() for piece in part.partition(":"))
        if colon == "" or key not in _KEYS:
            msg = (
                f"Unknown part {part!r} of {line!r}: write 'key:value' with a key of "
                f"{list(_KEYS)}, or a filter on one of {list(_METRICS)} such as 'itl<20'."
            )
            raise ValueError(msg)
        name = _SHORT_NAMES.get(key, key)
        _check_once(name, seen, line)
        if key in _SHORT_NAMES or key in _WEIGHTED:
            weights[name] = _parse_number(key, text)
        elif key in _NUMBERS:
            settings[_NUMBERS[key]] = _parse_number(key, text)
        elif key == "models":
            settings["candidates"] = tuple(filter(None, (name.strip() for name in text.split(","))))
        elif key == "sticky":
            if text.lower() not in _SWITCHES:
                msg = f"`sticky` must be one of {list(_SWITCHES)}, got {text!r}."
                raise ValueError(msg)
            settings["sticky"] = _SWITCHES[text.lower()]
        else:
            settings["force"] = text
    return RoutingOptions.parse({**settings, "weights": weights, "filters": filters})


def _check_once(name: str, seen: set[str], line: str) -> None:
    if name in seen:
        msg = f"{name!r} is given twice in {line!r}: give it once."
        raise ValueError(msg)
    seen.add(name)


def _parse_number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"{key!r} must be a number, got {text!r}."
        raise ValueError(msg) from error
