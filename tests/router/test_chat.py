"""The router as a chat model."""

import copy
import pickle

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.estimators import Constant, NearestNeighbors
from langchain_llm_router.policies import Always, ConfidenceThreshold, RandomMix, Threshold, Utility
from langchain_llm_router.types.errors import NoCandidateError, NotFittedError
from tests.support.fakes import CapableModel, JudgeModel, ScriptedModel, make_outcomes

CHEAP, DEAR = Price(1.0, 2.0), Price(10.0, 20.0)


def pair(small="small says", large="large says"):
    small = small if isinstance(small, ScriptedModel) else ScriptedModel(small, model="s")
    large = large if isinstance(large, ScriptedModel) else ScriptedModel(large, model="l")
    return [Candidate("small", small, CHEAP), Candidate("large", large, DEAR)]


def cascade(small: JudgeModel, large=None, **kwargs) -> ChatLLMRouter:
    policy = kwargs.pop("policy", ConfidenceThreshold(threshold=0.6))
    candidates = pair(small, large or ScriptedModel("large says", model="l"))
    return ChatLLMRouter(
        candidates=candidates, policy=policy, verifier=SelfEvaluator(n_samples=4), **kwargs
    )


def test_the_chosen_candidate_answers_and_the_record_says_why():
    router = ChatLLMRouter(candidates=pair(), policy=Always("large"))
    answer = router.invoke("hello there")
    record = route_of(answer)
    assert answer.content == "large says"
    assert record["candidate"] == "large"
    assert record["policy"] == "Always"
    assert record["cost_usd"] == pytest.approx((2 * 10 + 2 * 20) / 1e6)
    assert record["attempts"][0]["output_tokens"] == 2
    assert record["decision_id"]


async def test_the_async_twins_do_the_same():
    router = ChatLLMRouter(candidates=pair(), policy=Always("large"))
    assert (await router.ainvoke("hi")).content == "large says"
    chunks = [chunk async for chunk in router.astream("hi")]
    assert "".join(str(chunk.content) for chunk in chunks) == "large says"
    assert route_of(chunks[-1])["candidate"] == "large"
    answers = await router.abatch(["a", "b"])
    assert [a.content for a in answers] == ["large says"] * 2


def test_a_one_shot_route_streams_token_by_token_with_one_record_at_the_end():
    router = ChatLLMRouter(candidates=pair(), policy=Always("small"))
    chunks = list(router.stream("hi"))
    assert [chunk.content for chunk in chunks][:2] == ["small ", "says"]
    assert [route_of(chunk) is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == "small says"
    assert whole.usage_metadata["output_tokens"] == 2


def test_route_decides_without_asking_anybody():
    candidates = pair()
    estimator = Constant().fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=Utility(cost=0.0))
    decision = router.route("what now?")
    assert decision.candidate == "large"
    assert decision.decision_id
    assert "large" in decision.explain()
    assert candidates[0].model.seen == candidates[1].model.seen == []


def test_the_estimator_and_the_policy_choose_by_the_query():
    estimator = NearestNeighbors(n_neighbors=20).fit(make_outcomes(candidates=("small", "large")))
    router = ChatLLMRouter(candidates=pair(), estimator=estimator, policy=Threshold(0.7))
    assert route_of(router.invoke("add easy numbers 5"))["candidate"] == "small"
    assert route_of(router.invoke("prove hard theorem 5"))["candidate"] == "large"


def test_columns_follow_the_names_and_not_the_order_of_the_training_data():
    estimator = NearestNeighbors(n_neighbors=20).fit(make_outcomes(candidates=("large", "small")))
    router = ChatLLMRouter(candidates=pair(), estimator=estimator, policy=Utility())
    scores = router.route("prove hard theorem 5").scores
    assert scores["small"]["quality"] > scores["large"]["quality"]


def test_a_convinced_cascade_keeps_the_draft():
    small = JudgeModel("draft", verdicts=["yes", "yes", "no", "yes"])
    answer = cascade(small).invoke("question?")
    record = route_of(answer)
    assert answer.content == "draft"
    assert record["confidence"] == 0.75
    assert [step["action"] for step in record["steps"]] == ["ask", "verify", "accept"]
    verification = 4 * (100 * 1.0 + 10 * 2.0) / 1e6
    assert record["attempts"][0]["verification_cost_usd"] == pytest.approx(verification)
    assert record["cost_usd"] == pytest.approx(verification + (1 * 1.0 + 1 * 2.0) / 1e6)


def test_an_unconvinced_cascade_escalates_and_streams_only_the_accepted_answer():
    router = cascade(JudgeModel("draft", verdicts=["no"]))
    chunks = list(router.stream("question?"))
    assert "".join(str(chunk.content) for chunk in chunks) == "large says"
    record = route_of(chunks[-1])
    assert [a["candidate"] for a in record["attempts"]] == ["small", "large"]
    assert record["attempts"][0]["verdicts"] == [False] * 4


async def test_an_async_cascade_takes_the_same_steps():
    answer = await cascade(JudgeModel("draft", verdicts=["no"])).ainvoke("question?")
    assert [a["candidate"] for a in route_of(answer)["attempts"]] == ["small", "large"]


def test_an_unreadable_verdict_is_missing_and_not_wrong():
    # The last two are those that are asked for once more.
    said = ["garbage", "yes", "garbage", "yes", "garbage", "garbage"]
    small = JudgeModel("draft", verdicts=said)
    record = route_of(cascade(small).invoke("question?"))
    assert record["candidate"] == "small"
    assert record["attempts"][0]["verdicts"].count(None) == 2
    assert len(record["attempts"][0]["verification_errors"]) == 4


def test_a_failing_last_candidate_leaves_the_best_answer_held():
    small = JudgeModel("draft", verdicts=["no"])
    router = cascade(small, ScriptedModel(TimeoutError("too slow")))
    answer = router.invoke("question?")
    record = route_of(answer)
    assert answer.content == "draft"
    assert record["attempts"][1]["error"] == "TimeoutError: too slow"
    assert "".join(c.content for c in router.stream("question?")) == "draft"


def test_if_no_candidate_answers_the_candidates_own_error_is_raised():
    router = ChatLLMRouter(
        candidates=pair(ScriptedModel(ValueError("bad")), ScriptedModel(TimeoutError("slow"))),
        policy=RandomMix({"small": 1.0}),
    )
    with pytest.raises(TimeoutError, match="slow"):
        router.invoke("hi")
    with pytest.raises(TimeoutError, match="slow"):
        list(router.stream("hi"))


def test_a_one_shot_policy_falls_back_and_records_the_failure():
    down = ScriptedModel(ConnectionError("down"))
    router = ChatLLMRouter(candidates=pair(down), policy=RandomMix({"small": 1.0}))
    answer = router.invoke("hi")
    assert answer.content == "large says"
    assert route_of(answer)["attempts"][0]["error"] == "ConnectionError: down"


def test_unhandled_exceptions_pass_through_at_once():
    router = ChatLLMRouter(
        candidates=pair(ScriptedModel(KeyError("mine"))),
        policy=RandomMix({"small": 1.0}),
        exceptions_to_handle=(ConnectionError,),
    )
    with pytest.raises(KeyError, match="mine"):
        router.invoke("hi")


def test_a_request_may_force_allow_and_cap():
    router = ChatLLMRouter(candidates=pair(), policy=Always("large"))

    def config(**options):
        return {"configurable": {"llm_router": options}}

    assert router.invoke("hi", config(force="small")).content == "small says"
    with pytest.raises(ValueError, match=r"Unknown candidate 'huge'.*\['small', 'large'\]"):
        router.invoke("hi", config(force="huge"))
    with pytest.raises(ValueError, match=r"Unknown routing options \['colour'\].*force"):
        router.invoke("hi", config(colour="red"))
    with pytest.raises(NoCandidateError, match="max_cost_usd"):
        router.invoke("hi", config(max_cost_usd=1e-9))


def test_a_cap_ends_a_cascade_at_the_answer_it_holds():
    router = cascade(JudgeModel("draft", verdicts=["no"]))
    config = {"configurable": {"llm_router": {"max_cost_usd": 0.001}}}
    answer = router.invoke("question?", config)
    assert answer.content == "draft"


BAD = [
    (lambda: ChatLLMRouter(candidates=[], policy=Always("x")), "empty"),
    (lambda: ChatLLMRouter(candidates=[*pair(), *pair()], policy=Always("small")), "unique"),
    (lambda: ChatLLMRouter(candidates=pair(), policy=Always("huge")), "Unknown candidate 'huge'"),
    (lambda: ChatLLMRouter(candidates=pair()[:1]), "policy"),
    (lambda: ChatLLMRouter(candidates=pair(), policy=ConfidenceThreshold()), "verifier"),
    (lambda: ChatLLMRouter(candidates=[Candidate("a")], policy=Always("a")), "no `model`"),
    (lambda: ChatLLMRouter(candidates=pair(), policy=Always("small"), cache=True), "cache"),
    (
        lambda: ChatLLMRouter(
            candidates=pair(), estimator=Constant().fit(make_outcomes(candidates=("a", "b")))
        ),
        "was fitted on the candidates",
    ),
]


@pytest.mark.parametrize(("build", "says"), BAD, ids=[says for _, says in BAD])
def test_a_router_that_cannot_work_is_refused_with_the_reason(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError, match="not fitted"):
        ChatLLMRouter(candidates=pair(), estimator=Constant(), policy=Utility())


def test_an_empty_message_list_is_refused():
    router = ChatLLMRouter(candidates=pair(), policy=Always("small"))
    with pytest.raises(ValueError, match="list of messages is empty"):
        router.invoke([])


def test_a_policy_without_what_it_needs_says_so():
    with pytest.raises(ValueError, match="give the router an `estimator`"):
        ChatLLMRouter(candidates=pair(), policy=Threshold(0.5)).invoke("hi")
    nameless = [Candidate("a", ScriptedModel("x")), Candidate("b", ScriptedModel("y"))]
    estimator = Constant().fit(make_outcomes(candidates=("a", "b")))
    router = ChatLLMRouter(candidates=nameless, estimator=estimator, policy=Utility(cost=1.0))
    with pytest.raises(ValueError, match="price of 'a' is unknown"):
        router.invoke("hi")


def test_unknown_prices_stay_unknown():
    candidates = [Candidate("a", ScriptedModel("x"))]
    record = route_of(ChatLLMRouter(candidates=candidates, policy=Always("a")).invoke("hi"))
    assert record["cost_usd"] is None


def test_provider_strings_and_bare_models_become_candidates(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    router = ChatLLMRouter(
        candidates=["openai:gpt-4o-mini", ScriptedModel("x", model="mine")],
        policy=Always("gpt-4o-mini"),
    )
    assert [c.name for c in router.candidates] == ["gpt-4o-mini", "mine"]
    price = router.candidates[0].price
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (0.15, 0.6)
    assert price.cache_read_usd_per_mtok == 0.075
    assert router.candidates[1].price is None


def test_the_conversation_reaches_the_candidate_whole():
    candidates = pair()
    router = ChatLLMRouter(candidates=candidates, policy=Always("small"))
    conversation = [HumanMessage("one"), AIMessage("two"), HumanMessage("three")]
    router.invoke(conversation)
    assert [m.text for m in candidates[0].model.seen[0]] == ["one", "two", "three"]


def test_copies_take_their_updates_and_share_no_state():
    router = ChatLLMRouter(candidates=pair(), policy=Always("small"))
    assert route_of(copy.deepcopy(router).invoke("hi"))["candidate"] == "small"
    other = router.model_copy(update={"policy": Always("large")})
    assert route_of(other.invoke("hi"))["candidate"] == "large"
    assert route_of(router.invoke("hi"))["candidate"] == "small"
    with pytest.raises(ValueError, match="Unknown candidate 'huge'"):
        router.model_copy(update={"policy": Always("huge")})


def test_a_router_says_what_to_ship_to_a_worker_instead():
    router = ChatLLMRouter(candidates=pair(), policy=Always("small"))
    with pytest.raises(TypeError, match="send its policy and estimator"):
        pickle.dumps(router)
    assert pickle.loads(pickle.dumps(router.policy)) == router.policy


def test_retries_fallbacks_and_configurable_fields_compose():
    flaky = ScriptedModel(ConnectionError("down"), "up again")
    router = ChatLLMRouter(candidates=[Candidate("a", flaky)], policy=Always("a"))
    assert router.with_retry(wait_exponential_jitter=False).invoke("hi").content == "up again"

    down = ChatLLMRouter(candidates=[Candidate("a", failing())], policy=Always("a"))
    spare = ChatLLMRouter(candidates=[Candidate("b", CapableModel())], policy=Always("b"))
    chain = down.with_fallbacks([spare]).bind_tools([add])
    assert chain.invoke("3 and 4").tool_calls[0]["name"] == "add"

    field = ConfigurableField(id="policy")
    open_router = ChatLLMRouter(candidates=pair(), policy=Always("small")).configurable_fields(
        policy=field
    )
    config = {"configurable": {"policy": Always("large")}}
    assert open_router.invoke("hi", config).content == "large says"
    assert open_router.invoke("hi").content == "small says"


def failing():
    class Failing(CapableModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            raise ConnectionError("down")

    return Failing()


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_tokens_are_counted_as_the_first_candidate_does():
    class Counting(CapableModel):
        def get_num_tokens_from_messages(self, messages, tools=None):
            return 42

        def get_token_ids(self, text):
            return [1, 2]

    router = ChatLLMRouter(candidates=[Candidate("a", Counting())], policy=Always("a"))
    assert router.get_num_tokens_from_messages([HumanMessage("hi")]) == 42
    assert router.get_num_tokens("hi") == 2


def test_a_candidates_own_cache_is_used_and_decisions_stay_fresh():
    model = ScriptedModel("once", "never", cache=InMemoryCache())
    router = ChatLLMRouter(candidates=[Candidate("a", model)], policy=Always("a"))
    first, second = router.invoke("hi"), router.invoke("hi")
    assert first.content == second.content == "once"
    assert len(model.seen) == 1
    assert route_of(first)["decision_id"] != route_of(second)["decision_id"]


def test_callers_around_invoke_are_routed_too():
    router = ChatLLMRouter(candidates=pair(), policy=Always("large"))
    result = router.generate([[HumanMessage("hi")], [HumanMessage("ho")]])
    assert [g[0].text for g in result.generations] == ["large says"] * 2
    assert route_of(result.generations[0][0].message)["candidate"] == "large"


async def test_callers_around_ainvoke_are_routed_too():
    router = ChatLLMRouter(candidates=pair(), policy=Always("large"))
    result = await router.agenerate([[HumanMessage("hi")], [HumanMessage("ho")]])
    assert [g[0].text for g in result.generations] == ["large says"] * 2
