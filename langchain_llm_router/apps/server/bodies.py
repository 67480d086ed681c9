"""Reading and writing JSON without stopping the event loop, and only what JSON can say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from json import decoder, scanner
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

__all__ = ["JsonRoute", "SafeResponse", "to_json"]

# The parser in C keeps all threads waiting until its end: some ten milliseconds for a megabyte.
_SHORT_BYTES = 200_000
_MAX_VALUES = 500_000

_Scan = Callable[[str, int], tuple[Any, int]]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = f"the number {text[:40]} is too large, or none of JSON's"
        raise ValueError(msg)
    return number


class _PatientDecoder(json.JSONDecoder):
    """A decoder in Python, which lets other threads run; texts in it are still read in C."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_finite, parse_float=_finite)
        self.n_left = _MAX_VALUES
        array: Any = decoder.JSONArray  # type: ignore[attr-defined]
        self.parse_array = lambda text, scan: array(text, self._counted(scan))
        an_object: Any = decoder.JSONObject  # type: ignore[attr-defined]
        self.parse_object = lambda text, strict, scan, *hooks: an_object(
            text, strict, self._counted(scan), *hooks
        )
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]

    def _counted(self, scan: _Scan) -> _Scan:
        def scan_next(text: str, at: int) -> tuple[Any, int]:
            self.n_left -= 1
            if self.n_left < 0:
                msg = f"it has more than {_MAX_VALUES} values"
                raise ValueError(msg)
            return scan(text, at)

        return scan_next


_QUICK = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)


def _parse(body: bytes) -> Any:
    parser = _QUICK if len(body) < _SHORT_BYTES else _PatientDecoder()
    try:
        return parser.decode(body.decode())
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)[:200]
    raise HTTPException(400, f"The body must be JSON in UTF-8: {problem}.")


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Parse the body, a long one in a thread."""
        body = await self.body()
        return _parse(body) if len(body) < _SHORT_BYTES else await run_in_threadpool(_parse, body)


class JsonRoute(APIRoute):
    """A route whose JSON bodies are parsed strictly, and off the event loop where they are long."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the usual handler, over a request that parses so."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


def to_json(data: Any) -> str:
    """Return data as JSON that every client can read, whatever a provider put into it.

    Half of a surrogate pair is escaped, as UTF-8 has no form for it; a number that JSON cannot
    write, such as the logarithm of 0, becomes null.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_infinities(data), ensure_ascii=False)
    return text if _is_utf8(text) else json.dumps(json.loads(text))


class SafeResponse(Response):
    """A JSON response of `to_json`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return to_json(content).encode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_infinities(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _without_infinities(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_infinities(value) for value in data]
    return data
