"""Candidates and prices as a command line has them: nothing is merged or dropped."""

import pytest

from langchain_llm_router.collect import parse_candidates

ONE, TWO = "a=openai:x@http://h:1/v1", "a=openai:y@http://h:2/v1"


@pytest.mark.parametrize(
    ("texts", "prices", "said"),
    [
        ([ONE, TWO], [], f"{ONE!r} and {TWO!r} are both 'a'"),
        (["openai:x@http://h:1/v1", "openai:x@http://h:2/v1"], [], "h:2/v1' are both 'x'"),
        ([ONE], ["a=1,2", "a=3,4"], "must have one price, got 'a=1,2' and 'a=3,4'"),
        (["a=openai:"], [], "must name a model behind its provider, got 'a=openai:'"),
        (["a=openai:x@http://h:abc/v1"], [], "a port from 1 to 65535"),
        (["a=openai:x@http://h:99999/v1"], [], "a port from 1 to 65535"),
        (["a=openai:x@http://:80/v1"], [], "must have a host"),
    ],
)
def test_what_would_be_merged_or_cannot_be_asked_is_refused(monkeypatch, texts, prices, said):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with pytest.raises(ValueError, match=r".") as caught:
        parse_candidates(texts, prices)
    assert said in str(caught.value)


def test_efforts_make_an_arm_each_and_one_price_holds_for_all(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    texts = ["mini=openai:gpt-5-mini?reasoning_effort=low,high", "openai:o3?reasoning_effort=low"]
    low, high, o3 = parse_candidates(texts, ["mini=1,2", "mini:high=3,4"])
    assert [low.name, high.name, o3.name] == ["mini:low", "mini:high", "o3:low"]
    assert (low.price.input_usd_per_mtok, high.price.input_usd_per_mtok) == (1, 3)
    assert (low.model.reasoning_effort, high.model.reasoning_effort) == ("low", "high")


def test_one_effort_keeps_the_name_that_was_written(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    text = "mini=openai:gpt-5-mini?reasoning_effort=low&seed=3@http://h:1/v1"
    (mini,) = parse_candidates([text])
    assert (mini.name, mini.effort, mini.parameters) == ("mini", "low", {"seed": 3})


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("api_key=sk-secret", "'api_key' of a candidate is not known"),
        ("reasoning_effort=", "'reasoning_effort' of a candidate has no value"),
        ("seed=1&seed=2", "'seed' of a candidate is given twice"),
        ("thinking_budget=much", "'thinking_budget' of a candidate must be a whole number"),
        ("top_p=x", "'top_p' of a candidate must be a number"),
        ("", "'' of a candidate is not known"),
    ],
)
def test_unknown_and_wrong_parameters_are_refused_without_their_values(parameters, said):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_candidates([f"mini=openai:gpt-5-mini?{parameters}"])
    assert said in str(caught.value)
    assert "sk-secret" not in str(caught.value)
