"""What a piece of code loads, as a process of its own can tell."""

import subprocess
import sys
from collections.abc import Sequence

from tests.support.paths import ROOT

# Each code runs in a fork of its own; what `first` has loaded they share, which saves its time.
_RUN = """
import contextlib, io, os, socket, sys
def refuse(*a, **k): raise AssertionError('a socket at import time')
socket.socket.connect = refuse
first, *codes = sys.argv[1:]
exec(first)
for code in codes:
    child = os.fork()
    if not child:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, {"__name__": "__main__"})
        print(*sys.modules, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"in the case {code}")
"""


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has loaded after the code, which must open no connection."""
    return loaded_by_each([code])[0]


def loaded_by_each(codes: Sequence[str], first: str = "") -> list[set[str]]:
    """The same for several pieces of code, each after `first` and without the others."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, first, *codes],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()]
