"""The query of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, HumanMessage

__all__ = ["question_of"]


def question_of(messages: Sequence[BaseMessage]) -> str:
    """Return the text of the last human message, or of all messages if there is none."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return str(message.text)
    return "\n".join(str(message.text) for message in messages)
