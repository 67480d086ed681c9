"""The HTTP server: OpenAI's chat completions over any router, with health, metrics and a page."""

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

_NAME = "router"
_LOG = logging.getLogger(__name__)


def create_app(
    router: ChatLLMRouter, *, api_keys: Sequence[str] = (), baseline: str | None = None
) -> FastAPI:
    """Serve a router.

    The model's name routes: `router`, a candidate's name (asks that one), or a line of options
    such as `router@c:40|models:small,large`; the header `x-llm-router-options` takes the same as
    JSON. The decision comes back in `x-llm-router-candidate` and in the field `llm_router`.

    Args:
        router: The router or cascade to serve.
        api_keys: Callers need one of these; none: no key is needed.
        baseline: The candidate that savings are counted against; None: the last one.
    """
    app = FastAPI(
        title="langchain-llm-router",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_closing_the_books(router.log),
    )
    counters = Counters()
    guard = [Depends(_Keys(api_keys))]
    served = _Served(router, counters)

    @app.post("/v1/chat/completions", dependencies=guard, response_model=None)
    async def chat_completions(
        body: ChatRequest,
        x_llm_router_options: Annotated[str | None, Header()] = None,
    ) -> Response:
        try:
            return await served.answer(body, x_llm_router_options)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - every request gets a response
            return _failure(error)

    @app.get("/v1/models", dependencies=guard)
    async def models() -> dict[str, Any]:
        names = [_NAME, *(candidate.name for candidate in router.parts.candidates)]
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


def _closing_the_books(log: DecisionLog | None) -> Callable[[FastAPI], Any]:
    """Waits for the log when the server stops: the signal may end the process right afterwards."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if log is None:
            return
        try:
            await run_in_threadpool(log.flush)
        except OSError as error:
            _LOG.warning("%d decisions are not in the log: %s", log.n_waiting, error)

    return lifespan


class _Keys:
    """Lets in callers with a known key, comparing in constant time."""

    def __init__(self, api_keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, authorization: Annotated[str | None, Header()] = None) -> None:
        if not self._keys:
            return
        given = (authorization or "").removeprefix("Bearer ").encode()
        if not any([secrets.compare_digest(given, key) for key in self._keys]):
            raise HTTPException(401, "Incorrect API key: send `Authorization: Bearer <key>`.")


class _Served:
    """A router that answers requests."""

    def __init__(self, router: ChatLLMRouter, counters: Counters) -> None:
        self._router, self._counters = router, counters
        self._names = [candidate.name for candidate in router.parts.candidates]

    async def answer(self, body: ChatRequest, header: str | None) -> Response:
        """Answer as a whole or as a stream, as the request wants it."""
        messages = body.to_messages()
        config = RunnableConfig(configurable={"llm_router": self._options(body.model, header)})
        model: Runnable[Any, Any] = self._router
        if body.tools:
            model = self._router.bind_tools(body.tools, **body.tool_kwargs())
        if body.stream:
            chunks = model.astream(messages, config, **body.call_kwargs())
            # The first chunk is awaited here, so that a refusal is still a status code.
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
        seen: list[AIMessageChunk] = []
        try:
            chunk = first
            while isinstance(chunk, AIMessageChunk):
                for data in completion_chunks(chunk, id=id, model=body.model, first=not seen):
                    yield _event(data)
                seen.append(chunk)
                chunk = await anext(rest, None)
        except Exception as error:  # noqa: BLE001 - the status is sent: the stream must report it
            yield _event(error_body(str(error), "upstream_error"))
            return
        whole = add_ai_message_chunks(seen[0], *seen[1:]) if seen else AIMessageChunk(content="")
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
        elif model != _NAME:
            raise HTTPException(
                404, f"Unknown model {model!r}: allowed are {[_NAME, *self._names]}."
            )
        if header is not None:
            try:
                options = json.loads(header)
            except json.JSONDecodeError as error:
                msg = f"`x-llm-router-options` is not JSON: {error.msg}."
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
    """Refusals before a candidate is asked, in OpenAI's form."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse(error_body(f"{where}: {first['msg']}"), 400)


def _failure(error: Exception) -> JSONResponse:
    """The status of what went wrong: the caller's mistakes are 4xx, the candidates' own 5xx."""
    if isinstance(error, APIStatusError):
        return JSONResponse(error_body(error.message, "upstream_error"), error.status_code)
    if isinstance(error, NoCandidateError | ValueError | TypeError):
        return JSONResponse(error_body(str(error)), 400)
    text = str(error) if isinstance(error, LlmRouterError) else f"{type(error).__name__}: {error}"
    _LOG.warning("no candidate answered: %s", type(error).__name__)
    return JSONResponse(error_body(text, "upstream_error"), 502)
