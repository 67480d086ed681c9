"""What one request may change, as a mapping and as a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router import Candidate, ChatLLMRouter, Price, RoutingOptions, route_of
from langchain_llm_router.estimators import Constant
from langchain_llm_router.policies import Always, Threshold, Utility
from langchain_llm_router.types.errors import NoCandidateError
from langchain_llm_router.types.options import Filter
from tests.support.fakes import ScriptedModel, make_outcomes


def router(policy=None) -> ChatLLMRouter:
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    small = Candidate("small", ScriptedModel("s"), Price(1, 2), ttft_s=0.2, itl_s=0.01)
    large = Candidate("large", ScriptedModel("l"), Price(10, 20), ttft_s=1.0, itl_s=0.03)
    return ChatLLMRouter(candidates=[small, large], estimator=estimator, policy=policy or Utility())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"colour": 1}, r"Unknown routing options \['colour'\].*'force'.*'lambda'"),
        ({"lambda": -1.0}, "`lambda` must be a finite number >= 0"),
        ({"weights": {"taste": 1.0}}, r"'quality'.*got \['taste'\]"),
        ({"candidates": []}, "`candidates` is empty"),
    ],
)
def test_options_that_mean_nothing_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        RoutingOptions.parse(given)


def test_options_come_from_mappings_options_or_nothing():
    options = RoutingOptions.parse({"lambda": 0.0, "candidates": ["a"]})
    assert options.lambda_ == 0.0
    assert options.candidates == ("a",)
    assert RoutingOptions.parse(options) is options
    assert RoutingOptions.parse(None) == RoutingOptions()
    with pytest.raises(TypeError, match="mapping"):
        RoutingOptions.parse(3)


def ask(given, policy=None):
    config = {"configurable": {"llm_router": given}}
    return route_of(router(policy).invoke("hi", config))["candidate"]


def test_unifys_line_sets_weights_models_and_filters():
    options = RoutingOptions.parse(
        "router@q:1|c:4.65e-03|t:2.08e-05|i:2.07e-03|models:a,b|itl<20|ttft<=0.5s|cost<0.01"
    )
    assert options.weights == {"quality": 1.0, "cost": 4.65e-3, "ttft": 2.08e-5, "itl": 2.07e-3}
    assert options.candidates == ("a", "b")
    assert [str(f) for f in options.filters] == ["itl<0.02s", "ttft<=0.5s", "cost<0.01"]


def test_the_line_knows_every_option():
    options = RoutingOptions.parse(
        "router@threshold:0.4|lambda:20|max_cost:0.01|force:large|sticky:true"
    )
    assert options == RoutingOptions(
        force="large", threshold=0.4, lambda_=20.0, max_cost_usd=0.01, sticky=True
    )


def test_mapping_and_line_say_the_same():
    mapping = {"candidates": ["a"], "weights": {"cost": 2.0}, "filters": ["itl<20"]}
    assert RoutingOptions.parse(mapping) == RoutingOptions.parse("router@models:a|c:2|itl<20")
    assert RoutingOptions.parse({"candidates": "a"}).candidates == ("a",)


WRONG = [
    ("roter@q:1", "must start with 'router@'"),
    ("router@z:1", r"Unknown part 'z:1'.*'q', 'c', 't', 'i'"),
    ("router@speed<3", r"must be one of .*'itl', 'throughput'"),
    ("router@itl<fast", "'itl' must be a number, got 'fast'"),
    ("router@cost<3ms", "only latencies"),
    ("router@q:much", "'q' must be a number, got 'much'"),
    ("router@models:", "`candidates` is empty"),
    ({"colour": "red"}, r"Unknown routing options \['colour'\]: they must be among \['force'"),
    ({"weights": {"speed": 1}}, r"`weights` must be keyed by .*got \['speed'\]"),
    ({"filters": ["itl"]}, "is not a filter"),
    ("router@q:-1", r"`weights\['quality'\]` must be a finite number >= 0, got -1\.0"),
    ("router@c:-0.5", r"`weights\['cost'\]` must be"),
    ("router@i:-1|t:1", r"`weights\['itl'\]` must be"),
    ("router@lambda:-2", "`lambda` must be a finite number >= 0, got -2"),
    ("router@throughput:1", r"Unknown part 'throughput:1'"),
    ("router@throughput>5ms", "only latencies"),
    ({"weights": {"ttft": -1.0}}, r"`weights\['ttft'\]` must be"),
    ({"weights": {"throughput": 1.0}}, r"`weights` must be keyed by"),
    ({"max_cost_usd": -1}, "`max_cost_usd` must be a finite number >= 0"),
    ({"threshold": float("nan")}, "`threshold` must be"),
]


@pytest.mark.parametrize(("given", "says"), WRONG, ids=[str(g) for g, _ in WRONG])
def test_a_wrong_option_is_refused_and_told_what_is_allowed(given, says):
    with pytest.raises(ValueError, match=says):
        RoutingOptions.parse(given)
    with pytest.raises(ValueError, match=says):
        ask(given)


def test_options_are_a_mapping_or_a_line():
    with pytest.raises(TypeError, match="a mapping, a 'router@"):
        RoutingOptions.parse(3)


def test_a_filter_leaves_out_whom_it_does_not_admit():
    assert ask({}) == "large"
    assert ask("router@itl<20") == "small"
    assert ask({"filters": ["ttft<500"]}) == "small"
    assert ask("router@quality>0.6") == "large"
    # 256 tokens in 2.75 and in 8.65 seconds.
    assert ask("router@throughput>90") == "small"


def test_an_impossible_filter_says_what_everybody_has():
    with pytest.raises(NoCandidateError, match=r"small.*itl 0.01 does not meet itl<0.001s.*large"):
        ask("router@itl<1")


def test_what_is_unknown_meets_no_filter():
    assert not Filter.parse("itl<20").admits(None)


def test_weights_lambda_and_threshold_replace_the_policys_own():
    assert ask("router@c:1e6") == "small"
    assert ask({"lambda": 1e6}) == "small"
    assert ask({"threshold": 1.0}, Threshold(0.0)) == "small"


def test_a_line_may_come_as_the_model_of_the_call():
    assert route_of(router().invoke("hi", model="router@models:small"))["candidate"] == "small"


def test_the_model_of_a_call_pins_a_candidate_or_is_refused():
    assert route_of(router().invoke("hi", model="small"))["candidate"] == "small"
    with pytest.raises(ValueError, match=r"Unknown candidate 'huge' in `model`.*small"):
        router().invoke("hi", model="huge")


def test_a_named_candidate_that_may_not_be_asked_leaves_the_other_of_a_pair():
    assert ask({"candidates": ["small"]}, Always("large")) == "small"


@given(st.floats(0, 1e6), st.sampled_from(["<", "<=", ">", ">="]))
def test_filters_survive_being_written_out(limit, comparison):
    condition = Filter("cost", comparison, limit)
    again = Filter.parse(str(condition))
    assert (again.metric, again.comparison) == ("cost", comparison)
    assert again.limit == pytest.approx(limit, rel=1e-5)
