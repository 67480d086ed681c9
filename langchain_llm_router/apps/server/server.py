"""The HTTP server: OpenAI's chat completions from any router, with health, metrics and a page."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields, replace
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable, RunnableConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException

from langchain_llm_router.apps.server.bodies import JsonRoute, SafeResponse, to_json
from langchain_llm_router.apps.server.counters import Counters
from langchain_llm_router.apps.server.failures import (
    describe,
    failure_response,
    failure_status,
)
from langchain_llm_router.apps.server.gate import Gate
from langchain_llm_router.apps.server.openai_format import (
    ChatRequest,
    completion,
    completion_chunks,
    error_body,
    last_chunks,
    new_id,
)
from langchain_llm_router.apps.server.page import add_page
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.router.request_log import WATCH_KEY, Watch
from langchain_llm_router.types.options import NO_OPTIONS, RoutingOptions

__all__ = ["create_app"]

_ROUTER_MODEL = "router"
_SHORT_BYTES = 10_000
"""Of a body with so few messages that converting them takes no time."""

_LOG = logging.getLogger(__name__)
_SERVER_LOG = logging.getLogger("uvicorn.error")
"""Where uvicorn writes that it starts and ends, to be read in a terminal."""


def create_app(
    router: ChatLLMRouter,
    *,
    api_keys: Sequence[str] | None = None,
    baseline: str | None = None,
    allowed_hosts: Sequence[str] = (),
    max_body_bytes: int = 20_000_000,
    examples: Sequence[str] = (),
    verdict: str | None = None,
) -> FastAPI:
    """Make the web application that serves a router.

    A request's `model` is `router`, the name of a candidate, which is then asked, or a line of
    options such as `router@c:40|models:small,large`; the header `x-llm-router-options` takes
    further options as JSON, which replace those of the line. The decision is in the header
    `x-llm-router-candidate` of the response and in its field `llm_router`.

    Args:
        router: The router or cascade to serve.
        api_keys: The accepted API keys, for every path but `/`, `/health` and `/ready`; if None, no
            key is needed.
        baseline: Name of the candidate that savings are computed against; if None, the last one.
        allowed_hosts: Host names that are served beside the loopback ones (`localhost`,
            `127.0.0.1`, `::1`), as clients write them; `"*"` allows all.
        max_body_bytes: Largest body of a request, in bytes; a larger one is refused with 413.
        examples: Questions that the page offers to ask; if empty, general ones.
        verdict: One sentence on what the router saves, which the page shows under its title.

    Raises:
        ValueError: If the baseline is not one of the candidates, a key is blank, or other hosts
            are served under an empty list of keys.
    """
    if api_keys is not None and not api_keys and allowed_hosts:
        msg = (
            f"`api_keys` is empty while {list(allowed_hosts)} are served: give at least one key, "
            "or `api_keys=None` if callers need none."
        )
        raise ValueError(msg)
    counters = Counters()
    app = FastAPI(
        title="langchain-llm-router",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_end_on_shutdown(router, counters),
    )
    # Only routes that are added from here on.
    app.router.route_class = JsonRoute
    gate = {"api_keys": tuple(api_keys or ()), "allowed_hosts": tuple(allowed_hosts)}
    Gate(app, **gate, max_body_bytes=max_body_bytes)  # checked now, not with the first request
    app.add_middleware(Gate, **gate, max_body_bytes=max_body_bytes)
    endpoint = _ChatEndpoint(router, counters)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(
        body: ChatRequest,
        request: Request,
        x_llm_router_options: Annotated[str | None, Header()] = None,
    ) -> Response:
        try:
            return await endpoint.answer(body, x_llm_router_options, request)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - every request gets a response
            _LOG.warning("no answer: %s", type(error).__name__)
            return failure_response(error, router.parts.secrets)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        return {"status": "ready", "candidates": [c.name for c in router.parts.candidates]}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(counters.registry), media_type=CONTENT_TYPE_LATEST)

    _add_models(app, endpoint.names)
    add_page(app, router, counters, baseline=baseline, examples=examples, verdict=verdict)
    _add_error_handlers(app)
    return app


def _add_models(app: FastAPI, names: Sequence[str]) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in names]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in names:
            raise HTTPException(404, f"Unknown model {name!r}: must be one of {list(names)}.")
        return _model(name)


def _end_on_shutdown(router: ChatLLMRouter, counters: Counters) -> Callable[[FastAPI], Any]:
    """Make a lifespan that says on shutdown what was spent, and flushes the log.

    The process may be ended right after it.
    """
    log = router.log
    uncounted = (
        " What judging a share of them cost is not counted." if router.judge_share > 0 else ""
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        _SERVER_LOG.info("%s%s", counters.sentence, uncounted)
        if log is None:
            return
        try:
            await run_in_threadpool(log.flush)
        except OSError as error:
            _LOG.warning("%d lines were not written to the log: %s", log.n_waiting, error)

    return lifespan


class _ChatEndpoint:
    """The endpoint for chat completions."""

    def __init__(self, router: ChatLLMRouter, counters: Counters) -> None:
        self._router, self._counters = router, counters
        self._watch = Watch(router.parts.fields, counters.count_attempts)
        self.names = list(
            dict.fromkeys([_ROUTER_MODEL, *router.parts.efforts, *router.parts.names])
        )

    async def answer(self, body: ChatRequest, header: str | None, request: Request) -> Response:
        """Answer a request, as one body or as a stream; a client that leaves ends its calls."""
        options = self._options(body.model, header)
        messages = await self._messages(body, request)
        config = RunnableConfig(configurable={"llm_router": options, WATCH_KEY: self._watch})
        if body.user is not None:
            config["configurable"]["user_id"] = body.user
        if body.metadata is not None:
            config["metadata"] = dict(body.metadata)
        model: Runnable[Any, Any] = self._router
        if body.tools:
            model = self._router.bind_tools(body.tools, **body.tool_kwargs())
        kwargs = {**body.call_kwargs(), **self._metadata_kwargs(body)}
        if body.stream:
            chunks = model.astream(messages, config, **kwargs)
            # The first chunk is awaited here, so that an error before it still sets the status.
            first = await _while_connected(request, anext(chunks, None))
            stream = self._events(body, first, chunks)
            return StreamingResponse(stream, media_type="text/event-stream")
        message = await _while_connected(request, model.ainvoke(messages, config, **kwargs))
        record = route_of(message)
        self._counters.count(record)
        candidate = body.model if record is None else record["candidate"]
        return SafeResponse(
            completion(message, model=candidate, record=record), headers=_headers(record)
        )

    async def _messages(self, body: ChatRequest, request: Request) -> list[BaseMessage]:
        """Convert a conversation; a long one in a thread, so that others are served meanwhile."""
        if len(await request.body()) <= _SHORT_BYTES:
            # A thread would wait longer for the interpreter than this takes.
            return body.to_messages()
        return await run_in_threadpool(body.to_messages)

    async def _events(
        self, body: ChatRequest, first: Any, rest: AsyncIterator[Any]
    ) -> AsyncIterator[str]:
        id = new_id()
        chunks: list[AIMessageChunk] = []
        try:
            async with aclosing(rest):  # type: ignore[type-var]
                chunk = first
                while isinstance(chunk, AIMessageChunk):
                    for data in completion_chunks(chunk, id=id, model=body.model, first=not chunks):
                        yield _event(data)
                    chunks.append(chunk)
                    chunk = await anext(rest, None)
        except Exception as error:  # noqa: BLE001 - the status has been sent: report it as an event
            _, kind = failure_status(error)
            yield _event(error_body(describe(error, self._router.parts.secrets), kind))
            return
        whole = AIMessageChunk(content="")
        if chunks:
            whole = add_ai_message_chunks(chunks[0], *chunks[1:])
        record = route_of(whole)
        self._counters.count(record)
        candidate = body.model if record is None else record["candidate"]
        for data in last_chunks(
            id=id, model=candidate, whole=whole, record=record, usage=body.wants_usage
        ):
            yield _event(data)
        yield "data: [DONE]\n\n"

    def _metadata_kwargs(self, body: ChatRequest) -> dict[str, Any]:
        """Return the candidates' keyword for `metadata`, which LangChain keeps for its traces."""
        models = self._router.parts.models.values()
        if body.metadata is None or not all("extra_body" in type(m).model_fields for m in models):
            return {}
        if any(getattr(model, "extra_body", None) for model in models):
            # A body of the call would take the place of the model's own.
            return {}
        return {"extra_body": {"metadata": body.metadata}}

    def _options(self, model: str, header: str | None) -> RoutingOptions:
        """Return the options of `model`, with those of the header in their place where it has any.

        Raises:
            HTTPException: If no model has this name.
            ValueError: If an option is unknown or invalid.
        """
        options = self._named(model)
        if header is None:
            return options
        try:
            sent = RoutingOptions.parse(json.loads(header))
        except (json.JSONDecodeError, RecursionError) as error:
            msg = f"`x-llm-router-options` must be JSON, got {header[:200]!r}."
            raise ValueError(msg) from error
        changed = {f.name: getattr(sent, f.name) for f in fields(sent)}
        kept = {name: v for name, v in changed.items() if v != getattr(NO_OPTIONS, name)}
        return replace(options, **kept)

    def _named(self, model: str) -> RoutingOptions:
        if model == _ROUTER_MODEL:
            return NO_OPTIONS
        # Names of models may have an `@` of their own, so they come before lines of options.
        if model in self.names:
            return RoutingOptions(force=model)
        endpoints = [c.name for c in self._router.parts.candidates if c.model_name == model]
        if endpoints:
            return RoutingOptions(candidates=tuple(endpoints))
        if model.partition("@")[0].strip() == _ROUTER_MODEL:
            return RoutingOptions.parse(model)
        raise HTTPException(404, f"Unknown model {model!r}: must be one of {self.names}.")


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """Await something, and cancel it when the client leaves, which ends the upstream calls.

    Raises:
        HTTPException: If the client has left; the response is not read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(499, "The client closed the connection.")
    finally:
        for task in (working, leaving):
            task.cancel()
        # The calls have ended, and their money is booked, before the request is over.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _headers(record: Mapping[str, Any] | None) -> dict[str, str]:
    if record is None:
        return {}
    return {
        "x-llm-router-candidate": str(record["candidate"]).encode("ascii", "replace").decode(),
        "x-llm-router-decision-id": record["decision_id"],
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "langchain-llm-router"}


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {to_json(data)}\n\n"


def _add_error_handlers(app: FastAPI) -> None:
    """Return errors that occur before a candidate is asked in OpenAI's form."""

    # FastAPI's own is a subclass of it; an unknown path or method raises Starlette's.
    @app.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: StarletteHTTPException) -> SafeResponse:
        return SafeResponse(error_body(str(error.detail)), error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> SafeResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return SafeResponse(error_body(f"{where}: {first['msg']}"), 400)
