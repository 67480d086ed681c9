"""Any router behind OpenAI's HTTP interface, and a page to watch it decide (extra `serve`)."""

from langchain_llm_router.apps.server.server import create_app

__all__ = ["create_app"]
