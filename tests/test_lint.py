"""Lint, format and types are tests like the others, so that one command runs everything."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    pytest.importorskip("ruff", reason="ruff is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_mypy_strict_has_nothing_to_say_and_finds_a_misspelt_import(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = mypy()
    assert done.returncode == 0, done.stdout + done.stderr
    # After the whole, from whose cache it is quick.
    (tmp_path / "misspelt.py").write_text("from langchain_llm_router import ChatLLMRuoter\n")
    done = mypy(str(tmp_path / "misspelt.py"))
    assert 'maybe "ChatLLMRouter"?' in done.stdout, done.stdout + done.stderr
