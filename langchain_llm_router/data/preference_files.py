"""Readers of recorded preferences: votes of Chatbot Arena, and rankings such as Nectar's.

A file is read row by row, and the answers in it are not kept: 55,000 votes take seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from langchain_llm_router.data.battles import Battles
from langchain_llm_router.data.row_files import JSONL, check_suffix, placed_rows
from langchain_llm_router.data.rows import RowError, number_field, required_field, text_field

__all__ = ["clean_text", "load_arena", "load_rankings"]

_Turns = Literal["all", "first", "last"]

_WINNERS = {"winner_model_a": 1.0, "winner_model_b": 0.0, "winner_tie": 0.5}
# Marks such as <|endoftext|>, also with the wide bars of some models; NUL; half characters.
_MARKS = re.compile(r"<[|\uff5c][^<>|\uff5c\s]{1,40}[|\uff5c]>|[\x00\ud800-\udfff]")
_SPEAKERS = re.compile(r"(?:^|\n\n|\r\n\r\n)[ \t]*+(Human|Assistant):")


def clean_text(text: str) -> str:
    """Remove what embedding models refuse or misread: marks such as `<|endoftext|>`.

    NUL and halves of characters, which UTF-8 cannot hold, go too. Nothing else changes.

    Example:
        >>> clean_text("What is 2+2?<|endoftext|>")
        'What is 2+2?'
    """
    return _MARKS.sub("", text)


def load_arena(
    path: str | Path, *, turns: _Turns = "all", clean: Callable[[str], str] | None = None
) -> Battles:
    """Load the votes of Chatbot Arena, as in `lmsys-arena-human-preference-55k`.

    Args:
        path: A .csv, .jsonl or .parquet file (extra `data`) with `model_a`, `model_b`, `prompt` (a
            JSON list of the user's turns), `winner_model_a`, `winner_model_b` and `winner_tie`, one
            of which is 1 or true. Further columns, such as the answers, are ignored.
        turns: Which of the user's turns are the query: all, which the vote is about, separated by
            blank lines; or only the first or the last.
        clean: Function that cleans each query, e.g. `clean_text`; route cleaned queries then. If
            None, queries stay as they are.

    Returns:
        The battles in the order of the file, which Elo ratings depend on.

    Raises:
        ValueError: If a row is malformed, with file and line, or if there is none.
    """
    path = Path(path)
    query_of = _query_reader(turns, clean)
    battles: list[tuple[str, str, str, float]] = []
    for place, row in placed_rows(path):
        query = query_of(_listed_turns(row, place), place)
        a, b = text_field(row, "model_a", place), text_field(row, "model_b", place)
        if not a.strip() or not b.strip() or a == b:
            msg = f"{place}: a vote must be about two models, got {a!r} and {b!r}."
            raise ValueError(msg)
        battles.append((query, a, b, _score(row, place)))
    return _battles(path, battles)


def load_rankings(
    path: str | Path, *, turns: _Turns = "all", clean: Callable[[str], str] | None = None
) -> Battles:
    """Load rankings of several models' answers, as in `Nectar`: every pair becomes a battle.

    Args:
        path: A .jsonl or .parquet file (extra `data`) with `prompt` and `answers`, a list of
            objects with `model` and `rank`; the best rank is the lowest, and equal ranks are a tie.
            Further fields are ignored.
        turns: Which of the user's turns are the query, as in `load_arena`; a prompt that is no
            conversation (`Human: ... Assistant: ...`) is taken whole.
        clean: Function that cleans each query, e.g. `clean_text`; route cleaned queries then. If
            None, queries stay as they are.

    Returns:
        The battles; those of a model with itself are left out. Seven answers give 21 battles, which
        are not independent: resample and split by query.

    Raises:
        ValueError: If a row is malformed, with file and line, or if there is no battle.
    """
    path = Path(path)
    check_suffix(path, (*JSONL, ".parquet"))
    query_of = _query_reader(turns, clean)
    battles: list[tuple[str, str, str, float]] = []
    for place, row in placed_rows(path):
        query = query_of(_human_turns(text_field(row, "prompt", place)), place)
        for (a, rank_a), (b, rank_b) in combinations(_ranks(row, place), 2):
            if a != b:
                battles.append((query, a, b, (1 + (rank_a < rank_b) - (rank_a > rank_b)) / 2))
    return _battles(path, battles)


def _query_reader(
    turns: _Turns, clean: Callable[[str], str] | None
) -> Callable[[Sequence[str], str], str]:
    if turns not in ("all", "first", "last"):
        msg = f"`turns` must be 'all', 'first' or 'last', got {turns!r}."
        raise ValueError(msg)

    def query_of(said: Sequence[str], place: str) -> str:
        kept = {"all": said, "first": said[:1], "last": said[-1:]}[turns]
        query = "\n\n".join(kept)
        query = query if clean is None else clean(query)
        if not query.strip():
            msg = f"{place}: a query must have a text, got {query[:60]!r}."
            raise ValueError(msg)
        return query

    return query_of


def _listed_turns(row: Mapping[str, Any], place: str) -> list[str]:
    """The user's turns of a vote; some are recorded as null."""
    prompt = required_field(row, "prompt", place)
    try:
        turns = json.loads(prompt) if isinstance(prompt, str) else prompt
    except (ValueError, RecursionError):
        turns = None
    if not isinstance(turns, list) or not all(isinstance(turn, str | None) for turn in turns):
        msg = f"{place}: `prompt` must be a JSON list of texts, got {str(prompt)[:60]!r}."
        raise RowError(msg)
    return [turn for turn in turns if turn is not None]


def _human_turns(prompt: str) -> list[str]:
    before, *rest = _SPEAKERS.split(prompt)
    said = [text.strip() for who, text in zip(rest[::2], rest[1::2], strict=True) if who == "Human"]
    return [prompt] if before.strip() or len(said) == 0 else said


def _score(row: Mapping[str, Any], place: str) -> float:
    flags = {name: _flag(row, name, place) for name in _WINNERS}
    chosen = [name for name, flag in flags.items() if flag == 1]
    if len(chosen) != 1 or sum(flags.values()) != 1:
        msg = f"{place}: one of {list(_WINNERS)} must be 1 and the others 0, got {flags}."
        raise ValueError(msg)
    return _WINNERS[chosen[0]]


def _flag(row: Mapping[str, Any], name: str, place: str) -> float:
    """A 0 or 1, which pandas and JSON may have as a truth value."""
    # A text is one in CSV.
    truth = {"true": 1.0, "false": 0.0}.get(str(required_field(row, name, place)).strip().lower())
    return number_field(row, name, place, low=0, high=1) if truth is None else truth


def _ranks(row: Mapping[str, Any], place: str) -> list[tuple[str, float]]:
    answers = required_field(row, "answers", place)
    if not isinstance(answers, list):
        msg = f"{place}: `answers` must be a list of objects, got {str(answers)[:60]!r}."
        raise RowError(msg)
    return [
        (text_field(answer, "model", where), number_field(answer, "rank", where))
        for where, answer in ((f"{place}, answer {i}", a) for i, a in enumerate(answers, start=1))
    ]


def _battles(path: Path, battles: Sequence[tuple[str, str, str, float]]) -> Battles:
    if len(battles) == 0:
        msg = f"{path.name} must have at least one battle, got none."
        raise ValueError(msg)
    queries, left, right, score = zip(*battles, strict=True)
    return Battles(queries, left, right, score)
