"""The HTTP server: OpenAI's interface to any router, and a live page (extra `serve`)."""

from langchain_llm_router.apps.server.server import create_app

__all__ = ["create_app"]
