"""What `start` has to know, asked for in the terminal where it is not given."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from langchain_llm_router.apps.cli.terminal import write_text
from langchain_llm_router.types.errors import LlmRouterError, import_extra

if TYPE_CHECKING:
    from langchain_llm_router.collect import Question
    from langchain_llm_router.types import Candidate

__all__ = ["Answers", "Interview", "check_answers"]

_JUDGING = ("judge", "pairwise")
_MAX_CANDIDATES = 3

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answers:
    """What the steps are run with; None or empty where it is not known yet."""

    questions: Path | None
    from_log: tuple[Path, ...]
    recorded: tuple[str, ...]
    candidate: tuple[str, ...]
    price: tuple[str, ...]
    grader: str | None
    judge: str | None
    target: str | None


def check_answers(known: Answers) -> Answers:
    """Return the answers with a grader, after a check that nothing is missing.

    Raises:
        ValueError: If something is missing; the message names all of it.
    """
    missing = []
    if known.questions is None and not known.from_log:
        missing.append("QUESTIONS, a file with `query` and `reference` (or --from-log)")
    if len(known.candidate) < 2:
        missing.append("--candidate provider:model, twice or more, from cheap to strong")
    if missing:
        msg = f"`start` needs {' and '.join(missing)}: give it, or run `start` in a terminal."
        raise ValueError(msg)
    if known.questions is not None and known.from_log:
        msg = (
            "`start` needs either a file of questions or `--from-log`, got "
            f"{str(known.questions)!r} and {list(map(str, known.from_log))}: leave one out."
        )
        raise ValueError(msg)
    grader = known.grader or _fitting_grader(known)
    if grader is None or (grader in _JUDGING and known.judge is None):
        msg = (
            "`--judge` is missing: not every question has a `reference`, so a model has to grade "
            "the answers. Name it like a candidate, or give every question its right answer."
        )
        raise ValueError(msg)
    unpriced = [c.name for c in _parse(known) if c.price is None]
    if unpriced:
        msg = (
            f"The prices of {unpriced} are unknown, so nothing could be said about savings: give "
            f"--price {unpriced[0]}=input,output in USD per million tokens (0,0 if it is free)."
        )
        raise ValueError(msg)
    return replace(known, grader=grader)


class Interview:
    """Asks in the terminal for what is missing.

    Args:
        folder: Folder for questions that are typed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def complete(self, known: Answers) -> Answers:
        """Return the answers with what was asked for.

        Raises:
            ValueError: If there is no terminal to ask in.
        """
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            msg = "`start` asks before it spends money, but there is no terminal: add `--yes`."
            raise ValueError(msg)
        if known.questions is None and not known.from_log:
            known = self._ask_questions(known)
        if not known.candidate:
            known = replace(known, candidate=self._ask_candidates())
        known = replace(known, price=(*known.price, *self._ask_prices(known)))
        grader = known.grader or _fitting_grader(known) or "judge"
        known = replace(known, grader=grader)
        if known.grader in _JUDGING and known.judge is None:
            write_text("Not every question has its right answer, so a model grades the answers.")
            known = replace(known, judge=_ask("Model that grades", known.candidate[-1]))
        return known

    def _ask_questions(self, known: Answers) -> Answers:
        typed = self._folder / "questions.jsonl"
        write_text(
            "Questions: a JSONL, CSV or Parquet file with the columns `query` and `reference` (the "
            "right answer), a log of requests that models have answered, or typed here. A handful "
            "shows the way; a verdict needs hundreds."
        )
        kinds = ["file", "log", "typed"]
        prompt = import_extra("rich.prompt", "cli").Prompt
        kind = prompt.ask("Where are they?", choices=kinds, default=kinds[0])
        if kind == "typed":
            return replace(known, questions=self._type_questions(typed))
        if kind == "log":
            return replace(known, from_log=(_ask_until_valid("Log", _existing, ""),))
        default = str(typed) if typed.exists() else ""
        return replace(known, questions=_ask_until_valid("File", _loadable, default))

    def _type_questions(self, path: Path) -> Path:
        rows: list[dict[str, str]] = []
        while True:
            query = _ask(f"Question {len(rows) + 1} (empty: that is all)", "")
            if not query and rows:
                break
            if query:
                reference = _ask("Its right answer (empty: a model grades)", "")
                rows.append({"query": query} | ({"reference": reference} if reference else {}))
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
        write_text(f"Written to {path}: add to it whenever you like.")
        return path

    def _ask_candidates(self) -> tuple[str, ...]:
        write_text(
            "Models, from cheap to strong: provider:model, e.g. openai:gpt-4o-mini, or one behind "
            "a server of your own, e.g. small=openai:qwen@http://127.0.0.1:8000/v1"
        )
        chosen: list[str] = []
        while len(chosen) < _MAX_CANDIDATES:
            optional = len(chosen) >= 2
            words = f"Model {len(chosen) + 1}{' (empty: that is all)' if optional else ''}"
            text = _ask_until_valid(words, lambda text: _parsed_text(text, chosen), "")
            if text:
                chosen.append(text)
            elif optional:
                break
        return tuple(chosen)

    def _ask_prices(self, known: Answers) -> list[str]:
        prices = []
        for candidate in _parse(known):
            if candidate.price is None:
                words = f"Price of {candidate.name}, in USD per million tokens: input,output"

                def price(text: str, name: str = candidate.name) -> str:
                    _parse(replace(known, price=(*known.price, f"{name}={text}")))
                    return f"{name}={text}"

                prices.append(_ask_until_valid(words, price, "0,0"))
        return prices


def _ask(words: str, default: str) -> str:
    prompt = import_extra("rich.prompt", "cli").Prompt
    return str(prompt.ask(words, default=default, show_default=bool(default))).strip()


def _ask_until_valid(words: str, check: Callable[[str], _T], default: str) -> _T:
    while True:
        try:
            return check(_ask(words, default))
        except OSError as error:
            write_text(f"  {error.strerror}: {error.filename}")
        except (LlmRouterError, ValueError) as error:
            write_text(f"  {error}")


def _existing(text: str) -> Path:
    Path(text).open("rb").close()
    return Path(text)


def _loadable(text: str) -> Path:
    _load(_existing(text))
    return Path(text)


def _parsed_text(text: str, others: Sequence[str]) -> str:
    """Return the text of a candidate, which is left out if it is empty."""
    if text:
        from langchain_llm_router.collect import parse_candidates  # noqa: PLC0415 - imports clients

        parse_candidates([*others, text])
    return text


def _parse(known: Answers) -> list[Candidate]:
    from langchain_llm_router.collect import parse_candidates  # noqa: PLC0415 - imports clients

    return parse_candidates(known.candidate, known.price)


def _load(path: Path) -> list[Question]:
    from langchain_llm_router.collect import load_questions  # noqa: PLC0415 - imports NumPy

    return load_questions(path)


def _fitting_grader(known: Answers) -> str | None:
    """Return the grader that fits the questions; None if a judge has to give each a grade.

    A recorded answer is not known to be right, so answers to a log's questions are compared.
    """
    if known.questions is None:
        return "pairwise"
    references = [question.reference for question in _load(known.questions)]
    texts = [reference.strip() for reference in references if reference is not None]
    if len(texts) < len(references):
        return None
    if all(
        re.fullmatch(r"\A[-+]?(?:[\d,]*+(?<=\d)(?:\.\d++)?|\.\d++) ?%?", text) for text in texts
    ):
        return "number"
    return "choice" if all(re.fullmatch("[A-J]", text) for text in texts) else "exact"
