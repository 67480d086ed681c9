"""Effort is part of the arm: it arrives at the provider, and what is thought is paid for."""

import json

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, create_cascade
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.calls.chat_models import resolve_candidate
from langchain_llm_router.calls.efforts import rejected_settings
from langchain_llm_router.collect import collect, parse_candidates
from langchain_llm_router.collect.graders import ExactMatch
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.estimators import Constant
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from langchain_llm_router.router.chat import route_of
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.types.errors import (
    CollectionError,
    EffortRefusedError,
    NoCandidateError,
    candidate_of,
)
from tests.support.fake_openai import FakeOpenAI
from tests.support.fakes import ScriptedModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve

PRICE = Price(1, 10)
HIDDEN = {None: 100, "low": 10, "high": 1000}
# "I am gpt-5-mini." is three tokens in the fake's counting.
COST = {effort: (hidden + 3) * 10 / 1e6 for effort, hidden in HIDDEN.items()}


@pytest.fixture
def openai():
    with FakeOpenAI(hidden=HIDDEN) as fake:
        yield fake


def mini(openai, *levels, **kwargs):
    # One word of the prompt costs 1e-6.
    model = ChatOpenAI(model="gpt-5-mini", base_url=openai.url, api_key="none", stream_usage=True)
    return list(Candidate("mini", model, PRICE, **kwargs).efforts(*levels))


def cheapest(pool):
    estimator = Constant().fit(make_outcomes(candidates=[arm.name for arm in pool]))
    return {"estimator": estimator, "policy": Utility(cost=1e4)}


def efforts_of(openai):
    return [body.get("reasoning_effort") for body in openai.requests]


@pytest.mark.parametrize("effort", ["low", "high"])
def test_the_chat_model_sends_the_effort_and_pays_for_hidden_tokens(openai, effort):
    router = ChatLLMRouter(
        candidates=mini(openai, "low", "high"), policy=Always(f"mini:{effort}"), temperature=0.2
    )
    answers = [router.invoke("Who?"), *list(router.stream("Who?"))[-1:]]
    assert efforts_of(openai) == [effort, effort]
    assert all("temperature" not in body for body in openai.requests)
    for answer in answers:
        (attempt,) = route_of(answer)["attempts"]
        assert attempt["candidate"] == f"mini:{effort}"
        assert attempt["cost_usd"] == pytest.approx(1e-6 + COST[effort])


def test_an_agent_with_the_middleware_sends_the_effort_and_pays_for_hidden_tokens(openai):
    router = ChatLLMRouter(candidates=mini(openai, "low", "high"), policy=Always("mini:low"))
    agent = create_agent(
        ChatOpenAI(model="unused", api_key="none"), [], middleware=[LLMRouterMiddleware(router)]
    )
    last = agent.invoke({"messages": [("human", "Who?")]})["messages"][-1]
    assert efforts_of(openai) == ["low"]
    assert route_of(last)["attempts"][0]["cost_usd"] == pytest.approx(1e-6 + COST["low"])


def test_a_graph_escalates_from_low_to_high_effort_and_verifies_at_the_answers_effort(openai):
    openai.answer = "I am {model}."
    graph = create_cascade(
        mini(openai, "low", "high"),
        policy=ConfidenceThreshold(threshold=1.01),
        verifier=SelfEvaluator(n_samples=1),
    )
    done = graph.compile().invoke({"messages": [HumanMessage("Who?")]})
    assert efforts_of(openai) == ["low", "low", "high"]
    first, second = route_of(done["messages"][-1])["attempts"]
    assert (first["candidate"], second["candidate"]) == ("mini:low", "mini:high")
    assert second["cost_usd"] == pytest.approx(1e-6 + COST["high"])


def test_what_a_judge_of_a_reasoning_model_rejects_is_not_sent(openai):
    router = ChatLLMRouter(
        candidates=mini(openai, "low", "high"),
        policy=ConfidenceThreshold(threshold=0.1),
        verifier=SelfEvaluator(n_samples=1),
    )
    assert not route_of(router.invoke("Who?"))["attempts"][0].get("verification_errors")
    assert all("temperature" not in body for body in openai.requests)


def test_collect_asks_each_effort_and_its_journal_says_so(openai, tmp_path):
    specs = [f"mini=openai:gpt-5-mini?reasoning_effort=low,high@{openai.url}"]
    pool = parse_candidates(specs, ["mini=1,10"], logprobs=True)
    collected = collect(
        [Question("1", "Who?", reference="I am gpt-5-mini.")],
        pool,
        grader=ExactMatch(),
        journal=tmp_path / "journal.jsonl",
    )
    assert sorted(efforts_of(openai)) == ["high", "low"]
    models = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])["settings"][
        "models"
    ]
    assert models["mini:low"]["parameters"]["reasoning_effort"] == "low"
    table = collected.outcomes
    assert list(table.candidates) == ["mini:low", "mini:high"]
    assert table.cost_usd[0] == pytest.approx([1e-6 + COST["low"], 1e-6 + COST["high"]])


def test_the_server_takes_the_effort_of_the_body_as_a_choice_among_arms(openai):
    pool = mini(openai, "low", "high")
    served = serve(create_app(ChatLLMRouter(candidates=pool, **cheapest(pool))))
    url = next(served)
    body = {"model": "router", "messages": [{"role": "user", "content": "Who?"}]}
    for more, effort in [
        ({}, "low"),
        ({"reasoning_effort": "high"}, "high"),
        ({"model": "mini:high"}, "high"),
        ({"model": "mini"}, "low"),
        ({"model": "mini", "reasoning_effort": "high"}, "high"),
        ({"model": "router@models:mini:high"}, "high"),
        ({"model": "router@models:mini"}, "low"),
        ({"model": "mini:high", "reasoning_effort": "low"}, "high"),
    ]:
        said = httpx.post(f"{url}/v1/chat/completions", json=body | more, timeout=30).json()
        assert said["model"] == f"mini:{effort}", (more, said)
        assert efforts_of(openai)[-1] == effort, more
        assert said["usage"]["completion_tokens"] == HIDDEN[effort] + 3
    said = httpx.post(f"{url}/v1/chat/completions", json=body | {"reasoning_effort": "odd"})
    assert "its effort is 'low', and the call asks for reasoning_effort='odd'" in said.text
    served.close()


def test_an_effort_that_no_arm_has_is_refused_in_words(openai):
    router = ChatLLMRouter(candidates=mini(openai, "low", "high"), policy=Always("mini:low"))
    with pytest.raises(NoCandidateError, match="'mini:high': \"its effort is 'high', and the call"):
        router.invoke("Who?", reasoning_effort="medium")
    assert openai.requests == []


def test_an_effort_that_the_provider_refuses_is_one_error_that_names_the_candidate(openai):
    budgets = Budgets([Budget(limit_usd=1)])
    pool = mini(openai, "ultra", max_output_tokens=100)
    router = ChatLLMRouter(candidates=pool, policy=Always("mini:ultra"), budgets=budgets)
    for ask in (router.invoke, lambda text: list(router.stream(text))):
        with pytest.raises(
            EffortRefusedError, match="'mini:ultra' refuses its effort 'ultra'"
        ) as e:
            ask("Who?")
        assert candidate_of(e.value) == "mini:ultra"
    assert len(openai.requests) == 2
    account = budgets.budgets[0].account({}, budgets.clock())
    assert budgets.ledger.used_nano(account) == 0


def test_collect_stops_at_the_first_effort_that_the_provider_refuses(openai, tmp_path):
    questions = [Question(str(i), "Who?", reference="no") for i in range(20)]
    with pytest.raises(CollectionError, match="'mini:ultra' refuses its effort 'ultra'"):
        collect(questions, mini(openai, "ultra"), journal=tmp_path / "j.jsonl")
    assert len(openai.requests) < 20


def test_a_refused_effort_falls_back_to_another_candidate(openai):
    pool = mini(openai, "ultra", "high")  # unknown, so as long as usual
    answer = ChatLLMRouter(candidates=pool, **cheapest(pool)).invoke("Who?")
    first, second = route_of(answer)["attempts"]
    assert "EffortRefusedError" in first["error"]
    assert second["candidate"] == "mini:high"


def test_an_effort_in_the_parameters_is_a_default_that_a_call_may_override(openai):
    model = ChatOpenAI(model="gpt-5-mini", base_url=openai.url, api_key="none")
    router = ChatLLMRouter(
        candidates=[model.bind(reasoning_effort="low")], policy=Always("gpt-5-mini")
    )
    router.invoke("Who?")
    router.invoke("Who?", reasoning_effort="high")
    assert efforts_of(openai) == ["low", "high"]


def test_a_thinking_budget_in_the_body_is_in_the_worst_case(openai):
    model = ChatOpenAI(model="qwen3", base_url=openai.url, api_key="none")
    pool = Candidate("q", model, PRICE, max_output_tokens=100).efforts(thinking_budget=[0, 900])
    openai.hidden = None
    router = ChatLLMRouter(
        candidates=pool, policy=Always("q:900"), budgets=Budgets([Budget(limit_usd=0.0095)])
    )
    answer = router.invoke("Who?")
    assert route_of(answer)["candidate"] == "q:0", "1,000 tokens of the other may cost 0.01"
    assert openai.requests[-1]["thinking_budget"] == 0


class Thinker(ScriptedModel):
    """A model with Anthropic's field for thinking."""

    thinking: dict | None = None
    temperature: float | None = 0.3
    max_tokens: int = 4096

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "anthropic", "ls_model_name": "claude"}


def test_a_thinking_budget_is_told_in_the_providers_form_and_leaves_no_temperature():
    (arm,) = Candidate("c", Thinker("yes")).efforts(thinking_budget=[1024])
    model = resolve_candidate(arm).model
    assert model.thinking == {"type": "enabled", "budget_tokens": 1024}
    assert model.temperature is None
    assert {"temperature", "top_k"} <= rejected_settings(model)
    with pytest.raises(ValueError, match="may think for 8192 tokens, which count as part of its"):
        resolve_candidate(Candidate("c", Thinker("yes")).efforts(thinking_budget=[8192])[0])


def test_a_model_without_a_field_for_it_is_told_with_each_call():
    (arm,) = Candidate("m", ScriptedModel("yes")).efforts("low")
    assert resolve_candidate(arm).parameters == {"reasoning_effort": "low"}


def test_efforts_are_expected_to_cost_what_was_measured_and_keep_no_earlier_mean():
    low, high, budget = Candidate("m", expected_cost_usd=0.5).efforts(
        "low", "high", thinking_budget=[1024]
    )
    assert [arm.expected_output_tokens for arm in (low, high, budget)] == [128, 256 * 2.2, 1280]
    assert {arm.expected_cost_usd for arm in (low, high, budget)} == {None}
    assert (low.effort_of, low.effort, budget.name) == ("m", "low", "m:1024")


@pytest.mark.parametrize("levels", [(), ("low", "low"), ("",)])
def test_no_effort_and_one_given_twice_are_refused(levels):
    with pytest.raises(ValueError, match="Efforts of 'm' must be distinct and not empty"):
        Candidate("m").efforts(*levels)


def test_arms_have_no_further_efforts():
    with pytest.raises(ValueError, match="has the effort 'low' already"):
        Candidate("m").efforts("low")[0].efforts("high")


def test_candidates_with_efforts_can_be_written_to_a_log(openai, tmp_path):
    log = DecisionLog(tmp_path / "log")
    router = ChatLLMRouter(
        candidates=mini(openai, "low", "high"), policy=Always("mini:low"), log=log
    )
    router.invoke("Who?")
    log.flush()
    assert '"mini:low"' in "".join(
        path.read_text() for path in tmp_path.rglob("log*") if path.is_file()
    )
