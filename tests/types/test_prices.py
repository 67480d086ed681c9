"""Prices beyond a rate per token: tiers, caches, sound, requests and hosted tools."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router import Price
from langchain_llm_router.calls.prices import look_up_price
from langchain_llm_router.types.usage import Usage
from tests.support.fakes import ScriptedModel

genai_prices = pytest.importorskip("genai_prices")

MODELS = [
    ("gemini-2.5-pro", "google_genai", "google"),
    ("gemini-2.5-flash", "google_genai", "google"),
    ("claude-sonnet-4-5", "anthropic", "anthropic"),
    ("claude-opus-4-1", "anthropic", "anthropic"),
    ("gpt-4o", "openai", "openai"),
    ("gpt-5.4", "openai", "openai"),
    ("grok-4", "xai", "x-ai"),
]


class Named(ScriptedModel):
    """A model that names its provider."""

    provider: str

    def _get_ls_params(self, stop=None, **kwargs):
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_model_name": self.model, "ls_provider": self.provider}


def price_of(name: str, provider: str) -> Price:
    price = look_up_price(Named("x", model=name, provider=provider))
    assert price is not None
    return price


@pytest.mark.parametrize(("name", "provider", "theirs"), MODELS, ids=lambda value: value)
@given(
    st.integers(1, 700_000),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_looked_up_price_charges_what_genai_prices_charges(
    name, provider, theirs, n_in, n_out, read_share, write_share
):
    price = price_of(name, provider)
    read = int(n_in * read_share)
    write = int((n_in - read) * write_share) if price.cache_write_usd_per_mtok is not None else 0
    usage = {"input_tokens": n_in, "output_tokens": n_out, "cache_read_tokens": read,
             "cache_write_tokens": write}  # fmt: skip
    real = genai_prices.calc_price(genai_prices.Usage(**usage), name, provider_id=theirs)
    ours = price.cost_usd(Usage(**usage))
    assert ours == pytest.approx(float(real.total_price), rel=1e-9, abs=1e-12)
    assert price.worst_usd(input_tokens=n_in, output_tokens=n_out) >= ours - 1e-12


rates = st.one_of(st.none(), st.floats(0, 100))


@given(
    st.lists(rates, min_size=7, max_size=7),
    st.dictionaries(st.integers(0, 5000), st.tuples(st.floats(0, 100), st.floats(0, 100))),
    st.integers(0, 9000),
    st.integers(0, 5000),
    st.data(),
)
def test_no_answer_within_the_lengths_costs_more_than_the_worst_case(
    given_rates, tiers, n_in, n_out, data
):
    price = Price(
        1.0, 2.0, *given_rates[:6], reasoning_usd_per_mtok=given_rates[6], request_usd=0.01,
        tiers={start: Price(*two, request_usd=0.01) for start, two in tiers.items()},
    )  # fmt: skip
    read = data.draw(st.integers(0, n_in))
    write = data.draw(st.integers(0, n_in - read))
    audio = data.draw(st.integers(0, n_in - read - write))
    reasoning = data.draw(st.integers(0, n_out))
    used = Usage(
        n_in,
        n_out,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=data.draw(st.integers(0, write)),
        input_audio_tokens=audio,
        output_audio_tokens=data.draw(st.integers(0, n_out - reasoning)),
        reasoning_tokens=reasoning,
    )
    cost = price.cost_usd(used)
    worst = price.worst_usd(
        input_tokens=data.draw(st.integers(n_in, 10_000)), output_tokens=n_out, media={"audio"}
    )
    assert 0 <= cost <= worst + 1e-12


@pytest.mark.parametrize(
    "given_rates",
    [
        {"input_usd_per_mtok": float("nan")},
        {"cache_write_usd_per_mtok": -1.0},
        {"request_usd": float("inf")},
        {"tool_fees_usd": {"web_search": -0.01}},
        {"tool_fees_usd": {"web_search": float("nan")}},
        {"tiers": {-1: Price(1, 1)}},
        {"tiers": {5: Price(1, 1, tiers={9: Price(1, 1)})}},
    ],
    ids=str,
)
def test_a_price_that_makes_no_sense_is_refused_with_its_name(given_rates):
    with pytest.raises(ValueError, match=next(iter(given_rates))):
        Price(**{"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, **given_rates})


def test_a_price_has_a_hash_whatever_it_holds():
    assert hash(Price(1, 2, tool_fees_usd={"web_search": 0.01}, tiers={9: Price(2, 4)}))
