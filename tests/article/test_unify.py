"""Unify: predicted quality, cost and speed, over models and endpoints, as they are right now."""

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, estimators, route_of
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live, Resilience, Telemetry
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Arm, Endpoint, RoutingOptions, Situation
from tests.support.article_rows import row
from tests.support.fakes import ProviderError, ScriptedModel, make_outcomes
from tests.support.networks import tiny
from tests.support.timed_calls import Clock
from tests.support.uvicorn_server import create_app, serve


@row(59, "a vector per model beside the query in an encoder; a dense network on [CLS] scores both")
def test_one_network_scores_every_pair_of_a_model_and_a_query():
    pytest.importorskip("torch", reason="torch is not installed (extra `torch`)")
    training = estimators.Training(epochs=4, learning_rate=5e-3)
    table = make_outcomes(200).select(["small", "large"])
    fitted = tiny("ModelScorer", training=training).fit(table)
    hard, easy = fitted.predict(["prove hard theorem", "add easy numbers"])
    assert fitted.pooling == "cls"
    assert hard[0] < 0.4 < 0.7 < hard[1]  # truth: 0.1 and 0.9
    assert easy.min() > 0.75  # truth: 0.9 and 0.95


@row(61, "reward: w_q·quality - w_c·cost - w_t·TTFT - w_i·ITL")
def test_the_reward_of_three_endpoints_is_what_it_is_by_hand_and_the_request_moves_its_weights():
    arms = (
        Arm("a", quality=0.9, cost_usd=0.02, ttft_s=0.8, itl_s=0.03),
        Arm("b", quality=0.8, cost_usd=0.004, ttft_s=0.2, itl_s=0.015),
        Arm("c", quality=0.6, cost_usd=0.001, ttft_s=0.075, itl_s=0.005),
    )
    policy = Utility(quality=1.0, cost=5.0, ttft=0.1, itl=2.0)
    decision = policy.decide(Situation("q", arms))
    rewards = [decision.scores[name]["utility"] for name in "abc"]
    assert rewards == pytest.approx([0.66, 0.73, 0.5775])
    assert decision.candidate == "b"
    for line, chosen in (("router@c:0|t:0|i:0", "a"), ("router@q:1|c:50|t:1|i:2", "c")):
        asked = Situation("q", arms, options=RoutingOptions.parse(line))
        assert policy.decide(asked).candidate == chosen


def endpoints(azure, aws, azure_price=Price(10, 20)) -> Candidate:  # noqa: B008 - frozen
    """One model on two clouds."""
    hosts = [Endpoint("azure", azure, azure_price), Endpoint("aws", aws)]
    return Candidate("large", price=Price(10, 20), endpoints=hosts)


@row(63, "routing between both models and endpoints")
def test_the_best_pair_of_a_model_and_an_endpoint_is_asked():
    azure, aws = ScriptedModel("azure says"), ScriptedModel("aws says")
    small = Candidate("small", ScriptedModel("small says"), Price(1, 2))
    router = ChatLLMRouter(
        candidates=[small, endpoints(azure, aws, azure_price=Price(9, 18))],
        estimator=Constant().fit(make_outcomes(candidates=("small", "large"))),
        policy=Utility(cost=1.0),
    )
    decision = router.route("hi")
    assert set(decision.scores) == {"small", "large@azure", "large@aws"}
    assert decision.candidate == "large@azure"
    assert router.invoke("hi").content == "azure says"
    cheap = {"configurable": {"llm_router": "router@c:100000"}}
    assert route_of(router.invoke("hi", cheap))["candidate"] == "small"


class ClockedModel(ScriptedModel):
    """A model whose answers take time on a clock that the test reads."""

    clock: Clock
    seconds: float

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.clock.wait(self.seconds)
        return super()._generate(messages)


@row(64, "live metrics of the time per token and to the first token")
def test_measured_times_choose_the_endpoint_and_the_choice_follows_them():
    clock = Clock()
    azure = ClockedModel("azure says", clock=clock, seconds=0.03)
    aws = ClockedModel("aws says", clock=clock, seconds=0.06)
    router = ChatLLMRouter(
        candidates=[endpoints(azure, aws)],
        policy=Always("large"),
        live=Live(telemetry=Telemetry(clock=clock)),
    )

    def ask() -> str:
        clock.wait(1.0)
        return route_of(router.invoke("hi"))["candidate"]

    early = [ask() for _ in range(8)]
    seen = router.live.telemetry.look(["large@azure", "large@aws"])
    assert 0 < seen["large@azure"].ttft_s < seen["large@aws"].ttft_s
    assert seen["large@azure"].ttft_s + seen["large@azure"].itl_s == pytest.approx(0.03, abs=0.005)
    assert early[-3:] == ["large@azure"] * 3
    azure.seconds = 0.4
    assert [ask() for _ in range(8)][-1] == "large@aws"


@row(65, "live metrics of availability")
def test_an_endpoint_that_is_down_is_left_alone_and_no_request_is_lost():
    down = ProviderError(503)
    azure, aws = ScriptedModel(down), ScriptedModel("aws says")
    small = Candidate("small", ScriptedModel("small says"), Price(1, 2))
    router = ChatLLMRouter(
        candidates=[small, endpoints(azure, aws)],
        estimator=Constant().fit(make_outcomes(candidates=("small", "large"))),
        policy=Utility(),
        live=Live(resilience=Resilience(retries=0)),
    )
    answers = [router.invoke("hi").content for _ in range(12)]
    assert answers == ["aws says"] * 12
    assert len(azure.seen) <= 5
    aws.script = [down]
    assert {router.invoke("hi").content for _ in range(12)} == {"small says"}
    assert len(aws.seen) <= 12 + 5


@row(69, "a central API over the models of several providers")
def test_one_openai_address_serves_every_model_and_the_router(monkeypatch):
    openai = pytest.importorskip("openai", reason="openai is not installed")
    candidates = [
        Candidate("small", ScriptedChatModel("small says"), Price(1, 2)),
        Candidate("large", ScriptedChatModel("large says"), Price(10, 20)),
    ]
    router = ChatLLMRouter(candidates=candidates, policy=Always("large"))
    for url in serve(create_app(router)):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            assert {model.id for model in client.models.list()} == {"router", "small", "large"}
            said = {
                name: client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": "hello?"}]
                )
                .choices[0]
                .message.content
                for name in ("router", "small", "large")
            }
    assert said == {"router": "large says", "small": "small says", "large": "large says"}
