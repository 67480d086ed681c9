"""The HTTP server: OpenAI's chat completions from any router, with health, metrics and a page."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable, RunnableConfig
from openai import APIStatusError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from langchain_llm_router.apps.server.counters import Counters
from langchain_llm_router.apps.server.openai_format import (
    ChatRequest,
    completion,
    completion_chunks,
    error_body,
    last_chunks,
    new_id,
)
from langchain_llm_router.apps.server.page import add_page
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.types.errors import LlmRouterError, NoCandidateError
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["create_app"]

_ROUTER_MODEL = "router"
_LOG = logging.getLogger(__name__)


def create_app(
    router: ChatLLMRouter, *, api_keys: Sequence[str] = (), baseline: str | None = None
) -> FastAPI:
    """Make the web application that serves a router.

    A request's `model` is `router`, the name of a candidate, which is then asked, or a line of
    options such as `router@c:40|models:small,large`; the header `x-llm-router-options` takes
    options as JSON. The decision is in the header `x-llm-router-candidate` of the response and in
    its field `llm_router`.

    Args:
        router: The router or cascade to serve.
        api_keys: The accepted API keys; if empty, no key is needed.
        baseline: Name of the candidate that savings are computed against; if None, the last one.

    Raises:
        ValueError: If the baseline is not one of the candidates.
    """
    app = FastAPI(
        title="langchain-llm-router",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_flush_on_shutdown(router.log),
    )
    counters = Counters()
    guard = [Depends(_KeyCheck(api_keys).check)]
    endpoint = _ChatEndpoint(router, counters)

    @app.post("/v1/chat/completions", dependencies=guard, response_model=None)
    async def chat_completions(
        body: ChatRequest,
        x_llm_router_options: Annotated[str | None, Header()] = None,
    ) -> Response:
        try:
            return await endpoint.answer(body, x_llm_router_options)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - every request gets a response
            return _failure(error)

    @app.get("/v1/models", dependencies=guard)
    async def models() -> dict[str, Any]:
        names = [_ROUTER_MODEL, *(candidate.name for candidate in router.parts.candidates)]
        owned = {"object": "model", "created": 0, "owned_by": "langchain-llm-router"}
        return {"object": "list", "data": [{"id": name, **owned} for name in names]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        return {"status": "ready", "candidates": [c.name for c in router.parts.candidates]}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(counters.registry), media_type=CONTENT_TYPE_LATEST)

    add_page(app, router, counters, guard=guard, baseline=baseline)
    _add_error_handlers(app)
    return app


def _flush_on_shutdown(log: DecisionLog | None) -> Callable[[FastAPI], Any]:
    """Make a lifespan that flushes the log on shutdown, after which the process may be ended."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if log is None:
            return
        try:
            await run_in_threadpool(log.flush)
        except OSError as error:
            _LOG.warning("%d lines were not written to the log: %s", log.n_waiting, error)

    return lifespan


class _KeyCheck:
    """A dependency that refuses requests without an accepted key; it compares in constant time."""

    def __init__(self, api_keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in api_keys]

    async def check(self, authorization: Annotated[str | None, Header()] = None) -> None:
        """Refuse a caller without one: a method, as FastAPI 0.115 reads no header for an object."""
        if not self._keys:
            return
        sent = (authorization or "").removeprefix("Bearer ").encode()
        if not any([secrets.compare_digest(sent, key) for key in self._keys]):
            raise HTTPException(401, "Incorrect API key: send `Authorization: Bearer <key>`.")


class _ChatEndpoint:
    """The endpoint for chat completions."""

    def __init__(self, router: ChatLLMRouter, counters: Counters) -> None:
        self._router, self._counters = router, counters
        self._names = [candidate.name for candidate in router.parts.candidates]

    async def answer(self, body: ChatRequest, header: str | None) -> Response:
        """Answer a request, as one body or as a stream."""
        messages = body.to_messages()
        config = RunnableConfig(configurable={"llm_router": self._options(body.model, header)})
        model: Runnable[Any, Any] = self._router
        if body.tools:
            model = self._router.bind_tools(body.tools, **body.tool_kwargs())
        if body.stream:
            chunks = model.astream(messages, config, **body.call_kwargs())
            # The first chunk is awaited here, so that an error before it still sets the status.
            first = await anext(chunks, None)
            stream = self._events(body, first, chunks)
            return StreamingResponse(stream, media_type="text/event-stream")
        message = await model.ainvoke(messages, config, **body.call_kwargs())
        record = route_of(message)
        self._counters.count(record)
        candidate = body.model if record is None else record["candidate"]
        return JSONResponse(
            completion(message, model=candidate, record=record), headers=_headers(record)
        )

    async def _events(
        self, body: ChatRequest, first: Any, rest: AsyncIterator[Any]
    ) -> AsyncIterator[str]:
        id = new_id()
        chunks: list[AIMessageChunk] = []
        try:
            chunk = first
            while isinstance(chunk, AIMessageChunk):
                for data in completion_chunks(chunk, id=id, model=body.model, first=not chunks):
                    yield _event(data)
                chunks.append(chunk)
                chunk = await anext(rest, None)
        except Exception as error:  # noqa: BLE001 - the status has been sent: report it as an event
            yield _event(error_body(str(error), "upstream_error"))
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

    def _options(self, model: str, header: str | None) -> RoutingOptions:
        options: Any = None
        if "@" in model:
            options = model
        elif model in self._names:
            options = {"force": model}
        elif model != _ROUTER_MODEL:
            raise HTTPException(
                404,
                f"Unknown model {model!r}: must be one of {[_ROUTER_MODEL, *self._names]}.",
            )
        if header is not None:
            try:
                options = json.loads(header)
            except json.JSONDecodeError as error:
                msg = f"`x-llm-router-options` must be JSON, got {header!r}: {error.msg}."
                raise ValueError(msg) from error
        return RoutingOptions.parse(options)


def _headers(record: Mapping[str, Any] | None) -> dict[str, str]:
    if record is None:
        return {}
    return {
        "x-llm-router-candidate": str(record["candidate"]).encode("ascii", "replace").decode(),
        "x-llm-router-decision-id": record["decision_id"],
    }


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _add_error_handlers(app: FastAPI) -> None:
    """Return errors that occur before a candidate is asked in OpenAI's form."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse(error_body(f"{where}: {first['msg']}"), 400)


def _failure(error: Exception) -> JSONResponse:
    """Return an error's response; the status of a caller's mistake is 4xx, of a candidate's 5xx."""
    if isinstance(error, APIStatusError):
        return JSONResponse(error_body(error.message, "upstream_error"), error.status_code)
    if isinstance(error, NoCandidateError | ValueError | TypeError):
        return JSONResponse(error_body(str(error)), 400)
    text = str(error) if isinstance(error, LlmRouterError) else f"{type(error).__name__}: {error}"
    _LOG.warning("no candidate answered: %s", type(error).__name__)
    return JSONResponse(error_body(text, "upstream_error"), 502)
