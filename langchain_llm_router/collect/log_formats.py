"""The formats of request logs: one line becomes the messages, the model and its answer.

A line is recognized by its fields: runs of LangSmith, requests and responses of OpenAI's interface
(pairs, files of the batch API, stored completions), payloads of LiteLLM, and the decision log of
this package, which keeps no answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["LoggedCall", "UnknownFormatError", "UnusableError", "read_call"]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "human",
    "human": "human",
    "assistant": "ai",
    "ai": "ai",
    "aimessagechunk": "ai",
}
_ANSWERS = ("completion", "response", "choices", "output")


@dataclass(frozen=True)
class LoggedCall:
    """One request of a log, with the answer if it was kept; what is unknown is None."""

    messages: tuple[tuple[str, str], ...]
    """Roles (`system`, `human`, `ai`) and texts."""

    model: str | None = None
    answer: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None


class UnusableError(Exception):
    """Raised for a request that cannot become a question; the text says which kind it is."""


class UnknownFormatError(ValueError):
    """Raised for a line that is in none of the known formats."""


def read_call(row: Mapping[str, Any], requests: Mapping[str, Any]) -> LoggedCall | None:
    """Read one line of a log.

    Args:
        row: The line.
        requests: Bodies of the requests of OpenAI's batch files by `custom_id`, because the files
            of results have no messages.

    Returns:
        The request; None if the line is a part of another one, e.g. feedback.

    Raises:
        UnusableError: If the request failed or is more than text.
        UnknownFormatError: If the line has none of the known formats.
    """
    if row.get("kind") in ("decision", "feedback"):
        return _decision(row) if row["kind"] == "decision" else None
    if "run_type" in row or ("inputs" in row and "outputs" in row):
        return _langsmith(row)
    if isinstance(row.get("standard_logging_object"), Mapping):
        row = row["standard_logging_object"]
    if "messages" in row and ("response_cost" in row or "call_type" in row):
        return _litellm(row)
    if "custom_id" in row:
        return _batch(row, requests)
    if isinstance(row.get("request"), Mapping) and "response" in row:
        return _openai(_body(row["request"]), row["response"], row)
    if "messages" in row:
        answer = next((row[name] for name in _ANSWERS if row.get(name) is not None), None)
        if "choices" in row:
            answer = row
        return _openai(row, answer, row)
    msg = (
        f"the fields {sorted(row)[:12]} are those of no known log: a LangSmith run (`inputs`, "
        "`outputs`), OpenAI's `request` and `response` or `messages` and `completion`, its batch "
        "files (`custom_id`), a LiteLLM payload (`messages`, `response`, `response_cost`), or a "
        "decision log (`kind`)"
    )
    raise UnknownFormatError(msg)


# The formats


def _decision(row: Mapping[str, Any]) -> LoggedCall:
    query = row.get("query")
    if not isinstance(query, str) or not query.strip() or row.get("query_redacted"):
        raise UnusableError("without the text of the query")
    if row.get("sensitive"):
        raise UnusableError("that not every candidate may see, because they are sensitive")
    return LoggedCall((("human", query),))


def _langsmith(row: Mapping[str, Any]) -> LoggedCall:
    if row.get("run_type", "llm") not in ("llm", "chat_model"):
        raise UnusableError("of another kind than a model's call")
    if row.get("error"):
        raise UnusableError("that failed")
    inputs, outputs, extra = (_mapping(row.get(name)) for name in ("inputs", "outputs", "extra"))
    metadata, parameters = (_mapping(extra.get(name)) for name in ("metadata", "invocation_params"))
    if parameters.get("tools") or inputs.get("tools"):
        raise UnusableError("with tools")
    names = (
        parameters.get("model"),
        parameters.get("model_name"),
        metadata.get("ls_model_name"),
        inputs.get("model"),
    )
    messages = inputs.get("messages", inputs.get("input", inputs.get("prompts")))
    answer, usage = _langsmith_answer(outputs)
    started, ended, first = (
        _time(row.get(name)) for name in ("start_time", "end_time", "first_token_time")
    )
    return LoggedCall(
        _messages(messages),
        _first_text(names),
        answer,
        _count(row.get("prompt_tokens"), *_inputs(usage)),
        _count(row.get("completion_tokens"), *_outputs(usage)),
        _money(row.get("total_cost")),
        _seconds(started, ended),
        _seconds(started, first),
    )


def _langsmith_answer(outputs: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return the text of a run's answer, and its usage."""
    generations = outputs.get("generations")
    while isinstance(generations, list) and generations:
        generations = generations[0]
    if isinstance(generations, Mapping):
        message = _fields(generations.get("message") or {"content": generations.get("text")})
        counted = _mapping(outputs.get("llm_output")).get("token_usage")
        return _answer_text(message), _mapping(message.get("usage_metadata") or counted)
    if "choices" in outputs:
        return _completion(outputs)
    said = outputs.get("messages", outputs.get("message", outputs.get("output", outputs)))
    if isinstance(said, list) and said:
        said = said[-1]
    if isinstance(said, str):
        said = {"content": said}
    message = _fields(_mapping(said))
    return _answer_text(message), _mapping(
        message.get("usage_metadata") or outputs.get("usage_metadata")
    )


def _litellm(row: Mapping[str, Any]) -> LoggedCall:
    if row.get("status") == "failure":
        raise UnusableError("that failed")
    call = _openai({**_mapping(row.get("model_parameters")), **row}, row.get("response"), row)
    started, ended, first = (
        _time(row.get(name)) for name in ("startTime", "endTime", "completionStartTime")
    )
    return LoggedCall(
        call.messages,
        call.model,
        call.answer,
        _count(row.get("prompt_tokens"), call.input_tokens),
        _count(row.get("completion_tokens"), call.output_tokens),
        # LiteLLM has 0 for a model whose price it does not know, and for an answer from its cache.
        _money(row.get("response_cost")) or None,
        _seconds(started, ended),
        _seconds(started, first),
    )


def _batch(row: Mapping[str, Any], requests: Mapping[str, Any]) -> LoggedCall | None:
    if "response" not in row:
        return None
    body = requests.get(str(row["custom_id"]))
    if body is None:
        raise UnusableError("whose `custom_id` is in no file of requests (pass that file too)")
    return _openai(body, row["response"], row)


def _openai(request: Mapping[str, Any], response: Any, row: Mapping[str, Any]) -> LoggedCall:
    if request.get("tools") or request.get("functions"):
        raise UnusableError("with tools")
    if row.get("error") or (isinstance(response, Mapping) and response.get("error")):
        raise UnusableError("that failed")
    said = request["messages"] if "messages" in request else request.get("input")
    messages = _messages(said)
    if isinstance(request.get("instructions"), str):
        messages = (("system", request["instructions"]), *messages)
    body = _parsed(response)
    if body is None and messages and messages[-1][0] == "ai":
        # The format of fine-tuning: the answer is the last message.
        return LoggedCall(messages[:-1], _first_text([row.get("model")]), messages[-1][1])
    answer: str | None
    usage: Mapping[str, Any]
    if isinstance(body, str):
        answer, usage = body or None, {}
    else:
        body = _body(_mapping(body))
        answer, usage = _completion(body)
    names = (request.get("model"), _mapping(body).get("model"), row.get("model"))
    return LoggedCall(
        messages,
        _first_text(names),
        answer,
        _count(*_inputs(usage)),
        _count(*_outputs(usage)),
        _money(row.get("cost_usd")),
        _money(row.get("latency_s")),
    )


def _completion(body: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return the text of a response of OpenAI's interfaces, and its usage."""
    usage = _mapping(body.get("usage"))
    choices = body.get("choices")
    if isinstance(choices, list) and choices:
        choice = _mapping(choices[0])
        message = _mapping(choice.get("message")) or {"content": choice.get("text")}
        return _answer_text(message), usage
    if isinstance(body.get("output"), list):
        parts = [_mapping(part) for part in body["output"]]
        if any(str(part.get("type", "")).endswith("_call") for part in parts):
            raise UnusableError("whose answer is a tool call")
        said = [part for part in parts if part.get("type") == "message"]
        return _answer_text(said[-1] if said else {}), usage
    return (_answer_text(body) if "content" in body else None), usage


# Messages


def _messages(value: Any) -> tuple[tuple[str, str], ...]:
    """Read the messages of a request, in any of the ways in which they are written."""
    if isinstance(value, str):
        return (("human", value),)
    # LangChain writes a batch, whose only element is the conversation.
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        if len(value[0]) == 2 and isinstance(value[0][0], str):
            break  # One message, as its role and its text.
        value = value[0]
    if not isinstance(value, list) or len(value) == 0:
        raise UnusableError("without messages")
    return tuple(_message(item) for item in value)


def _message(item: Any) -> tuple[str, str]:
    if isinstance(item, str):
        return "human", item
    if isinstance(item, list) and len(item) == 2:
        item = {"role": item[0], "content": item[1]}
    fields = _fields(_mapping(item))
    role = _ROLES.get(str(fields.get("role") or fields.get("type")).lower())
    if role is None or fields.get("tool_calls"):
        raise UnusableError("with tool calls or other roles in the messages")
    return role, _text(fields.get("content"))


def _fields(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message's fields from LangChain's serialization, or the message itself."""
    kwargs = message.get("kwargs", message.get("data"))
    if not isinstance(kwargs, Mapping):
        return message
    names = message.get("id")
    kind = (
        str(names[-1]).removesuffix("Chunk").removesuffix("Message").lower()
        if isinstance(names, list) and names
        else message.get("type")
    )
    return {"type": kind, **kwargs}


def _answer_text(message: Mapping[str, Any]) -> str | None:
    extra = _mapping(message.get("additional_kwargs"))
    if any(message.get(name) or extra.get(name) for name in ("tool_calls", "function_call")):
        raise UnusableError("whose answer is a tool call")
    text = _text(message.get("content"))
    return text if text.strip() else None


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnusableError("with content that is no text")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif _mapping(part).get("type") not in ("reasoning", "thinking"):
            raise UnusableError("with images, files or other content that is no text")
    return "".join(texts)


# Values


def _parsed(value: Any) -> Any:
    """Return JSON that was logged as a text as data, any other text as it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            data = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return data if isinstance(data, dict) and ("choices" in data or "output" in data) else value
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _body(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body of an HTTP message, or the message if it is a body."""
    return _mapping(message.get("body")) or message


def _first_text(values: Sequence[Any]) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)


def _inputs(usage: Mapping[str, Any]) -> tuple[Any, Any]:
    return usage.get("prompt_tokens"), usage.get("input_tokens")


def _outputs(usage: Mapping[str, Any]) -> tuple[Any, Any]:
    return usage.get("completion_tokens"), usage.get("output_tokens")


def _count(*values: Any) -> int | None:
    """Return the first number of tokens that is known; a prompt or an answer has at least one."""
    known = (value for value in values if isinstance(value, int) and value > 0)
    return next(known, None)


def _money(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _time(value: Any) -> float | None:
    """Return a Unix time, from a number or a text in ISO format."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        return None


def _seconds(start: float | None, end: float | None) -> float | None:
    if start is None or end is None or not 0 <= end - start < math.inf:
        return None
    return end - start
