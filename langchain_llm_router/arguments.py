"""What a user says is heard: unknown and misplaced arguments are errors that say what is meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = ["check_kind", "refuse_unknown"]


def refuse_unknown(given: Iterable[str], known: Iterable[str], who: str) -> None:
    """Refuse an argument that does not exist, and name the nearest one.

    Raises:
        TypeError: With the unknown name.
    """
    allowed = list(known)
    for name in given:
        if name not in allowed:
            near = get_close_matches(name, allowed, 1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Allowed are {allowed}."
            msg = f"{who} has no argument `{name}`. {hint}"
            raise TypeError(msg)


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse a value of the wrong class.

    Raises:
        TypeError: With the argument's name and the value.
    """
    if not isinstance(value, kind):
        msg = f"`{name}` must be a {kind.__name__}, got {value!r}."
        raise TypeError(msg)
