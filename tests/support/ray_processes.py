"""The processes of a command that was started in a session of its own, with those of its Ray."""

from contextlib import suppress
from pathlib import Path


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
