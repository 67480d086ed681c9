"""Replies read by a schema where LangChain does not read them."""

from __future__ import annotations

from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import PydanticOutputParser
from pydantic import BaseModel, ValidationError

from langchain_llm_router.types.answers import answer_text, finish_reason

__all__ = ["parse_refused", "parse_reply", "parse_visible"]


def parse_reply(schema: type[BaseModel], message: AIMessage) -> dict[str, Any]:
    """Parse one of several replies, in the form in which LangChain returns a single one."""
    ended = finish_reason(message)
    if ended in ("length", "content_filter"):
        # What is left of it may be read as another value, such as 1 of 10.
        stopped = OutputParserException(f"The reply is cut off ({ended}).")
        return {"raw": message, "parsed": None, "parsing_error": stopped}
    try:
        if message.tool_calls:
            parsed = schema.model_validate(message.tool_calls[0]["args"])
        else:
            parsed = PydanticOutputParser(pydantic_object=schema).parse(str(message.text))
    except (ValidationError, OutputParserException) as error:
        return {"raw": message, "parsed": None, "parsing_error": error}
    return {"raw": message, "parsed": parsed, "parsing_error": None}


def parse_visible(schema: type[BaseModel], message: AIMessage) -> BaseModel | None:
    """Parse structured output that follows reasoning in tags; None if there is none."""
    text, visible = str(message.text), answer_text(message)
    if visible == text:
        return None
    try:
        return schema.model_validate_json(visible.strip())
    except ValidationError:
        return None


def parse_refused(schema: type[BaseModel], error: ValidationError) -> BaseModel | None:
    """Parse the text that OpenAI's client refused, because reasoning in tags comes before it."""
    texts = [item["input"] for item in error.errors() if isinstance(item.get("input"), str)]
    return None if len(texts) == 0 else parse_visible(schema, AIMessage(texts[0]))
