"""Reading decision logs: the requests with their decisions and situations, and the feedback."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from langchain_llm_router.data.row_files import json_lines
from langchain_llm_router.history.log_lines import expand_frames
from langchain_llm_router.loop.loop import accept_final, decision_of, situation_of
from langchain_llm_router.types import Attempt, Decision, Situation

__all__ = [
    "Entry",
    "Feedback",
    "History",
    "LineCounts",
    "check_readable",
    "each_once",
    "read_log",
    "readable_items",
]

_UNREADABLE = (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError)
"""What reading a damaged line raises."""

_COSTS = ("cost_usd", "verification_cost_usd")

_From = TypeVar("_From")
_To = TypeVar("_To")


@dataclass(frozen=True, slots=True)
class Feedback:
    """A rating of the answer to a request."""

    decision_id: str
    score: float
    """Quality of the answer, in [0, 1]."""

    key: str = "user"
    at_s: float | None = None
    comment: str | None = None
    id: str | None = None
    """Id of the score: the last score with an id counts. If None, the key is the id."""

    candidate: str | None = None
    """The candidate whose answer was scored; None for the answer that was returned."""

    cost_usd: float | None = None
    """What that answer cost, if it was asked for only to be scored."""

    @property
    def name(self) -> str:
        """Its name among the scores of the request; a later one of this name replaces it."""
        name = self.id or self.key
        return name if self.candidate is None else f"{name} of {self.candidate}"


@dataclass(frozen=True)
class Entry:
    """One request: its situations, its decisions, and its outcome."""

    decision_id: str
    at_s: float
    outcome: str
    """`answered`, `failed`, or `abandoned` by the caller."""

    query: str | None
    """The text that the decision was based on, or None if it was not kept."""

    steps: tuple[Decision, ...]
    attempts: tuple[Attempt, ...]
    frames: tuple[Mapping[str, Any], ...] = ()
    """The situation before each step, as plain data; empty if no decision was reached."""

    candidate: str | None = None
    """The candidate whose answer was returned."""

    cost_usd: float | None = None
    propensity: float = 1.0
    shadow: Mapping[str, Any] | None = None
    error: str | None = None
    declined: bool = False
    """Whether a person declined the policy's last step."""

    run_id: str | None = None
    trace_id: str | None = None
    query_whole: bool = True
    """Whether the query was kept, and no part of it was redacted as a key."""

    texts_kept: bool = True
    query_hash: str | None = None
    sensitive: str | None = None
    """Why only some candidates were allowed to see the request; None if all were."""

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Entry:
        """Make an entry from the data of one line.

        Raises:
            KeyError: If a required field is missing.
            ValueError: If the line cannot have been written by a router, e.g. with a step that
                names a candidate that could not be asked. Other damage raises other errors, e.g.
                a `TypeError`.
        """
        steps, frame = data["steps"], data.get("frame")
        frames = [] if frame is None else (expand_frames(frame, steps) or [frame])
        query = data.get("query")
        if query is not None and not isinstance(query, str):
            msg = f"`query` must be a text or null, got {str(query)[:60]}"
            raise ValueError(msg)
        arms = _arms(frames)
        _check_names([row["candidate"] for row in (*data["attempts"], *arms)])
        chosen = [row.get("candidate") for row in (data, *steps)]
        _check_names([name for name in chosen if name is not None])
        attempts = tuple(cast("Attempt", dict(attempt)) for attempt in data["attempts"])
        entry = cls(
            decision_id=data["decision_id"],
            at_s=data["at_s"],
            outcome=data["outcome"],
            query=query,
            steps=tuple(decision_of(step) for step in steps),
            attempts=attempts,
            frames=tuple(frames),
            candidate=data.get("candidate"),
            cost_usd=data.get("cost_usd"),
            propensity=data.get("propensity", 1.0),
            shadow=data.get("shadow"),
            error=data.get("error"),
            declined=any(step.get("declined", False) for step in steps),
            run_id=data.get("run_id"),
            trace_id=data.get("trace_id"),
            query_whole=query is not None and not data.get("query_redacted", False),
            texts_kept=data.get("texts", "full") == "full",
            query_hash=data.get("query_hash"),
            sensitive=data.get("sensitive"),
        )
        _check_steps(entry)
        _check_numbers(entry, arms)
        # They are made here, so that a line with damaged ones cannot be read.
        situations = entry.situations
        asked_last = len(entry.steps) > 0 and entry.steps[-1].action == "ask"
        if entry.outcome != "answered" or len(situations) == 0 or not asked_last:
            return entry
        # Older logs do not have the step that accepts a final answer.
        accepted = accept_final(entry.steps, replace(situations[-1], attempts=attempts))
        if accepted is None:
            return entry
        return replace(entry, steps=(*entry.steps, accepted), frames=(*frames, frames[-1]))

    @cached_property
    def situations(self) -> tuple[Situation, ...]:
        """The situation before each step, without the attempts."""
        return each_once(self.frames, lambda frame: situation_of(frame, self.query or ""))


@dataclass(frozen=True)
class History:
    """The contents of a log.

    Attributes:
        entries: One entry per request, in order. The last line with an id counts, because the
            retry of a graph node supersedes its failure.
        feedback: Feedback by decision id, then by the feedback's id or key; the last score counts.
        n_torn: Number of lines that could not be read, e.g. cut off by a crash, and were skipped.
    """

    entries: Collection[Entry]
    feedback: Mapping[str, Mapping[str, Feedback]] = field(default_factory=dict)
    n_torn: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    def score(
        self, decision_id: str, key: str | None = None, *, candidate: str | None = None
    ) -> float | None:
        """Return the mean score under a key, or under all keys; None if there is no feedback.

        Args:
            decision_id: The request.
            key: The feedback key; if None, all.
            candidate: The candidate whose answer was scored; if None, the one that was returned.
        """
        items = self.feedback.get(decision_id, {}).values()
        scores = [it.score for it in items if key in (None, it.key) and it.candidate == candidate]
        return math.fsum(scores) / len(scores) if scores else None


def each_once(items: Sequence[_From], make: Callable[[_From], _To]) -> tuple[_To, ...]:
    """Return `make(item)` of every item; an object that occurs again has the same result."""
    made: dict[int, _To] = {}
    for item in items:
        if id(item) not in made:
            made[id(item)] = make(item)
    return tuple(made[id(item)] for item in items)


def _arms(frames: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the arms of all frames, of a frame that several steps share once."""
    return [arm for frame in {id(it): it for it in frames}.values() for arm in frame["arms"]]


def _check_names(names: Sequence[object]) -> None:
    """Refuse candidates that are not names."""
    if not all(isinstance(name, str) for name in names):
        msg = f"`candidate` must be a name, got {str(names)[:60]}"
        raise ValueError(msg)


def _check_steps(entry: Entry) -> None:
    """Refuse an answer without a step, and steps that name a candidate that is no arm."""
    if entry.outcome == "answered" and len(entry.frames) > 0 and len(entry.steps) == 0:
        msg = "an answered request must have steps, got none"
        raise ValueError(msg)
    arms: set[str] = set()
    frame = None
    for step, following in zip(entry.steps, entry.frames, strict=False):
        if following is not frame:
            frame = following
            arms.update(arm["candidate"] for arm in frame["arms"])
        if step.candidate not in arms:
            msg = f"a step must name one of {sorted(arms)}, got {step.candidate!r}"
            raise ValueError(msg)


def _check_numbers(entry: Entry, arms: Sequence[Mapping[str, Any]]) -> None:
    """Refuse costs that are not amounts, and expected qualities that are not finite."""
    _check_finite("quality", [arm.get("quality") for arm in arms])
    costs = [row.get(name) for row in (*entry.attempts, *arms) for name in _COSTS]
    _check_finite("cost_usd", [entry.cost_usd, *costs], low=0.0)


def _check_finite(name: str, values: Sequence[object], low: float = -math.inf) -> None:
    for value in values:
        if value is None:
            continue
        # A whole number may be too large for a float, which raises an error of `_UNREADABLE`.
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= low):
            msg = f"`{name}` must be a finite number >= {low:g} or null, got {str(value)[:60]}"
            raise ValueError(msg)


def _feedback(data: Mapping[str, Any]) -> Feedback:
    item = Feedback(**{name: data[name] for name in data if name != "kind"})
    if not isinstance(item.score, int | float) or not 0 <= item.score <= 1:
        msg = f"`score` must be in [0, 1], got {str(item.score)[:60]!r}"
        raise ValueError(msg)
    cost = item.cost_usd
    if cost is not None and not (isinstance(cost, int | float) and 0 <= cost < math.inf):
        msg = f"`cost_usd` must be a number >= 0, got {str(cost)[:60]!r}"
        raise ValueError(msg)
    return item


def _entry_or_feedback(data: Mapping[str, Any] | None) -> Entry | Feedback | None:
    """Return what the object of a line holds; None if it is of another kind."""
    if data is None:
        msg = "a line must be a JSON object"
        raise ValueError(msg)
    kind = data["kind"]
    if kind == "decision":
        read: Entry | Feedback = Entry.from_data(data)
    elif kind == "feedback":
        read = _feedback(data)
    else:
        return None
    # An id that no dictionary takes is no id, nor is such a name a name.
    hash(read.decision_id)
    if isinstance(read, Feedback):
        hash(read.name)
    return read


@dataclass
class LineCounts:
    """How many lines could be read, and how many could not."""

    n_read: int = 0
    n_bad: int = 0


def readable_items(
    source: Path | Iterable[bytes], counts: LineCounts
) -> Iterator[Entry | Feedback]:
    """Yield the requests and the feedback of a log in order.

    Lines of another kind and lines that cannot be read, e.g. cut off by a crash, are skipped.

    Args:
        source: A file, or its lines.
        counts: Counts the lines.
    """
    for _, _, data in json_lines(source):
        try:
            read = _entry_or_feedback(data)
        except _UNREADABLE:
            counts.n_bad += 1
            continue
        counts.n_read += 1
        if read is not None:
            yield read


def check_readable(path: Path, counts: LineCounts) -> None:
    """Refuse a file that is no decision log.

    Raises:
        ValueError: If it has lines, but none of them could be read.
    """
    if counts.n_bad > 0 and counts.n_read == 0:
        msg = (
            f"{path.name!r} must be a decision log, but none of its lines can be read as a "
            "decision or as feedback."
        )
        raise ValueError(msg)


def read_log(*paths: str | Path) -> History:
    """Read one or several decision logs, e.g. one per process, or a separate one for feedback.

    Raises:
        ValueError: If a file has lines, but none of them belongs to a decision log.
        OSError: If a file cannot be read.
    """
    entries: dict[str, Entry] = {}
    feedback: dict[str, dict[str, Feedback]] = {}
    n_torn = 0
    for path in map(Path, paths):
        counts = LineCounts()
        for read in readable_items(path, counts):
            if isinstance(read, Entry):
                entries.pop(read.decision_id, None)
                entries[read.decision_id] = read
            else:
                feedback.setdefault(read.decision_id, {})[read.name] = read
        check_readable(path, counts)
        n_torn += counts.n_bad
    return History(tuple(entries.values()), feedback, n_torn)
