"""`llm-router`: the command line, a thin layer over the packages below it (extra `cli`)."""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.apps.cli.app import build_app
    from langchain_llm_router.apps.cli.entry import main
else:
    __getattr__, __dir__ = lazy_names(__name__, {".app": "build_app", ".entry": "main"})

__all__ = ["build_app", "main"]
