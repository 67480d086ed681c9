"""`llm-router`: the command line, thin over the rooms below it (extra `cli`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

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
    """The typer application; each command is a function of this module."""
    import_extra("rich", "cli")
    typer = import_extra("typer", "cli")
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_about)
    app.command()(demo)
    return app


def _about() -> None:
    """Choose the right language model for every query, and prove what that saved."""


def demo(
    out: Annotated[Path, "Folder for the picture."] = Path("llm-router-demo"),
    seed: Annotated[int, "Another seed, another split."] = 0,
    *,
    json: Annotated[bool, "Print the figures as one JSON object on the last line."] = False,
) -> None:
    """Route 1,420 unseen real questions and show what that saved (no key, no network).

    Example: llm-router demo --out pictures
    """
    from langchain_llm_router import demo_report  # noqa: PLC0415 - imports what only it needs

    demo_report.show(out, seed=seed, as_json=json)
