"""What a piece of code loads, as a process of its own can tell."""

import subprocess
import sys

from tests.support.paths import ROOT

_RUN = """
import contextlib, io, socket, sys
def refuse(*a, **k): raise AssertionError('a socket at import time')
socket.socket.connect = refuse
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[1])
print(*sys.modules)
"""


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has loaded after the code, which must open no connection."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())
