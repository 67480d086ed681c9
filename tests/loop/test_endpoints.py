"""One model at several endpoints, and live numbers in the choice."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.graph import StateGraph

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.estimators import Constant
from langchain_llm_router.estimators.output_length import OutputLength
from langchain_llm_router.live.live import Live
from langchain_llm_router.live.measurements import ArmStats
from langchain_llm_router.loop.arms import begin, build_arms, switching_cost_usd
from langchain_llm_router.loop.conversation import (
    cached_prefixes,
    prompt_tokens,
    routing_text,
)
from langchain_llm_router.loop.endpoints import ByModel, expand_endpoints
from langchain_llm_router.loop.loop import next_decision, observe
from langchain_llm_router.policies import Always, ConfidenceThreshold, Threshold, Utility
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.types import Arm, Attempt, Endpoint, RoutingOptions, Situation
from langchain_llm_router.types.errors import NotFittedError
from tests.support.fakes import JudgeModel, ProviderError, ScriptedModel, make_outcomes

CHEAP, DEAR = Price(1.0, 2.0), Price(10.0, 20.0)


def pool(**models):
    """Two models; `large` has two endpoints, of which azure is a little cheaper."""
    return [
        Candidate("small", models.get("small") or ScriptedModel("small says"), CHEAP),
        Candidate(
            "large",
            price=DEAR,
            endpoints=[
                Endpoint("azure", models.get("azure") or ScriptedModel("azure says"), Price(9, 18)),
                Endpoint("openai", models.get("openai") or ScriptedModel("openai says")),
            ],
        ),
    ]


def arms(*stats: tuple[str, float, dict]) -> tuple[Arm, ...]:
    return tuple(
        Arm(name, quality=q, model=name.split("@")[0] if "@" in name else None, **rest)
        for name, q, rest in stats
    )


LARGE = arms(
    ("small", 0.5, {"cost_usd": 0.001, "ttft_s": 0.1, "itl_s": 0.01}),
    ("large@azure", 0.9, {"cost_usd": 0.01, "ttft_s": 0.5, "itl_s": 0.01}),
    ("large@openai", 0.9, {"cost_usd": 0.01, "ttft_s": 0.2, "itl_s": 0.01}),
)


def test_endpoints_become_arms_that_inherit_from_their_candidate():
    small, azure, openai = expand_endpoints(pool())
    assert [c.name for c in (small, azure, openai)] == ["small", "large@azure", "large@openai"]
    assert (azure.endpoint_of, azure.model_name, azure.price) == ("large", "large", Price(9, 18))
    assert openai.price == DEAR
    assert small.endpoint_of is None


def test_a_measured_mean_cost_follows_an_endpoints_own_price():
    model = Candidate(
        "m", price=Price(1.0, 3.0), expected_cost_usd=0.01,
        endpoints=[Endpoint("same"), Endpoint("half", price=Price(0.5, 1.5))],
    )  # fmt: skip
    same, half = expand_endpoints([model])
    assert same.expected_cost_usd == 0.01
    assert half.expected_cost_usd == pytest.approx(0.005)
    # without a price to compare with, an endpoint's own price is all there is
    (alone,) = expand_endpoints([replace(model, price=None, endpoints=model.endpoints[1:])])
    assert alone.expected_cost_usd is None


def test_parameters_of_candidate_and_endpoint_are_both_passed_on():
    model = ScriptedModel("x")
    seen = {}
    object.__setattr__(model, "_generate", lambda messages, **kwargs: seen.update(kwargs) or 1 / 0)
    candidate = Candidate(
        "m", parameters={"effort": "low"}, endpoints=[Endpoint("e", model, parameters={"tier": 1})]
    )
    with pytest.raises(ZeroDivisionError):
        ChatLLMRouter(candidates=[candidate], policy=Always("m")).invoke("hi")
    assert seen["effort"] == "low"
    assert seen["tier"] == 1


def test_the_policy_names_models_and_the_best_endpoint_is_asked():
    router = ChatLLMRouter(candidates=pool(), policy=Always("large"))
    record = route_of(router.invoke("hi"))
    assert record["candidate"] == "large@azure"
    assert "best endpoint" in record["reason"]


def test_an_estimator_fitted_on_models_serves_their_endpoints():
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(candidates=pool(), estimator=estimator, policy=Utility(cost=0.1))
    decision = router.route("hi")
    assert decision.candidate == "large@azure"
    assert set(decision.scores) == {"small", "large@azure", "large@openai"}


def test_a_failed_endpoint_leaves_the_model_to_the_other_one():
    down = ScriptedModel(ProviderError(503))
    router = ChatLLMRouter(candidates=pool(azure=down), policy=Always("large"))
    record = route_of(router.invoke("hi"))
    assert record["candidate"] == "large@openai"
    assert [a["candidate"] for a in record["attempts"]] == ["large@azure", "large@openai"]


def test_a_cascade_escalates_to_the_next_model_and_not_to_the_next_endpoint():
    small = Candidate(
        "small",
        price=CHEAP,
        endpoints=[
            Endpoint("a", JudgeModel("draft a", verdicts=["no"])),
            Endpoint("b", JudgeModel("draft b", verdicts=["no"])),
        ],
    )
    large = Candidate("large", ScriptedModel("large says"), DEAR)
    router = ChatLLMRouter(
        candidates=[small, large], policy=ConfidenceThreshold(), verifier=SelfEvaluator(4)
    )
    record = route_of(router.invoke("hi"))
    assert [a["candidate"] for a in record["attempts"]] == ["small@a", "large"]


def test_a_request_may_force_a_model_or_one_of_its_endpoints():
    router = ChatLLMRouter(candidates=pool(), policy=Always("small"))

    def ask(**options):
        return route_of(router.invoke("hi", {"configurable": {"llm_router": options}}))["candidate"]

    assert ask(force="large") == "large@azure"
    assert ask(force="large@openai") == "large@openai"
    assert ask(candidates=["small"]) == "small"
    with pytest.raises(ValueError, match=r"Unknown candidate 'huge'.*\['small', 'large'\]"):
        ask(force="huge")


def test_a_forced_model_falls_back_to_its_own_endpoints_only():
    down = ScriptedModel(ProviderError(503))
    router = ChatLLMRouter(candidates=pool(azure=down, openai=down), policy=Always("small"))
    with pytest.raises(ProviderError):
        router.invoke("hi", {"configurable": {"llm_router": {"force": "large"}}})


def test_the_graph_has_a_node_per_endpoint_and_takes_the_same_choice():
    down = ScriptedModel(ProviderError(503))
    graph = create_cascade(pool(azure=down), policy=Always("large"), live=Live())
    assert isinstance(graph, StateGraph)
    assert {"large@azure", "large@openai"} <= set(graph.nodes)
    record = route_of(graph.compile().invoke({"messages": [("user", "hi")]})["messages"][-1])
    assert record["candidate"] == "large@openai"


def test_speed_decides_between_endpoints_of_one_price():
    decision = next_decision(Always("large"), begin("q", LARGE))
    assert decision.candidate == "large@openai"
    decision = next_decision(Utility(ttft=0.1), begin("q", LARGE))
    assert decision.candidate == "large@openai"


def test_measured_failures_decide_between_equal_endpoints():
    failing = (LARGE[0], LARGE[1], build(LARGE[2], error_rate=0.5))
    assert next_decision(Always("large"), begin("q", failing)).candidate == "large@azure"
    assert next_decision(Utility(), begin("q", failing)).candidate == "large@azure"


def build(arm: Arm, **changes) -> Arm:
    return Arm(**{**{name: getattr(arm, name) for name in Arm.__slots__}, **changes})


def test_a_closed_door_is_passed_by_as_long_as_another_is_open():
    shut = (LARGE[0], LARGE[1], build(LARGE[2], available=False))
    assert next_decision(Always("large"), begin("q", shut)).candidate == "large@azure"
    both = (LARGE[0], *(build(arm, available=False) for arm in LARGE[1:]))
    assert next_decision(Utility(), begin("q", both)).candidate == "small"
    assert next_decision(Threshold(0.0), begin("q", both)).candidate == "small"
    # `Always` has no other candidate, so an open breaker is probed rather than raised.
    assert next_decision(Always("large"), begin("q", both)).candidate == "large@openai"
    every = tuple(build(arm, available=False) for arm in LARGE)
    assert next_decision(Utility(), begin("q", every)).candidate == "large@openai"


def test_a_probe_goes_to_an_endpoint_whose_numbers_are_stale_but_never_after_a_failure():
    due = (LARGE[0], build(LARGE[1], probe=True), LARGE[2])
    decision = next_decision(Always("large"), begin("q", due))
    assert decision.candidate == "large@azure"
    assert "a probe of" in decision.reason
    third = build(LARGE[1], candidate="large@third")
    failed = observe(
        begin("q", (*due, third)), Attempt(candidate="large@openai", error="TimeoutError: slow")
    )
    assert "a probe of" not in next_decision(Always("large"), failed).reason


def test_measured_numbers_replace_declared_ones():
    candidates = expand_endpoints(pool())
    live = {"large@azure": ArmStats(ttft_s=0.3, itl_s=0.01, error_rate=0.2, output_tokens=1000)}
    built = build_arms(candidates, None, "q" * 400, live=live)
    assert built[1].cost_usd == pytest.approx((100 * 9 + 1000 * 18) / 1e6)
    assert built[2].cost_usd == pytest.approx((100 * 10 + 256 * 20) / 1e6)
    assert (built[1].ttft_s, built[1].error_rate, built[2].ttft_s) == (0.3, 0.2, None)
    assert built[1].tokens_per_s == pytest.approx(1000 / (0.3 + 9.99))
    assert built[2].tokens_per_s is None
    longer = build_arms(candidates, None, "q", input_tokens=1000, output_tokens=[1, 2, 3])
    assert longer[2].cost_usd == pytest.approx((1000 * 10 + 3 * 20) / 1e6)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 2)),
        min_size=1,
        max_size=8,
    ),
    st.floats(0, 100),
    st.floats(0, 1),
)
def test_model_and_endpoint_together_are_the_argmax_of_the_one_utility(rows, cost, ttft):
    quality = [0.3, 0.6, 0.9]
    made = tuple(
        Arm(f"m{m}@{i}", quality[m], c, t, 0.0, model=f"m{m}")
        for i, (m, _, c, t) in enumerate(rows)
    )
    policy = Utility(cost=cost, ttft=ttft)
    chosen = next_decision(policy, Situation("q", made))
    utilities = {a.candidate: a.quality - cost * a.cost_usd - ttft * a.ttft_s for a in made}
    assert utilities[chosen.candidate] == pytest.approx(max(utilities.values()), abs=1e-9)


@given(st.lists(st.sampled_from(["ok", "fail"]), min_size=4, max_size=4), st.booleans())
def test_whatever_fails_every_endpoint_is_asked_at_most_once_and_somebody_answers(fates, cascade):
    names = ["small@a", "small@b", "large@a", "large@b"]
    fate = dict(zip(names, fates, strict=True))
    made = tuple(Arm(n, 0.5, 0.01, 0.1, 0.0, model=n.split("@")[0]) for n in names)
    policy = ConfidenceThreshold(threshold=0.9) if cascade else Utility()
    seen = begin("q", made)
    asked = []
    for _ in itertools.count():
        decision = next_decision(policy, seen)
        if decision is None or decision.action == "accept":
            break
        attempt = Attempt(candidate=decision.candidate, error=None, cost_usd=0.01)
        if decision.action == "ask":
            asked.append(decision.candidate)
            if fate[decision.candidate] == "fail":
                attempt["error"] = "TimeoutError: slow"
        else:
            attempt |= {"verified": True, "confidence": 0.1}
        seen = observe(seen, attempt)
    assert len(set(asked)) == len(asked)
    if "ok" in fates:
        assert decision is not None
        assert fate[decision.candidate] == "ok"
    else:
        assert decision is None
        assert set(asked) == set(names)


def test_the_view_by_models_keeps_what_options_and_attempts_say():
    whole = begin("q", LARGE, RoutingOptions(threshold=0.3))
    whole = observe(whole, Attempt(candidate="large@azure", error="ValueError: x"))
    view = ByModel.of(Utility(), whole).situation
    assert view.names == ("small", "large")
    assert view.attempts == ()
    assert view.options.threshold == 0.3


def test_endpoints_need_names_of_their_own():
    with pytest.raises(ValueError, match="distinct"):
        Candidate("m", endpoints=[Endpoint("a"), Endpoint("a")])


def test_live_numbers_steer_a_real_router_away_from_a_failing_endpoint():
    flaky = ScriptedModel(*[ProviderError(500)] * 5, "azure says")
    router = ChatLLMRouter(candidates=pool(azure=flaky), policy=Always("large"), live=Live())
    first = [route_of(router.invoke("hi"))["candidate"] for _ in range(8)]
    assert first == ["large@openai"] * 8
    # five failures in a row opened its breaker; it was not asked after that
    assert len(flaky.seen) <= 5
    report = router.live.telemetry.report()
    assert report["large@openai"]["counts"]["answered"] == 8
    assert report["large@azure"]["counts"]["error"] == len(flaky.seen)


# Conversations

HIT = Price(10.0, 10.0, cache_read_usd_per_mtok=1.0)


def turn(candidate: str, *, tokens: int = 100_000, age_s: float = 0.0, said: str = "fine"):
    """An answer that a router recorded on an earlier turn."""
    attempt = {"candidate": candidate, "finished_at_s": time.time() - age_s}
    usage = UsageMetadata(input_tokens=tokens - 10, output_tokens=10, total_tokens=tokens)
    record = {"candidate": candidate, "attempts": [attempt]}
    return AIMessage(said, usage_metadata=usage, response_metadata={"llm_router": record})


def test_a_short_follow_up_is_routed_by_the_turns_before_it_too():
    talk = [HumanMessage("one"), AIMessage("x"), HumanMessage("two"), AIMessage("y")]
    talk += [HumanMessage("three"), AIMessage("z"), HumanMessage("And in French?")]
    assert routing_text(talk) == "two\nthree\nAnd in French?"
    assert routing_text(talk, turns=1) == "And in French?"
    assert routing_text([HumanMessage("alone")]) == "alone"
    assert routing_text([SystemMessage("be brief")]) == "be brief"


def test_leaving_a_cached_prefix_costs_the_difference_of_miss_and_hit():
    assert switching_cost_usd(HIT, 100_000) == pytest.approx(0.9)
    assert switching_cost_usd(Price(10, 10), 100_000) == 0
    talk = [HumanMessage("long"), turn("a"), HumanMessage("and?")]
    candidates = [Candidate("a", price=HIT), Candidate("b", price=HIT)]
    arms = build_arms(
        candidates, None, "and?", input_tokens=prompt_tokens(talk), cached=cached_prefixes(talk)
    )
    assert arms[1].cost_usd - arms[0].cost_usd == pytest.approx(0.9)


def test_a_mean_cost_is_that_of_a_question_and_the_conversation_comes_on_top():
    talk = [HumanMessage("long"), turn("a"), HumanMessage("and?")]
    candidates = [Candidate(name, price=HIT, expected_cost_usd=0.02) for name in "ab"]
    held = cached_prefixes(talk)
    a, b = build_arms(
        candidates, None, routing_text(talk), input_tokens=prompt_tokens(talk), cached=held
    )
    assert b.cost_usd == pytest.approx(0.02 + 1.0, abs=1e-3)
    assert b.cost_usd - a.cost_usd == pytest.approx(0.9, abs=1e-3)
    (alone,) = build_arms(candidates[:1], None, "and?", input_tokens=1.0, cached=held)
    assert alone.cost_usd == 0.02
    predicted = build_arms(candidates[:1], None, "and?", input_tokens=0.0, output_tokens=[5000.0])
    assert predicted[0].cost_usd == pytest.approx(0.05)


def test_a_cache_that_is_too_old_or_of_no_candidate_is_none():
    assert list(cached_prefixes([turn("a", age_s=10)])) == ["a"]
    assert cached_prefixes([turn("a", age_s=301)]) == {}
    assert cached_prefixes([AIMessage("from elsewhere")]) == {}
    assert cached_prefixes([]) == {}


def test_earlier_answerers_and_passed_over_drafts_have_their_part_cached_too():
    latest = turn("b", tokens=300)
    draft = {"candidate": "c", "finished_at_s": time.time(), "input_tokens": 290}
    latest.response_metadata["llm_router"]["attempts"].insert(0, draft)
    talk = [HumanMessage("x"), turn("a", tokens=200), HumanMessage("y"), latest]
    assert cached_prefixes(talk) == {"a": 200, "b": 300, "c": 290}
    # the older turn is too old by now, the newer one is not
    talk[1] = turn("a", tokens=200, age_s=400)
    assert cached_prefixes(talk) == {"b": 300, "c": 290}


def test_the_prompt_is_counted_up_to_the_last_answer_and_estimated_after():
    assert prompt_tokens([HumanMessage("x" * 40), turn("a"), HumanMessage("y" * 8)]) == 100_002
    assert prompt_tokens([HumanMessage("x" * 40)]) == 10


def test_a_router_stays_where_its_cache_is_unless_quality_is_worth_the_switch():
    def choose(cost, quality=(0.80, 0.81)):
        outcomes = make_outcomes(candidates=("a", "b"))
        estimator = Constant().fit(outcomes)
        estimator.mean_ = np.array(quality)
        router = ChatLLMRouter(
            candidates=[Candidate(n, ScriptedModel("x"), HIT) for n in "ab"],
            estimator=estimator,
            policy=Utility(cost=cost),
        )
        return router.route([HumanMessage("long"), turn("a"), HumanMessage("and?")]).candidate

    # λ · 0.9 USD is what switching costs in quality
    assert choose(cost=0.05) == "a"
    assert choose(cost=0.001) == "b"
    assert choose(cost=0.05, quality=(0.5, 0.9)) == "b"


def test_a_pinned_thread_climbs_but_never_falls():
    names = ("small", "medium", "large")
    estimator = Constant().fit(make_outcomes(candidates=names))
    estimator.mean_ = np.array([0.9, 0.5, 0.4])
    router = ChatLLMRouter(
        candidates=[Candidate(n, ScriptedModel(n), CHEAP) for n in names],
        estimator=estimator,
        policy=Utility(),
        sticky="escalate",
    )
    talk = [HumanMessage("a"), turn("medium"), HumanMessage("b"), turn("small"), HumanMessage("c")]
    assert router.route("fresh").candidate == "small"
    assert router.route(talk).candidate == "medium"
    estimator.mean_ = np.array([0.9, 0.5, 0.6])
    assert router.route(talk).candidate == "large"
    free = {"configurable": {"llm_router": {"sticky": False}}}
    assert router.route(talk, free).candidate == "small"
    pinned = {"configurable": {"llm_router": "router@sticky:true"}}
    assert router.route(talk, pinned).candidate == "small"


# Lengths


def lengths(n=200, seed=0):
    rng = np.random.default_rng(seed)
    essay = rng.random(n) < 0.5
    words = ["write a long essay on", "what is the capital of"]
    queries = [f"{words[0 if e else 1]} topic {i}" for i, e in enumerate(essay)]
    base = np.where(essay, 900, 12)[:, None] * np.array([[1.0, 2.0]])
    return queries, np.round(base * rng.lognormal(0, 0.2, (n, 2)))


def test_predicted_lengths_follow_the_query_and_the_candidate():
    queries, tokens = lengths()
    fitted = OutputLength().fit(queries, ["terse", "wordy"], tokens)
    essay, capital = fitted.predict(["write a long essay on cats", "what is the capital of Peru"])
    assert essay[0] == pytest.approx(900, rel=0.35)
    assert essay[1] / essay[0] == pytest.approx(2, rel=0.2)
    assert capital[0] < 40
    assert fitted.predict([]).shape == (0, 2)


def test_lengths_feed_the_expected_cost():
    queries, tokens = lengths()
    fitted = OutputLength().fit(queries, ["large", "small"], tokens)
    router = ChatLLMRouter(candidates=pool(), policy=Always("large"), lengths=fitted)
    situation = router.situation([HumanMessage("write a long essay on topic")])
    assert situation.arm("large@openai").cost_usd == pytest.approx(900 * 20 / 1e6, rel=0.4)


def test_lengths_are_saved_and_what_is_not_whole_is_refused(tmp_path):
    queries, tokens = lengths(50)
    tokens[3, 0] = np.nan
    fitted = OutputLength().fit(queries, ["a", "b"], tokens)
    fitted.save(tmp_path / "it")
    again = OutputLength.load(tmp_path / "it")
    np.testing.assert_allclose(again.predict(queries), fitted.predict(queries))
    with pytest.raises(NotFittedError, match="fit"):
        OutputLength().predict(["x"])
    with pytest.raises(ValueError, match=r"shape \(50, 2\)"):
        OutputLength().fit(queries, ["a"], tokens)
    with pytest.raises(ValueError, match=r"no measured length of \['b'\]"):
        OutputLength().fit(
            queries, ["a", "b"], np.column_stack([tokens[:, 1], tokens[:, 0] * np.nan])
        )
    with pytest.raises(ValueError, match="was fitted on the candidates"):
        ChatLLMRouter(candidates=pool(), policy=Always("large"), lengths=fitted)
