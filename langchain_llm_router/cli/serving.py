"""`llm-router serve`: a router behind OpenAI's HTTP interface."""

from __future__ import annotations

import os
from typing import Annotated

from langchain_llm_router.errors import import_extra

__all__ = ["serve"]


def serve(
    host: Annotated[str, "Address to listen on."] = "127.0.0.1",
    port: Annotated[int, "Port to listen on."] = 8080,
    *,
    cascade: Annotated[bool, "Serve the demo's cascade instead of its one-shot route."] = False,
) -> None:
    """Serve the demo's router over its recorded answers: OpenAI's HTTP interface and a live page.

    Keys are read from LLM_ROUTER_API_KEYS (comma-separated); without it everybody may ask.

    Example: llm-router serve --cascade --port 8080, then open http://127.0.0.1:8080
    """
    uvicorn = import_extra("uvicorn", "serve")
    import_extra("fastapi", "serve")
    from langchain_llm_router.demo import Demo  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.serving import create_app  # noqa: PLC0415 - the same

    keys = [key for key in os.environ.get("LLM_ROUTER_API_KEYS", "").split(",") if key]
    demo_ = Demo()
    router = demo_.cascade_router() if cascade else demo_.fit_route().router
    uvicorn.run(create_app(router, api_keys=keys), host=host, port=port, log_level="info")
