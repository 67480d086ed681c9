"""What a run asks, as its journal keeps it: models with parameters, and versions of prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router.collect.graders import Grader, PairwiseJudge
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.secrets import find_secrets, redact_data
from langchain_llm_router.verification import Case, Evaluating, Verifier
from langchain_llm_router.verification.description import prompt_version_of

__all__ = ["model_identity", "prompt_versions"]

_MODEL_FIELDS = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")
_URL_FIELDS = ("openai_api_base", "azure_endpoint", "base_url", "anthropic_api_url", "endpoint_url")
_PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "num_predict",
    "num_ctx",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stop_sequences",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "thinking_budget",
    "thinking_level",
    "effort",
    "verbosity",
    "model_kwargs",
    "extra_body",
)


def model_identity(candidate: Candidate) -> dict[str, Any]:
    """Return what defines a candidate's answers, as JSON data without keys.

    Returns:
        `model` (if it has no name, `class`), `base_url` and `parameters`; None where the model does
        not say.
    """
    model = candidate.model
    parameters = {
        name: value
        for name in _PARAMETERS
        if (value := getattr(model, name, None)) not in (None, {}, []) and _is_plain(value)
    }
    parameters |= {name: it for name, it in candidate.parameters.items() if _is_plain(it)}
    name = _first_text(model, _MODEL_FIELDS)
    identity = {
        # The same model may be asked through another client.
        "class": type(model).__name__ if name is None else None,
        "model": name,
        "base_url": _first_text(model, _URL_FIELDS),
        "parameters": parameters,
    }
    redacted: dict[str, Any] = redact_data(identity, find_secrets(model))
    return redacted


def prompt_versions(
    grader: Grader | PairwiseJudge, verifiers: Mapping[str, Verifier], candidate: Candidate
) -> dict[str, str]:
    """Return a version of the prompts of the grader and of each verifier that asks a model."""
    question = Question("", "question", reference="1")
    case = Case([HumanMessage("question")], AIMessage("1"), candidate)
    steps: dict[str, Evaluating] = {
        name: it.evaluate(it.example_case(candidate)) for name, it in verifiers.items()
    }
    steps["grader"] = (
        grader.compare(question, "1", "2")
        if isinstance(grader, PairwiseJudge)
        else grader.grade(question, case)
    )
    found = {name: prompt_version_of(evaluating) for name, evaluating in steps.items()}
    return {name: version for name, version in found.items() if version is not None}


def _first_text(model: object, names: Iterable[str]) -> str | None:
    values = (getattr(model, name, None) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or _is_finite(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
