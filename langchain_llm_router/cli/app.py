"""The application: every command, and how a run of one ends."""

from __future__ import annotations

import sys
from typing import Any

from langchain_llm_router.cli.collecting import collect
from langchain_llm_router.cli.demonstrating import demo
from langchain_llm_router.cli.fitting import fit
from langchain_llm_router.cli.serving import serve
from langchain_llm_router.errors import LlmRouterError, import_extra

__all__ = ["build_app", "main"]


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback."""
    try:
        build_app()()
    except (LlmRouterError, ValueError, OSError) as error:
        sys.stderr.write(f"llm-router: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("llm-router: interrupted\n")
        sys.exit(130)


def build_app() -> Any:
    """The typer application; each command is a function of this room."""
    import_extra("rich", "cli")
    typer = import_extra("typer", "cli")
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_about)
    for command in (demo, collect, fit, serve):
        app.command()(command)
    return app


def _about() -> None:
    """Choose the right language model for every query, and prove what that saved."""
