"""Request logs as questions: the recorded answers stand for the model that gave them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_llm_router.collect.identity import model_identity
from langchain_llm_router.collect.log_formats import (
    LoggedCall,
    UnknownFormatError,
    UnusableError,
    read_call,
)
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.data.row_files import json_lines
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.tokens import estimate_tokens

__all__ = ["RequestLog", "read_request_log"]


@dataclass(frozen=True)
class RequestLog(CheckedArguments):
    """The questions of request logs, and the answers that were recorded.

    Attributes:
        questions: Each question once, with the messages before it.
        answers: The recorded answers, as `collect(recorded=...)` takes them.
        n_requests: Number of requests in the logs.
        recorded: Number of recorded answers, by candidate.
        left_out: Number of requests that are left out, by reason.
        n_estimated: Number of recorded answers whose cost is estimated from the length of the
            texts, because neither cost nor usage was recorded.
    """

    questions: Sequence[Question]
    answers: Sequence[Mapping[str, Any]]
    n_requests: int
    recorded: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    n_estimated: int = 0

    @property
    def sentence(self) -> str:
        """What was read and what was left out, in words."""
        found = ", ".join(f"{n:,} of {name!r}" for name, n in self.recorded.items())
        text = (
            f"{self.n_requests:,} requests give {len(self.questions):,} questions, with "
            f"{found or 'no'} recorded answers."
        )
        if self.left_out:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.left_out.items())
            text += f" Left out: {reasons}."
        if self.n_estimated > 0:
            text += f" The cost of {self.n_estimated:,} is estimated from the length of the texts."
        return text


def read_request_log(
    *paths: str | Path,
    candidates: Sequence[Candidate],
    recorded: Mapping[str, str] | None = None,
    references: bool = False,
) -> RequestLog:
    """Read request logs in JSONL: the questions, and the answers that models gave to them.

    The formats are runs of LangSmith, OpenAI's requests and responses (pairs, batch files, stored
    completions), payloads of LiteLLM, and decision logs; a line is recognized by its fields.

    Args:
        paths: The logs, e.g. the two files of a batch.
        candidates: The candidates of the run.
        recorded: The candidate that a recorded model stands for, by the model's name. Without it, a
            candidate stands for the model with its name, or with its model's name.
        references: Whether recorded answers are references for a grader that compares with them.
            A judge must not see them as such, because they are judged too.

    Raises:
        ValueError: If a line has an unknown format, `recorded` names another candidate, or no
            recorded model is one of the candidates; the message names the line.
    """
    names = [candidate.name for candidate in candidates]
    for model, name in (recorded or {}).items():
        if name not in names:
            msg = f"`recorded` must name a candidate of {names}, got {name!r} for {model!r}."
            raise ValueError(msg)
    reader = _Reader(
        {**_names_of(candidates), **(recorded or {})}, candidates, references=references
    )
    rows = [(path.name, *line) for path in map(Path, paths) for line in json_lines(path)]
    requests = {
        str(row["custom_id"]): row["body"]
        for _, _, _, row in rows
        if row is not None and "custom_id" in row and isinstance(row.get("body"), Mapping)
    }
    for file, number, line, row in rows:
        if row is None:
            msg = f"{file} line {number} is not a JSON object: {line[:60]!r}."
            raise ValueError(msg)
        reader.read(row, requests, f"{file} line {number}")
    return reader.finish(" + ".join(Path(path).name for path in paths))


def _names_of(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return the candidates by the names of their models and by their own, which go first."""
    models = {
        str(model): candidate.name
        for candidate in candidates
        if (model := model_identity(candidate)["model"]) is not None
    }
    return {**models, **{candidate.name: candidate.name for candidate in candidates}}


class _Reader:
    """Collects the questions of logs, each once."""

    def __init__(
        self, names: Mapping[str, str], candidates: Sequence[Candidate], *, references: bool
    ) -> None:
        self._names, self._references = names, references
        self._candidates = {candidate.name: candidate for candidate in candidates}
        self._questions: dict[str, Question] = {}
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._left_out: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        self._n = self._n_estimated = 0

    def read(self, row: Mapping[str, Any], requests: Mapping[str, Any], place: str) -> None:
        """Read one line.

        Raises:
            ValueError: If its format is unknown.
        """
        self._n += 1
        try:
            call = read_call(row, requests)
            if call is None:
                self._n -= 1
            else:
                self._add(call)
        except UnusableError as reason:
            self._left_out[str(reason)] += 1
        except UnknownFormatError as error:
            raise ValueError(f"{place}: {error}.") from error

    def _add(self, call: LoggedCall) -> None:
        if call.messages[-1][0] != "human" or not call.messages[-1][1].strip():
            raise UnusableError("whose last message is not a question")
        name = None
        if call.answer is not None or call.model is not None:
            name = self._candidate_of(call.model)
            if name is None:
                self._others[call.model or "unknown"] += 1
                return
            if call.answer is None:
                raise UnusableError("without an answer")
        question = _question(call)
        if name is not None and (question.id, name) in self._answers:
            raise UnusableError("that were asked and answered before")
        known = self._questions.setdefault(question.id, question)
        if name is None or call.answer is None:
            return
        if self._references and known.reference is None:
            self._questions[known.id] = Question(
                known.id, known.query, call.answer, context=known.context
            )
        self._answers[known.id, name] = self._answer_line(known.id, name, call)

    def _candidate_of(self, model: str | None) -> str | None:
        if model is None:
            return self._names.get("unknown")
        # LiteLLM writes the provider before the name.
        return self._names.get(model, self._names.get(model.rpartition("/")[2]))

    def _answer_line(self, id: str, name: str, call: LoggedCall) -> dict[str, Any]:
        assert call.answer is not None, "checked by the caller"
        price, cost = self._candidates[name].price, call.cost_usd
        n_in, n_out = call.input_tokens, call.output_tokens
        if cost is None and price is not None:
            if n_in is None or n_out is None:
                self._n_estimated += 1
            prompt = "\n".join(text for _, text in call.messages)
            cost = price.estimate_usd(
                input_tokens=estimate_tokens(prompt) if n_in is None else n_in,
                output_tokens=estimate_tokens(call.answer) if n_out is None else n_out,
            )
        return {
            "id": id,
            "candidate": name,
            "text": call.answer,
            "recorded": True,
            "input_tokens": n_in,
            "output_tokens": n_out,
            "cost_usd": cost,
            "latency_s": call.latency_s,
            "ttft_s": call.ttft_s,
            "itl_s": None,
        }

    def finish(self, name: str) -> RequestLog:
        """Return what was read.

        Raises:
            ValueError: If there is no question.
        """
        if self._others and not self._answers:
            model = next(iter(self._others))
            msg = (
                f"{name} has answers of {list(self._others)}, and the candidates are "
                f"{list(self._candidates)}: say which candidate a model is, e.g. `--recorded "
                f"{model}={next(reversed(self._candidates))}`."
            )
            raise ValueError(msg)
        left_out = dict(self._left_out)
        for model, n in self._others.items():
            left_out[f"of {model!r}, which is no candidate"] = n
        if len(self._questions) == 0:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in left_out.items())
            msg = f"{name} has no request that can be asked again: {reasons or 'it is empty'}."
            raise ValueError(msg)
        return RequestLog(
            list(self._questions.values()),
            list(self._answers.values()),
            self._n,
            Counter(candidate for _, candidate in self._answers),
            left_out,
            self._n_estimated,
        )


def _question(call: LoggedCall) -> Question:
    *context, (_, query) = call.messages
    text = json.dumps(call.messages, ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Question(digest[:16], query, context=tuple(context))
