"""A confidence in the same call as the answer: asked for in the prompt, read, and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import add_ai_message_chunks

from langchain_llm_router.calls.report_schemas import ReportSchema
from langchain_llm_router.types.answers import answer_text, visible_text
from langchain_llm_router.verification import Report
from langchain_llm_router.verification.confidence_reader import ends_in_code

__all__ = ["NO_PLACE", "Asking", "HeldChunks", "Reading", "report_in_text", "with_instruction"]

# Keyword arguments by which a caller demands a format that a further line would break.
_FORMATS = (
    "response_format",
    "format",
    "ls_structured_output_format",
    "response_mime_type",
    "response_schema",
    "response_json_schema",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "grammar",
    "text_format",
)
NO_PLACE = "The conversation has no human message: no confidence was asked for."
_PLAIN: tuple[Any, ...] = (None, "", "text", "text/plain", {"type": "text"})
_BODIES = ("model_kwargs", "extra_body")

_AROUND = 64
"""Characters that may stand behind the last line, e.g. the tag that ends an answer."""

_CONTEXT = 300
"""Characters of what was passed on that are kept, to read the next lines in their context."""


class Reading(NamedTuple):
    """An answer without its confidence."""

    output: Any
    """The output of the candidate's runnable: the message, or a dict for structured output."""

    facts: Mapping[str, Any]
    """What the attempt notes of it."""


@dataclass(frozen=True)
class Asking:
    """How one draft is asked for a confidence, and how it is read.

    Args:
        report: What is asked for; None if the call's format leaves no place for it.
        schema: The schema with the added field, for structured output.
        why: Why nothing is asked.
    """

    report: Report | None
    schema: ReportSchema | None = None
    why: str | None = None

    def read(self, output: Any) -> Reading:
        """Take the confidence out of a candidate's output; an output without one stays as it is."""
        if isinstance(output, dict) and self.report is None:
            # Valid structured output is accepted without a verdict, so this is said here.
            return Reading(output, {"verification_errors": [str(self.why)]})
        if self.schema is not None:
            assert self.report is not None
            found, rest = self.schema.split(output)
            confidence = self.report.read_field(found)
            if isinstance(rest, dict) and isinstance(rest.get("raw"), AIMessage):
                rest = {**rest, "raw": _noted(rest["raw"], {"confidence": confidence})}
            return Reading(rest, {"reported": True})
        if not isinstance(output, AIMessage):
            return Reading(output, {})
        if self.report is None:
            return Reading(_noted(output, {"why": self.why}), {})
        message, confidence = _read_message(output, self.report)
        is_call = bool(message.tool_calls or message.invalid_tool_calls)
        return Reading(message, {"reported": True} if is_call and confidence is not None else {})


def with_instruction(messages: Sequence[BaseMessage], instruction: str) -> list[BaseMessage] | None:
    """Return the conversation with the instruction at the end of the last human message.

    There, because every provider takes it: not all take two system messages, or a human message
    after a tool's. What comes before it stays the same, for the provider's prompt cache.

    Returns:
        None if there is no human message.
    """
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if isinstance(message, HumanMessage):
            content: Any = message.content
            if isinstance(content, str):
                content = f"{content}\n\n{instruction}"
            else:
                content = [*content, {"type": "text", "text": instruction}]
            changed = message.model_copy(update={"content": content})
            return [*messages[:at], changed, *messages[at + 1 :]]
    return None


def report_in_text(
    messages: Sequence[BaseMessage], model: Any, kwargs: Mapping[str, Any], report: Report
) -> tuple[Sequence[BaseMessage], Asking]:
    """Return the conversation that asks for a confidence on the last line, if there is a place.

    Args:
        messages: The conversation.
        model: The model that is asked, whose own settings may demand a format.
        kwargs: Keyword arguments of the call, with those of the router and of the candidate.
        report: What is asked for.
    """
    own = {name: getattr(model, name, None) for name in (*_FORMATS, *_BODIES)}
    given = {**{name: value for name, value in own.items() if value is not None}, **kwargs}
    for name in _BODIES:
        given |= dict(given[name]) if isinstance(given.get(name), Mapping) else {}
    demanded = [name for name in _FORMATS if given.get(name) not in _PLAIN]
    if demanded:
        why = f"The call has a format of its own (`{demanded[0]}`): no confidence was asked for."
        return messages, Asking(None, why=why)
    asking = with_instruction(messages, report.instruction)
    if asking is None:
        return messages, Asking(None, why=NO_PLACE)
    return asking, Asking(report)


def _read_message(
    message: AIMessage, report: Report, before: str = ""
) -> tuple[AIMessage, float | None]:
    content = message.content
    if isinstance(content, str):
        visible = answer_text(message)
        found = report.split(visible, before)
        if found is None:
            return message, None
        kept: Any = _replaced(content, visible, found[0])
        confidence = found[1]
    else:
        blocks: list[Any] = []
        values: list[float | None] = []
        for block in content:
            text = _text_of(block)
            found = None if not text.strip() else report.split(visible_text(text), before)
            if found is None:
                blocks.append(block)
                continue
            values.append(found[1])
            cut = _replaced(text, visible_text(text), found[0])
            if cut.strip():
                blocks.append(_with_text(block, cut))
        if not values:
            return message, None
        kept = blocks
        confidence = next((value for value in reversed(values) if value is not None), None)
    changed = message.model_copy(update={"content": kept})
    return _without_tokens(_noted(changed, {"confidence": confidence})), confidence


def _text_of(block: Any) -> str:
    """Return the text of a content block; "" if it has none."""
    if isinstance(block, Mapping) and block.get("type") == "text":
        block = block.get("text")
    return block if isinstance(block, str) else ""


def _with_text(block: Any, text: str) -> Any:
    return text if isinstance(block, str) else {**block, "text": text}


def _replaced(text: str, visible: str, kept: str) -> str:
    """Return a text with what is kept of its visible part.

    The text may have more than what is visible of it: thoughts before it, a tag behind it.
    """
    if not visible.strip():
        return text
    before, found, after = text.rpartition(visible.rstrip())
    return before + kept + after.strip() if found else kept


def _noted(message: AIMessage, note: Mapping[str, Any]) -> AIMessage:
    metadata = {**message.response_metadata, Report.KEY: dict(note)}
    return message.model_copy(update={"response_metadata": metadata})


def _without_tokens(message: AIMessage) -> AIMessage:
    """Return the message without the log-probabilities of what was cut off."""
    given = message.response_metadata.get("logprobs")
    tokens = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(tokens, list) or not isinstance(given, Mapping):
        return message
    text = str(message.text)
    if not "".join(str(token.get("token", "")) for token in tokens).startswith(text):
        # A line before the end was removed, or the tokens are in other characters than the text.
        tokens = []
    end, length, kept = len(text), 0, 0
    for token in tokens:
        length += len(str(token.get("token", "")))
        if length > end:
            break
        kept += 1
    logprobs = {**given, "content": tokens[:kept]}
    metadata = {**message.response_metadata, "logprobs": logprobs}
    return message.model_copy(update={"response_metadata": metadata})


class HeldChunks:
    """The last chunks of a draft that is streamed, held back because they may be its confidence.

    A chunk is passed on when so much follows it that every line that begins in it is complete, if
    it is short enough for a confidence, and that it is known what comes behind it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._held: list[AIMessageChunk] = []
        self._length = 0
        self._before = ""
        """The end of what was passed on, with a fence before it if it is within code."""

    def add(self, chunks: Sequence[Any]) -> list[Any]:
        """Add chunks, and return those that may be passed on."""
        passed: list[Any] = []
        for chunk in chunks:
            self._held.append(chunk)
            self._length += len(str(chunk.text))
        while self._rest >= self._report.longest_line + _AROUND:
            self._remove_lines()
            if self._rest < self._report.longest_line + _AROUND:
                break
            self._length = self._rest
            passed.append(self._held.pop(0))
            self._note_passed(str(passed[-1].text))
        return passed

    @property
    def _rest(self) -> int:
        """Number of characters behind the first chunk; -1 if there is none."""
        return self._length - len(str(self._held[0].text)) if self._held else -1

    def _remove_lines(self) -> None:
        """Remove the complete lines that are a confidence, and make one chunk of what is held."""
        text = "".join(str(chunk.text) for chunk in self._held)
        at = text.rfind("\n", 0, -_AROUND) + 1
        if at == 0 or self._without_lines(text[:at], self._before, text[at:]) is None:
            return
        rest = add_ai_message_chunks(self._held[0], *self._held[1:])
        is_text = isinstance(rest.content, str)
        blocks: list[Any] = [rest.content] if is_text else list(rest.content)
        found, before, start = False, self._before, 0
        for i, block in enumerate(blocks):
            whole = _text_of(block)
            part = whole[: max(at - start, 0)]
            kept = self._without_lines(part, before, text[start + len(part) :])
            if kept is not None:
                kept = kept if before else kept.lstrip("\r\n")
                blocks[i], found = _with_text(block, kept + whole[len(part) :]), True
            before, start = before + (part if kept is None else kept), start + len(whole)
        if not found:
            return
        content: Any = blocks[0] if is_text else blocks
        changed = _without_tokens(rest.model_copy(update={"content": content}))
        self._held = [cast("AIMessageChunk", changed)]
        self._length = len(str(changed.text))

    def _without_lines(self, text: str, before: str, following: str) -> str | None:
        """Return lines without those that are a confidence; None if there is none.

        The line behind them tells whether they are one of a list, and that they are not the end.
        """
        line = following.partition("\n")[0]
        # A line that may be a confidence itself, or end a block of code, tells no more than "…".
        for behind in (f"{line}\n…", "\n…"):
            kept = self._report.without_lines(text + behind, before)
            if kept is None or kept == behind or kept.endswith(text[-1:] + behind):
                return None if kept is None else kept.removesuffix(behind)
        return None

    def _note_passed(self, text: str) -> None:
        """Keep as much of what was passed on as tells whether a line begins, and in code."""
        whole = self._before + text
        dropped, kept = whole[:-_CONTEXT], whole[-_CONTEXT:]
        if dropped and "\n" in kept:
            end, line_end, kept = kept.partition("\n")
            dropped += end + line_end
        self._before = ("```\n" if ends_in_code(dropped) else "") + (
            kept or ("\n" if dropped else "")
        )

    def finish(self) -> list[Any]:
        """Return what is left, without the confidence."""
        if not self._held:
            return []
        rest = add_ai_message_chunks(self._held[0], *self._held[1:])
        return [_read_message(rest, self._report, self._before)[0]]
