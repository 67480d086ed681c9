"""Unify: predicted quality, cost and speed, over models and endpoints, as they are right now."""

import json

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price, estimators, route_of
from langchain_llm_router.collect import Judge, Limits, collect
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live, PriceFeed, Resilience, Telemetry
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


@row(58, "a judge says Irrelevant, Bad, Satisfactory, Very good or Excellent: from 0 to 1")
def test_the_five_words_of_the_judge_become_qualities(tmp_path):
    words = {
        "Irrelevant": 0.0, "Bad": 0.25, "Satisfactory": 0.5, "Very good": 0.75, "Excellent": 1.0,
    }  # fmt: skip
    judge = ScriptedChatModel(*({"rationale": "because", "grade": word} for word in words))
    collected = collect(
        [{"query": f"question {i}?"} for i in range(len(words))],
        [Candidate("small", ScriptedChatModel("an answer"), Price(1, 2))],
        journal=tmp_path / "run.jsonl",
        grader=Judge(Candidate("judge", judge, Price(1, 2))),
        limits=Limits(concurrency=1),
    )
    assert collected.outcomes.quality[:, 0].tolist() == list(words.values())
    prompt = " ".join(str(message.content) for message in judge.calls[0].messages)
    assert all(word in prompt for word in words)


@pytest.mark.slow
@row(60, "the vectors compare models with each other, and a new model needs only one more")
def test_a_new_model_is_learned_from_sixty_answers_without_training_the_network_again():
    pytest.importorskip("torch", reason="torch is not installed (extra `torch`)")
    training = estimators.Training(epochs=4, learning_rate=5e-3)
    table = make_outcomes(200)
    fitted = tiny("ModelScorer", training=training).fit(table.select(["small", "large"]))
    queries = ["prove hard theorem", "add easy numbers"]
    before = fitted.predict(queries)
    fitted.add_candidate("medium", table.take(np.arange(60)))
    after = fitted.predict(queries)
    np.testing.assert_allclose(after[:, :2], before, atol=1e-6)
    hard, easy = after[:, 2].tolist()
    assert hard == pytest.approx(0.5, abs=0.2)  # truth
    assert easy == pytest.approx(0.925, abs=0.1)
    known = np.array([vector.tolist() for vector in fitted.network_.vectors])
    moved = np.linalg.norm(known[:2] - known[2], axis=1).min() / np.linalg.norm(known[2])
    assert moved > 0.01


@row(
    62,
    "cost: that of a token",
    kind="option",
    why="`Candidate(expected_cost_usd=...)` takes the price of a token; by default the cost of the "
    "call: by the price per token a model that writes ten times as much seems the cheaper one",
)
def test_the_cost_of_a_token_or_of_a_call_decides():
    prices = {"brief": Price(2, 4), "verbose": Price(1, 2)}
    lengths = {"brief": 50, "verbose": 500}
    estimator = Constant().fit(Outcomes(["q"], tuple(prices), [[0.9, 0.9]]))

    def asked(**costs) -> tuple[str, dict[str, float]]:
        candidates = [
            Candidate(name, ScriptedModel("x"), price, expected_output_tokens=lengths[name],
                      expected_cost_usd=costs.get(name))
            for name, price in prices.items()
        ]  # fmt: skip
        router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=Utility(cost=1.0))
        decision = router.route("hi")
        return decision.candidate, {name: decision.scores[name]["cost_usd"] for name in prices}

    per_token = {name: price.output_usd_per_mtok / 1e6 for name, price in prices.items()}
    assert asked(**per_token) == ("verbose", per_token)
    name, per_call = asked()
    assert name == "brief"
    assert per_call["verbose"] / per_call["brief"] == pytest.approx(5, rel=0.02)


@row(66, "live prices per token of every endpoint")
def test_the_choice_follows_a_price_that_changes_and_the_record_has_its_age(tmp_path):
    file = tmp_path / "prices.json"

    def write(azure: float, aws: float) -> None:
        rates = {"large@azure": azure, "large@aws": aws}
        quoted = {n: {"input_usd_per_mtok": r, "output_usd_per_mtok": r} for n, r in rates.items()}
        file.write_text(json.dumps(quoted))

    write(9, 10)
    with PriceFeed(file, every_s=3600) as feed:
        router = ChatLLMRouter(
            candidates=[endpoints(ScriptedModel("azure says"), ScriptedModel("aws says"))],
            estimator=Constant().fit(Outcomes(["q"], ("large",), [[0.9]])),
            policy=Utility(cost=1.0),
            live=Live(prices=feed),
        )
        first = route_of(router.invoke("hi"))
        write(9, 2)
        assert feed.refresh()
        second = route_of(router.invoke("hi"))
    assert (first["candidate"], second["candidate"]) == ("large@azure", "large@aws")
    n_tokens = 1 + 2  # a token per word of "hi" and "aws says"
    assert second["cost_usd"] == pytest.approx(n_tokens * 2 / 1e6)
    assert 0 <= second["price_age_s"]["large@aws"] < 600


@row(67, "throughput: how quickly the answer comes")
def test_throughput_is_measured_and_a_request_may_ask_for_it():
    clock = Clock()
    telemetry = Telemetry(clock=clock)
    for name, seconds in (("large@azure", 0.02), ("large@aws", 0.01)):
        for _ in range(10):
            running = telemetry.began(name, streamed=True)
            clock.wait(0.5)
            running.got_first_token()
            clock.wait(seconds * 50)
            running.answered(51)
    seen = telemetry.look(["large@azure", "large@aws"])
    # 51 tokens in a second and a half, and in one second.
    assert seen["large@azure"].tokens_per_s == pytest.approx(34, rel=0.02)
    assert seen["large@aws"].tokens_per_s == pytest.approx(51, rel=0.02)
    router = ChatLLMRouter(
        candidates=[endpoints(ScriptedModel("azure says"), ScriptedModel("aws says"), Price(1, 2))],
        estimator=Constant().fit(Outcomes(["q"], ("large",), [[0.9]])),
        policy=Utility(cost=1e6),
        live=Live(telemetry=telemetry),
    )
    fast = {"configurable": {"llm_router": "router@throughput>40"}}
    assert router.route("hi").candidate == "large@azure"
    assert router.route("hi", fast).candidate == "large@aws"


@row(68, "a user dials cost, quality and speed")
def test_one_line_of_a_request_moves_the_choice_to_quality_cost_or_speed():
    candidates = [
        Candidate("able", ScriptedModel("a"), expected_cost_usd=0.02, ttft_s=1.0, itl_s=0.03),
        Candidate("cheap", ScriptedModel("c"), expected_cost_usd=0.0001, ttft_s=0.9, itl_s=0.03),
        Candidate("quick", ScriptedModel("q"), expected_cost_usd=0.01, ttft_s=0.1, itl_s=0.002),
    ]
    known = Outcomes(["q"], ("able", "cheap", "quick"), [[0.95, 0.6, 0.7]])
    router = ChatLLMRouter(candidates=candidates, estimator=Constant().fit(known), policy=Utility())

    def ask(line: str) -> str:
        return router.route("hi", {"configurable": {"llm_router": line}}).candidate

    assert ask("router@q:1|c:0") == "able"
    assert ask("router@q:1|c:100") == "cheap"
    assert ask("router@q:1|t:0.5|i:1") == "quick"
    for line in ("router@q:-1", "router@c:-1", "router@t:-1", "router@i:-1"):
        with pytest.raises(ValueError, match="must be a finite number >= 0, got -1"):
            ask(line)
