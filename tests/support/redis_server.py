"""A real Redis of one's own, on a free port of the loopback, gone when the test is over."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


class RedisServer:
    """One redis-server process; `kill` is kill -9."""

    def __init__(self, folder: Path, *, append: bool = True, sync: str = "always") -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        self.binary, self.folder = binary, folder
        self.append, self.sync = append, sync
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "yes" if self.append else "no", "--appendfsync", self.sync,
             "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as talk:
                    talk.sendall(b"PING\r\n")
                    if talk.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        msg = "redis-server did not come up"
        raise RuntimeError(msg)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def reserve_with_answer(ledger, account, nano):
    """Reserve, asking again while Redis does not answer: None is then a refusal by its balance."""
    until = time.monotonic() + 20
    hold = ledger.reserve([account], nano, nano)
    while hold is None and ledger.problem is not None and time.monotonic() < until:
        time.sleep(0.05)
        hold = ledger.reserve([account], nano, nano)
    return hold
