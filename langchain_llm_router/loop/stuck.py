"""Detectors that read from a tool loop's signals whether it is stuck: rules, or a fitted model."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from langchain_core.messages import AIMessage, BaseMessage

from langchain_llm_router.loop.stuck_signals import (
    LoopSignals,
    read_signals,
    since_last_human,
)
from langchain_llm_router.types import Stuck
from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.types.figures import format_score

__all__ = ["HandOver", "RecordedLoops", "StuckDetector", "StuckModel", "StuckRules"]

RecordedLoops = Iterable[tuple[Sequence[BaseMessage], bool]]
"""Tool loops that ended: the messages of each, and whether it succeeded."""

HandOver = Callable[[Sequence[BaseMessage]], Sequence[BaseMessage]]
"""A function from the messages before a climb to those that take their place."""

_WORDS = {
    "repeated_calls": "the same call brought the same result {} times",
    "errors_in_a_row": "every tool's result was an error in {} turns in a row",
    "invalid_calls": "{} turns had calls with invalid arguments",
    "stale_observations": "{} turns in a row brought nothing new",
    "gave_up": "the model gave up in {} turns",
    "turns": "it took {} turns",
    "tokens": "it took {} tokens",
    "cost_usd": "it cost {} USD",
}
_COUNTED = ("repeated_calls", "errors_in_a_row", "invalid_calls", "stale_observations", "gave_up")


class StuckDetector(CheckedArguments, ABC):
    """Base class of detectors, which judge by its signals whether a tool loop is stuck.

    Subclasses are frozen dataclasses. If their fields are plain data, a detector is saved with its
    router. `StuckRules` explains the three settings that all detectors have.
    """

    giving_up: Sequence[str] | None = None
    max_switch_usd: float | None = None
    hand_over: HandOver | None = None

    def read(self, messages: Sequence[BaseMessage]) -> Stuck:
        """Read the messages of one loop since its candidate took over."""
        return self.judge(read_signals(messages, giving_up=self.giving_up))

    @abstractmethod
    def judge(self, signals: LoopSignals) -> Stuck:
        """Judge signals; a pure function."""


@dataclass(frozen=True)
class StuckRules(StuckDetector):
    """A loop is stuck as soon as one signal reaches its limit; None switches a signal off.

    A candidate is judged by its own turns alone: after a climb every signal starts again.

    Args:
        repeated_calls: Number of times that the same call, with the same arguments, has brought the
            same result.
        errors_in_a_row: Number of turns in a row in which every tool's result was an error.
        invalid_calls: Number of turns with arguments that could not be parsed.
        stale_observations: Number of turns in a row in which every result was long and nearly equal
            to an earlier one.
        gave_up: Number of turns with tool calls in which the model said that it gives up. A final
            message that says so is the loop's answer, and nothing is left to escalate.
        turns: Number of answers of the model. The limits on turns, tokens and costs depend on the
            task; `calibrated` finds them in your own logs.
        tokens: Tokens of all calls, prompts included; an unknown number reaches no limit.
        cost_usd: Cost of all turns; an unknown cost reaches no limit.
        giving_up: Words that say that the model gives up; None stands for some of nine languages.
        max_switch_usd: Most that one switch may cost because the new candidate's provider has the
            conversation not in its prompt cache; None means no limit. A switch of unknown cost
            fits no limit.
        hand_over: A function that shortens what a candidate reads after a climb: it gets the
            messages before that candidate took over, and returns those that take their place,
            e.g. the question and a summary. It is called at each of its turns, so it must return
            the same each time, or the prompt cache is lost. The expected costs are those of the
            whole conversation. If None, all messages are read.

    Raises:
        ValueError: If a limit is below 1, or not above 0 in the case of costs.

    Example:
        >>> StuckRules(errors_in_a_row=2).judge(LoopSignals(0, 2, 0, 0, 0, 5, None, None)).detail
        "every tool's result was an error in 2 turns in a row (limit 2)"
    """

    repeated_calls: int | None = 3
    errors_in_a_row: int | None = 3
    invalid_calls: int | None = 2
    stale_observations: int | None = 4
    gave_up: int | None = 1
    turns: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    giving_up: Sequence[str] | None = None
    max_switch_usd: float | None = None
    hand_over: HandOver | None = None

    def __post_init__(self) -> None:
        check_range(self, *_COUNTED, "turns", "tokens", low=1)
        check_range(self, "cost_usd", above=True)
        check_range(self, "max_switch_usd")

    def judge(self, signals: LoopSignals) -> Stuck:
        """Return a stuck reading if a signal reaches its limit; the furthest beyond it is named."""
        shares = {
            name: value / getattr(self, name)
            for name, value in signals.by_name().items()
            if value is not None and getattr(self, name) is not None
        }
        name = max(shares, key=shares.__getitem__, default=None)
        if name is None or shares[name] == 0:
            return Stuck(max_switch_usd=self.max_switch_usd)
        return Stuck(
            stuck=shares[name] >= 1,
            signal=name,
            detail=f"{_in_words(name, signals)} (limit {_shown(getattr(self, name))})",
            signals=_nonzero(signals),
            max_switch_usd=self.max_switch_usd,
        )

    @classmethod
    def calibrated(cls, loops: RecordedLoops, *, quantile: float = 0.95, **settings: Any) -> Self:
        """Return rules whose limits lie above this quantile of successful loops.

        Turns, tokens and costs get limits, the latter two where they are known in every successful
        loop. The other limits are raised above the default where successful loops reach it.

        Args:
            loops: Loops that ended; those that failed are left out.
            quantile: Share of successful loops that stay below each limit, in (0, 1].
            **settings: Fields to set by hand.

        Raises:
            ValueError: If no loop succeeded, or the quantile is out of its range.
        """
        if not 0 < quantile <= 1:
            msg = f"`quantile` must lie in (0, 1], got {quantile!r}."
            raise ValueError(msg)
        words = settings.get("giving_up")
        peaks = [_peaks(messages, words) for messages, succeeded in loops if succeeded]
        if len(peaks) == 0:
            msg = "`loops` has no successful loop, whose lengths are needed: give at least one."
            raise ValueError(msg)
        limits: dict[str, Any] = {}
        for name in LoopSignals._fields:
            values = [getattr(peak, name) for peak in peaks]
            if any(value is None for value in values):
                continue
            reached = sorted(values)[math.ceil(quantile * len(values)) - 1]
            default = getattr(cls, name)
            if name == "cost_usd":
                limits[name] = math.nextafter(reached, math.inf)
            else:
                limits[name] = max(reached + 1, default or 1)
        return cls(**{**limits, **settings})


@dataclass(frozen=True)
class StuckModel(StuckDetector):
    """A logistic model of the hazard that a loop fails, read after each turn; see `fit`.

    Args:
        weights: Weight of each signal, on the scale log(1 + value) and centred by `means`.
        means: Mean of each signal on that scale; an unknown signal counts as its mean.
        bias: Log-odds of failing at the means.
        threshold: Smallest P(fails) at which a loop is stuck, in (0, 1].
        giving_up: Words that say that the model gives up; None stands for some of nine languages.
        max_switch_usd: As in `StuckRules`.
        hand_over: As in `StuckRules`.

    Raises:
        ValueError: If a weight has the name of no signal, or a number is out of its range.
    """

    weights: Mapping[str, float]
    means: Mapping[str, float] = field(default_factory=dict)
    bias: float = 0.0
    threshold: float = 0.5
    giving_up: Sequence[str] | None = None
    max_switch_usd: float | None = None
    hand_over: HandOver | None = None

    def __post_init__(self) -> None:
        check_range(self, "threshold", high=1, above=True)
        check_range(self, "bias", low=-math.inf)
        check_range(self, "max_switch_usd")
        numbers = {**self.means, **self.weights}
        unknown = sorted(set(numbers) - set(LoopSignals._fields))
        if unknown or not all(map(math.isfinite, [*self.weights.values(), *self.means.values()])):
            msg = (
                f"`weights` and `means` must be finite numbers by signals of "
                f"{list(LoopSignals._fields)}, got {dict(self.weights)} and {dict(self.means)}."
            )
            raise ValueError(msg)

    def judge(self, signals: LoopSignals) -> Stuck:
        """Return the reading with P(fails); the signal that raises it most is named."""
        terms = {
            name: weight * (math.log1p(value) - self.means.get(name, 0.0))
            for name, weight in self.weights.items()
            if (value := getattr(signals, name)) is not None
        }
        odds = max(-700.0, min(700.0, self.bias + math.fsum(terms.values())))
        probability = 1 / (1 + math.exp(-odds))
        name = max(terms, key=terms.__getitem__, default=None)
        if name is None or terms[name] <= 0:
            return Stuck(probability=probability, max_switch_usd=self.max_switch_usd)
        return Stuck(
            stuck=probability >= self.threshold,
            signal=name,
            detail=(
                f"P(it fails) = {format_score(probability)} (threshold "
                f"{format_score(self.threshold)}), most of all because {_in_words(name, signals)}"
            ),
            probability=probability,
            signals=_nonzero(signals),
            max_switch_usd=self.max_switch_usd,
        )

    @classmethod
    def fit(
        cls, loops: RecordedLoops, *, false_alarms: float = 0.1, ridge: float = 1.0, **settings: Any
    ) -> Self:
        """Fit the weights on your own loops, each labelled by how it ended.

        Every turn is a row, and all rows of one loop weigh as much as one loop. No weight is
        negative, because every signal is made to rise when a loop is stuck. Signals that are
        unknown in a turn are left out.

        Args:
            loops: Loops that ended, with their outcomes.
            false_alarms: Largest share of these successful loops in which the threshold may be
                reached at any turn, in [0, 1). On other loops the share is somewhat larger.
            ridge: Strength of the pull towards weights of 0, in loops.
            **settings: Other fields: `giving_up`, `max_switch_usd`, `hand_over`.

        Raises:
            ValueError: If no loop failed or none succeeded, or a number is out of its range.
        """
        if not 0 <= false_alarms < 1 or not 0 <= ridge < math.inf:
            msg = (
                "`false_alarms` must lie in [0, 1) and `ridge` be a finite number >= 0, got "
                f"{false_alarms!r} and {ridge!r}."
            )
            raise ValueError(msg)
        words = settings.get("giving_up")
        read = [(list(_each_turn(messages, words)), succeeded) for messages, succeeded in loops]
        labelled = [(turns, succeeded) for turns, succeeded in read if turns]
        if len({succeeded for _, succeeded in labelled}) < 2:
            msg = (
                "`loops` must have at least one loop that succeeded and one that failed, got "
                f"{sum(ok for _, ok in labelled)} that succeeded of {len(labelled)} with turns."
            )
            raise ValueError(msg)
        # Imported here, because deciding needs neither NumPy nor SciPy.
        from langchain_llm_router.loop.stuck_fit import fit_hazard  # noqa: PLC0415 - loads SciPy

        weights, means, bias = fit_hazard(labelled, ridge)
        fitted = cls(weights, means, bias, **settings)
        highest = sorted(
            (
                max(fitted.judge(turn).probability or 0.0 for turn in turns)
                for turns, ok in labelled
                if ok
            ),
            reverse=True,
        )
        n_alarms = math.floor(false_alarms * len(highest))
        # So that the first loop beyond the allowed ones lies below the threshold.
        threshold = min(1.0, max(math.nextafter(highest[n_alarms], 1.0), 1e-9))
        return cls(weights, means, bias, threshold, **settings)


def _each_turn(
    messages: Sequence[BaseMessage], words: Sequence[str] | None
) -> Iterator[LoopSignals]:
    """Yield the signals as they were after each turn of a loop."""
    loop = since_last_human(messages)
    starts = [i for i, message in enumerate(loop) if isinstance(message, AIMessage)]
    for end in [*starts[1:], len(loop)] if starts else []:
        yield read_signals(loop[:end], giving_up=words)


def _peaks(messages: Sequence[BaseMessage], words: Sequence[str] | None) -> LoopSignals:
    """Return the highest value of each signal over a loop; None if it was unknown at the end."""
    turns = list(_each_turn(messages, words)) or [read_signals(())]
    peaks: dict[str, Any] = {
        name: None if last is None else max(getattr(turn, name) or 0 for turn in turns)
        for name, last in turns[-1].by_name().items()
    }
    return LoopSignals(**peaks)


def _nonzero(signals: LoopSignals) -> dict[str, float]:
    return {name: value for name, value in signals.by_name().items() if value}


def _in_words(name: str, signals: LoopSignals) -> str:
    return _WORDS[name].format(_shown(getattr(signals, name)))


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
