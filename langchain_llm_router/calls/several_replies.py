"""Several replies to one prompt, drawn in one request (`n`) where the provider does that.

The prompt is sent, read and billed once instead of once per reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.calls.langchain_internals import chat_call
from langchain_llm_router.types import Candidate
from langchain_llm_router.verification import Call

__all__ = ["Draw", "all_replies", "draws_several", "with_number"]

_OPENAI_HOSTS = ("api.openai.com", ".api.openai.com", ".openai.azure.com")
"""Other servers that speak OpenAI's language ignore `n` or refuse it, or draw as many: no address
tells which."""

_COUNTED = cast(
    "UsageMetadata",
    {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": 0},
)
"""A usage that is not billed, in the form in which LangChain's cache reports it."""


@dataclass(frozen=True)
class Draw:
    """One request for a reply to a call, or for as many as there are equal calls."""

    call: Call
    n: int = 1
    """The number of equal calls that it makes."""

    n_replies: int = 1
    """The number of replies that its provider is asked for."""


def draws_several(candidate: Candidate) -> bool:
    """Return whether a candidate's provider draws several replies to one prompt in one request.

    Raises:
        ValueError: If the candidate is declared to, and its chat model cannot ask for them.
    """
    model, declared = candidate.model, candidate.draws_several
    has_setting = "n" in getattr(type(model), "model_fields", ())
    if has_setting and not getattr(model, "streaming", False):
        return _is_openai(model) if declared is None else declared
    if declared:
        why = "streams every answer" if has_setting else "has no setting `n`"
        msg = (
            f"Candidate {candidate.name!r} cannot draw several replies in one request, because "
            f"{type(model).__name__} {why}: leave `draws_several` out, or pass another chat model."
        )
        raise ValueError(msg)
    return False


def _is_openai(model: Any) -> bool:
    """Whether a model asks OpenAI or Azure for chat completions, and may ask for several."""
    host = getattr(getattr(getattr(model, "root_client", None), "base_url", None), "host", "")
    if not f".{host}".endswith(_OPENAI_HOSTS) or getattr(model, "use_responses_api", None):
        return False
    # Models that think refuse `n` together with a temperature.
    return "temperature" not in rejected_settings(model)


def with_number(
    model: BaseChatModel, kwargs: Mapping[str, Any], n: int
) -> tuple[BaseChatModel, dict[str, Any]]:
    """Return a model and keyword arguments that ask for a number of replies."""
    if "n" in type(model).model_fields:
        return model.model_copy(update={"n": n}), dict(kwargs)
    return model, {**kwargs, "n": n}


def all_replies(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a runnable that gives all replies of a request, where this one gives the first.

    Of structured output of a form that is not LangChain's own, the first is all that is given.

    Args:
        runnable: A chat model, one with bound arguments, or one with structured output.
    """
    asked = chat_call(runnable)
    return runnable if asked is None else _AllReplies(*asked)


class _AllReplies(Runnable[Any, list[AIMessage]]):
    """Asks a chat model for several replies to one prompt; `invoke` of the model returns one.

    Args:
        model: The chat model, which asks for them.
        kwargs: Keyword arguments of its calls.
    """

    def __init__(self, model: BaseChatModel, kwargs: Mapping[str, Any]) -> None:
        self._model, self._kwargs = model, _read_apart(model, kwargs)

    def invoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[AIMessage]:
        """Return the replies, of which the first has the usage of all.

        Raises:
            OutputParserException: If there is none.
        """
        options = _run_options(config or {})
        return _some(self._model.generate([input], **options, **self._kwargs, **kwargs))

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[AIMessage]:
        """Return the replies, of which the first has the usage of all.

        Raises:
            OutputParserException: If there is none.
        """
        options = _run_options(config or {})
        return _some(await self._model.agenerate([input], **options, **self._kwargs, **kwargs))


def _read_apart(model: BaseChatModel, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call whose replies OpenAI's client does not parse.

    Where it does, one reply that is cut off or is not JSON makes it raise, and all are lost with
    their usage. It does with every `response_format`, but not with one in the request's body.
    """
    form = kwargs.get("response_format")
    if form is None or "root_client" not in type(model).model_fields:
        return dict(kwargs)
    if isinstance(form, type):
        from openai import pydantic_function_tool  # noqa: PLC0415 - slow to load

        schema = pydantic_function_tool(form)["function"]["parameters"]
        named = {"schema": schema, "name": form.__name__, "strict": True}
        form = {"type": "json_schema", "json_schema": named}
    others = {key: value for key, value in kwargs.items() if key != "response_format"}
    bodies = (getattr(model, "extra_body", None), kwargs.get("extra_body"))
    body = {key: value for given in bodies for key, value in (given or {}).items()}
    return {**others, "extra_body": {**body, "response_format": form}}


def _run_options(config: RunnableConfig) -> dict[str, Any]:
    """Return the keyword arguments of `generate` for the run of a config."""
    callbacks, first = config.get("callbacks"), _UsageOnce()
    if callbacks is None or isinstance(callbacks, list):
        callbacks = [first, *(callbacks or [])]
    else:
        manager = callbacks.copy()
        manager.handlers = [first, *callbacks.handlers]
        callbacks = manager
    named = {key: config.get(key) for key in ("tags", "metadata", "run_name")}
    return {"callbacks": callbacks, **named}


def _some(result: LLMResult) -> list[AIMessage]:
    replies = _replies(result)
    if len(replies) == 0:
        msg = "The provider sent no reply, although it was asked for several."
        raise OutputParserException(msg)
    return replies


def _replies(result: LLMResult) -> list[AIMessage]:
    generations = [it for it in result.generations[0] if isinstance(it, ChatGeneration)]
    return [it.message for it in generations if isinstance(it.message, AIMessage)]


class _UsageOnce(BaseCallbackHandler):
    """Leaves the usage of a request in its first reply alone, before any other handler reads it.

    LangChain repeats it in every reply, and tracers add these up. The first reply also gets what
    is said of the whole request, such as the model's name, without which LangChain's callback for
    usages leaves it out; a single reply has it.
    """

    run_inline = True

    @property
    def ignore_chat_model(self) -> bool:
        """Whether it skips the beginning of a call; it does."""
        return True

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Count the usage once."""
        replies = _replies(response)
        if len(replies) > 1:
            first = replies[0]
            first.response_metadata = {**(response.llm_output or {}), **first.response_metadata}
            for message in replies[1:]:
                message.usage_metadata = _COUNTED
