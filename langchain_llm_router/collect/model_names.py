"""How a journal's identities of models are compared and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["describe_model", "same_model"]


def describe_model(identity: Mapping[str, Any]) -> str:
    """Return a model with its address and parameters as a text for an error."""
    parts = [repr(identity.get("model"))]
    if identity.get("base_url"):
        parts.append(f"at {identity['base_url']}")
    if identity.get("parameters"):
        parts.append(f"with {identity['parameters']}")
    return " ".join(parts)


def same_model(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether two identities are the same model, wherever it is served."""
    return all(a.get(name) == b.get(name) for name in ("model", "parameters"))
