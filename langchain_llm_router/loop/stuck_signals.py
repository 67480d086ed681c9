"""The signals of a tool loop that is stuck: pure functions of its messages.

They count calls, results and tokens, so most are the same in every language. Messages may come from
anywhere: whatever is in them, reading takes linear time in their text and raises nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_llm_router.loop.conversation import is_count, message_text, record_of
from langchain_llm_router.types import sum_usd
from langchain_llm_router.types.usage import usage_of

__all__ = ["LoopSignals", "read_signals", "since_last_human"]

_GIVING_UP = (
    "i give up",
    "i'm stuck",
    "i am stuck",
    "going in circles",
    "i keep getting the same",
    "ich gebe auf",
    "ich komme nicht weiter",
    "je suis bloqué",
    "je n'y arrive pas",
    "me rindo",
    "estoy atascado",
    "desisto",
    "mi arrendo",
    "я сдаюсь",
    "我放弃",
    "我卡住了",
    "行き詰ま",
)
"""Words of a model that gives up, in lower case."""

# A result that says so without a status; at most a line's beginning is read.
_ERROR_TEXT = re.compile(
    r"""[\s{"'<\[]{0,4}(?:
        (?:(?:fatal|internal)\ )?error["']?
            (?::(?!\s{0,4}(?:null|none|false|""))
            |\ (?:executing|invoking|calling|running|while|in|code)\b)
        |exception["']?:|fatal:|traceback\ \(most\ recent
        |[a-z_.]{1,60}(?:error|exception):
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MAX_ERROR_CHARS = 200
# What a model quotes is not what it says.
_QUOTED = re.compile(
    r"""`[^`]*+`|"[^"]*+"|“[^“”]*+”|„[^„“]*+“|«[^«»]*+»|(?<!\w)'[^']*+'(?!\w)|^>.*+"""
)
# Shorter results, such as "done", are equal without saying anything.
_LEAST_CHARS = 100
# Of longer results, this much of the beginning and of the end is compared.
_MAX_END_CHARS = 2000
# Texts are compared by passages of this length, spread evenly.
_PASSAGE_CHARS, _N_PASSAGES = 8, 64
_NEARLY_EQUAL = 0.9


class LoopSignals(NamedTuple):
    """The signals of one tool loop; the higher, the more stuck. Unknown is None."""

    repeated_calls: int
    """How often a call of the last turn has been made with the same arguments and the same
    result, itself included if it was made before; 0 if none was."""

    errors_in_a_row: int
    """Number of last turns in which every tool's result was an error."""

    invalid_calls: int
    """Number of turns with a tool call whose arguments could not be parsed."""

    stale_observations: int
    """Number of last turns in which every result was nearly equal to an earlier one."""

    gave_up: int
    """Number of turns with tool calls in which the model said, not in quotes, that it gives up."""

    turns: int
    """Number of answers of the model."""

    tokens: int | None
    """Tokens of all its calls, prompts included."""

    cost_usd: float | None
    """What its turns have cost."""

    def by_name(self) -> dict[str, float | None]:
        """Return the signals by name."""
        return {name: getattr(self, name) for name in LoopSignals._fields}


class _Turn(NamedTuple):
    """One answer of the model, and the results of its tool calls."""

    answer: AIMessage
    results: list[ToolMessage]


def since_last_human(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """Return the messages after the last human one; all of them if there is none."""
    for i in range(len(messages) - 1, -1, -1):
        if isinstance(messages[i], HumanMessage):
            return messages[i + 1 :]
    return messages


def read_signals(
    messages: Sequence[BaseMessage], *, giving_up: Sequence[str] | None = None
) -> LoopSignals:
    """Read the signals of a tool loop.

    Args:
        messages: The messages of the loop: answers of models, and results of tools.
        giving_up: Words that say that a model gives up; None stands for some of nine languages.
    """
    words = _GIVING_UP if giving_up is None else giving_up
    turns = _turns(messages)
    usages = [usage_of(turn.answer) for turn in turns]
    known = [usage.input_tokens + usage.output_tokens for usage in usages if usage is not None]
    return LoopSignals(
        repeated_calls=_repeated_calls(turns),
        errors_in_a_row=_last_in_a_row(turns, lambda i: all(map(_is_error, turns[i].results))),
        invalid_calls=sum(len(turn.answer.invalid_tool_calls) > 0 for turn in turns),
        stale_observations=_stale_observations(turns),
        gave_up=sum(_says(turn.answer, words) for turn in turns),
        turns=len(turns),
        tokens=sum(known) if len(known) == len(turns) else None,
        cost_usd=sum_usd([_cost_usd(turn.answer) for turn in turns]),
    )


def _is_error(result: ToolMessage) -> bool:
    """Return whether a tool's result is an error, by its status or its first words."""
    return (
        result.status == "error"
        or _ERROR_TEXT.match(message_text(result)[:_MAX_ERROR_CHARS]) is not None
    )


def _turns(messages: Sequence[BaseMessage]) -> list[_Turn]:
    turns: list[_Turn] = []
    for message in messages:
        if isinstance(message, AIMessage):
            turns.append(_Turn(message, []))
        elif isinstance(message, ToolMessage) and len(turns) > 0:
            turns[-1].results.append(message)
    return turns


def _last_in_a_row(turns: Sequence[_Turn], holds: Any) -> int:
    """Count the last turns with results for which `holds` is true of the turn's number."""
    n = 0
    for i in range(len(turns) - 1, -1, -1):
        if len(turns[i].results) == 0 or not holds(i):
            break
        n += 1
    return n


def _repeated_calls(turns: Sequence[_Turn]) -> int:
    if len(turns) == 0:
        return 0
    # Equal calls within one turn are one: no result has been seen in between.
    keys = list(map(_call_keys, turns))
    most = max((sum(key in others for others in keys) for key in keys[-1]), default=0)
    return most if most > 1 else 0


def _call_keys(turn: _Turn) -> set[tuple[str, str, str]]:
    """Return each call of a turn by its name, arguments and result."""
    result_of = {result.tool_call_id: result for result in turn.results}
    keys: set[tuple[str, str, str]] = set()
    for call in turn.answer.tool_calls:
        result, arguments = result_of.get(str(call["id"])), _normalized(call["args"])
        if result is not None and arguments is not None:
            # Errors often differ in a time or an address alone.
            seen = "error" if _is_error(result) else f"result: {message_text(result)}"
            keys.add((call["name"], arguments, seen))
    return keys


def _normalized(arguments: Mapping[str, Any]) -> str | None:
    """Return arguments as JSON, equal for equal arguments; None if they are no JSON."""
    try:
        return json.dumps(arguments, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None


def _stale_observations(turns: Sequence[_Turn]) -> int:
    texts = [[message_text(result) for result in turn.results] for turn in turns]

    def says_nothing_new(i: int) -> bool:
        earlier = [text for before in texts[:i] for text in before]
        return all(
            len(text) >= _LEAST_CHARS and any(_is_nearly(text, other) for other in earlier)
            for text in texts[i]
        )

    return _last_in_a_row(turns, says_nothing_new)


def _is_nearly(text: str, other: str) -> bool:
    """Return whether a text is nearly another one: of the same length, with the same passages."""
    shorter, longer = sorted([len(text), len(other)])
    if text == other or shorter < _NEARLY_EQUAL * longer:
        return text == other
    text, other = _ends(text), _ends(other)
    last = len(text) - _PASSAGE_CHARS
    n_missing = 0
    for k in range(_N_PASSAGES):
        start = k * last // (_N_PASSAGES - 1)
        n_missing += text[start : start + _PASSAGE_CHARS] not in other
        if n_missing > (1 - _NEARLY_EQUAL) * _N_PASSAGES:
            return False
    return True


def _ends(text: str) -> str:
    if len(text) <= 2 * _MAX_END_CHARS:
        return text
    return text[:_MAX_END_CHARS] + text[-_MAX_END_CHARS:]


def _says(answer: AIMessage, words: Sequence[str]) -> bool:
    text = message_text(answer).casefold().replace("\u2019", "'")
    words = [word.casefold() for word in words]
    if not any(word in text for word in words):
        return False
    lines = "".join(text.split("```")[::2]).splitlines()
    unquoted = (_QUOTED.sub(" ", line) for line in lines if any(word in line for word in words))
    return any(word in line for line in unquoted for word in words)


def _cost_usd(answer: AIMessage) -> float | None:
    cost = (record_of(answer) or {}).get("cost_usd")
    return float(cost) if is_count(cost) else None
