"""The public names and signatures are exactly those written down in `public_api.txt`.

A change of what users import or call then shows in the diff. To write the list anew:

    python -m tests.test_public_api
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.language_models import BaseChatModel

import langchain_llm_router
from langchain_llm_router.types.errors import MissingExtraError

LIST = Path(__file__).parent / "public_api.txt"
NAME = langchain_llm_router.__name__
FOLDERS = [room.name for room in pkgutil.iter_modules(langchain_llm_router.__path__)]
ROOMS = [NAME, *(f"{NAME}.{room}" for room in [*FOLDERS, "apps.cli", "apps.demo", "apps.server"])]


def public(module: str) -> dict[str, object]:
    """What a module offers here; names behind an extra that is not installed are left out."""
    found = {}
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        try:
            found[name] = getattr(loaded, name)
        except MissingExtraError:
            continue
    return found


def signature(thing: object) -> str:
    """Parameters with their kinds and defaults; without annotations, which differ by version."""
    parts = []
    # LangChain's own fields are not ours, and differ by its version.
    given = set(BaseChatModel.model_fields) if inspect.isclass(thing) else set()
    for name, parameter in inspect.signature(thing).parameters.items():
        if name in given and issubclass(thing, BaseChatModel):
            continue
        default = parameter.default
        plain = default is None or isinstance(default, bool | int | float | str | tuple)
        shown = parameter.replace(annotation=inspect.Parameter.empty)
        if default is not inspect.Parameter.empty and not plain:
            shown = shown.replace(default=...)
        parts.append(shown)
    return str(inspect.Signature(parts)).replace("=Ellipsis", "=...")


def described(name: str, thing: object) -> Iterator[str]:
    """A name with its signature; of a class its own public methods and properties too."""
    if not callable(thing) or (not inspect.isroutine(thing) and not inspect.isclass(thing)):
        yield name
        return
    try:
        yield f"{name}{signature(thing)}"
    except (TypeError, ValueError):
        yield name
    members = vars(thing) if inspect.isclass(thing) else {}
    for member, value in sorted(members.items()):
        function = getattr(value, "__func__", value)
        if member.startswith("_") or member in ("model_config", "model_fields"):
            continue
        if inspect.isfunction(function):
            yield f"    .{member}{signature(function)}"
        elif isinstance(value, property):
            yield f"    .{member}"


def written() -> str:
    """The whole list. A name is described in the first room that offers it."""
    lines, known = [], set()
    for module in [*ROOMS[1:], ROOMS[0]]:
        lines += ["", f"# {module}"]
        for name, thing in sorted(public(module).items()):
            again = inspect.isclass(thing) and thing in known
            lines += [name] if again else described(name, thing)
            if inspect.isclass(thing):
                known.add(thing)
    return "\n".join(lines[1:]) + "\n"


def test_public_names_and_signatures_are_those_written_down():
    for extra in ("torch", "langchain", "langchain_core.decisions"):
        pytest.importorskip(extra, reason="some public names need it")
    assert written() == LIST.read_text(encoding="utf-8"), "see this file's docstring"


def test_the_lists_of_names_are_true():
    for module in ROOMS:
        names = list(importlib.import_module(module).__all__)
        assert len(names) == len(set(names)), module
        assert None not in public(module).values(), module


def test_the_front_door_has_only_what_is_needed_for_running():
    assert len([name for name in langchain_llm_router.__all__ if not name.startswith("__")]) <= 16


def test_everything_public_says_what_it_is_for():
    for module in ROOMS:
        for name, thing in public(module).items():
            documented = inspect.isclass(thing) or inspect.isroutine(thing)
            assert not documented or thing.__doc__, f"{module}.{name}"


if __name__ == "__main__":
    LIST.write_text(written(), encoding="utf-8")
    sys.stdout.write(f"written to {LIST}\n")
