"""A decision log decided again: bit for bit, and under changes."""

import pytest

from langchain_llm_router import (
    ChatLLMRouter,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.estimators import Linear
from langchain_llm_router.history import Changes, replay_log
from langchain_llm_router.policies import (
    Always,
    BudgetedRouting,
    CascadeRouting,
    ConfidenceThreshold,
    Pomdp,
    RandomMix,
    Threshold,
    Utility,
)
from tests.support.fakes import (
    JudgeModel,
    make_evaluations,
    make_outcomes,
)
from tests.support.logged_routers import ESTIMATOR, NAMES, cascade, pool, read

QUERIES = [f"{'prove hard theorem' if i % 3 else 'add easy numbers'} {i}" for i in range(150)]


def fitted(policy):
    table = make_outcomes(n=120, candidates=NAMES)
    return policy.fit(table, make_evaluations(table))


ONE_SHOT = {
    "Always": lambda: Always("large"),
    "RandomMix": lambda: RandomMix({"small": 0.7, "large": 0.3}, seed=3),
    "Threshold": lambda: Threshold(0.55),
    "Utility": lambda: Utility(cost=40.0),
    "BudgetedRouting": lambda: BudgetedRouting(2e-5).fit(ESTIMATOR.predict(QUERIES), [1e-5, 1e-4]),
}


CASCADES = {
    "ConfidenceThreshold": lambda: ConfidenceThreshold(threshold=0.7),
    "Pomdp": lambda: fitted(Pomdp(lambda_=20.0)),
    "CascadeRouting": lambda: fitted(CascadeRouting(lambda_=5.0)),
}


@pytest.mark.parametrize("name", ONE_SHOT)
def test_a_log_of_one_shot_decisions_replays_bit_for_bit(name, log):
    policy = ONE_SHOT[name]()
    router = ChatLLMRouter(candidates=pool(), policy=policy, estimator=ESTIMATOR, log=log)
    records = [route_of(router.invoke(query)) for query in QUERIES]
    history = read(log)
    assert [entry.decision_id for entry in history.entries] == [r["decision_id"] for r in records]
    replay = replay_log(history, policy)
    assert replay.n_identical == len(replay) == len(QUERIES)
    assert [row.went.candidate for row in replay.rows] == [r["candidate"] for r in records]
    assert [row.went.cost_usd for row in replay.rows] == [r["cost_usd"] for r in records]
    assert [row.went.propensity for row in replay.rows] == [r["propensity"] for r in records]
    # Predicting anew gives the same numbers to the last bit.
    again = replay_log(history, policy, changes=Changes(estimator=ESTIMATOR))
    assert again.n_identical == len(QUERIES)


@pytest.mark.parametrize("name", CASCADES)
def test_a_log_of_cascades_replays_bit_for_bit(name, log):
    policy = CASCADES[name]()
    verdicts = ["yes", "no", "no", "garbage", "yes"]
    router = cascade(log, verdicts, policy)
    records = [route_of(router.invoke(query)) for query in QUERIES]
    assert {len(record["attempts"]) for record in records} == {1, 2}
    replay = replay_log(read(log), policy)
    assert replay.n_identical == len(QUERIES)
    assert replay.share_on_record == replay.share_agreeing == 1
    assert [row.went.cost_usd for row in replay.rows] == [r["cost_usd"] for r in records]


def test_the_graphs_log_replays_bit_for_bit(log):
    small = JudgeModel("a draft", verdicts=["yes", "no", "garbage"])
    policy = ConfidenceThreshold(threshold=0.7)
    graph = create_cascade(
        pool(small), policy=policy, verifier=SelfEvaluator(n_samples=1), log=log
    ).compile()
    for query in QUERIES[:30]:
        graph.invoke({"messages": [("human", query)]})
    replay = replay_log(read(log), policy)
    assert replay.n_identical == len(replay) == 30
    assert {len(row.entry.attempts) for row in replay.rows} == {1, 2}


def test_another_router_s_log_is_not_identical_and_says_where(log):
    router = ChatLLMRouter(
        candidates=pool(), policy=Utility(cost=40.0), estimator=ESTIMATOR, log=log
    )
    for query in QUERIES[:20]:
        router.invoke(query)
    replay = replay_log(read(log), Utility(cost=41.0))
    assert replay.n_identical < 20
    assert replay.differing[0].went.steps[0].scores != replay.differing[0].entry.steps[0].scores


def test_another_lambda_changes_only_whom_it_should(log):
    router = ChatLLMRouter(
        candidates=pool(), policy=Utility(cost=40.0), estimator=ESTIMATOR, log=log
    )
    for query in QUERIES:
        router.invoke(query)
    history = read(log)
    replay = replay_log(history, Utility(cost=40.0), changes=Changes(lambda_=400.0))
    for row in replay.rows:
        arms = row.entry.situations[0].arms
        utility = {arm.candidate: arm.quality - 400.0 * arm.cost_usd for arm in arms}
        assert row.went.candidate == max(utility, key=utility.get)
        assert row.went.on_record == (row.went.candidate == row.entry.candidate)
    moved = [row for row in replay.rows if not row.agrees]
    assert 0 < len(moved) < len(QUERIES)
    assert {row.went.candidate for row in moved} == {"small"}
    assert replay.cost_usd < replay.recorded_cost_usd
    assert replay.shares()["large"][1] < replay.shares()["large"][0]
    # Dearer never becomes cheaper as λ falls.
    costs = [
        replay_log(history, Utility(), changes=Changes(lambda_=value)).cost_usd
        for value in (0.0, 40.0, 400.0, 4000.0)
    ]
    assert costs == sorted(costs, reverse=True)


def test_a_stricter_threshold_leaves_the_record_where_no_candidate_was_asked(log):
    router = cascade(log, ["yes", "no"])
    for query in QUERIES[:10]:
        router.invoke(query)
    history = read(log)
    strict = replay_log(history, ConfidenceThreshold(), changes=Changes(threshold=1.1))
    assert strict.share_on_record == 0.5
    assert all(row.went.candidate == "large" for row in strict.rows)
    assert strict.cost_usd > strict.recorded_cost_usd
    lax = replay_log(history, ConfidenceThreshold(), changes=Changes(threshold=0.0))
    assert lax.share_on_record == 1
    assert lax.cost_usd < lax.recorded_cost_usd


def test_another_estimator_predicts_for_the_logged_queries(log):
    router = ChatLLMRouter(candidates=pool(), policy=Utility(), estimator=ESTIMATOR, log=log)
    for query in QUERIES[:20]:
        router.invoke(query)
    other = Linear(n_surface=8).fit(make_outcomes(candidates=("large", "small")))
    replay = replay_log(read(log), Utility(), changes=Changes(estimator=other))
    row = other.predict([QUERIES[0]])[0]
    arms = replay.rows[0].went.situation.arms
    assert {a.candidate: a.quality for a in arms} == {"large": row[0], "small": row[1]}


def test_a_budgeted_cascade_replays_with_what_it_was_granted(log):
    router = ChatLLMRouter(
        candidates=pool(max_output_tokens=100),
        policy=Threshold(2.0),
        estimator=ESTIMATOR,
        budgets=Budgets([Budget(1.0)]),
        log=log,
    )
    record = route_of(router.invoke("q"))
    (entry,) = read(log).entries
    assert entry.situations[0].granted_usd == record["budget"]["granted_usd"]
    assert replay_log([entry], router.policy).n_identical == 1


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        (Utility(cost=40.0), Changes(threshold=0.5)),
        (Utility(cost=40.0), Changes(lambda_=0.0, threshold=0.0)),
        (Always("small"), Changes(lambda_=0.0)),
        (Threshold(0.5), Changes(lambda_=1.0)),
        (ConfidenceThreshold(), Changes(lambda_=1.0, threshold=0.5)),
    ],
)
def test_a_setting_that_the_policy_does_not_have_is_refused(policy, changes):
    with pytest.raises(ValueError, match="would change nothing"):
        replay_log([], policy, changes=changes)


def test_an_estimator_without_a_logged_candidate_is_refused_by_its_name(log):
    router = ChatLLMRouter(candidates=pool(), policy=Utility(), estimator=ESTIMATOR, log=log)
    router.invoke(QUERIES[0])
    other = Linear(n_surface=8).fit(make_outcomes(candidates=("large", "small")).select(["small"]))
    with pytest.raises(ValueError, match="has the candidate 'large', which the Linear was not"):
        replay_log(read(log), Utility(), changes=Changes(estimator=other))
