"""A decision taken apart says what the policy does, at this setting and at every other."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.estimators import Linear, NearestNeighbors
from langchain_llm_router.evaluation import Exam, explain, knob_of, recorded_attempts, spans
from langchain_llm_router.policies import (
    Always,
    AnswerPool,
    CascadeRouting,
    ConfidenceThreshold,
    Pomdp,
    RandomMix,
    Threshold,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.options import RoutingOptions
from tests.support.fakes import JudgeModel, ScriptedModel, make_evaluations, make_outcomes

TABLE = make_outcomes(n=120)
SAID = make_evaluations(TABLE)
COSTS = dict(zip(TABLE.candidates, TABLE.mean_cost_usd.tolist(), strict=True))


def saved(policy, **kwargs) -> SavedRouter:
    return SavedRouter(TABLE.candidates, policy, expected_cost_usd=COSTS, **kwargs)


def estimator() -> NearestNeighbors:
    return NearestNeighbors(n_neighbors=9).fit(TABLE)


def cascades():
    model = KernelDensity().fit(SAID.confidence[:, 0], TABLE.quality[:, 0] == 1)
    return {
        "threshold": ConfidenceThreshold(model, threshold=0.6),
        "lambda": ConfidenceThreshold(model, lambda_=30.0),
        "pomdp": Pomdp(20.0, likelihood="kde").fit(TABLE, SAID),
        "cascade routing": CascadeRouting(20.0).fit(TABLE, SAID),
        "answer pool": AnswerPool.from_prices(COSTS),
    }


def test_the_lambda_that_flips_a_choice_is_exact():
    arms = (Arm("small", 0.5, 0.001), Arm("large", 0.9, 0.01))
    cheap, dear = spans(Utility(cost=100.0), Situation("q", arms))[::-1]
    # Both are worth the same where 0.9 - 0.01 λ = 0.5 - 0.001 λ.
    assert dear.candidate == "large"
    assert (dear.low, dear.high) == (0.0, pytest.approx(0.4 / 0.009, rel=1e-12))
    assert (cheap.candidate, cheap.high) == ("small", None)


def thousandths(most):
    """Numbers on a grid: closer ones than rounding tie at one λ and not at another."""
    return st.integers(0, 1000 * most).map(lambda n: n / 1000)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(thousandths(1), st.floats(1e-5, 0.1), thousandths(3)), min_size=1, max_size=6
    ),
    thousandths(10_000),
    st.integers(0, 200).map(lambda n: n / 1000),
)
def test_the_spans_of_lambda_cover_everything_and_are_what_the_policy_does(rows, lambda_, ttft):
    arms = tuple(Arm(f"m{i}", q, c, ttft_s=t) for i, (q, c, t) in enumerate(rows))
    policy, situation = Utility(cost=1.0, ttft=ttft), Situation("q", arms)
    found = spans(policy, situation)
    assert found[0].low == 0.0
    assert found[-1].high is None
    assert all(a.high == b.low for a, b in pairwise(found))
    assert all(a.candidate != b.candidate for a, b in pairwise(found))
    inside = next(s for s in found if s.high is None or lambda_ < s.high)
    edges = [s.low for s in found[1:]]
    if all(abs(lambda_ - edge) > 1e-6 * (1 + edge) for edge in edges):
        turned = Utility(cost=lambda_, ttft=ttft)
        assert turned.decide(situation).candidate == inside.candidate


@pytest.mark.parametrize("name", ["threshold", "lambda", "pomdp", "cascade routing", "answer pool"])
def test_a_searched_setting_flips_the_choice_where_it_says(name):
    policy = cascades()[name]
    row = int(np.flatnonzero(SAID.confidence[:, 0] == 0.75)[0])
    told = explain(saved(policy), TABLE.queries[row], attempts=recorded_attempts(TABLE, row, SAID))
    turned = [step for step in told.steps if len(step.spans) > 1]
    assert turned
    for step in turned:
        for span in step.spans[1:]:
            # A hair to either side of the edge the explained router does what the spans say.
            for value, expected in ((span.low * 1.001, span), (span.low * 0.999, None)):
                key = "lambda" if step.knob.name == "lambda" else "threshold"
                again = explain(
                    saved(policy),
                    TABLE.queries[row],
                    attempts=recorded_attempts(TABLE, row, SAID),
                    options={key: value},
                )
                made = [(s.decision.action, s.decision.candidate) for s in again.steps]
                if step is told.steps[0]:
                    assert (made[0] == span.choice) == (expected is not None)


def test_what_would_change_a_pools_decision_is_said_and_true():
    policy, query = cascades()["answer pool"], TABLE.queries[4]
    told = explain(saved(policy), query, attempts=recorded_attempts(TABLE, 4, SAID))
    step = told.steps[0]
    nearest = step.flips[0]
    edge = nearest.low if nearest.low > step.knob.value else nearest.high
    assert step.decision.flip == (
        f"λ = {edge:.4g} per USD (now {step.knob.value:.4g}) "
        f"would {nearest.action} {nearest.candidate}"
    )
    beyond = edge * (1.001 if nearest.low > step.knob.value else 0.999)
    made = explain(saved(policy), query, options={"lambda": beyond}).steps[0].decision
    assert (made.action, made.candidate) == nearest.choice


def test_the_edge_of_a_threshold_is_p_good():
    policy = cascades()["threshold"]
    row = int(np.flatnonzero(SAID.confidence[:, 0] == 0.5)[0])
    told = explain(saved(policy), TABLE.queries[row], attempts=recorded_attempts(TABLE, row, SAID))
    step = next(step for step in told.steps if len(step.spans) > 1)
    p = policy.observation.p_good(0.5)
    assert step.spans[0].high == pytest.approx(p, abs=1e-9)
    assert [span.action for span in step.spans] == ["accept", "ask"]


def test_the_edge_of_a_win_rate_threshold_is_the_win_rate():
    situation = Situation("q", (Arm("small", 0.4), Arm("large", 0.9)))
    first, second = spans(Threshold(0.5), situation)
    assert (first.candidate, second.candidate) == ("large", "small")
    assert first.high == pytest.approx(0.75, abs=1e-9)


@pytest.mark.parametrize("policy", [Always("small"), RandomMix({"small": 1.0})])
def test_a_policy_without_a_knob_has_nothing_to_flip(policy):
    situation = Situation("q", (Arm("small", 0.4), Arm("large", 0.9)))
    assert knob_of(policy, situation) is None
    assert spans(policy, situation) == ()


def test_an_arms_parts_add_up_to_the_utility_that_decided():
    told = explain(saved(Utility(cost=30.0), estimator=estimator()), "prove hard theorem 7")
    scores = told.decision.scores
    for arm in told.arms:
        assert arm.utility == pytest.approx(scores[arm.candidate]["utility"])
        assert arm.terms["cost"] == pytest.approx(-30 * arm.cost_usd)
    assert max(told.arms, key=lambda arm: arm.utility).chosen


@pytest.mark.parametrize("name", ["threshold", "lambda", "pomdp", "cascade routing", "answer pool"])
def test_what_is_explained_is_what_a_replay_does(name):
    router = saved(cascades()[name], verifier="self")
    done = Exam.of(router, TABLE, {"self": SAID}).replay()
    for row in range(0, len(TABLE), 20):
        attempts = recorded_attempts(TABLE, row, SAID)
        told = explain(router, TABLE.queries[row], attempts=attempts)
        assert told.decision.candidate == TABLE.candidates[done.accepted[row]]
        assert told.decision.reason == done.decisions[row].reason


def test_each_score_of_the_first_answer_leads_where_the_outlook_says():
    router = saved(cascades()["threshold"], verifier="self")
    told = explain(router, "a new question")
    assert [it.score for it in told.outlook] == [None, *np.linspace(0, 1, 9)]
    for it in told.outlook:
        attempt = {"candidate": "small", "verified": True, "confidence": it.score}
        last = explain(router, "a new question", attempts=[attempt]).steps[2].decision
        assert (it.action, it.candidate) == (last.action, last.candidate)


def test_a_live_decision_record_is_followed_step_by_step():
    small = JudgeModel("draft", verdicts=["yes", "no", "no", "no"])
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(1, 2)),
            Candidate("large", ScriptedModel("large says"), Price(10, 20)),
        ],
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=4),
    )
    record = route_of(router.invoke("question?"))
    told = explain(router, "question?", attempts=record["attempts"])
    taken = [(s.decision.action, s.decision.candidate) for s in told.steps]
    assert taken == [(step["action"], step["candidate"]) for step in record["steps"]]
    assert "keep small 0 to 0.25; ask large from 0.25" in told.text()
    assert told.steps[1].verdicts == ("Correct: because", *["Incorrect: because"] * 3)
    assert "    Correct: because\n" in told.text()
    error = (0.25 * 0.75 / 4) ** 0.5
    assert record["attempts"][0]["standard_error"] == pytest.approx(error)
    assert told.gaussians == {"small": (0.25, pytest.approx(error))}
    assert "score of small's answer: 0.250, standard error 0.217" in told.text()
    assert told.as_dict()["gaussians"]["small"]["mean"] == 0.25
    # And without the record no candidate is asked.
    asked = len(small.seen)
    assert explain(router, "question?").decision.action == "ask"
    assert len(small.seen) == asked


def test_a_live_router_and_a_saved_one_explain_alike():
    kept = saved(Utility(cost=30.0), estimator=estimator())
    pool = [Candidate(n, ScriptedModel("x"), expected_cost_usd=COSTS[n]) for n in TABLE.candidates]
    live = ChatLLMRouter(candidates=pool, policy=kept.policy, estimator=kept.estimator)
    for options in (None, {"lambda": 3}, "router@c:500|models:small,medium"):
        one = explain(kept, "prove hard theorem 7", options=options)
        two = explain(live, "prove hard theorem 7", options=options)
        assert one.as_dict() == two.as_dict()
    assert RoutingOptions.parse({"lambda": 3}).lambda_ == 3


def test_neighbors_are_the_training_queries_with_the_nearest_embeddings():
    known = TABLE.take(range(60))
    router = saved(Utility(cost=30.0), estimator=NearestNeighbors().fit(known))
    router = router.taught_by(known.queries)
    told = explain(router, TABLE.queries[3], training=TABLE, n_neighbors=60)
    assert told.neighbors[0].query == TABLE.queries[3]
    assert told.neighbors[0].similarity == pytest.approx(1.0)
    # Rows that had no part in the router are none of its training queries.
    assert {it.query for it in told.neighbors} == set(known.queries)
    cosine = [it.similarity for it in told.neighbors]
    assert cosine == sorted(cosine, reverse=True)
    best = dict(zip(TABLE.candidates, TABLE.quality[3], strict=True))
    assert told.neighbors[0].quality == best


@pytest.mark.parametrize(
    ("policy", "kind"),
    [(Utility(cost=30.0), Linear), (Always("small"), NearestNeighbors)],
)
def test_queries_that_the_decision_did_not_look_at_are_given_as_no_reason(policy, kind):
    known = TABLE.take(range(60))
    router = saved(policy, estimator=kind().fit(known)).taught_by(known.queries)
    told = explain(router, TABLE.queries[3], training=TABLE)
    assert told.neighbors == ()
    assert "training queries" not in told.text()
    cascade = saved(cascades()["threshold"], verifier="self").taught_by(known.queries)
    assert explain(cascade, TABLE.queries[3], training=TABLE).neighbors == ()


def test_cascade_routing_gives_its_estimate_at_every_score():
    told = explain(saved(cascades()["cascade routing"], verifier="self"), "a new question")
    assert all(it.p_good is not None for it in told.outlook if it.score is not None)


def test_an_explanation_is_text_and_json():
    router = saved(Utility(cost=30.0), estimator=estimator())
    told = explain(router, "prove hard\ntheorem 7", training=TABLE)
    assert told.text().startswith("prove hard theorem 7\n  ask medium: highest utility")
    assert "λ (quality per USD, higher is cheaper), now 30: ask large 0 to" in told.text()
    assert "in units of quality (0 to 1), at λ = 30 per USD" in told.text()
    assert "-λ·cost" in told.text()
    assert "per answer" in told.text()
    assert json.loads(json.dumps(told.as_dict(), allow_nan=False))["candidate"] == "medium"
    first = told.steps[0]
    large, _, small = first.spans
    assert first.flips == (large, small)
    assert f"= {large.high:.4g} per USD (now 30) would choose large" in first.decision.flip
    sure = explain(router, "add easy numbers 7")
    assert sure.steps[0].flips == ()
    assert "higher is cheaper), now 30: ask small always" in sure.text()


@pytest.mark.parametrize("name", ["route", "always", "threshold", "lambda", "pomdp", "answer pool"])
def test_every_kind_of_decision_can_be_drawn(name, tmp_path):
    plots = pytest.importorskip("langchain_llm_router.plots")
    pytest.importorskip("matplotlib")
    if name in ("route", "always"):
        policy = Utility(cost=30.0, ttft=0.0) if name == "route" else Always("small")
        told = explain(saved(policy, estimator=estimator()), "prove hard 3", training=TABLE)
    else:
        router = saved(cascades()[name], verifier="self")
        attempts = recorded_attempts(TABLE, 4, SAID)
        told = explain(router, TABLE.queries[4], attempts=attempts, training=TABLE)
        figure = plots.explanation(explain(router, "new"))
        plots.save(figure, tmp_path / "before.png")
    figure = plots.explanation(told)
    path = plots.save(figure, tmp_path / "why.png")
    assert path.stat().st_size > 10_000
    heading = figure.texts[0].get_text()
    assert told.decision.candidate in heading


def test_an_explanation_tells_throughput_where_it_is_known():
    fast = Candidate("small", ScriptedModel("s"), Price(1, 2), ttft_s=0.1, itl_s=0.01)
    plain = [fast, Candidate("large", ScriptedModel("l"), Price(10, 20))]
    told = explain(
        ChatLLMRouter(
            candidates=plain, estimator=NearestNeighbors().fit(TABLE.select(["small", "large"]))
        ),
        TABLE.queries[0],
    )
    assert {arm.candidate: arm.tokens_per_s for arm in told.arms} == {
        "small": pytest.approx(256 / 2.65),
        "large": None,
    }
    assert "tokens/s" in told.text()
    assert told.as_dict()["arms"][1]["tokens_per_s"] is None
