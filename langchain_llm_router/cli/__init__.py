"""`llm-router`: the command line, thin over the rooms below it (extra `cli`)."""

from langchain_llm_router.cli.app import build_app, main

__all__ = ["build_app", "main"]
