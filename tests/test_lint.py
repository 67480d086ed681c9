"""Lint, format and types are tests like the others, so that one command runs everything."""

import subprocess
import sys

import pytest

from tests.support.paths import PACKAGE, ROOT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    pytest.importorskip("ruff", reason="ruff is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_strict_has_nothing_to_say_but_of_a_misspelt_import(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    misspelt = tmp_path / "misspelt.py"
    misspelt.write_text("from langchain_llm_router import ChatLLMRuoter\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(PACKAGE), str(misspelt)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert 'maybe "ChatLLMRouter"?' in done.stdout, done.stdout + done.stderr
    assert len(found) == 1, done.stdout
