"""What the README and the docstrings show is run, against real clients on loopback."""

import doctest
import importlib
import pkgutil
import re

import pytest

import langchain_llm_router
from langchain_llm_router import estimators, policies
from langchain_llm_router.types.errors import MissingExtraError
from tests.support.fake_openai import FakeOpenAI
from tests.support.paths import ROOT
from tests.test_public_api import public

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(langchain_llm_router.__path__, "langchain_llm_router.")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What a reader of the docstrings has imported.
IMPORTED = {
    name: thing
    for module in (policies, estimators, langchain_llm_router)
    for name, thing in public(module.__name__).items()
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_say_what_happens(name):
    try:
        module = importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in finder.find(module, name, globs={**IMPORTED, **vars(module)}):
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
