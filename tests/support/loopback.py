"""A real HTTP server on loopback, for as long as it is entered; what it says is its handler's."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Loopback:
    """Serves with a handler that finds this object under `fake`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        # A body that is sent after its headers would otherwise wait 40 ms to be sent.
        bound = type("Handler", (handler,), {"fake": self, "disable_nagle_algorithm": True})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        # As often as it looks, it can be shut down: by default each half second.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
