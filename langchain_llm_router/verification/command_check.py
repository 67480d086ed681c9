"""A check that runs a command: its exit code tells whether an agent's work is good."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from langchain_llm_router.types.arguments import CheckedArguments, check_range
from langchain_llm_router.verification.verifier import Case, CheckResult

__all__ = ["Command"]


@dataclass(frozen=True)
class Command(CheckedArguments):
    """A check that has passed if its command ends with exit code 0, e.g. a run of the tests.

    The command runs without a shell, reads no input, and is the leader of a process group of its
    own: at the timeout the whole group is killed, and it is unknown whether the check has passed.

    Args:
        args: The program and its arguments.
        cwd: The folder to run in; if None, that of this process.
        timeout_s: Seconds after which the command is killed.
        keep_chars: Length of the end of its output that the decision record keeps.

    Raises:
        TypeError: If `args` is a single text, whose words a shell would have to tell apart.
        ValueError: If `args` is empty, or a number is out of its range.

    Example:
        >>> Command(["pytest", "-q"], cwd="/srv/checkout", timeout_s=120).args
        ['pytest', '-q']
    """

    args: Sequence[str]
    cwd: str | Path | None = None
    timeout_s: float = 300.0
    keep_chars: int = 2000

    def __post_init__(self) -> None:
        if len(self.args) == 0:
            msg = "`args` is empty: give the program and its arguments, e.g. ['pytest', '-q']."
            raise ValueError(msg)
        check_range(self, "timeout_s", above=True)
        check_range(self, "keep_chars")

    @property
    def blocks(self) -> bool:
        """It waits for the command."""
        return True

    def __call__(self, case: Case) -> CheckResult:
        """Run the command.

        Raises:
            TimeoutError: If it did not end in time.
            OSError: If it cannot be started.
        """
        # A file and not a pipe: what a child in the background holds open ends no wait.
        with TemporaryFile() as output:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                list(self.args),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired:
                _kill_group(process)
                said = self._end_of(output)
                msg = f"{self.args[0]!r} did not end within {self.timeout_s:g} s, and was killed"
                raise TimeoutError(f"{msg}: {said}" if said else f"{msg}.") from None
            except BaseException:
                _kill_group(process)
                raise
            return CheckResult(code == 0, f"exit code {code}\n{self._end_of(output)}".strip())

    def _end_of(self, output: IO[bytes]) -> str:
        size = output.seek(0, os.SEEK_END)
        # A character has at most four bytes.
        output.seek(max(0, size - 4 * self.keep_chars))
        text = output.read().decode(errors="replace")
        return text[max(0, len(text) - self.keep_chars) :].strip()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        # Its leader has not been waited for, so its number cannot be another group's by now.
        os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows knows no process groups
        process.kill()
    process.wait()
