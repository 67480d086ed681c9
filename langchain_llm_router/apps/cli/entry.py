"""The entry point of `llm-router`, which imports nothing until Ctrl-C ends it in one line."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error that a user can mend is printed in one line.

    Exit codes: 0 success, 1 failure, 2 invalid arguments, 130 interrupted.
    """
    try:
        from langchain_llm_router.apps.cli.app import run_app  # noqa: PLC0415 - may be interrupted

        run_app()
    except KeyboardInterrupt:
        sys.stderr.write("llm-router: interrupted\n")
        sys.exit(130)
