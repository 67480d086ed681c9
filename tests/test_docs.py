"""What the README and the docstrings show is run, against real clients on loopback."""

import doctest
import importlib
import re

import pytest

import langchain_llm_router
from langchain_llm_router import estimators, policies
from langchain_llm_router.types.errors import MissingExtraError
from tests.support.fake_openai import FakeOpenAI
from tests.support.paths import PACKAGE, ROOT
from tests.test_public_api import public

# From the files: asking the packages would import them all.
MODULES = [
    ".".join(part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != PACKAGE or path.stem == "testing"
]
ROOMS = sorted({name.split(".")[1] for name in MODULES})
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    """What a reader of the docstrings has imported."""
    return {
        name: thing
        for module in (policies, estimators, langchain_llm_router)
        for name, thing in public(module.__name__).items()
    }


@pytest.mark.parametrize("room", ROOMS)
def test_the_examples_in_docstrings_say_what_happens(room, imported):
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for name in (one for one in MODULES if one.split(".")[1] == room):
        try:
            module = importlib.import_module(name)
        except MissingExtraError:
            continue
        for test in finder.find(module, name, globs={**imported, **vars(module)}):
            runner.run(test)
    assert runner.failures == 0, "see the captured output for what differs"


def blocks() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_readmes_code_runs_from_top_to_bottom(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    with FakeOpenAI() as openai:
        monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
        for i, block in enumerate(blocks()):
            exec(compile(block, f"README.md, block {i + 1}", "exec"), names)
    assert len(openai.requests) > 0
