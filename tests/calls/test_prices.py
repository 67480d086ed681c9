"""Prices that are looked up: input and output are not mixed up, and unknown ones are None."""

import pytest

from langchain_llm_router import Candidate, Price
from langchain_llm_router.calls import look_up_price, published_prices
from langchain_llm_router.calls.chat_models import resolve_candidate
from tests.support.fakes import ScriptedModel


class Priced(ScriptedModel):
    """Says whose model it is, as a provider's model does."""

    model_name: str = "gpt-4o-mini"
    provider: str = "openai"

    def _get_ls_params(self, stop=None, **kwargs):
        named = {"ls_model_name": self.model_name, "ls_provider": self.provider}
        return {**super()._get_ls_params(stop, **kwargs), **named}


def rates(price):
    """Return USD per million tokens of input, output and what is read from the cache."""
    assert price is not None
    return price.input_usd_per_mtok, price.output_usd_per_mtok, price.cache_read_usd_per_mtok


@pytest.fixture(autouse=True)
def _table():
    pytest.importorskip("genai_prices", reason="the table of prices is an extra")


def test_a_price_has_the_published_rates_of_input_output_and_cache():
    assert rates(look_up_price(Priced("x"))) == (0.15, 0.6, 0.075)


def test_langchain_s_name_of_a_provider_is_translated():
    price = look_up_price(Priced("x", model_name="gemini-1.5-flash", provider="google_genai"))
    assert price is not None
    assert price.input_usd_per_mtok < price.output_usd_per_mtok


def test_where_a_price_grows_with_the_context_it_is_that_of_the_shortest():
    price = look_up_price(Priced("x", model_name="gemini-2.5-pro", provider="google_genai"))
    assert price is not None
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (1.25, 10)


def test_a_model_that_the_table_does_not_have_has_no_price():
    assert look_up_price(Priced("x", model_name="no-such-model")) is None
    assert look_up_price(ScriptedModel("x")) is None


def test_a_price_that_is_given_is_not_looked_up():
    assert resolve_candidate(Candidate("a", Priced("x"), Price(1, 2))).price == Price(1, 2)
    assert rates(resolve_candidate(Candidate("a", Priced("x"))).price) == (0.15, 0.6, 0.075)


@pytest.fixture
def published(monkeypatch):
    """What genai-prices has fetched; nothing is fetched here."""
    import genai_prices
    from genai_prices import data_snapshot

    started = []

    def start(updates):
        started.append(updates)

    monkeypatch.setattr(genai_prices.UpdatePrices, "start", start)
    yield started
    data_snapshot.set_custom_snapshot(None)


def test_published_prices_are_those_of_the_package_until_they_are_fetched(published):
    from genai_prices import data_snapshot

    feed = published_prices([Candidate("mini", Priced("x")), Candidate("own", ScriptedModel("x"))])
    assert published == []
    assert feed.refresh()
    assert len(published) == 1
    assert rates(feed.look("mini").price) == (0.15, 0.6, 0.075)
    assert feed.look("mini").age_s is None
    assert feed.look("own") is None
    table = data_snapshot.get_snapshot()
    data_snapshot.set_custom_snapshot(
        data_snapshot.DataSnapshot(providers=table.providers, from_auto_update=True)
    )
    assert feed.refresh()
    assert 0 <= feed.look("mini").age_s < 60


def test_a_fetch_that_failed_is_told_while_the_prices_of_the_package_stay(published, monkeypatch):
    import genai_prices

    def wait(updates, timeout):
        msg = "no network"
        raise OSError(msg)

    monkeypatch.setattr(genai_prices.UpdatePrices, "wait", wait)
    feed = published_prices([Candidate("mini", Priced("x"))])
    assert feed.refresh()
    assert not feed.refresh()
    assert "no network" in feed.last_error
    assert rates(feed.look("mini").price) == (0.15, 0.6, 0.075)


def test_published_prices_are_found_for_models_that_are_only_named(published):
    feed = published_prices([Candidate("mini", "openai:gpt-4o-mini")])
    assert feed.refresh()
    assert rates(feed.look("mini").price) == (0.15, 0.6, 0.075)


def test_a_closed_feed_of_published_prices_no_longer_asks_the_network(published, monkeypatch):
    import genai_prices

    monkeypatch.setattr(genai_prices.UpdatePrices, "stop", lambda updates: published.clear())
    with published_prices([Candidate("mini", Priced("x"))]) as feed:
        assert len(published) == 1
    assert published == []
    assert rates(feed.look("mini").price) == (0.15, 0.6, 0.075)
