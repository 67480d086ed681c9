"""An app served over real HTTP on loopback."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest


def create_app(router: Any, **settings: Any) -> Any:
    """The package's own, loaded by the first test that needs it: it takes a second."""
    pytest.importorskip("fastapi", reason="fastapi (extra `serve`) is not installed")
    from langchain_llm_router.apps import server

    return server.create_app(router, **settings)


def serve(app: Any) -> Iterator[str]:
    """Yields the address as long as it is served."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)
