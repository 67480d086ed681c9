"""What the docstrings show is run; `test_readme.py` does so with the README."""

import doctest
import importlib

import pytest

import langchain_llm_router
from langchain_llm_router import estimators, policies
from langchain_llm_router.types.errors import MissingExtraError
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
