"""JSON objects as answers, which are compared field by field.

What a model says about its answer, its thoughts and its confidence, is no part of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_llm_router.verification.answer_forms import Form, canonical, json_value
from langchain_llm_router.verification.non_answers import says_nothing

__all__ = ["names_nothing", "object_form", "only_answer", "read_object"]

_MOST_CHARS, _MOST_NESTED = 100_000, 50
_ABOUT_IT = frozenset(
    {
        "reasoning", "rationale", "thought", "thoughts", "thinking", "chain_of_thought",
        "scratchpad", "confidence",
    }
)  # fmt: skip
_BESIDE_ANSWER = frozenset(
    {"reason", "reasons", "explanation", "justification", "analysis", "steps"}
)
"""Fields that say something about the answer where another field is called so."""
_ANSWER = re.compile(r"(?:final[ _]?)?answer", re.IGNORECASE)


def read_object(text: str) -> dict[str, Any] | None:
    """Return the fields of a text that is one JSON object; None of any other text.

    Fields that say something about the answer are left out, unless there are no others.
    """
    bare = text.strip()
    if len(bare) > _MOST_CHARS or bare[-1:] not in ("}", "`"):
        return None
    fence, _, rest = bare.partition("\n")
    if fence.casefold() in ("```", "```json") and rest.endswith("\n```"):
        bare = rest.removesuffix("```").strip()
    fields = json_value(bare) if bare.startswith("{") else None
    if not isinstance(fields, dict) or _nesting(fields) > _MOST_NESTED:
        return None
    has_answer = any(map(_ANSWER.fullmatch, fields))
    left_out = _ABOUT_IT | _BESIDE_ANSWER if has_answer else _ABOUT_IT
    return {k: v for k, v in fields.items() if k.casefold() not in left_out} or fields


def only_answer(fields: Mapping[str, Any]) -> str | None:
    """Return the text of an object whose only field is called an answer; None of any other."""
    if len(fields) != 1:
        return None
    ((name, value),) = fields.items()
    if _ANSWER.fullmatch(name) is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)


def object_form(fields: Mapping[str, Any], text: str) -> Form:
    """Return the form of an object: equal are those with the same values, in whatever order.

    Numbers are compared by their values, texts to the letter, lists in their order.
    """
    texts = [leaf for leaf in _leaves(fields) if isinstance(leaf, str)]
    prose = max((len(leaf) for leaf in texts if " " in leaf.strip()), default=0)
    return Form("collection", canonical(fields), text, prose=prose)


def names_nothing(fields: Mapping[str, Any]) -> bool:
    """Return whether an object has no result: all that its fields say is that it is not known."""
    said = [leaf for leaf in _leaves(fields) if leaf is not None and leaf != ""]
    return len(said) > 0 and all(isinstance(leaf, str) and says_nothing(leaf) for leaf in said)


def _nesting(value: Any) -> int:
    """Return how many objects and lists stand within one another."""
    n, inside = 0, [value]
    while inside:
        n += 1
        parts = [one.values() if isinstance(one, Mapping) else one for one in inside]
        inside = [item for part in parts for item in part if isinstance(item, dict | list)]
    return n


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values in an object that are neither objects nor lists."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list):
            left += one
        else:
            yield one
