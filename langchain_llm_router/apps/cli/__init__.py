"""`llm-router`: the command line, a thin layer over the packages below it (extra `cli`)."""

from langchain_llm_router.apps.cli.app import build_app, main

__all__ = ["build_app", "main"]
