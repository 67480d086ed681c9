"""Which requests are sensitive, and who may see them."""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_letters, digits
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, PydanticUserError

from langchain_llm_router.loop.conversation import record_of
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.media import (
    is_plain,
    medium_kind,
    plain_content,
    source_of,
)

__all__ = ["Sensitive", "earlier_reason", "pattern_reason"]


@dataclass(frozen=True, eq=False)
class Sensitive(CheckedArguments):
    r"""A rule that says which requests are sensitive, and the only candidates that may see those.

    The rule is applied to all that a candidate would see, again for every request and for every
    step of a tool loop: system prompt, messages, tool calls and what tools returned. Nothing that a
    request says can widen who may see it: a forced candidate, an option, a header or a message that
    would have another one asked makes the request fail. If none of the named candidates answers,
    the request fails with their error. Judges that are not named are not asked, and an estimator or
    a verifier that embeds texts at a service is left out, so that its number is unknown (None): if
    several candidates are named, the policy must not need it. The reason is in the record, in the
    log, in `explain`, and in the situation of every decision; it never has the text itself.

    A rule that raises, or returns anything but True or False, counts as sensitive. So does a
    conversation with an answer whose record says that it was sensitive.

    What it cannot know: functions and nodes of your own, middleware inside of the router's, traces
    (LangSmith) and your own logs see what they are given. A named candidate is trusted.

    Args:
        rule: Regular expressions; or a function that is given the messages and returns whether they
            are sensitive; or a Runnable from messages to True or False, such as a local classifier.
            An expression finds what is written as such, also in full-width characters and across
            the blocks of one message, and neither encoded texts nor what is meant. Expressions have
            no time limit: do not nest repetitions, as `(a+)+` does, which a long prompt can make
            run for hours. They are saved with a router; a function and a Runnable cannot be.
        candidates: Names of the candidates, models or judges that may see sensitive requests.
        media: Whether images, sounds, videos and files that no expression can read count as
            sensitive. A function or a Runnable is given them and decides itself.
        local_parts: Whether the embeddings and vector stores of the router's estimator, verifier
            and shadow, and such parts of your own classes, run where sensitive texts may be seen.
            Those of this package do in any case.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> rule = Sensitive(r"\b\d{3}-\d{2}-\d{4}\b", candidates=["local"])
        >>> pattern_reason(rule, [AIMessage("Your number is 123-45-6789.")], {})
        "pattern '\\\\b\\\\d{3}-\\\\d{2}-\\\\d{4}\\\\b' matches message 1 (ai)"
    """

    rule: str | Sequence[str] | Runnable[Any, Any] | Callable[[list[BaseMessage]], bool]
    candidates: Sequence[str]
    media: bool = True
    local_parts: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str) or len(self.candidates) == 0:
            msg = f"`candidates` must name at least one candidate, got {self.candidates!r}."
            raise ValueError(msg)
        if self.patterns is None:
            if inspect.iscoroutinefunction(self.rule):
                msg = f"`rule` must not be async, got {self.rule!r}: wrap it in a `RunnableLambda`."
                raise TypeError(msg)
            return
        if len(self.patterns) == 0:
            msg = "`rule` is empty, so that nothing would be sensitive: give it an expression."
            raise ValueError(msg)
        empty = next((one.pattern for one in self._compiled if one.search("") is not None), None)
        if empty is not None:
            msg = f"The expression {empty!r} in `rule` matches every text: make it match some."
            raise ValueError(msg)

    @property
    def patterns(self) -> tuple[str, ...] | None:
        """The regular expressions; None if the rule is a function or a Runnable."""
        if isinstance(self.rule, str):
            return (self.rule,)
        if isinstance(self.rule, Runnable) or callable(self.rule):
            return None
        return tuple(self.rule)

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        try:
            return tuple(map(re.compile, self.patterns or ()))
        except re.error as error:
            msg = f"`rule` must be regular expressions: {error.pattern!r} is none: {error}."
            raise ValueError(msg) from error

    def search(self, texts: Sequence[str]) -> str | None:
        """Return the first expression that matches texts which are read one after another."""
        views = {"\n".join(texts), "".join(texts)}
        views |= {_fold(view) for view in views if not view.isascii()}
        found = (one.pattern for one in self._compiled if any(map(one.search, views)))
        return next(found, None)

    def data(self) -> dict[str, Any]:
        """Return the rule as plain data.

        Raises:
            TypeError: If it is a function or a Runnable.
        """
        if self.patterns is None:
            msg = (
                f"The rule {self.rule!r} of `sensitive` cannot be saved: save the router without "
                "it and pass `sensitive` when you load it, or give it regular expressions."
            )
            raise TypeError(msg)
        return {
            "rule": list(self.patterns),
            "candidates": list(self.candidates),
            "media": self.media,
            "local_parts": self.local_parts,
        }


def earlier_reason(messages: Sequence[BaseMessage]) -> str | None:
    """Return why a conversation is sensitive by the records of its answers; None if none says so.

    A record is a hint that a caller may have written, and this one can only narrow.
    """
    for i, message in enumerate(messages, 1):
        if (record_of(message) or {}).get("sensitive"):
            return f"the record of message {i} says that it was sensitive"
    return None


def pattern_reason(
    sensitive: Sensitive, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]
) -> str | None:
    """Return why expressions call a request sensitive, without its text; None if they do not."""
    for i, message in enumerate(messages, 1):
        content = _Content()
        content.add_message(message)
        if sensitive.media and content.unreadable is not None:
            return f"message {i} ({message.type}) has {content.unreadable} content"
        # Its blocks one after another, as a model reads them, and then everything in it.
        found = sensitive.search([str(message.text)]) or sensitive.search(content.texts)
        if found is not None:
            return f"pattern {found!r} matches message {i} ({message.type})"
    content = _Content()
    for value in kwargs.values():
        content.add(value)
    found = sensitive.search(content.texts)
    return None if found is None else f"pattern {found!r} matches the arguments of the call"


class _Content:
    """The texts in messages or arguments, and the kind of the first medium that is no text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.unreadable: str | None = None

    def add_message(self, message: BaseMessage) -> None:
        for name in ("content", "name", "tool_calls", "invalid_tool_calls", "additional_kwargs"):
            self.add(getattr(message, name, None))

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, Mapping):
            self._add_mapping(value)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                self.add(item)
        elif isinstance(value, BaseModel):
            self.add(value.model_dump(mode="python"))
        elif isinstance(value, bytes):
            self.texts.append(value.decode(errors="replace"))
        elif value is not None and not isinstance(value, bool):
            self.texts += _described(value)
            if isinstance(value, type):
                self.add(_schema_of(value))

    def _add_mapping(self, value: Mapping[Any, Any]) -> None:
        kind = medium_kind(value)
        if kind is None:
            for key, item in value.items():
                self.add(key)
                self.add(item)
            return
        source = source_of(value)
        if kind == "file" and is_plain(source):
            self.add(plain_content(source))
        else:
            self.unreadable = self.unreadable or kind
        # Its bytes are no text; names, addresses and captions are.
        for item in source.values():
            if not (isinstance(item, str | bytes) and _is_encoded(item)):
                self.add(item)


def _is_encoded(item: str | bytes) -> bool:
    """Return whether this is a medium in base64 or in bytes; short ones are read all the same."""
    if len(item) <= 1_000:
        return False
    if isinstance(item, bytes):
        return True
    body = item.partition(",")[2] if item[:5].lower() == "data:" else item
    return _BASE64.issuperset(body)


_BASE64 = frozenset(f"{ascii_letters}{digits}+/=_-\r\n")


def _described(value: Any) -> Iterator[str]:
    """Yield the texts in anything else: a number, or a function or class that is a tool."""
    if isinstance(value, type) or callable(value):
        yield from (str(getattr(value, name, None) or "") for name in ("__name__", "__doc__"))
    else:
        yield str(value)


def _schema_of(kind: type) -> Mapping[str, Any] | None:
    """Return what a provider is sent of a class that describes an object; None if it is none."""
    try:
        return convert_to_json_schema(kind)
    except (TypeError, ValueError, PydanticUserError):
        return None


def _fold(text: str) -> str:
    """Return a text in plain characters: full-width digits as digits, none that are invisible."""
    plain = unicodedata.normalize("NFKC", text)
    return "".join(char for char in plain if unicodedata.category(char) != "Cf")
