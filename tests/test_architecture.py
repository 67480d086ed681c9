"""The house keeps its shape: imports run one way, heavy things stay in their rooms."""

import ast
import keyword
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from langchain_llm_router import policies
from tests.support.loading import loaded_by_each
from tests.support.source_shape import PACKAGE, lines_of_code, parsed

NAME = "langchain_llm_router"

# Optional dependencies, and the only rooms that may name them.
EXTRAS = {
    "matplotlib": {"plots"},
    "rich": {"apps", "collect"},
    "typer": {"apps"},
    "fastapi": {"apps"},
    "prometheus_client": {"apps"},
    "uvicorn": {"apps"},
    "genai_prices": {"calls"},
    "langchain": {"calls", "router"},
    "opentelemetry": {"calls"},
    "ray": {"collect"},
    "redis": {"live"},
    "torch": {"estimators"},
    "transformers": {"estimators"},
    "usearch": {"estimators"},
    "langgraph": {"router"},
    "sklearn": set(),
    "pandas": set(),
}


# Nouns that end like a verb.
NOUNS = {"cascade_routing", "spending", "testing", "tracing", "training"}


@cache
def files() -> dict[str, Path]:
    """Every module of the package, but the front door."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    del found[NAME]
    return found


def room(module: str) -> str:
    return module.split(".")[1]


@cache
def imports(path: Path) -> frozenset[str]:
    """Everything that a file imports, wherever in it, for type checkers too, and lazily by name."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and re.fullmatch(rf"{NAME}(\.\w+)+", str(node.value)):
            found.add(str(node.value))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in files().items():
        ours = {room(name) for name in imports(path) if name.startswith(f"{NAME}.")}
        found[room(module)] |= ours - {room(module)}
    return dict(found)


def floors(above: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest room that it imports."""
    known: dict[str, int] = {}

    def floor(name: str, path: tuple[str, ...]) -> int:
        assert name not in path, f"a circle of imports: {' -> '.join((*path, name))}"
        if name not in known:
            below = [floor(other, (*path, name)) for other in sorted(above.get(name, ()))]
            known[name] = 1 + max(below, default=0)
        return known[name]

    for name in above:
        floor(name, ())
    return known


def test_the_rooms_stand_on_at_most_nine_floors_without_a_circle():
    found = floors(arrows())
    assert len(found) <= 17
    assert max(found.values()) <= 9
    assert found["types"] == 1
    assert found["apps"] == max(found.values())


def test_the_readme_gives_the_rooms_their_floors():
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    shown = {}
    for line in text.split("## The house")[1].split("```")[1].splitlines():
        words = line.split()
        if len(words) > 1 and words[0].endswith("/") and words[-1].isdigit():
            shown[words[0].removesuffix("/")] = int(words[-1])
    assert shown == {name: n for name, n in floors(arrows()).items() if name != "testing"}


def test_the_number_of_arrows_between_rooms_does_not_creep_up():
    assert sum(map(len, arrows().values())) <= 80


def test_a_circle_and_a_tenth_floor_are_seen():
    with pytest.raises(AssertionError, match="a -> b -> a"):
        floors({"a": {"b"}, "b": {"a"}})
    assert max(floors({str(i): {str(i - 1)} for i in range(1, 10)}).values()) == 10


def test_no_file_comes_in_through_the_front_door():
    rooms = {room(module) for module in files()}
    through = {
        (module, name)
        for module, path in files().items()
        for name in imports(path)
        if name == NAME or (name.startswith(f"{NAME}.") and room(name) not in rooms)
    }
    assert through == set()


def test_an_import_is_seen_wherever_it_stands(tmp_path):
    path = tmp_path / "room.py"
    path.write_text(
        f"import {NAME} as whole\nif TYPE_CHECKING:\n    import {NAME}.a\n"
        f"def f():\n    from {NAME}.b import x\n    import_module('{NAME}.c.d')\n"
        f"lazy_names(__name__, {{'{NAME}.e': 'y'}})\n"
    )
    ends = {name.removeprefix(NAME) for name in imports(path)}
    assert ends == {"", ".a", ".b.x", ".c.d", ".e"}


def test_no_two_files_import_each_other():
    def module_of(name: str) -> str:
        return name if name in files() else name.rpartition(".")[0]

    below = {
        module: {module_of(name) for name in imports(path)} - {module}
        for module, path in files().items()
        # A room's list of names imports all of its files.
        if path.name != "__init__.py"
    }
    floors({module: other & set(below) for module, other in below.items()})


def test_no_two_files_have_one_name():
    names = [path.name for path in files().values() if path.name != "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


# At the top of the tests: what is about the whole package.
WHOLE = {
    *("test_architecture", "test_contracts", "test_docs", "test_examples", "test_lint"),
    "test_lowest",
    *("test_public_api", "test_readme", "test_security", "test_testing"),
}


def test_the_tests_have_the_rooms_of_the_package():
    tests = PACKAGE.parent / "tests"
    folders = {path.name for path in tests.iterdir() if any(path.glob("*.py"))}
    assert folders - {"support", "benchmarks", "article"} <= set(arrows())
    lying = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert {path.stem for path in lying if len(path.parts) == 1} <= WHOLE
    assert {path for path in lying if len(path.parts) > 2} == set()
    assert {path for path in lying if path.parts[0] in ("support", "benchmarks")} == set()


def test_files_are_named_by_nouns():
    verbs = {
        module
        for module in files()
        if module.endswith("ing") and module.rpartition(".")[2] not in NOUNS
    }
    assert verbs == set()
    assert not any(keyword.iskeyword(module.rpartition(".")[2]) for module in files())


def offered_and_defined(path: Path) -> tuple[list[str] | None, set[str]]:
    """What a file's `__all__` says, and the names that it defines outside functions and classes."""
    defined, offered = set(), None
    for node in _statements(parsed(path).body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            if names == {"__all__"}:
                offered = ast.literal_eval(node.value)
            defined |= names
    return offered, defined


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a file, those under `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handlers = [part for handler in getattr(node, "handlers", ()) for part in handler.body]
            last = [*getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            yield from _statements([*node.body, *handlers, *last])


def test_a_name_is_offered_in_its_files_list_or_begins_with_an_underscore():
    hidden = {}
    for module, path in files().items():
        offered, defined = offered_and_defined(path)
        assert offered is not None, f"{module} has no `__all__`"
        assert len(offered) == len(set(offered)), module
        imported = {
            alias.asname or alias.name
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        hidden[module] = {n for n in defined if n[0] != "_"} - set(offered) - imported
        assert path.name == "__init__.py" or set(offered) <= defined | imported, module
    assert {module: names for module, names in hidden.items() if names} == {}


def test_optional_dependencies_stay_in_their_rooms():
    strays = {
        (module, top)
        for module, path in files().items()
        for top in {name.split(".")[0] for name in imports(path)} & set(EXTRAS)
        if room(module) not in EXTRAS[top]
    }
    assert strays == set()


def test_estimators_and_policies_do_not_know_each_other():
    assert "policies" not in arrows()["estimators"]
    assert "estimators" not in arrows()["policies"]


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
# After nothing, and after the models of langchain-core, which the others load anyway.
LIGHT_NOT = {
    "import langchain_llm_router": {"langchain_core", "numpy", "pydantic"},
    "from langchain_llm_router import Candidate, Price, RoutingOptions": {
        *("langchain_core", "numpy", "pydantic"),
    },
}
LOADS_NOT = {
    "from langchain_llm_router import Candidate, ChatLLMRouter": {
        *("langgraph", "scipy", "numpy", "langchain_openai"),
        *("langchain_llm_router.evaluation", "langchain_llm_router.router.graph"),
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


@pytest.mark.parametrize(
    ("first", "forbidden"),
    [("", LIGHT_NOT), ("import langchain_core.language_models", LOADS_NOT)],
    ids=["light", "more"],
)
def test_importing_loads_nothing_heavy_and_opens_no_socket(first, forbidden):
    loaded = loaded_by_each(list(forbidden), first)
    for (code, rest), modules in zip(forbidden.items(), loaded, strict=True):
        assert modules & (HEAVY | rest) == set(), code


def test_no_file_and_no_body_is_larger_than_one_can_hold_in_mind():
    large = {}
    for path in PACKAGE.rglob("*.py"):
        lines, bodies = lines_of_code(path)
        longest = max(bodies.values(), default=0)
        if lines > 400 or longest > 50:
            large[str(path.relative_to(PACKAGE))] = (lines, longest)
    assert large == {}


def type_questions(path: Path) -> set[str]:
    """Names of classes that a file asks about: `isinstance`, `type(x) is`, `case Name()`."""
    asked: list[ast.AST] = []
    for node in ast.walk(parsed(path)):
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


def test_no_room_knows_a_list_of_policies():
    classes = {name: getattr(policies, name) for name in policies.__all__}
    house = {
        name
        for name, it in classes.items()
        if isinstance(it, type) and issubclass(it, policies.Policy)
    }
    knowing = {
        module: type_questions(path) & (house - {"Policy"})
        for module, path in files().items()
        if room(module) != "policies"
    }
    # What a room needs of a policy is a method of it.
    assert {module: names for module, names in knowing.items() if names} == {}


def test_a_question_about_a_class_is_seen_in_every_form(tmp_path):
    path = tmp_path / "room.py"
    path.write_text(
        "a = isinstance(x, A | policies.B)\nb = type(x) is C\nc = type(x) in (D, E)\n"
        "match x:\n    case F():\n        pass\nG()\nx.H == I\n"
    )
    assert type_questions(path) >= {"A", "B", "C", "D", "E", "F"}
    assert not type_questions(path) & {"G", "H", "I"}
