"""The maximum length of an answer, and how a provider is told."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.types.candidates import Candidate

__all__ = ["LENGTHS", "tell_limit"]

LENGTHS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "num_predict",
)
"""Providers' names for the maximum length of an answer."""

_OURS = __name__.partition(".")[0]


def tell_limit(candidate: Candidate, model: BaseChatModel) -> BaseChatModel:
    """Return a model that tells its provider the candidate's `max_output_tokens`.

    A model with a limit of its own is returned itself, and so is one that has no field for it.
    """
    limit, kind = candidate.max_output_tokens, type(model)
    name = next((name for name in LENGTHS if name in kind.model_fields), None)
    if limit is None or name is None or kind.__module__.startswith(_OURS):
        return model
    return model if getattr(model, name) is not None else model.model_copy(update={name: limit})
