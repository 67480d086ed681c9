"""What several files of this room use."""

import pytest

from langchain_llm_router.policies import Always
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.commands import run_main
from tests.support.journals import write_journal
from tests.support.saved_routers import SAID, TABLE, cascade, one_shot


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two routers, a journal and a table."""
    folder = tmp_path_factory.mktemp("made")
    write_journal(folder / "run.jsonl", TABLE, SAID)
    TABLE.save(folder / "table.jsonl")
    one_shot().save(folder / "route")
    cascade().save(folder / "cascade")
    SavedRouter(TABLE.candidates, Always("large")).save(folder / "always")
    return folder


@pytest.fixture
def run(monkeypatch, made, capsys):
    monkeypatch.chdir(made)
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)
