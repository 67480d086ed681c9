"""Prices that change are read again, and keep their age."""

import json
import os
import time

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.live import DatedPrices, Live, PriceFeed
from langchain_llm_router.policies import Always
from tests.support.fakes import ScriptedModel
from tests.support.timed_calls import Clock

RATES = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def test_a_function_is_asked_again_and_its_answer_ages():
    clock, prices = Clock(), {"small": Price(1, 2)}
    feed = PriceFeed(lambda: prices, clock=clock)
    assert feed.look("small") is None
    with feed:
        clock.wait(5)
        assert feed.look("absent", "small").price == Price(1, 2)
        assert feed.look("small").age_s == 5
        prices["small"] = Price(3, 4)
        assert feed.look("small").price == Price(1, 2)
        assert feed.refresh()
        assert (feed.look("small").price, feed.look("small").age_s) == (Price(3, 4), 0)
    assert feed.look("absent") is None


def test_a_source_that_knows_since_when_its_prices_hold_says_so():
    clock = Clock()
    feed = PriceFeed(lambda: DatedPrices({"small": Price(1, 2)}, clock() - 60), clock=clock)
    feed.refresh()
    assert feed.look("small").age_s == 60
    unknown = PriceFeed(lambda: DatedPrices({"small": Price(1, 2)}, None))
    unknown.refresh()
    assert unknown.look("small").age_s is None


def test_a_file_that_is_written_anew_is_read_anew_and_is_as_old_as_it_is(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"small": RATES}), encoding="utf-8")
    os.utime(path, (time.time() - 100, time.time() - 100))
    with PriceFeed(path, every_s=0.02) as feed:
        assert feed.look("small").age_s == pytest.approx(100, abs=5)
        path.write_text(json.dumps({"small": {**RATES, "input_usd_per_mtok": 7}}), encoding="utf-8")
        until = time.monotonic() + 5
        while time.monotonic() < until and feed.look("small").price.input_usd_per_mtok != 7:
            time.sleep(0.01)
        assert feed.look("small").price == Price(7, 2)


def test_a_source_that_fails_keeps_the_last_prices_and_says_why(tmp_path):
    path, clock = tmp_path / "prices.json", Clock(time.time())
    path.write_text(json.dumps({"small": RATES}), encoding="utf-8")
    feed = PriceFeed(path, clock=clock)
    feed.refresh()
    path.write_text('{"small": ', encoding="utf-8")
    clock.wait(60)
    assert not feed.refresh()
    assert "prices.json must map names to prices" in feed.last_error
    assert feed.look("small").price == Price(1, 2)
    assert feed.look("small").age_s == pytest.approx(60, abs=5)


def test_a_name_that_the_source_drops_keeps_its_last_price_and_its_age():
    clock, prices = Clock(), {"small": Price(1, 1), "large": Price(5, 5)}
    feed = PriceFeed(lambda: dict(prices), clock=clock)
    assert feed.refresh()
    del prices["small"]
    prices["large"] = Price(6, 6)
    clock.wait(60)
    assert not feed.refresh()
    assert "no more prices of ['small']" in feed.last_error
    assert (feed.look("small").price, feed.look("small").age_s) == (Price(1, 1), 60)
    assert (feed.look("large").price, feed.look("large").age_s) == (Price(6, 6), 0)
    prices.clear()
    assert not feed.refresh()
    assert "must return `Price`s by name, got {}" in feed.last_error
    assert feed.look("large").price == Price(6, 6)


@pytest.mark.parametrize("as_of_s", ["x", float("nan"), True, 2_000_000.0, -float("inf")])
def test_a_time_that_is_none_or_in_the_future_is_refused_at_the_reading(as_of_s):
    feed = PriceFeed(lambda: DatedPrices({"small": Price(1, 1)}, as_of_s), clock=lambda: 2000.0)
    with pytest.raises(ValueError, match="`as_of_s` must be a Unix time in seconds"):
        feed.start()
    assert not feed.refresh()
    assert "`as_of_s`" in feed.last_error
    assert feed.look("small") is None


def test_an_unknown_age_is_in_the_record_as_unknown():
    live = Live(prices=PriceFeed(lambda: DatedPrices({"small": Price(1, 1)}, None)))
    small, large = (Candidate(name, ScriptedModel("yes")) for name in ("small", "large"))
    router = ChatLLMRouter(candidates=[small, large], policy=Always("small"), live=live)
    live.prices.close()
    assert route_of(router.invoke("hello"))["price_age_s"] == {"small": None}


@pytest.mark.parametrize("text", ["[]", '{"small": 3}', '{"small": {"input": 1}}', '{"small": {}}'])
def test_a_file_of_something_else_is_refused_when_it_is_first_read(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"prices\.json must map names to prices such as"):
        PriceFeed(path).start()
    with pytest.raises(ValueError, match="must return `Price`s by name, got"):
        PriceFeed(lambda: {"small": 3.0}).start()
    with pytest.raises(ValueError, match="`every_s` must be a finite number > 0"):
        PriceFeed(path, every_s=0)


def test_an_arm_has_the_price_of_its_own_name_or_of_its_model_or_of_what_it_is_an_effort_of():
    prices = {"large@azure": Price(5, 5), "large": Price(6, 6), "mini": Price(1, 1)}
    live = Live(prices=PriceFeed(lambda: prices))
    low, high = Candidate("mini").efforts("low", "high")
    azure = Candidate("large@azure", endpoint_of="large")
    openai = Candidate("large@openai", endpoint_of="large")
    arms = [azure, openai, low, high, Candidate("other")]
    live.register(arms)
    live.prices.close()
    found = {name: it and it.price.input_usd_per_mtok for name, it in live.quotes(arms).items()}
    assert found == {
        "large@azure": 5,
        "large@openai": 6,
        "mini:low": 1,
        "mini:high": 1,
        "other": None,
    }
    assert live.stats(arms)["large@azure"].price_age_s is not None
    assert live.stats(arms)["other"].price_age_s is None


def test_a_feed_that_has_none_of_the_candidates_is_refused():
    live = Live(prices=PriceFeed(lambda: {"gpt": Price(1, 2)}))
    with pytest.raises(ValueError, match=r"prices of some of \['small'\], but has none"):
        live.register([Candidate("small")])
    live.prices.close()
