"""Prices of models' tokens, looked up offline; an unknown price is None."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.langchain_internals import langsmith_params
from langchain_llm_router.types import Price

__all__ = ["look_up_price"]

# LangChain's provider names that genai-prices spells differently.
_PROVIDERS = {
    "amazon_bedrock": "aws",
    "azure_openai": "azure",
    "bedrock": "aws",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "xai": "x-ai",
}


def look_up_price(model: BaseChatModel) -> Price | None:
    """Look up the base price of a chat model by its LangSmith provider and model name.

    Prices come from the table in the package `genai-prices` (extra `prices`). If a model's price
    depends on the context length, the price for the shortest contexts is returned.

    Returns:
        The price, or None if the package is not installed or has no price for the model.
    """
    if find_spec("genai_prices") is None:
        return None
    params = langsmith_params(model)
    name, provider = params.get("ls_model_name"), params.get("ls_provider")
    if not name:
        return None
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - an optional dependency

    provider = None if provider is None else _PROVIDERS.get(provider, provider)
    try:
        calculation = calc_price(Usage(input_tokens=1, output_tokens=1), name, provider_id=provider)
    except LookupError:
        return None
    rates = calculation.model_price
    input_rate, output_rate = _rate(rates.input_mtok), _rate(rates.output_mtok)
    if input_rate is None or output_rate is None:
        return None
    return Price(input_rate, output_rate, _rate(rates.cache_read_mtok))


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    return float(getattr(value, "base", value))
