"""The policy that asks until enough answers agree."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.policies import AnswerPool, Policy, Unsure
from langchain_llm_router.policies.answer_partitions import answer_partitions
from langchain_llm_router.policies.pool_search import STOP
from langchain_llm_router.types import Arm, Attempt, Candidate, Price, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from langchain_llm_router.types.options import RoutingOptions
from tests.support.pools import COSTS, POOL, make_pool

TRAIN = make_pool(400)
TEST = make_pool(150, seed=1)
PREDICTED = np.clip(TRAIN[0].quality.mean(axis=1, keepdims=True) * [[0.8, 0.9, 1, 1]], 0.05, 0.95)


def lambda_of(worth: float) -> float:
    """The λ at which asking the dearest is worth so much P(right)."""
    return worth / COSTS[-1]


PLAIN = AnswerPool(lambda_of(0.1), length_weight=0.0).fit(*TRAIN)
FULL = AnswerPool(lambda_of(0.1)).fit(*TRAIN, PREDICTED)
DAY_ONE = AnswerPool.from_prices(dict(zip(POOL, COSTS, strict=True)))


def seen(*attempts: Attempt, names=POOL, quality=None, options=None, costs=None) -> Situation:
    arms = tuple(
        Arm(
            name,
            quality=None if quality is None else quality[i],
            cost_usd=None if costs is None else costs[i],
        )
        for i, name in enumerate(names)
    )
    situation = Situation("q", arms, attempts)
    return situation if options is None else replace(situation, options=options)


def answered(name: str, group: int | None, **more) -> Attempt:
    return Attempt(candidate=name, verified=True, confidence=None, answer_group=group, **more)


def failed(name: str) -> Attempt:
    return Attempt(candidate=name, error="TimeoutError: slow")


def run(policy: Policy, tables, i: int, quality=None, *, tokens: bool = True):
    """Drive the policy through the loop on a recorded row; return who was asked and accepted."""
    outcomes, evaluations = tables
    names, numbers = list(outcomes.candidates), {}
    guess = None if quality is None else quality[i]
    loop = Loop(policy, seen(names=names, quality=guess))
    while (step := loop.next()) is not None and step.action != "accept":
        j = names.index(step.candidate)
        attempt = Attempt(candidate=step.candidate, cost_usd=0.0)
        if tokens:
            attempt["output_tokens"] = int(outcomes.output_tokens[i, j])
        if step.action == "verify":
            group = int(evaluations.answer_groups[i, j])
            numbered = None if group < 0 else numbers.setdefault(group, len(numbers))
            attempt.update(verified=True, confidence=None, answer_group=numbered)
        loop.saw(attempt)
    asked = {attempt["candidate"] for attempt in loop.situation.attempts}
    return asked, step, loop


@pytest.mark.parametrize("policy", [PLAIN, FULL, DAY_ONE], ids=["plain", "full", "prices"])
def test_it_asks_compares_and_accepts_one_of_the_equal_answers(policy):
    for i in range(60):
        asked, step, loop = run(policy, TEST, i, PREDICTED)
        assert step.candidate in asked
        compared = [s.candidate for s in loop.steps if s.action == "verify"]
        final = {s.candidate for s in loop.steps if s.final}
        # Only a final answer, or the last one that can be had, is not compared.
        assert asked - final <= set(compared)


def test_the_cheapest_member_of_the_best_group_is_accepted():
    situation = seen(answered("large", 0), answered("small", 0), answered("medium", 1))
    decision = PLAIN.with_knob(1e6).decide(situation)
    assert (decision.action, decision.candidate) == ("accept", "small")
    assert "2 of 3 answers agree, P(right) = " in decision.reason
    assert decision.confidence == decision.scores["small"]["p_right"]
    assert decision.scores["small"] == decision.scores["large"]
    assert decision.scores["medium"]["p_right"] < decision.confidence


@pytest.mark.parametrize(("policy", "quality"), [(PLAIN, None), (FULL, PREDICTED)])
def test_a_rehearsal_takes_the_steps_of_the_loop(policy, quality):
    rows = np.arange(100)
    outcomes, evaluations = TEST[0].take(rows), TEST[1].take(rows)
    given = None if quality is None else quality[rows]
    for worth in (0.02, 0.1, 0.4):
        turned = policy.with_knob(lambda_of(worth))
        found, spent = turned.rehearse([turned.lambda_], outcomes, evaluations, given)
        same = 0
        for i in rows:
            asked, step, loop = run(turned, TEST, i, quality)
            j = POOL.index(step.candidate)
            cost = sum(outcomes.cost_usd[i, POOL.index(name)] for name in asked)
            equal = found[0, i] == outcomes.quality[i, j] and spent[0, i] == pytest.approx(cost)
            # A final answer is accepted even if it turns out to be unreadable or long, which a
            # rehearsal would look at.
            assert equal or loop.steps[-2].final
            same += equal
        assert same >= 95


def test_a_higher_lambda_spends_less():
    lambdas = [lambda_of(worth) for worth in (0.0, 0.03, 0.1, 0.3, 1.0, 10.0)]
    quality, spent = PLAIN.rehearse(lambdas, *TRAIN)
    assert (np.diff(spent.mean(axis=1)) <= 1e-12).all()
    assert quality[0].mean() > quality[-1].mean()


def test_it_is_as_good_as_the_best_candidate_at_a_lower_cost():
    outcomes, evaluations = make_pool(2_000, seed=3)
    lambdas = [lambda_of(worth) for worth in (0.02, 0.05, 0.1, 0.15, 0.2)]
    quality, spent = (each.mean(axis=1) for each in PLAIN.rehearse(lambdas, outcomes, evaluations))
    best = outcomes.quality[:, -1].mean()
    assert np.interp(best, quality[::-1], spent[::-1]) < 0.9 * outcomes.cost_usd[:, -1].mean()
    assert quality.max() > best + 0.01


def test_agreement_raises_the_chance_and_disagreement_lowers_it():
    alone = PLAIN.p_good(seen(answered("small", 0)), answered("small", 0))
    two = seen(answered("small", 0), answered("medium", 0))
    other = seen(answered("small", 0), answered("medium", 1))
    assert PLAIN.p_good(other, other.attempts[0]) < alone < PLAIN.p_good(two, two.attempts[0])
    assert PLAIN.p_good(two, two.attempts[0]) == PLAIN.p_good(two, two.attempts[1])


def test_an_answer_that_was_not_compared_has_the_chance_of_its_candidate():
    chances = [PLAIN.p_good(seen(), Attempt(candidate=name)) for name in POOL]
    assert all(0.3 < p < 0.95 for p in chances)
    assert chances[-1] > chances[0]


def test_stated_chances_are_true_on_new_questions():
    tables = make_pool(1_500, seed=7)
    stated, right = [], []
    for i in range(len(tables[0])):
        _, step, _ = run(PLAIN, tables, i, tokens=False)
        if step.confidence is not None:
            stated.append(step.confidence)
            right.append(tables[0].quality[i, POOL.index(step.candidate)])
    assert np.mean(stated) == pytest.approx(np.mean(right), abs=0.03)


def test_a_failed_candidate_is_left_out_as_if_it_did_not_exist():
    names = ("small", "large", "giant")
    without = AnswerPool(PLAIN.lambda_, length_weight=0.0)
    vars(without).update({**vars(PLAIN)})
    for group in (None, 0):
        here = seen(failed("medium"), answered("small", group))
        fewer = seen(answered("small", group), names=names)
        assert PLAIN.decide(here) == without.decide(fewer)
    everyone = seen(*(failed(name) for name in POOL))
    assert PLAIN.decide(everyone).reason == "every candidate failed"
    other = seen(*(failed(name) for name in POOL), names=(*POOL, "spare"))
    assert PLAIN.decide(other).candidate == "spare"
    kept = seen(answered("small", None), *(failed(name) for name in POOL[1:]))
    assert (PLAIN.decide(kept).action, PLAIN.decide(kept).candidate) == ("accept", "small")


@pytest.mark.parametrize("names", [("large",), ("small", "giant"), ("medium", "spare")])
def test_only_open_arms_are_asked(names):
    for policy in (PLAIN, FULL, DAY_ONE):
        for worth in (0.0, 0.1, 10.0):
            decision = policy.with_knob(lambda_of(worth)).decide(seen(names=names))
            assert decision.action == "ask"
            assert decision.candidate in set(names) & set(POOL)
    lost = seen(answered("giant", 0), answered("large", 1), names=("small", "giant"))
    assert PLAIN.with_knob(0.0).decide(lost).candidate != "medium"


def test_the_only_candidate_that_can_be_asked_is_asked_for_good():
    decision = PLAIN.decide(seen(names=("large",)))
    assert decision.final
    assert PLAIN.decide(seen(Attempt(candidate="large"), names=("large",))).action == "accept"


def test_an_answer_that_would_be_accepted_whatever_it_says_is_final():
    assert PLAIN.with_knob(lambda_of(10.0)).decide(seen()).final
    assert not PLAIN.with_knob(lambda_of(0.01)).decide(seen()).final


def test_a_request_replaces_lambda_without_a_new_fit():
    for value in (0.0, lambda_of(0.3), lambda_of(5.0)):
        options = RoutingOptions(lambda_=value)
        for attempts in (
            (),
            (answered("small", 0),),
            (answered("small", 0), answered("medium", 1)),
        ):
            requested = PLAIN.decide(seen(*attempts, options=options))
            assert requested == PLAIN.with_options(options).decide(seen(*attempts))


def test_a_candidate_that_has_become_dear_is_asked_less():
    usual = seen(names=POOL, costs=COSTS)
    first = DAY_ONE.decide(usual).candidate
    dear = [c * (1_000 if name == first else 1) for name, c in zip(POOL, COSTS, strict=True)]
    assert DAY_ONE.decide(seen(names=POOL, costs=dear)).candidate != first
    assert DAY_ONE.decide(seen()) == DAY_ONE.decide(usual)


def test_predicted_qualities_change_the_first_step():
    first = {FULL.decide(seen(quality=[q] * 4)).candidate for q in (0.05, 0.3, 0.6, 0.95)}
    values = [FULL.decide(seen(quality=[q] * 4)).reason for q in (0.05, 0.95)]
    assert len(first) > 1 or values[0] != values[1]
    low, high = (
        FULL.p_good(seen(quality=[q] * 4), Attempt(candidate="small")) for q in (0.05, 0.95)
    )
    assert low < high


def test_a_long_answer_is_a_sign_of_a_hard_question():
    short, long = (
        FULL.p_good(seen(), Attempt(candidate="small", output_tokens=tokens))
        for tokens in (40, 900)
    )
    assert long < short
    silent = AnswerPool(length_weight=0.0).fit(*TRAIN)
    one, other = (
        silent.p_good(seen(), Attempt(candidate="small", output_tokens=t)) for t in (40, 900)
    )
    assert one == other


def test_answers_that_cannot_be_compared_do_not_make_it_ask_everyone():
    outcomes, evaluations = TRAIN
    mute = SelfEvaluations(
        POOL, evaluations.confidence, answer_groups=np.full(outcomes.quality.shape, -1)
    )
    policy = AnswerPool(lambda_of(0.1)).fit(outcomes, mute)
    asked, step, _ = run(policy, (outcomes, mute), 0)
    assert len(asked) == 1
    assert step.candidate in asked


def test_rows_without_labels_count():
    few, evaluations = TRAIN[0].take(np.arange(20)), TRAIN[1].take(np.arange(20))
    _, more = make_pool(1_000, seed=5)
    plain = AnswerPool().fit(few, evaluations).model_.classes
    better = AnswerPool().fit(few, evaluations, unlabelled=more).model_.classes
    truth = make_pool(4_000, seed=6)[0].quality.mean(axis=0)
    error = [np.abs(c.prior @ (c.rates[:, :, 0]) - 0.99 * truth).mean() for c in (plain, better)]
    assert error[1] < error[0]


def test_candidates_outside_the_pool_are_not_asked_but_tell_which_questions_are_hard():
    outcomes, evaluations = TRAIN
    pool = ("giant", "small")
    policy = AnswerPool(lambda_of(0.1)).fit(outcomes, evaluations, PREDICTED, pool=pool)
    assert policy.named_candidates == pool
    guess = np.full(TEST[0].quality.shape, 0.5)
    found, spent = policy.rehearse([1.0], *TEST, guess)
    own = TEST[0].select(pool), TEST[1].select(pool), guess[:, :2]
    for one, other in zip((found, spent), policy.rehearse([1.0], *own), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="other"):
        AnswerPool().fit(outcomes, evaluations, pool=("small", "other"))


def test_an_answer_that_was_not_compared_in_time_is_not_verified_later():
    attempts = (Attempt(candidate="small"), failed("medium"))
    decision = PLAIN.decide(seen(*attempts))
    assert decision.action in {"ask", "accept"}
    assert decision.candidate in {"small", "large", "giant"}


def test_without_data_dearer_candidates_are_trusted_more():
    pool = AnswerPool.from_prices({"a": 0.0001, "b": 0.00012, "strong": 0.01})
    assert pool.lambda_ == pytest.approx(0.1 / 0.01)
    agreed = seen(answered("a", 0), answered("b", 0), names=("a", "b", "strong"))
    against = seen(*agreed.attempts, answered("strong", 1), names=("a", "b", "strong"))
    assert pool.p_good(agreed, agreed.attempts[0]) > 0.8
    # Two weak candidates do not outvote the strong one easily.
    assert pool.p_good(against, against.attempts[0]) < 0.65
    single = seen(answered("a", 0), answered("strong", 1), names=("a", "b", "strong"))
    assert pool.decide(replace(single, options=RoutingOptions(lambda_=1e6))).candidate == "strong"


@given(
    st.lists(st.floats(1e-5, 1e-2), min_size=2, max_size=5),
    st.sampled_from([1.0, 1e-3, 1e3]),
)
@settings(max_examples=40, deadline=None)
def test_without_data_a_request_is_expected_to_cost_no_more_than_the_dearest_alone(costs, unit):
    prices = {f"m{j}": cost * unit for j, cost in enumerate(costs)}
    pool = AnswerPool.from_prices(prices)
    dearest = max(prices.values())
    tables, usual = pool._tables.at(0), pool.model_.cost_usd
    assert pool.lambda_ >= 0.1 / dearest * (1 - 1e-9)
    assert tables.expected_cost(pool.lambda_, usual) <= dearest * (1 + 1e-5)
    if pool.lambda_ > 0.1 / dearest * (1 + 1e-9):
        # λ is no higher than it must be.
        assert tables.expected_cost(pool.lambda_ / 2**0.25, usual) > dearest


@given(
    st.lists(st.floats(1e-5, 1e-2), min_size=2, max_size=4, unique=True),
    st.floats(0.01, 1000),
    st.lists(st.sampled_from([None, 0, 1]), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_without_data_long_requests_are_decided_as_short_ones(costs, size, groups):
    # What the dearest candidate is worth does not fall because a prompt is long.
    names = [f"m{j}" for j in range(len(costs))]
    pool = AnswerPool.from_prices(dict(zip(names, costs, strict=True)))
    attempts = [answered(name, group) for name, group in zip(names, groups, strict=False)]
    usual = pool.decide(seen(*attempts, names=names, costs=costs))
    scaled = seen(*attempts, names=names, costs=[size * cost for cost in costs])
    assert (pool.decide(scaled).action, pool.decide(scaled).candidate) == (
        usual.action,
        usual.candidate,
    )
    assert pool.knob_for(scaled).value == pytest.approx(pool.lambda_ / size, rel=0.1)


def test_a_lambda_that_is_given_is_the_same_for_all_requests(tmp_path):
    names = ["a", "b", "strong"]
    prices = dict(zip(names, (1e-4, 1.2e-4, 1e-2), strict=True))
    pool = AnswerPool.from_prices(prices)
    long = seen(names=names, costs=[100 * cost for cost in prices.values()])
    for given_ in (pool.with_knob(5.0), AnswerPool.from_prices(prices, lambda_=5.0)):
        assert given_.knob_for(long).value == 5.0
        by_request = pool.decide(replace(long, options=RoutingOptions(lambda_=5.0)))
        assert given_.decide(long) == by_request
    saved = AnswerPool.load(pool.save(tmp_path / "pool"))
    assert saved.knob_for(long) == pool.knob_for(long)
    assert Unsure(pool, value=0.2).knob_for(long).value == pool.knob_for(long).value


def test_the_expected_cost_is_the_mean_of_what_requests_cost():
    pool = AnswerPool.from_prices({"a": 1.0, "b": 1.5, "strong": 20.0})
    tables, costs = pool._tables.at(0), pool.model_.cost_usd

    def paid(state: int) -> float:
        # In dollars × P(state), below a state, summed over all ways on from it.
        action = int(plan.action[state, 0])
        if action == STOP:
            return 0.0
        children = answer_partitions(3).children[state, action]
        after = sum(paid(child) for child in children if child < len(plan.action))
        return costs[action] * tables.cost[action, state, 0] + after

    plan = tables.solve(pool.lambda_, costs, (True,) * 3)
    assert tables.expected_cost(pool.lambda_, costs) == pytest.approx(paid(0), rel=1e-4)


def test_candidates_give_their_own_prices():
    pool = AnswerPool.from_prices(
        [Candidate("x", price=Price(0.1, 0.4)), Candidate("y", expected_cost_usd=0.01)], lambda_=3.0
    )
    assert (pool.named_candidates, pool.lambda_) == (("x", "y"), 3.0)
    assert pool.model_.cost_usd[1] == 0.01
    with pytest.raises(ValueError, match="at least two candidates"):
        AnswerPool.from_prices({"x": 1.0})
    with pytest.raises(ValueError, match="1 to 6 candidates, got 7"):
        AnswerPool.from_prices({f"m{i}": 1.0 + i for i in range(7)})
    with pytest.raises(ValueError, match="not all 0"):
        AnswerPool.from_prices({"x": 0.0, "y": 0.0})


@pytest.mark.parametrize(
    "costs",
    [
        [1e-4, 3e-3],
        [1e-3, 2e-3],
        [0.0, 1e-3],
        [1e-4, 1.2e-4, 1.5e-4, 2e-4, 3e-4, 9e-3],
        [1e-6, 1e-4, 1e-3, 2e-3],
        [0.0, 0.0, 5e-4, 6e-3],
        [3e-3, 4e-3, 1e-2],
        [2e-3, 6e-3, 8e-3, 1e-2],
    ],
)
def test_without_data_the_dearest_is_asked_after_an_answer_that_cannot_be_compared(costs):
    names = [f"m{j}" for j in range(len(costs))]
    pool = AnswerPool.from_prices(dict(zip(names, costs, strict=True)))
    for first in names[:-1]:
        step = pool.decide(seen(answered(first, None), names=names))
        assert (step.action, step.candidate) == ("ask", names[-1]), first
        assert "assumed from prices" in step.reason
        both = seen(answered(first, None), answered(names[-1], None), names=names)
        assert pool.decide(both).candidate == names[-1]
        assert pool.decide(both).action == "accept"


@pytest.mark.parametrize("policy", [PLAIN, FULL, DAY_ONE], ids=["plain", "full", "prices"])
def test_saved_loaded_and_pickled_it_decides_the_same(policy, tmp_path: Path):
    situations = [
        seen(), seen(quality=[0.2, 0.4, 0.5, 0.9]), seen(answered("small", 0, output_tokens=90)),
        seen(answered("small", 0), answered("medium", None), failed("large")),
    ]  # fmt: skip
    again = [Policy.load(policy.save(tmp_path / "it")), pickle.loads(pickle.dumps(policy))]
    for situation in situations:
        for other in again:
            assert other.decide(situation) == policy.decide(situation)
    assert policy.asks(("spare", *POOL)) == POOL


def test_a_damaged_folder_is_refused(tmp_path: Path):
    folder = PLAIN.save(tmp_path / "it")
    manifest = next(folder.glob("*.json"))
    manifest.write_text(manifest.read_text().replace('"calibration"', '"other"'))
    with pytest.raises(ArtifactError):
        AnswerPool.load(folder)


def test_a_decision_takes_a_tenth_of_a_millisecond():
    situations = [
        seen(quality=[0.3, 0.4, 0.5, 0.9], costs=COSTS),
        seen(answered("small", 0, output_tokens=90), quality=[0.3, 0.4, 0.5, 0.9], costs=COSTS),
    ]
    for situation in situations:
        FULL.decide(situation)
        decide = partial(FULL.decide, situation)
        best = min(repeat(decide, timer=process_time, number=200, repeat=5)) / 200
        # Three times the aim, because test machines are shared.
        assert best < 3e-4


def test_settings_and_tables_that_make_no_sense_are_refused():
    outcomes, evaluations = TRAIN
    with pytest.raises(ValueError, match=r"`lambda_` must be a finite number >= 0"):
        AnswerPool(-1.0)
    with pytest.raises(ValueError, match=r"`length_weight` must lie in \[0, 1\]"):
        AnswerPool(length_weight=1.5)
    with pytest.raises(ValueError, match=r"`n_classes` must be >= 1, got 0"):
        AnswerPool(n_classes=0)
    with pytest.raises(NotFittedError, match="from_prices"):
        AnswerPool().decide(seen())
    silent = SelfEvaluations(POOL, evaluations.confidence)
    with pytest.raises(ValueError, match=r"`evaluations` has no answer groups.*AnswerGroups"):
        AnswerPool().fit(outcomes, silent)
    with pytest.raises(ValueError, match=r"`unlabelled` has no answer groups"):
        AnswerPool().fit(outcomes, evaluations, unlabelled=silent)
    with pytest.raises(ValueError, match=r"`unlabelled` and `outcomes` must have the same"):
        AnswerPool().fit(outcomes, evaluations, unlabelled=evaluations.select(POOL[:2]))
    with pytest.raises(ValueError, match=r"`quality` must have shape \(400, 4\)"):
        AnswerPool().fit(outcomes, evaluations, PREDICTED[:3])
    free = Outcomes(outcomes.queries, POOL, outcomes.quality)
    with pytest.raises(ValueError, match="no cost for 'small'"):
        AnswerPool().fit(free, evaluations)


def test_judged_answers_correct_what_was_assumed_from_prices():
    outcomes, evaluations = make_pool(3_000)
    # Prices that say the opposite of the truth.
    wrong = AnswerPool.from_prices(dict(zip(outcomes.candidates, COSTS[::-1], strict=True)))
    judged = wrong.learn(evaluations, outcomes.quality)
    right = outcomes.quality.mean(axis=0)
    chances = judged.model_.classes.prior @ judged.model_.classes.rates[:, :, 0]
    assert np.argsort(chances).tolist() == np.argsort(right).tolist()
    assert not judged.is_assumed
    assert wrong.is_assumed
    assert wrong.learn(evaluations.take(range(10))).is_assumed


def test_it_is_said_what_is_assumed_until_the_policy_is_fitted(tmp_path):
    outcomes, evaluations = make_pool(30)
    pool = AnswerPool.from_prices(dict(zip(outcomes.candidates, COSTS, strict=True)))
    reasons = {}
    for n in (0, 1, 3):
        quality = np.where(np.arange(30)[:, None] < n, outcomes.quality, np.nan)
        pool.learn(evaluations, quality).save(tmp_path / str(n))
        reasons[n] = Policy.load(tmp_path / str(n)).decide(seen()).reason
    assert reasons[0].endswith(" (assumed from prices, not measured)")
    assert reasons[1].endswith(" (assumed from prices, corrected by 1 scored request)")
    assert reasons[3].endswith(" (assumed from prices, corrected by 3 scored requests)")
    twice = Policy.load(tmp_path / "3").learn(evaluations, outcomes.quality)
    assert twice.n_scored_ == 33
    assert "assumed" not in FULL.decide(seen()).reason


@pytest.mark.parametrize("wrong", ["ab", ["a", "b"], {"a": "x", "b": 1.0}, {"a": None}, 5, None])
def test_candidates_without_costs_are_refused_by_name(wrong):
    with pytest.raises(TypeError, match="must be expected costs in USD by name") as caught:
        AnswerPool.from_prices(wrong)
    assert repr(wrong) in str(caught.value)


def test_what_was_not_asked_teaches_nothing():
    outcomes, evaluations = make_pool(300)
    asked = np.zeros(outcomes.quality.shape, dtype=bool)
    same = DAY_ONE.learn(evaluations, asked=asked)
    np.testing.assert_allclose(same.model_.classes.rates, DAY_ONE.model_.classes.rates)


def test_a_pool_that_was_fitted_is_fitted_again_instead():
    with pytest.raises(ValueError, match=r"fit one that was fitted on data again"):
        FULL.learn(make_pool(20)[1])
    outcomes, evaluations = make_pool(20)
    # Neither predictions nor lengths tell this one from a pool that is made of prices.
    plain = Outcomes(outcomes.queries, POOL, outcomes.quality, outcomes.cost_usd)
    fitted = AnswerPool().fit(plain, evaluations)
    with pytest.raises(ValueError, match=r"fit one that was fitted on data again"):
        fitted.learn(evaluations, outcomes.quality)
