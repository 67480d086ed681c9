"""Processes that start at once: forked from one that has imported what takes long.

Each runs its code with arguments, a folder, an environment and streams of its own, as `python -c`
does, and ends as an interpreter ends. What it imports may be loaded already, which is all that it
shares with others: what code loads, or how long that takes, `tests/support/loading.py` tells.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from tests.support.commands import environment
from tests.support.paths import ROOT

# What commands load in their course; an extra that is not installed is not.
_LOADED = (
    *("langchain_openai", "langchain.agents", "langgraph.graph", "langgraph.checkpoint.sqlite"),
    *("fastapi", "uvicorn", "rich.prompt", "scipy.stats"),
    *(f"langchain_llm_router.{name}" for name in (
        "apps.cli.app", "apps.server", "collect", "evaluation", "router.graph", "training",
    )),
)  # fmt: skip


class Forked:
    """A process that runs some code; of `subprocess.Popen`, as much as the tests need.

    Args:
        code: What `python -c` would run.
        arguments: What would stand behind it.
        cwd: Its folder.
        streams: Its standard input, output and error; without them, nothing and two pipes.
        env: What its environment has besides that of the tests.
    """

    def __init__(
        self, code: str, *arguments: object, cwd: Any, streams: Sequence[int] = (), **env: str
    ) -> None:
        self.returncode: int | None = None
        pipes = [os.pipe() for _ in range(3)]
        out, err, told = (written for _, written in pipes)
        order = {"code": code, "arguments": list(map(str, arguments)), "cwd": str(cwd),
                 "env": environment(**env)}  # fmt: skip
        with open(os.devnull, "rb") as nothing:
            given = [*(streams or (nothing.fileno(), out, err)), told]
            socket.send_fds(_template(), [json.dumps(order).encode() + b"\n"], given)
        for written in (out, err, told):
            os.close(written)
        self.stdout, self.stderr, self._told = (
            os.fdopen(read, encoding="utf-8") for read, _ in pipes
        )
        self.pid = int(self._told.readline())

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """Return how it ended: its exit code, or the negative of the signal that killed it."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Return what it still writes until it ends."""
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        killer = threading.Timer(timeout, self.send_signal, [signal.SIGKILL])
        for thread in (reader, killer):
            thread.start()
        out = self.stdout.read()
        reader.join()
        killer.cancel()
        killer.join()
        self.stdout.close()
        self.stderr.close()
        self.wait(timeout)
        return out, errors[0]


def run_forked(
    code: str, *arguments: object, cwd: Any, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run some code to its end, as `subprocess.run` does."""
    process = Forked(code, *arguments, cwd=cwd, **env)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(code, process.wait(0), out, err)


@cache
def _template() -> socket.socket:
    """Start the process from which all others are forked; it ends with the tests."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            cwd=ROOT, env=environment(OMP_NUM_THREADS="1"), stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _wait_for_order(orders: socket.socket) -> dict[str, Any]:
    """Return in a new process for each order, which has the streams that came with it."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        text, given, _, _ = socket.recv_fds(orders, 1 << 16, 4)
        if not text:
            sys.exit()
        while not text.endswith(b"\n"):
            text += orders.recv(1 << 16)
        # The child stays to tell how the grandchild ends.
        if os.fork() == 0:
            pid = os.fork()
            if pid == 0:
                orders.close()
                for number, stream in enumerate(given[:3]):
                    os.dup2(stream, number)
                for stream in given:
                    os.close(stream)
                return json.loads(text)
            for stream in given[:3]:
                os.close(stream)
            os.write(given[3], f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            os.write(given[3], f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        for stream in given:
            os.close(stream)


def _main() -> None:
    for name in _LOADED:
        try:
            import_module(name)
        except ImportError:
            continue
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        order = _wait_for_order(orders)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["-c", *order["arguments"]]
    sys.path[0] = ""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        setattr(sys, name, os.fdopen(number, mode, buffering=1))
    exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _main()
