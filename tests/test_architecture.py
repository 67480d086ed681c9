"""The house keeps its shape: imports run one way, heavy things stay in their rooms."""

import ast
from functools import cache
from pathlib import Path

import pytest

from langchain_llm_router import policies
from tests.loading import loaded_by
from tests.source_shape import lines_of_code

PACKAGE = Path(__file__).resolve().parent.parent / "langchain_llm_router"

# From the cellar to the roof: a room imports only from its own floor or from floors below.
FLOORS = [
    [
        "arguments",
        "errors",
        "fencing",
        "lazy",
        "operations",
        "options",
        "redaction",
        "types",
        "version",
    ],
    ["artifacts", "data", "embeddings", "grades", "prices", "ratings", "surface"],
    ["capabilities", "conversation", "drafts", "pool", "threads"],
    ["telemetry"],
    ["resilience"],
    ["datasets", "estimators", "observation", "verification"],
    ["policies"],
    ["budgets", "endpoints", "loop", "saved_router", "commitment", "record"],
    ["asking", "binding", "judging", "tracing"],
    ["drive", "situation"],
    ["evaluation", "history"],
    ["parts"],
    ["preparation"],
    ["request"],
    ["sessions", "typed_streams"],
    ["cascade", "chat", "decisions"],
    ["calibration", "collect", "explaining", "middleware", "plots", "serving", "testing"],
    ["demo", "fitting"],
    ["cli"],
]

# Optional dependencies, and the only rooms that may name them.
EXTRAS = {
    "matplotlib": {"plots"},
    "rich": {"cli", "demo", "collect"},
    "typer": {"cli"},
    "fastapi": {"serving"},
    "prometheus_client": {"serving"},
    "uvicorn": {"cli"},
    "genai_prices": {"prices"},
    "langchain": {"pool", "middleware"},
    "ray": {"collect"},
    "redis": {"telemetry"},
    "torch": {"estimators"},
    "transformers": {"estimators"},
    "usearch": {"estimators"},
    "sklearn": set(),
    "pandas": set(),
}


@cache
def rooms() -> dict[Path, str]:
    return {
        path: path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "__init__.py"
    }


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module a file imports, and whether at import time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in inside) for name in names]
    return found


def floor(room: str) -> int:
    level = next((i for i, names in enumerate(FLOORS) if room in names), None)
    assert level is not None, f"the room {room!r} has no floor yet: add it to FLOORS"
    return level


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward_only(path):
    room = rooms()[path]
    for name, _ in imports(path):
        if not name.startswith("langchain_llm_router."):
            continue
        other = name.split(".")[1]
        if (PACKAGE / other).is_dir() or (PACKAGE / f"{other}.py").is_file():
            assert floor(other) <= floor(room), f"{room} must not import {other}"


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_dependencies_stay_in_their_rooms(path):
    for name, _ in imports(path):
        top = name.split(".")[0]
        if top in EXTRAS:
            assert rooms()[path] in EXTRAS[top], f"{path.name} must not import {top}"


def test_only_the_cascade_and_what_stands_above_it_know_langgraph():
    for path, room in rooms().items():
        if any(name.split(".")[0] == "langgraph" for name, _ in imports(path)):
            assert floor(room) >= floor("cascade"), f"{room} must not import langgraph"


def test_estimators_and_policies_do_not_know_each_other():
    for path, room in rooms().items():
        if room in ("estimators", "policies"):
            other = "policies" if room == "estimators" else "estimators"
            assert not any(f"langchain_llm_router.{other}" in name for name, _ in imports(path))


# Not rich: httpx loads it where it is installed.
HEAVY = {
    *("torch", "transformers", "matplotlib", "sklearn", "pandas", "pyarrow", "typer"),
    *("langchain.agents", "langchain_openai", "fastapi", "redis", "ray", "genai_prices"),
}
CASCADE = """
from langchain_core.language_models import FakeListChatModel
from langchain_llm_router import Candidate, create_cascade
from langchain_llm_router.policies import Always
pool = [Candidate("a", FakeListChatModel(responses=["Yes."]))]
create_cascade(pool, policy=Always("a")).compile()
"""
LOADS_NOT = {
    "import langchain_llm_router": {"langchain_core", "numpy", "pydantic"},
    "from langchain_llm_router import Candidate, Price, RoutingOptions": {
        *("langchain_core", "numpy", "pydantic"),
    },
    "from langchain_llm_router import Candidate, ChatLLMRouter": {
        *("langgraph", "scipy", "numpy", "langchain_openai"),
        *("langchain_llm_router.evaluation", "langchain_llm_router.cascade"),
    },
    "from langchain_llm_router import Agreement, SelfEvaluator": {"langgraph", "scipy"},
    "from langchain_llm_router.policies import ConfidenceThreshold, Utility": {"scipy"},
    "from langchain_llm_router.testing import ScriptedChatModel": {"langgraph", "scipy", "numpy"},
    CASCADE: {"scipy", "langchain_llm_router.evaluation"},
    # All that a room offers.
    "from langchain_llm_router.policies import *": {"langgraph"},
    "from langchain_llm_router.verification import *": {"langgraph"},
    "from langchain_llm_router.evaluation import *": {"langgraph"},
}


@pytest.mark.parametrize(("code", "rest"), LOADS_NOT.items(), ids=range(len(LOADS_NOT)))
def test_importing_loads_nothing_heavy_and_opens_no_socket(code, rest):
    assert loaded_by(code) & (HEAVY | rest) == set()


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_is_no_larger_than_one_can_hold_in_mind(path):
    lines, bodies = lines_of_code(path)
    assert lines <= 400
    assert max(bodies.values(), default=0) <= 50


def type_questions(path: Path) -> set[str]:
    """Names of classes that a file asks about: `isinstance`, `type(x) is`, `case Name()`."""
    asked: list[ast.AST] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked += node.args[1:] if node.func.id in ("isinstance", "issubclass") else []
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            asked.append(node)
        elif isinstance(node, ast.MatchClass):
            asked.append(node.cls)
    inside = [part for node in asked for part in ast.walk(node)]
    return {part.id for part in inside if isinstance(part, ast.Name)} | {
        part.attr for part in inside if isinstance(part, ast.Attribute)
    }


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_knows_a_list_of_policies(path):
    if rooms()[path] == "policies":
        return
    house = {name for name, it in vars(policies).items() if isinstance(it, type)} - {"Policy"}
    known = type_questions(path) & house
    assert not known, f"{path.name} must ask the policy instead: what it needs is a method of it"


def test_a_question_about_a_class_is_seen_in_every_form(tmp_path):
    path = tmp_path / "room.py"
    path.write_text(
        "a = isinstance(x, A | policies.B)\nb = type(x) is C\nc = type(x) in (D, E)\n"
        "match x:\n    case F():\n        pass\nG()\nx.H == I\n"
    )
    assert type_questions(path) >= {"A", "B", "C", "D", "E", "F"}
    assert not type_questions(path) & {"G", "H", "I"}
