"""Are today's queries like the training queries? And who is asked when they are not."""

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price, SelfEvaluator, route_of
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import (
    Abstaining,
    Constant,
    DriftGauge,
    DriftReading,
    DriftWatch,
    NearestNeighbors,
)
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.policies import ConfidenceThreshold, SafeArm, Utility
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.errors import NotFittedError
from tests.support.fakes import JudgeModel, ScriptedModel, TableEmbeddings

NAMES = ("small", "large")
TOPICS = {
    "sums": "add the easy numbers seven eight nine ten and tell what the sum of them is",
    "proofs": "prove the hard theorem of a great master by induction over all of its cases",
    "poems": "write a long sonnet about waves seagulls sand salt harbors and old ships",
}


def queries(n, topic="both", seed=0):
    rng = np.random.default_rng(seed)
    names = ["sums", "proofs"] if topic == "both" else [topic]
    return [
        " ".join(rng.choice(TOPICS[names[i]].split(), 8)) for i in rng.integers(0, len(names), n)
    ]


@pytest.fixture(scope="module")
def gauge():
    return DriftGauge().fit(queries(300))


def test_without_drift_few_queries_look_strange():
    gauges = [DriftGauge(seed=seed).fit(queries(300, seed=100 + seed)) for seed in range(8)]
    p = np.concatenate([g.per_query(queries(150, seed=i)) for i, g in enumerate(gauges)])
    assert p.shape == (1200,)
    for alpha in (0.05, 0.2, 0.5):
        assert (p <= alpha).mean() == pytest.approx(alpha, abs=0.05)


def test_strange_queries_have_the_smallest_p_value_there_is(gauge):
    p = gauge.per_query(queries(50, "poems"))
    assert p.max() < 0.02
    assert p.min() == 1 / (1 + len(gauge.distances_))
    assert len(gauge.per_query([])) == 0


def test_a_window_without_drift_is_rarely_alarming(gauge):
    readings = [gauge.per_window(queries(60, seed=seed)) for seed in range(2, 42)]
    assert sum(reading.p_value < 0.05 for reading in readings) <= 5
    assert "look like the training queries" in str(max(readings, key=lambda r: r.p_value))


def test_a_window_of_other_queries_is_further_away(gauge):
    mixed = [*queries(50, seed=3), *queries(15, "poems")]
    reading = gauge.per_window(mixed)
    assert reading.p_far < 0.01
    assert reading.p_value < 0.02
    assert "p = " in str(reading)


def test_a_window_of_known_queries_only_is_mixed_otherwise(gauge):
    reading = gauge.per_window(queries(60, "sums", seed=4))
    assert reading.p_mix <= 0.002
    assert "a different mix" in str(reading)


def test_readings_say_what_they_found():
    assert "further" in str(DriftReading(10, p_far=0.001, p_mix=0.4))
    assert DriftReading(10, p_far=0.8, p_mix=0.9).p_value == 1.0


def test_a_gauge_that_has_seen_little_calls_nothing_strange():
    assert DriftGauge().fit(queries(10)).per_query(["something else"]).min() >= 0.25
    assert DriftGauge().fit(["one"]).per_query(["something else"]) == 0.5


def test_large_training_sets_are_sampled():
    gauge = DriftGauge(most_rows=100).fit(queries(300))
    assert len(gauge.reference_) + len(gauge.held_out_) == 100


def test_a_gauge_says_what_it_needs(gauge):
    with pytest.raises(ValueError, match="0 queries"):
        DriftGauge().fit([])
    with pytest.raises(NotFittedError, match="fit"):
        DriftGauge().per_query(["q"])
    with pytest.raises(ValueError, match="at least one"):
        gauge.per_window([])
    with pytest.raises(ValueError, match="held_out"):
        DriftGauge(held_out=1.0)
    with pytest.raises(ValueError, match="n_neighbors"):
        DriftGauge(n_neighbors=0)
    with pytest.raises(ValueError, match="size"):
        DriftWatch(0)
    with pytest.raises(ValueError, match="p_query"):
        Abstaining(p_query=1.0)


def outcomes(n=200):
    asked = queries(n)
    hard = np.array(["theorem" in q or "prove" in q or "induction" in q for q in asked])
    return Outcomes(asked, NAMES, np.column_stack([np.where(hard, 0.2, 1.0), np.ones(n)]))


def abstaining(**kwargs):
    return Abstaining(NearestNeighbors(n_neighbors=5), p_query=0.02, **kwargs).fit(outcomes())


def test_an_estimator_abstains_on_what_it_was_not_trained_on():
    estimator = abstaining()
    known = estimator.predict(queries(200, seed=9))
    assert np.isnan(known).any(axis=1).mean() < 0.08
    assert np.isnan(estimator.predict(queries(20, "poems"))).all()
    plain = NearestNeighbors(n_neighbors=5).fit(outcomes())
    kept = ~np.isnan(known).any(axis=1)
    np.testing.assert_array_equal(known[kept], plain.predict(queries(200, seed=9))[kept])


def test_a_query_is_embedded_once():
    class Counting(TableEmbeddings):
        n = 0

        def embed_documents(self, texts):
            self.n += len(texts)
            return LexicalEmbeddings(width=64).embed_documents(texts)

    counting = Counting({})
    estimator = Abstaining(NearestNeighbors(counting, n_neighbors=5)).fit(outcomes())
    counting.n = 0
    estimator.predict(["one query"])
    assert counting.n == 1


def test_it_is_saved_with_its_gauge_and_without_its_watch(tmp_path):
    for inner in (NearestNeighbors(n_neighbors=5), Constant()):
        fitted = Abstaining(inner, p_query=0.02, watch=DriftWatch()).fit(outcomes())
        loaded = Abstaining.load(fitted.save(tmp_path / type(inner).__name__))
        asked = [*queries(20, seed=5), *queries(5, "poems")]
        np.testing.assert_array_equal(loaded.predict(asked), fitted.predict(asked))
        assert loaded.watch is None


def test_a_drifted_window_makes_it_abstain_from_everything_until_it_is_over():
    watch = DriftWatch(size=40, every=10)
    estimator = abstaining(watch=watch)
    usual = queries(300, seed=7)
    for query in usual[:60]:
        estimator.predict([query])
    assert not watch.alarm
    for query in queries(40, "poems"):
        estimator.predict([query])
    assert watch.alarm
    assert np.isnan(estimator.predict([usual[0]])).all()
    for query in usual[100:160]:
        estimator.predict([query])
    assert not watch.alarm
    assert watch.reading.n == 40


# Who is asked then


def pool(small=None):
    return [
        Candidate("small", small or ScriptedModel("small says"), Price(1, 2)),
        Candidate("large", ScriptedModel("large says"), Price(10, 20)),
    ]


def test_where_nothing_is_predicted_the_safe_candidate_is_asked_and_it_replays(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    policy = SafeArm(Utility(cost=40.0), safe="large")
    router = ChatLLMRouter(candidates=pool(), policy=policy, estimator=abstaining(), log=log)
    sums, poem = queries(1, "sums", seed=8)[0], queries(1, "poems")[0]
    assert route_of(router.invoke(sums))["candidate"] == "small"
    record = route_of(router.invoke(poem))
    assert record["candidate"] == "large"
    assert "safe" in record["reason"]
    assert record["scores"]["small"]["quality"] is None
    log.flush()
    assert replay_log(read_log(log.path), policy).n_identical == 2


def test_a_saved_router_that_abstains_asks_the_safe_candidate_after_loading(tmp_path):
    policy = SafeArm(Utility(cost=40.0), safe="large")
    SavedRouter(("small", "large"), policy, abstaining()).save(tmp_path / "it")
    router = ChatLLMRouter.load(tmp_path / "it", candidates=pool())
    assert router.route(queries(1, "sums", seed=8)[0]).candidate == "small"
    assert router.route(queries(1, "poems")[0]).candidate == "large"


def test_a_cascade_goes_to_the_safe_candidate_at_once():
    small = JudgeModel("draft", verdicts=["yes"])
    router = ChatLLMRouter(
        candidates=pool(small),
        policy=SafeArm(ConfidenceThreshold(threshold=0.7), safe="large"),
        estimator=abstaining(),
        verifier=SelfEvaluator(n_samples=1),
    )
    assert route_of(router.invoke(queries(1, "poems")[0]))["candidate"] == "large"
    assert small.seen == []
    record = route_of(router.invoke(queries(1, "sums", seed=8)[0]))
    assert [step["action"] for step in record["steps"]] == ["ask", "verify", "accept"]


def test_if_the_safe_candidate_fails_somebody_else_is_asked():
    policy = SafeArm(Utility(), safe="large")
    arms = (Arm("small", cost_usd=1.0), Arm("large", cost_usd=2.0))
    failed = Attempt(candidate="large", error="RuntimeError: down")
    assert policy.decide(Situation("q", arms)).candidate == "large"
    assert policy.decide(Situation("q", arms, (failed,))).candidate == "small"
    step = policy.decide(Situation("q", arms))
    assert policy.chance(Situation("q", arms), step) == 1.0
    answered = Attempt(candidate="small", error=None)
    assert policy.decide(Situation("q", arms, (failed, answered))).action == "accept"
