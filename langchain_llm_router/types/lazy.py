"""Lazy imports: names of a module that are imported on first use (PEP 562).

    if TYPE_CHECKING:
        from langchain_llm_router.router import ChatLLMRouter
    else:
        __getattr__, __dir__ = lazy_names(__name__, {".router": "ChatLLMRouter"})

A type checker reads the imports and not `__getattr__`, and so still reports a misspelt name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["lazy_names", "suggest_name"]


def lazy_names(
    module: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a module whose names are defined in other modules.

    Both also cover a package's submodules, as if these had been imported.

    Args:
        module: The module's `__name__`.
        homes: Space-separated names by the module that defines them; `.router` is relative.

    Returns:
        The two functions. For an unknown name they raise an `AttributeError`, in a
        `from ... import` an `ImportError`; the message suggests the nearest known name.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        namespace = vars(sys.modules[module])
        if name in home_of:
            home = import_module(home_of[name], namespace["__package__"])
            # Stored in the module, so that Python does not call this function for it again.
            namespace[name] = getattr(home, name)
            return namespace[name]
        submodule = f"{module}.{name}"
        is_package = "__path__" in namespace
        if is_package and not name.startswith("_") and find_spec(submodule) is not None:
            return import_module(submodule)
        msg = f"module {module!r} has no attribute {name!r}.{suggest_name(name, names())}"
        # `from x import name` swallows an AttributeError and its text, `hasattr` needs one.
        if sys._getframe(1).f_code.co_name == "_handle_fromlist":
            raise ImportError(msg, name=module)
        raise AttributeError(msg)

    def names() -> list[str]:
        namespace = vars(sys.modules[module])
        return sorted({*namespace.get("__all__", namespace), *home_of})

    return get, names


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` if a known name is similar, otherwise an empty string."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    found = get_close_matches(name, list(known), n=1)
    return f" Did you mean `{found[0]}`?" if found else ""
