"""The retries of providers' clients, which the router cannot see, limit or pay for.

Clients retry on their own, twice by default. The router asks with copies of the models whose
clients do not; where that cannot be done, their retries are part of the worst case of a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel

__all__ = ["client_retries", "without_retries"]

_OURS = __name__.partition(".")[0]

_MADE: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Clients that do not retry, by the clients they were made from."""


def without_retries(model: BaseChatModel) -> BaseChatModel:
    """Return the model with a client that does not retry; the given object stays as it is.

    The copy shares the connections of the original. A model that never retries is returned itself.
    """
    if not _may_retry(model):
        return model
    copy = model.model_copy(update={"max_retries": 0})
    for name, value in list(vars(copy).items()):
        if isinstance(getattr(type(copy), name, None), cached_property):
            # A client that is made on first use, with the retries of that time.
            del vars(copy)[name]
        else:
            unretried = _unretried(value)
            if unretried is not value:
                vars(copy)[name] = unretried
    return copy


def client_retries(model: Any) -> int:
    """Return how often a model's client retries unseen although `without_retries` was applied."""
    config = getattr(getattr(getattr(model, "client", None), "meta", None), "config", None)
    if config is None or not isinstance(model, BaseChatModel):
        return 0
    # boto3, whose clients cannot be copied.
    retries = getattr(config, "retries", None) or {}
    attempts = retries.get("total_max_attempts", 1 + retries.get("max_attempts", 4))
    return max(0, int(attempts) - 1)


def _may_retry(model: BaseChatModel) -> bool:
    if "max_retries" not in type(model).model_fields or type(model).__module__.startswith(_OURS):
        return False
    return getattr(model, "max_retries", None) != 0


def _unretried(value: Any) -> Any:
    """A provider's client, or one of its resources, that does not retry; anything else as it is."""
    client = getattr(value, "_client", None)
    if _has_retries(value):
        return _once(value, lambda: value.with_options(max_retries=0))
    if client is not None and _has_retries(client):
        return _once(value, lambda: type(value)(client.with_options(max_retries=0)))
    return value


def _has_retries(client: Any) -> bool:
    return hasattr(client, "with_options") and hasattr(client, "max_retries")


def _once(source: Any, make: Callable[[], Any]) -> Any:
    # A client takes half a millisecond to copy, and a judge is prepared for every verdict.
    found = _MADE.get(source)
    if found is None:
        found = _MADE[source] = make()
    return found
