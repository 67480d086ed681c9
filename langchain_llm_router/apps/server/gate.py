"""What is asked of every HTTP request before its body is parsed: host, key, and sizes.

It is a plain ASGI layer, so that a request that is refused costs no parsing and starts no call.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from langchain_llm_router.apps.server.openai_format import error_body

__all__ = ["Gate"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

# The second is the name under which Starlette's test client asks.
_LOCAL_NAMES = ("localhost", "testserver")
# The page has no data of its own, and checks of health have no key.
_OPEN_PATHS = ("/", "/health", "/ready")
_MAX_HEADER_BYTES, _MAX_HEADERS_BYTES = 16_384, 32_768


# A name or an IPv4 address, or an IPv6 address in brackets, then a port.
_HOST = re.compile(r"(?:\[(?P<ip>[0-9a-f:.]++)\]|(?P<name>[^\s:\[\]/@,]++))(?::\d{0,5})?+")


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """Refuses requests to a foreign host, without an accepted key, or larger than allowed.

    A page of a foreign site can make its own name point to this machine (DNS rebinding), and
    would then be let in by a browser; its `Host` gives it away.

    Args:
        app: The application behind the gate.
        api_keys: Accepted keys; if empty, no key is needed.
        allowed_hosts: Host names to serve beside the loopback ones; `"*"` allows all.
        max_body_bytes: Largest body in bytes.

    Raises:
        ValueError: If a key is blank, or a host is not a name.
    """

    def __init__(
        self,
        app: _App,
        *,
        api_keys: Sequence[str],
        allowed_hosts: Sequence[str],
        max_body_bytes: int,
    ) -> None:
        if any(not key.strip() for key in api_keys):
            msg = (
                "`api_keys` has a blank key, which would let everyone in: remove it, or leave "
                "`api_keys` out if no key is needed."
            )
            raise ValueError(msg)
        self._app, self._max_body_bytes = app, max_body_bytes
        self._keys = [key.strip().encode() for key in api_keys]
        self._hosts = {_plain_host(host) for host in allowed_hosts}
        if "" in self._hosts:
            msg = f"`allowed_hosts` must be host names without a path, got {list(allowed_hosts)}."
            raise ValueError(msg)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Refuse the request, or pass it on with a body that is counted as it arrives."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["path"], [(k.lower(), v) for k, v in scope["headers"]])
            body = await self._read_body(receive)
        except _RefusedError as refused:
            headers = {"connection": "close"} if refused.status == 413 else None
            response = JSONResponse(error_body(str(refused)), refused.status, headers=headers)
            await response(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replayed(body, receive), send)

    def _check(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        largest = max((len(name) + len(value) for name, value in headers), default=0)
        total = sum(len(name) + len(value) for name, value in headers)
        if largest > _MAX_HEADER_BYTES or total > _MAX_HEADERS_BYTES:
            msg = (
                f"The headers have {total} bytes, the largest {largest}: at most "
                f"{_MAX_HEADERS_BYTES} and {_MAX_HEADER_BYTES} are allowed. Send less in headers."
            )
            raise _RefusedError(431, msg)
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._serves(hosts[0]):
            msg = (
                f"The host {', '.join(hosts)[:200]!r} is not served here: ask this machine as "
                "localhost, or start the server with `allowed_hosts` (`--allow-host`) naming it."
            )
            raise _RefusedError(421, msg)
        if self._keys and path not in _OPEN_PATHS:
            self._check_key(next((v for name, v in headers if name == b"authorization"), b""))
        length = next((v for name, v in headers if name == b"content-length"), b"0")
        if length.isdigit() and int(length[:20]) > self._max_body_bytes:
            raise self._too_large()

    def _serves(self, host: str) -> bool:
        name = _plain_host(host)
        if name in self._hosts or name in _LOCAL_NAMES or "*" in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _check_key(self, authorization: bytes) -> None:
        scheme, _, sent = authorization.partition(b" ")
        sent = sent.strip() if scheme.lower() == b"bearer" else b""
        # All keys are compared, in constant time each.
        if not any([secrets.compare_digest(sent, key) for key in self._keys]):
            raise _RefusedError(401, "Incorrect API key: send `Authorization: Bearer <key>`.")

    async def _read_body(self, receive: _Receive) -> list[_Message] | None:
        """Return the messages of the body; None if the client left before its end."""
        messages, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return messages

    def _too_large(self) -> _RefusedError:
        msg = (
            f"The body is larger than {self._max_body_bytes} bytes, which `max_body_bytes` "
            "allows: send less, or raise it."
        )
        return _RefusedError(413, msg)


def _plain_host(host: str) -> str:
    """Return a host's name in lower case without port, brackets and final dot, or ""."""
    name = host.strip().lower()
    if name.count(":") > 1 and "[" not in name:
        # An IPv6 address without brackets, which has no port.
        return "" if "/" in name else name
    match = _HOST.fullmatch(name)
    if match is None:
        return ""
    return match["ip"] or match["name"].removesuffix(".")


def _replayed(messages: list[_Message], receive: _Receive) -> _Receive:
    """Return a `receive` that gives the messages again, then what comes after them."""
    waiting = iter(messages)

    async def replay() -> _Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replay
