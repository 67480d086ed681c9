"""A verifier as plain data: saved with a router, and compared or built again when it is loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_llm_router.data.artifacts import kind_of, known_class
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.verification.verifier import Evaluating, Verifier

__all__ = [
    "build_verifier",
    "describe_verifier",
    "prompt_version",
    "prompt_version_of",
    "same_verifier",
    "verifier_name",
]

_DEFINING = ("kind", "parameters", "prompt")

_MODEL_FIELDS = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]++")


def describe_verifier(verifier: Verifier, candidate: Candidate | None = None) -> dict[str, Any]:
    """Return what defines a verifier's scores, as JSON data.

    Args:
        verifier: The verifier.
        candidate: A candidate whose answers it may verify, for its prompt.

    Returns:
        `kind`, the `parameters` on which the scores depend, the `settings` on which only the number
        of calls depends, and the version of its `prompt` (None if it asks no model).
    """
    described: dict[str, Any] = {"kind": kind_of(type(verifier)), "parameters": {}, "settings": {}}
    own: Any = fields(cast("Any", verifier)) if is_dataclass(verifier) else ()
    for field in own:
        part = "settings" if field.name in verifier.free_parameters else "parameters"
        described[part][field.name] = _plain(getattr(verifier, field.name))
    if (fitted := getattr(verifier, "data_hash_", None)) is not None:
        described["parameters"]["fitted_on"] = str(fitted)
    asked = candidate or Candidate("candidate")
    if (report := verifier.report_of(asked.model_name)) is not None:
        described["prompt"] = prompt_version([HumanMessage(report.instruction)])
    else:
        described["prompt"] = prompt_version_of(verifier.evaluate(verifier.example_case(asked)))
    return described


def same_verifier(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether two descriptions are of verifiers whose scores mean the same."""
    return all(_comparable(a.get(part)) == _comparable(b.get(part)) for part in _DEFINING)


def build_verifier(described: Mapping[str, Any], candidates: Mapping[str, Candidate]) -> Verifier:
    """Build the verifier that a description is of.

    Args:
        described: The description, from `describe_verifier`.
        candidates: Live candidates by name, among them every model that the verifier asks.

    Raises:
        ValueError: If it cannot be built: its class is not imported, it asks a model that is not
            among the candidates, it was fitted, or this version has another prompt.
    """
    try:
        kind = known_class(Verifier, described["kind"], "the saved router")  # type: ignore[type-abstract]
        given = {**described["settings"], **described["parameters"]}
        usual = {field.name: _plain(field.default) for field in fields(cast("Any", kind))}
        changed = {name: it for name, it in given.items() if it != usual.get(name, MISSING)}
        verifier = kind(**{name: _live(value, candidates) for name, value in changed.items()})
    except (ArtifactError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        msg = f"{verifier_name(described)} cannot be built from its description: {reason}."
        raise ValueError(msg) from error
    if not same_verifier(described, now := describe_verifier(verifier)):
        msg = (
            f"{verifier_name(described)} had another prompt (version {described.get('prompt')}, "
            f"now {now['prompt']}) when the scores were collected."
        )
        raise ValueError(msg)
    return verifier


def verifier_name(described: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> str:
    """Return a description as a short text, e.g. `YesNo(n_samples=8)`.

    Args:
        described: The description.
        beside: Another description: the parameters in which both differ are shown as well.
    """
    given: Mapping[str, Any] = described.get("parameters") or {}
    other: Mapping[str, Any] = (beside or {}).get("parameters") or {}
    same_kind = beside is not None and beside.get("kind") == described.get("kind")
    shown = [
        f"{name}={_text(value)}"
        for name, value in given.items()
        if name == "n_samples"
        or (name == "judge" and value is not None)
        or (same_kind and _comparable(other.get(name)) != _comparable(value))
    ]
    text = f"{described.get('kind')}({', '.join(shown)})"
    if same_kind and beside is not None and beside.get("prompt") != described.get("prompt"):
        text += f" with prompt version {described.get('prompt')}"
    return text


def prompt_version(messages: Iterable[BaseMessage]) -> str:
    """Return a short hash of messages."""
    shown = repr([(message.type, message.text) for message in messages])
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prompt_version_of(steps: Evaluating) -> str | None:
    """Return a short hash of the first messages that a verifier sends; None if it sends none."""
    try:
        calls = next(steps)
    except StopIteration:
        return None
    finally:
        steps.close()
    return prompt_version(message for call in calls for message in call.messages)


def _plain(value: Any) -> Any:
    if isinstance(value, Candidate):
        names = [getattr(value.model, name, None) for name in _MODEL_FIELDS]
        model = next((name for name in names if isinstance(name, str) and name), None)
        return {"candidate": value.name, "model": model}
    if isinstance(value, Verifier):
        return {"verifier": describe_verifier(value)}
    if callable(value):
        # Where an object lies in memory is another place in every process.
        name = getattr(value, "__qualname__", None) or _ADDRESS.sub("", repr(value))
        return {"function": f"{getattr(value, '__module__', '')}:{name}"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    is_json = value is None or isinstance(value, str | int | float)
    return value if is_json else {"object": kind_of(type(value))}


def _live(value: Any, candidates: Mapping[str, Candidate]) -> Any:
    """Return the value that `_plain` described."""
    if isinstance(value, list):
        return [_live(item, candidates) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "candidate" in value:
        if value["candidate"] not in candidates:
            msg = (
                f"its model {value['candidate']!r} is not one of the candidates {list(candidates)}"
            )
            raise ValueError(msg)
        return candidates[value["candidate"]]
    if "verifier" in value:
        return build_verifier(value["verifier"], candidates)
    if "function" in value or "object" in value:
        msg = f"a part of it is code or data of your own: {_text(value)}"
        raise ValueError(msg)
    return {key: _live(item, candidates) for key, item in value.items()}


def _comparable(value: Any) -> Any:
    """Return a value in which a model is known by its provider's name, if that is known."""
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    if isinstance(value, Mapping):
        if "candidate" in value:
            return {"model": value.get("model") or value["candidate"]}
        return {key: _comparable(item) for key, item in value.items()}
    return value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        for key in ("candidate", "function", "object"):
            if key in value:
                return str(value[key])
        if "verifier" in value:
            return verifier_name(value["verifier"])
    return repr(value)[:60]
