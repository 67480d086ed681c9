"""Commands that are started in a session of their own, and all of their processes, Ray's too."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.commands import CODE, environment


def processes(session: int) -> dict[int, str]:
    """Process id → name of everything that a started command has started in its turn."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, tail = stat.read_text().rpartition(")")
            state, _, _, belongs = tail.split()[:4]
            if int(belongs) == session and state != "Z":
                pid = int(stat.parent.name)
                told = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[pid] = told or head
    return found


@contextmanager
def ray_commands(folder: Path, *first: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a command in a folder, with further arguments; all end afterwards."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if not Path("/proc/self/stat").exists():
        pytest.skip("looks for Ray's processes in /proc")
    started = []

    def command(*arguments: str) -> subprocess.Popen[str]:
        env = environment(OMP_NUM_THREADS="1", RAY_worker_niceness="0")
        env.pop("RAY_ADDRESS", None)
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *first, *arguments],
            cwd=folder, env=env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    try:
        yield command
    finally:
        for process in started:
            process.kill()
            process.communicate()
            for pid in processes(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
