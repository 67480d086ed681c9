"""Names of a module that are imported when they are first asked for (PEP 562).

    if TYPE_CHECKING:
        from langchain_llm_router.router import ChatLLMRouter
    else:
        __getattr__, __dir__ = lazy_names(__name__, {".router": "ChatLLMRouter"})

A type checker sees the imports and not `__getattr__`, so that it still finds a misspelt name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["lazy_names", "nearest"]


def lazy_names(
    module: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a module whose names live elsewhere.

    A package's own submodules can be asked for as well, as if they had been imported.

    Args:
        module: The module's `__name__`.
        homes: Names parted by spaces, by the module that defines them; `.router` is the package's.

    Returns:
        The two functions. A name that there is not is an `AttributeError`, and in a
        `from ... import` an `ImportError`; both say which name is nearest.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        own = vars(sys.modules[module])
        if name in home_of:
            # Kept, so that it is looked for once.
            own[name] = getattr(import_module(home_of[name], own["__package__"]), name)
            return own[name]
        part = f"{module}.{name}"
        if "__path__" in own and not name.startswith("_") and find_spec(part) is not None:
            return import_module(part)
        msg = f"module {module!r} has no attribute {name!r}.{nearest(name, names())}"
        # `from x import name` swallows an AttributeError and its text, `hasattr` needs one.
        if sys._getframe(1).f_code.co_name == "_handle_fromlist":
            raise ImportError(msg, name=module)
        raise AttributeError(msg)

    def names() -> list[str]:
        own = vars(sys.modules[module])
        return sorted({*own.get("__all__", own), *home_of})

    return get, names


def nearest(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?` where a known name is near enough to be meant, otherwise nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    found = get_close_matches(name, list(known), n=1)
    return f" Did you mean `{found[0]}`?" if found else ""
