"""What is known of judges' models, and kept from one verdict to the next."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Any, TypeVar

from langchain_core.runnables import Runnable

__all__ = ["JudgeModels"]

_MOST_KEPT = 256

_Value = TypeVar("_Value")


class _Kept(dict[Hashable, tuple[Any, _Value]]):
    """Values by a key with the `id` of a model, which is kept too, so that no other gets its `id`.

    The oldest entries are evicted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def keep(self, key: Hashable, model: Any, value: _Value) -> _Value:
        """Keep a value, and return it."""
        with self._lock:
            while len(self) >= _MOST_KEPT:
                del self[next(iter(self))]
            self[key] = model, value
        return value


class JudgeModels:
    """What makes the calls to judges, and which judges draw several replies in one request.

    To prepare a model for structured output takes longer than all else that a verdict costs here,
    and most calls differ in nothing but their prompt.

    Attributes:
        prepared: What makes a call, by all that it depends on.
        several: Whether a judge draws several replies, by its model and its declaration.
    """

    def __init__(self) -> None:
        self.prepared = _Kept[Runnable[Any, Any]]()
        self.several = _Kept[bool]()

    def __deepcopy__(self, memo: Any) -> JudgeModels:
        return JudgeModels()
