"""The command line as tests run it: in this process, or in one of its own."""

import json
import os
import sys

import pytest

from langchain_llm_router.apps.cli import main
from tests.support.paths import ROOT

CODE = "from langchain_llm_router.apps.cli import main; main()"


def environment(**more: str) -> dict[str, str]:
    """What a process of its own needs to find the package, and no colors."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none", **more}


def run_main(arguments, monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    monkeypatch.setattr(sys, "argv", ["llm-router", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def last_json(out: str) -> dict:
    """What a command with `--json` wrote as its last line."""
    return json.loads(out.strip().splitlines()[-1])
