"""One model at several endpoints, and live numbers in the choice."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import StateGraph

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.chat import route_of
from langchain_llm_router.endpoints import ByModel, expand_endpoints
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live
from langchain_llm_router.loop import begin, build_arms, next_decision, observe
from langchain_llm_router.measured import ArmStats
from langchain_llm_router.policies import Always, ConfidenceThreshold, Threshold, Utility
from langchain_llm_router.types import Arm, Attempt, Endpoint, RoutingOptions, Situation
from tests.fakes import JudgeModel, ProviderError, ScriptedModel, make_outcomes

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
    assert (azure.of, azure.quality_name, azure.price) == ("large", "large", Price(9, 18))
    assert openai.price == DEAR
    assert small.of is None


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
    # `Always` knows nobody else: better to knock than to give up.
    assert next_decision(Always("large"), begin("q", both)).candidate == "large@openai"
    every = tuple(build(arm, available=False) for arm in LARGE)
    assert next_decision(Utility(), begin("q", every)).candidate == "large@openai"


def test_a_probe_goes_to_an_endpoint_nobody_knows_any_more_but_never_after_a_failure():
    due = (LARGE[0], build(LARGE[1], probe=True), LARGE[2])
    decision = next_decision(Always("large"), begin("q", due))
    assert decision.candidate == "large@azure"
    assert "to see how it is" in decision.reason
    third = build(LARGE[1], candidate="large@third")
    failed = observe(
        begin("q", (*due, third)), Attempt(candidate="large@openai", error="TimeoutError: slow")
    )
    assert "to see" not in next_decision(Always("large"), failed).reason


def test_measured_numbers_replace_declared_ones():
    candidates = expand_endpoints(pool())
    live = {"large@azure": ArmStats(ttft_s=0.3, itl_s=0.01, error_rate=0.2, output_tokens=1000)}
    built = build_arms(candidates, None, "q" * 400, live=live)
    assert built[1].cost_usd == pytest.approx((100 * 9 + 1000 * 18) / 1e6)
    assert built[2].cost_usd == pytest.approx((100 * 10 + 256 * 20) / 1e6)
    assert (built[1].ttft_s, built[1].error_rate, built[2].ttft_s) == (0.3, 0.2, None)
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
@settings(deadline=None)
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
@settings(deadline=None)
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
    # five failures in a row opened its breaker; nobody knocked after that
    assert len(flaky.seen) <= 5
    report = router.live.telemetry.report()
    assert report["large@openai"]["counts"]["answered"] == 8
    assert report["large@azure"]["counts"]["error"] == len(flaky.seen)
