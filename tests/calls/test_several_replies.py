"""Equal verdicts in one request where the judge draws several replies, and one by one elsewhere."""

import asyncio
import json
import threading

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langsmith import Client

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.calls.chat_models import resolve_candidate
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.calls.several_replies import draws_several
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import Agreement, Case, SelfEvaluator
from tests.benchmarks.failing.billing_server import BillingServer
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.fake_openai import FakeOpenAI
from tests.support.fakes import JudgeModel, ScriptedModel

PRICE = Price(1, 4)


class JudgingServer(FakeOpenAI):
    """Says what it is told to, verdict by verdict; the last is repeated."""

    def __init__(self, *said: str, **kwargs):
        super().__init__(**kwargs)
        self.said = list(said) or ["Correct"]

    def reply(self, body):
        word = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        verdict = json.dumps({"rationale": "So.", "verdict": word})
        others = {
            "garbage": word,
            "cut": '{"verdict": "Correct", "rationale": "S',
            "thought": f"<think>hm</think>{json.dumps({'rationale': 'So.', 'verdict': 'Correct'})}",
            "nothing": None,
        }
        return others.get(word, verdict)

    def finish_reason(self, text):
        return "stop" if text.endswith("}") or text == "garbage" else "length"

    @property
    def billed_usd(self) -> float:
        """What all requests have cost."""
        tokens = [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in self.usages]
        return sum(1e-6 * read + 4e-6 * written for read, written in tokens)

    @property
    def numbers(self) -> list[int]:
        """The number of replies that each request has asked for."""
        return [request.get("n", 1) for request in self.requests]


def judge(url, **kwargs):
    model = ChatOpenAI(model="judge", base_url=url, api_key="none", max_tokens=50)
    return Candidate("judge", model, PRICE, **{"draws_several": True, **kwargs})


def verify(judge, verifier=None, models=None, *, synchronous=True, config=None, **kwargs):
    case = Case([HumanMessage("What is 1 + 1?")], AIMessage("2"), judge)
    verifier = verifier or SelfEvaluator(4, method="json_mode")
    models = models or JudgeModels()
    operation = VerifyOperation(
        verifier, case, Attempt(candidate="judge"), config or {}, models=models, **kwargs
    )
    return operation.perform() if synchronous else asyncio.run(operation.aperform())


@pytest.mark.parametrize("synchronous", [True, False])
def test_equal_verdicts_are_one_request_whose_prompt_is_billed_once(synchronous):
    with JudgingServer("Correct", "Incorrect", "Correct", "Correct") as server:
        attempt = verify(judge(server.url), synchronous=synchronous)
    assert server.numbers == [4]
    assert attempt["verdicts"] == [True, False, True, True]
    assert attempt["rationales"] == ["So."] * 4
    spent = sum(len(m["content"].split()) for m in server.requests[0]["messages"])
    assert attempt["verification_tokens"] == spent + 4 * 4
    assert attempt["verification_cost_usd"] == PRICE.cost_usd(
        {"input_tokens": spent, "output_tokens": 16, "total_tokens": spent + 16}
    )


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_every_method_of_structured_output_gives_all_verdicts(method):
    with ToolServer() as server:
        attempt = verify(judge(server.url), SelfEvaluator(3, method=method))
    assert server.numbers == [3]
    assert attempt["verdicts"] == [True] * 3


class ToolServer(JudgingServer):
    """Answers by a tool call where there are tools."""

    def message(self, body, text):
        if not body.get("tools"):
            return super().message(body, text)
        function = {"name": body["tools"][0]["function"]["name"], "arguments": text}
        call = {"id": "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


@pytest.mark.parametrize(("several", "first"), [(False, [4, 1, 1, 1]), (None, [4, 1, 1, 1, 1])])
def test_a_server_that_draws_one_is_asked_for_the_rest_at_once_and_for_one_from_then_on(
    several, first
):
    models = JudgeModels()
    with JudgingServer("Correct", "Incorrect", several=several) as server:
        asked = judge(server.url)
        assert sorted(verify(asked, models=models)["verdicts"]) == [False, False, False, True]
        assert sorted(server.numbers, reverse=True) == first
        assert verify(asked, models=models)["verdicts"] == [False] * 4
        assert server.numbers[len(first) :] == [1] * 4


METHODS = ["json_schema", "json_mode", "function_calling"]


@pytest.mark.parametrize("synchronous", [True, False])
@pytest.mark.parametrize("word", ["garbage", "cut"])
@pytest.mark.parametrize("method", METHODS)
def test_a_reply_that_cannot_be_read_costs_no_other_verdict_and_is_billed(
    method, word, synchronous
):
    models = JudgeModels()
    verifier = SelfEvaluator(4, method=method, retries=0)
    with ToolServer(word, "Correct") as server:
        asked = judge(server.url)
        attempt = verify(asked, verifier, models, synchronous=synchronous)
        whole = verify(asked, verifier, models)
    assert attempt["verdicts"] == [None, True, True, True]
    assert whole["verdicts"] == [True] * 4
    assert server.numbers == [4, 4]
    assert "verification_unsure" not in attempt
    assert len(attempt["verification_errors"]) == 1
    booked_usd = attempt["verification_cost_usd"] + whole["verification_cost_usd"]
    assert booked_usd == pytest.approx(server.billed_usd)


@pytest.mark.parametrize("word", ["garbage", "cut"])
@pytest.mark.parametrize("method", METHODS)
def test_a_reply_that_cannot_be_read_is_requested_again_alone(method, word):
    with ToolServer(word, "Correct") as server:
        attempt = verify(judge(server.url), SelfEvaluator(4, method=method))
    assert attempt["verdicts"] == [True] * 4
    assert server.numbers == [4, 1]


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_verdicts_that_follow_reasoning_in_tags_are_read_in_one_request(method):
    with JudgingServer("thought") as server:
        attempt = verify(judge(server.url), SelfEvaluator(4, method=method))
    assert attempt["verdicts"] == [True] * 4
    assert server.numbers == [4]


@pytest.mark.parametrize("method", METHODS)
def test_a_request_without_any_reply_is_an_error_billed_at_its_worst_case(method):
    words = ["nothing"] * 4 + ["Correct"]
    with ToolServer(*words) as server:
        verifier = SelfEvaluator(4, method=method)
        attempt = verify(judge(server.url), verifier, worst_usd=0.08)
    assert server.numbers == [4, 1, 1, 1, 1]
    assert attempt["verdicts"] == [True] * 4
    assert "no reply" in attempt["verification_errors"][0]
    assert attempt["verification_unsure"] is True
    lost_usd = attempt["verification_most_usd"] - attempt["verification_cost_usd"]
    assert lost_usd == pytest.approx(0.04)


@pytest.mark.parametrize("method", METHODS)
def test_a_request_for_several_replies_differs_from_one_for_a_single_reply_in_their_number(method):
    with ToolServer() as server:
        for declared in (True, False):
            model = ChatOpenAI(
                model="judge", base_url=server.url, api_key="none", extra_body={"top_k": 5}
            )
            asked = Candidate("judge", model, PRICE, draws_several=declared)
            verify(asked, SelfEvaluator(2, method=method))
    several, single, _ = server.requests
    assert several.pop("n") == 2
    assert several["top_k"] == 5
    for request in (several, single):
        request.pop("stream", None)
    assert several == single


def test_verdicts_that_cannot_be_read_are_requested_again_in_one_request():
    with JudgingServer("garbage", "Correct", "garbage", "Correct") as server:
        attempt = verify(judge(server.url))
    assert server.numbers == [4, 2]
    assert attempt["verdicts"] == [True] * 4


def test_a_verdict_that_is_still_unreadable_is_missing():
    with JudgingServer("Correct", "garbage") as server:
        attempt = verify(judge(server.url))
    assert server.numbers == [4, 3]
    assert attempt["verdicts"] == [True, None, None, None]
    assert len(attempt["verification_errors"]) == 6


def test_a_request_that_may_be_billed_is_not_made_again_and_counts_for_all_its_verdicts():
    with BillingServer(("500",)) as server:
        attempt = verify(judge(server.url), worst_usd=0.08)
        assert server.calls == 1
    assert attempt["verdicts"] == [None] * 4
    assert attempt["verification_unsure"] is True
    # Half of the eight calls that four verdicts and their retries may take.
    assert attempt["verification_most_usd"] == pytest.approx(0.04)
    assert len(attempt["verification_errors"]) == 1


def test_a_request_that_was_turned_away_is_made_verdict_by_verdict_but_not_for_ever():
    models = JudgeModels()
    with BillingServer(("429",)) as server:
        asked = judge(server.url)
        attempt = verify(asked, models=models)
        assert attempt["verdicts"] == [None] * 4
        assert "verification_unsure" not in attempt
        assert server.calls == 5
        verify(asked, models=models)
        assert server.calls == 10


def test_plain_replies_are_drawn_together_too():
    with FakeOpenAI("2") as server:
        attempt = verify(judge(server.url), Agreement(n_resamples=3))
    assert [request["n"] for request in server.requests] == [3]
    assert attempt["verdicts"] == [True] * 3


def test_an_adaptive_verifier_draws_each_round_in_one_request():
    with JudgingServer("Correct") as server:
        verifier = SelfEvaluator(8, judge=judge(server.url), adaptive=True, risk=0)
        answer = router(pool(PRICE), verifier).invoke("1 + 1?")
    assert server.numbers == [4]
    assert route_of(answer)["candidate"] == "small"


def traced_tokens(runnable, given):
    """The tokens that LangSmith would count for a run, and its answer."""
    with FakeLangSmith() as fake:
        client = Client(api_url=fake.url, api_key="lsv2_sk_secret")
        answer = runnable.invoke(given, {"callbacks": [LangChainTracer(client=client)]})
        client.flush()
        client.cleanup()
    return fake.tokens(), answer


def pool(price):
    names = ("small", "large")
    return [Candidate(name, ScriptedModel("2"), price, max_output_tokens=9) for name in names]


def router(pool, verifier, **kwargs):
    policy = ConfidenceThreshold(threshold=0.5)
    return ChatLLMRouter(candidates=pool, policy=policy, verifier=verifier, **kwargs)


@pytest.mark.parametrize("trace_verdicts", [True, False])
def test_traces_and_usage_callbacks_count_the_request_once(trace_verdicts):
    with JudgingServer("Correct") as server, get_usage_metadata_callback() as usage:
        verifier = SelfEvaluator(4, judge=judge(server.url))
        traced = router(pool(PRICE), verifier, trace_verdicts=trace_verdicts)
        tokens, answer = traced_tokens(traced, "1 + 1?")
    counted = sum(it["total_tokens"] for it in usage.usage_metadata.values())
    (attempt,) = route_of(answer)["attempts"]
    assert attempt["verification_tokens"] == usage.usage_metadata["judge"]["total_tokens"]
    assert tokens == counted
    assert server.numbers == [4]


def test_what_verdicts_in_one_request_cost_is_what_a_budget_books():
    budgets = Budgets([Budget(1.0)])
    with JudgingServer("Correct") as server:
        verifier = SelfEvaluator(8, judge=judge(server.url))
        answer = router(pool(Price(0, 0)), verifier, budgets=budgets).invoke("1 + 1?")
    (attempt,) = route_of(answer)["attempts"]
    spent = budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)) / 1e9
    assert spent == pytest.approx(attempt["verification_cost_usd"])
    assert spent > 0


def test_without_n_as_many_threads_as_verdicts_wait_for_the_judge():
    n = 12
    together = threading.Barrier(n, timeout=20)

    class Waiting(JudgeModel):
        def with_structured_output(self, schema, **kwargs):
            judging = super().with_structured_output(schema, **kwargs)

            def wait(messages):
                together.wait()
                return judging.invoke(messages)

            return RunnableLambda(wait)

    attempt = verify(Candidate("judge", Waiting("x")), SelfEvaluator(n))
    assert attempt["verdicts"] == [True] * n


def openai(**kwargs):
    return ChatOpenAI(**{"model": "gpt-4o", "api_key": "none", **kwargs})


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (openai(), True),
        (openai(base_url="https://eu.api.openai.com/v1"), True),
        (AzureChatOpenAI(model="gpt-4o", azure_endpoint="https://x.openai.azure.com",
                         api_key="none", api_version="2024-10-21"), True),
        (openai(base_url="https://api.deepseek.com"), False),
        (openai(base_url="http://127.0.0.1:8000/v1"), False),
        (openai(base_url="https://notapi.openai.com.example.com/v1"), False),
        (openai(model="o3"), False),
        (openai(use_responses_api=True), False),
        (openai(streaming=True), False),
        (ScriptedModel("x"), False),
    ],
    ids=["openai", "openai in Europe", "azure", "another server", "a local one",
         "a name that ends alike", "a model without", "responses", "streaming", "a fake"],
)  # fmt: skip
def test_only_openai_and_azure_are_known_to_draw_several(model, known):
    assert draws_several(Candidate("c", model)) is known
    assert draws_several(Candidate("c", model, draws_several=False)) is False


@pytest.mark.parametrize(
    ("model", "why"),
    [(ScriptedModel("x"), "has no setting `n`"), (openai(streaming=True), "streams every answer")],
)
def test_a_declaration_that_cannot_be_honoured_is_refused(model, why):
    with pytest.raises(ValueError, match=why):
        resolve_candidate(Candidate("c", model, draws_several=True))
