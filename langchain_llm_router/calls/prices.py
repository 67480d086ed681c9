"""What a model's tokens cost, looked up offline; what is not known stays unknown."""

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
    """The base price of a chat model by its LangSmith provider and model name.

    Uses `genai-prices` (extra `prices`), whose table comes with the package. Models with prices
    tiered by context length get the first tier.

    Returns:
        None where the package is not installed or does not know the model.
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
        found = calc_price(Usage(input_tokens=1, output_tokens=1), name, provider_id=provider)
    except LookupError:
        return None
    rates = found.model_price
    input_rate, output_rate = _rate(rates.input_mtok), _rate(rates.output_mtok)
    if input_rate is None or output_rate is None:
        return None
    return Price(input_rate, output_rate, _rate(rates.cache_read_mtok))


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    return float(getattr(value, "base", value))
