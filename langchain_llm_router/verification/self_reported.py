"""The confidence that a candidate gives in the same call as its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage

from langchain_llm_router.types import Candidate
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.verification.confidence_reader import (
    longest_line,
    margin,
    read_number,
    split_report,
    without_report_lines,
)
from langchain_llm_router.verification.verifier import (
    Case,
    Evaluating,
    Evaluation,
    Report,
    Verifier,
)

__all__ = ["SelfReported"]

_MISSING = (
    "The answer came without a confidence: the model left out what it was asked to write beside "
    "its answer. If it often does, choose another verifier for it."
)


@dataclass(frozen=True)
class SelfReported(Verifier):
    """Scores the answer by the confidence that the candidate gives in the same call.

    It needs no further call. **It changes the prompt of every draft**: an instruction at the end of
    the last human message asks for a last line such as `Confidence: 85%`, and a schema for
    structured output gets one more field. The field, and every line that is a confidence alone, are
    read and removed before anything else sees the answer: the user, the graph's state, later
    candidates, the log. A draft that is streamed is a line late. The last candidate of a cascade,
    whose answer is accepted in any case, is not asked.

    A changed prompt may change the answers. A model may end its thoughts sooner, write a line where
    the user wants a bare word, or do worse at an exact format, small ones more so: measure the
    quality with it, as `collect` does, which records the answers to the changed prompt. If the call
    has a format of its own (`response_format`, of an agent all but a `ToolStrategy`), nothing is
    asked and there is no verdict, which the record says.

    Small models are sure of everything; modern ones separate right from wrong well. Scores of two
    candidates are not comparable: calibrate each candidate.

    Args:
        options: Names of the options that the questions have, e.g. `("A", "B", "C", "D")`. The
            model then scores each of them, and the score of its answer is the margin between the
            best and the second. If empty, it gives one confidence.

    References:
        Xiong et al., 2024, Can LLMs express their uncertainty?, arXiv:2306.13063.
        Tian et al., 2023, Just ask for calibration, arXiv:2305.14975.
    """

    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options) or len(self.options) == 1:
            msg = (
                "`options` must have two or more different names, or none for a plain confidence, "
                f"got {self.options!r}."
            )
            raise ValueError(msg)
        # Hashable, and the same when it is built again from JSON.
        object.__setattr__(self, "options", tuple(self.options))

    def most_calls(self, candidate: Candidate) -> Sequence[tuple[Candidate, int | None]]:
        """Return no calls: the answer has its confidence with it."""
        return []

    def report_of(self, candidate: str) -> Report:
        """Return what a candidate is asked for beside its answer."""
        return _Confidence(self.options)

    def evaluate(self, case: Case) -> Evaluating:
        """Return the confidence that was read when the answer came, or else is still in it."""
        noted = case.answer.response_metadata.get(Report.KEY)
        if isinstance(noted, Mapping):
            score, why = noted.get("confidence"), noted.get("why")
        else:
            score, why = self._read(case.answer), None
        score = score if isinstance(score, int | float) else None
        return Evaluation(score, errors=(str(why or _MISSING),) if score is None else ())
        yield  # pragma: no cover - makes this a generator like every verifier

    def _read(self, answer: AIMessage) -> float | None:
        found = split_report(answer_text(answer), self.options)
        return None if found is None else found[1]


@dataclass(frozen=True)
class _Confidence(Report):
    """One confidence in percent, or a score for each option."""

    options: Sequence[str] = ()

    @property
    def instruction(self) -> str:
        # A number in place of N is copied by small models, which then forget the answer.
        if self.options:
            form = ", ".join(f"{option}=N" for option in self.options)
            likely = "each N from 0 to 100 is how likely that option is right"
        else:
            form, likely = "N%", "N from 0 to 100 is how likely your answer is right"
        asked = f'add a last line of the form "Confidence: {form}", where {likely}'
        return f"(After your answer, {asked}.)"

    @property
    def longest_line(self) -> int:
        return longest_line(self.options)

    @property
    def field(self) -> Mapping[str, Any]:
        if not self.options:
            text = "How likely the answer in the other fields is right, in percent from 0 to 100."
            return {"type": "integer", "description": text}
        return {
            "type": "object",
            "description": "How likely each option is right, from 0 to 100.",
            "properties": {option: {"type": "integer"} for option in self.options},
            "required": list(self.options),
            "additionalProperties": False,
        }

    def split(self, text: str, before: str = "") -> tuple[str, float | None] | None:
        return split_report(text, self.options, before)

    def without_lines(self, text: str, before: str = "") -> str | None:
        found = without_report_lines(text, self.options, before)
        return None if found is None else found[0]

    def read_field(self, value: Any) -> float | None:
        if not self.options:
            return read_number(value)
        if not isinstance(value, Mapping):
            return None
        given = {key: score for key, score in value.items() if key in self.options}
        numbers = {
            key: float(score)
            for key, score in given.items()
            if isinstance(score, int | float) and not isinstance(score, bool)
        }
        return margin(numbers)
