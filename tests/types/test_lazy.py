"""Names that are imported when they are first asked for."""

import ast
import importlib
import inspect
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import langchain_llm_router
from langchain_llm_router import ChatLLMRouter, policies
from langchain_llm_router.policies import Utility
from langchain_llm_router.types.errors import MissingExtraError
from tests.support.loading import loaded_by
from tests.support.paths import PACKAGE
from tests.support.source_shape import parsed

LAZY = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "lazy.py" and "= lazy_names(" in path.read_text(encoding="utf-8")
)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def told(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Where each name lives, as a type checker is told and as `lazy_names` is."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path.parent)
    imports, table = {}, {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                imports |= {alias.name: inner.module for alias in inner.names}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names":
            for home, names in ast.literal_eval(node.args[1]).items():
                whole = f"{package}{home}" if home.startswith(".") else home
                table |= dict.fromkeys(names.split(), whole)
    return imports, table


def test_a_type_checker_is_told_the_same_as_the_import():
    assert len(LAZY) > 10
    for path in LAZY:
        imports, table = told(path)
        assert imports == table != {}, path


def test_every_lazy_name_is_there():
    for path in LAZY:
        module = importlib.import_module(module_of(path))
        for name, home in told(path)[1].items():
            assert name in dir(module), path
            try:
                assert getattr(module, name) is getattr(importlib.import_module(home), name), path
            except MissingExtraError:
                assert find_spec("torch") is None, path


def test_no_lazy_name_is_that_of_a_submodule_which_would_take_its_place():
    for path in LAZY:
        if path.name == "__init__.py":
            beside = {other.stem for other in path.parent.iterdir()}
            assert not set(told(path)[1]) & beside, path


def test_a_lazy_room_offers_all_that_it_promises():
    for path in LAZY:
        if path.name == "__init__.py":
            module = importlib.import_module(module_of(path))
            promised, at_once = set(told(path)[1]), set(vars(module))
            assert promised <= set(module.__all__), path
            assert set(module.__all__) - promised <= at_once, path


@pytest.mark.parametrize("room", [langchain_llm_router, policies])
def test_a_misspelt_name_is_told_the_nearest_one(room):
    misspelt, meant = {
        langchain_llm_router: ("ChatLLMRuoter", "ChatLLMRouter"),
        policies: ("Utilty", "Utility"),
    }[room]
    with pytest.raises(ImportError, match=f"Did you mean `{meant}`"):
        exec(f"from {room.__name__} import {misspelt}")
    with pytest.raises(AttributeError, match=f"Did you mean `{meant}`"):
        getattr(room, misspelt)
    assert not hasattr(room, misspelt)


def test_what_is_near_to_nothing_is_told_without_a_guess():
    with pytest.raises(ImportError) as told:
        exec("from langchain_llm_router import qqqq")
    assert str(told.value) == "module 'langchain_llm_router' has no attribute 'qqqq'."


def test_a_star_brings_everything_and_nothing_else():
    names: dict[str, object] = {}
    exec("from langchain_llm_router import *", names)
    assert set(names) - {"__builtins__"} == set(langchain_llm_router.__all__)


def test_a_room_can_be_asked_for_as_an_attribute():
    loaded = loaded_by("import langchain_llm_router; langchain_llm_router.policies.Utility")
    assert "langchain_llm_router.policies.one_shot" in loaded
    assert "langchain_llm_router.estimators" not in loaded


def test_pickling_and_inspecting_find_a_lazy_class():
    assert pickle.loads(pickle.dumps(ChatLLMRouter)) is ChatLLMRouter
    assert pickle.loads(pickle.dumps(policies.Utility(cost=2.0))) == Utility(cost=2.0)
    assert dict(inspect.getmembers(policies))["Utility"] is Utility
    assert inspect.getsourcefile(policies.Utility) == sys.modules[Utility.__module__].__file__


def test_a_saved_policy_is_found_whose_room_has_not_imported_it_yet(tmp_path):
    Utility(cost=3.0).save(tmp_path / "policy")
    code = (
        "from langchain_llm_router.policies.policy import Policy\n"
        f"assert Policy.load({str(tmp_path / 'policy')!r}).cost == 3.0\n"
    )
    assert "langchain_llm_router.policies.one_shot" in loaded_by(code)
