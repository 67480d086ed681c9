"""The entry point of `llm-router`, which imports nothing until Ctrl-C ends it in one line."""

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error that a user can mend is printed in one line.

    Exit codes: 0 success, 1 failure, 2 invalid arguments, 130 interrupted.
    """
    try:
        # Raised within an import, an interrupt may be lost in Python's own callbacks.
        waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if waits:
            signal.signal(signal.SIGINT, _end_at_once)
        from langchain_llm_router.apps.cli.app import run_app  # noqa: PLC0415 - may be interrupted

        if waits:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run_app()
    except KeyboardInterrupt:
        sys.stderr.write("llm-router: interrupted\n")
        sys.exit(130)


def _end_at_once(_signal: int, _frame: FrameType | None) -> None:
    os.write(2, b"llm-router: interrupted\n")
    os._exit(130)
