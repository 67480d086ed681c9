"""Prices of models' tokens, looked up offline; an unknown price is None."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_llm_router.calls.langchain_internals import langsmith_params
from langchain_llm_router.live.price_feeds import DatedPrices, PriceFeed
from langchain_llm_router.loop.endpoints import expand_endpoints
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.types.errors import import_extra

__all__ = ["look_up_price", "price_by_name", "published_prices"]

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

# Our rates, and what genai-prices calls them.
_RATES = {
    "input_usd_per_mtok": "input_mtok",
    "output_usd_per_mtok": "output_mtok",
    "cache_read_usd_per_mtok": "cache_read_mtok",
    "cache_write_usd_per_mtok": "cache_write_mtok",
    "cache_write_1h_usd_per_mtok": "cache_write_1h_mtok",
    "input_audio_usd_per_mtok": "input_audio_mtok",
    "output_audio_usd_per_mtok": "output_audio_mtok",
    "input_image_usd_per_mtok": "input_image_mtok",
    "reasoning_usd_per_mtok": "output_reasoning_mtok",
}
# Kinds of hosted tools, and what genai-prices calls a thousand of their uses.
_FEES = {
    "web_search": "web_searches_kcount",
    "file_search": "storage_searches_kcount",
    "x_search": "social_searches_kcount",
    "code_execution": "code_executions_kcount",
}


def look_up_price(model: BaseChatModel) -> Price | None:
    """Look up the price of a chat model by its LangSmith provider and model name.

    Prices come from the table in the package `genai-prices` (extra `prices`), with all that it
    has: tiers by context length, cache reads and writes, audio, requests, fees of hosted tools.

    Returns:
        The price, or None if the package is not installed or has no price for the model.
    """
    return price_by_name(*_names_of(model))


@lru_cache(maxsize=256)
def price_by_name(provider: str | None, name: str | None) -> Price | None:
    """Look up a price by the names that a model has in traces, as `look_up_price` does."""
    return _calculate_price(provider, name)


def published_prices(candidates: Sequence[Candidate], *, every_s: float = 3600.0) -> PriceFeed:
    """Return a feed of the prices that genai-prices publishes, for `Live(prices=...)`.

    It asks the network: from its start until it is closed, genai-prices fetches its table in the
    background. Until the first fetch succeeds, the prices are those of the installed package, of
    unknown age. A fetch that failed is in `last_error` from the next read on, a minute later or
    sooner.

    Args:
        candidates: The candidates to price; one whose model has no published price keeps its own.
        every_s: Seconds between two fetches.

    Raises:
        MissingExtraError: If genai-prices (extra `prices`) is not installed.
    """
    return PriceFeed(_PublishedTable(candidates, every_s), every_s=min(every_s, 60.0))


class _PublishedTable:
    """Reads the table that genai-prices fetches in the background from the first call on."""

    def __init__(self, candidates: Sequence[Candidate], every_s: float) -> None:
        genai_prices = import_extra("genai_prices", "prices")
        self._snapshots = import_extra("genai_prices.data_snapshot", "prices")
        self._updates = genai_prices.UpdatePrices(update_interval=every_s)
        self._has_read = False
        self._named = [(arm.name, *_names_of(arm.model)) for arm in expand_endpoints(candidates)]

    def __call__(self) -> DatedPrices:
        self._updates.start()
        if self._has_read:
            self._updates.wait(0)  # raises the error of the last fetch, if that failed
        self._has_read = True
        found = {arm: _calculate_price(provider, name) for arm, provider, name in self._named}
        table = self._snapshots.get_snapshot()
        as_of_s = table.timestamp.timestamp() if table.from_auto_update else None
        return DatedPrices({n: price for n, price in found.items() if price is not None}, as_of_s)

    def close(self) -> None:
        self._updates.stop()


def _names_of(model: object) -> tuple[str | None, str | None]:
    """Return the names of a model and its provider, as LangSmith has them."""
    if isinstance(model, str):
        provider, colon, name = model.partition(":")
        return (provider, name) if colon else (None, model)
    params = langsmith_params(model) if isinstance(model, BaseChatModel) else {}
    return params.get("ls_provider"), params.get("ls_model_name")


def _calculate_price(provider: str | None, name: str | None) -> Price | None:
    if not name or find_spec("genai_prices") is None:
        return None
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - an optional dependency

    provider = None if provider is None else _PROVIDERS.get(provider, provider)
    try:
        calculation = calc_price(Usage(input_tokens=1, output_tokens=1), name, provider_id=provider)
    except LookupError:
        return None
    return _price_of(calculation.model_price)


def _price_of(table: Any) -> Price | None:
    """Our price for the rates of genai-prices; None where a token has none."""
    rates = {ours: getattr(table, theirs, None) for ours, theirs in _RATES.items()}
    if rates["input_usd_per_mtok"] is None or rates["output_usd_per_mtok"] is None:
        return None
    per_request = _at(getattr(table, "requests_kcount", None), 0) or 0.0
    fees = {kind: _at(getattr(table, theirs, None), 0) for kind, theirs in _FEES.items()}
    rest: dict[str, Any] = {
        "request_usd": per_request / 1000,
        "tool_fees_usd": {kind: fee / 1000 for kind, fee in fees.items() if fee is not None},
    }
    tiered = [tier for rate in rates.values() for tier in getattr(rate, "tiers", ())]

    def price(above: int | None, tiers: dict[int, Price]) -> Price:
        at: dict[str, Any] = {name: _at(rate, above) for name, rate in rates.items()}
        return Price(**at, **rest, tiers=tiers)

    return price(None, {tier.start: price(tier.start, {}) for tier in tiered})


def _at(rate: Any, above: int | None) -> float | None:
    """A rate for prompts of more than so many tokens; None: for short ones."""
    if rate is None or not hasattr(rate, "tiers"):
        return None if rate is None else float(rate)
    reached = [tier for tier in rate.tiers if above is not None and tier.start <= above]
    return float(max(reached, key=lambda tier: tier.start).price if reached else rate.base)
