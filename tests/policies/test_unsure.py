"""To abstain or to ask a person, as one more action of a policy that verifies."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import replay
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.policies import (
    Always,
    AnswerPool,
    AutoMix,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Policy,
    Pomdp,
    SafeArm,
    Unsure,
)
from langchain_llm_router.types import Arm, Attempt, PolicyError, RoutingOptions, Situation
from tests.support.fakes import make_evaluations, make_outcomes
from tests.support.pools import make_pool

NAMES = ("small", "large")
TABLE = make_outcomes(n=120, candidates=NAMES)
SCORES = make_evaluations(TABLE)
POOL = make_pool(120, ("small", "medium", "large"))
EASY = np.array(["easy" in query for query in TABLE.queries])
GUESS = np.where(EASY[:, None], [0.85, 0.9], [0.2, 0.7])

POLICIES = {
    "ConfidenceThreshold": lambda: ConfidenceThreshold(threshold=0.6),
    "ConfidenceThreshold (λ)": lambda: ConfidenceThreshold(lambda_=30.0),
    "SafeArm": lambda: SafeArm(ConfidenceThreshold(threshold=0.6), safe="large"),
    "AutoMix": lambda: AutoMix(lambda_=20.0).fit(TABLE, SCORES),
    "FrugalCascade": lambda: FrugalCascade(n_grid=10).fit(TABLE, SCORES, max_cost_usd=0.006),
    "CascadeRouting": lambda: CascadeRouting(lambda_=20.0, n_draws=64).fit(TABLE, SCORES),
    "Pomdp": lambda: Pomdp(lambda_=20.0).fit(TABLE, SCORES),
    "Pomdp (recall)": lambda: Pomdp(lambda_=20.0, recall=True).fit(TABLE, SCORES),
    "Pomdp (article)": lambda: Pomdp(lambda_=20.0, mode="article").fit(TABLE, SCORES),
    "AnswerPool": lambda: AnswerPool(20.0, n_beliefs=8).fit(*POOL),
}
policy_of = cache(lambda name: POLICIES[name]())
policies = pytest.mark.parametrize("name", POLICIES)


def run(name: str, policy: Policy):
    """Replay on the table that the policy knows."""
    if name == "AnswerPool":
        return replay(policy, None, POOL[0], evaluations=POOL[1])
    return replay(policy, GUESS, TABLE, evaluations=SCORES)


@policies
def test_an_end_that_is_worth_nothing_changes_no_decision(name):
    plain, unsure = run(name, policy_of(name)), run(name, Unsure(policy_of(name), 0.0))
    named = [replace(step, policy=type(policy_of(name)).__name__) for step in unsure.decisions]
    last = zip(named, plain.decisions, strict=True)
    # The last decision after a final answer has the name of the step that asked.
    assert all(replace(a, policy="") == replace(b, policy="") for a, b in last)
    np.testing.assert_array_equal(unsure.asked, plain.asked)
    np.testing.assert_array_equal(unsure.cost_usd, plain.cost_usd)
    assert unsure.abstained_share == 0


@policies
@pytest.mark.parametrize("verify_last", [False, True])
def test_the_more_it_is_worth_to_abstain_the_more_often_it_does(name, verify_last):
    shares, costs = [], []
    for value in (0.0, 0.3, 0.6, 0.8, 0.95, 1.0):
        done = run(name, Unsure(policy_of(name), value, verify_last=verify_last))
        shares.append(done.abstained_share)
        costs.append(done.mean_cost_usd)
        kept = done.quality[done.abstained]
        assert (kept == value).all()
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    if not verify_last:
        assert costs[-1] <= costs[0]


def hand_table(repeats: int = 1) -> tuple[Outcomes, SelfEvaluations]:
    """Small is right, right, wrong, wrong; large fails where small's score is 0."""
    quality = np.tile([[1, 1], [1, 1], [0, 0], [0, 1]], (repeats, 1))
    n = len(quality)
    outcomes = Outcomes([f"q{i}" for i in range(n)], NAMES, quality, np.tile([0.01, 0.1], (n, 1)))
    scores = np.tile([[1.0, np.nan], [1.0, np.nan], [0.0, np.nan], [0.5, np.nan]], (repeats, 1))
    return outcomes, SelfEvaluations(NAMES, scores, np.zeros((n, 2)))


@cache
def hand_pomdp() -> Pomdp:
    """So many rows that the kernels are narrow."""
    return Pomdp(lambda_=1.0, n_samples=100).fit(*hand_table(500))


HAND = begin("q", [Arm(name, cost_usd=cost) for name, cost in zip(NAMES, (0.01, 0.1), strict=True)])


def test_a_pomdp_reckons_with_the_end_as_by_hand():
    # Score 1: keep 1. Score 0.5: ask large, 1 - 0.1. Score 0: keep 0, or abstain for 0.3.
    without = hand_pomdp().decide(HAND).scores["small"]["utility"]
    unsure = Unsure(hand_pomdp(), 0.3)
    with_end = unsure.decide(HAND).scores["small"]["utility"]
    assert without == pytest.approx((1 + 1 + 0 + 0.9) / 4 - 0.01, abs=0.02)
    assert with_end == pytest.approx((1 + 1 + 0.3 + 0.9) / 4 - 0.01, abs=0.02)
    outcomes, scores = hand_table()
    done = replay(unsure, None, outcomes, evaluations=scores)
    assert done.abstained.tolist() == [False, False, True, False]
    assert done.asked[:, 1].tolist() == [False, False, False, True]
    assert done.quality.tolist() == [1, 1, 0.3, 1]
    np.testing.assert_allclose(done.cost_usd, [0.01, 0.01, 0.01, 0.11])
    assert done.answered_quality == 1
    assert done.abstained_share == 0.25


@pytest.mark.parametrize("worth", [0.0, 0.2, 0.5, 0.8])
def test_a_pomdp_s_plan_with_an_end_is_that_of_an_expectimax_written_out(worth):
    table = make_outcomes(n=80, candidates=NAMES)
    pomdp = Pomdp(lambda_=20.0, n_samples=4).fit(table, make_evaluations(table))
    likelihood = pomdp._likelihood(0)
    value = 0.0
    for row in likelihood:
        small, large = row @ table.quality / row.sum()
        value += row.mean() * max(small, large - 20.0 * pomdp.cost_usd_[1], worth)
    value -= 20.0 * (pomdp.cost_usd_[0] + pomdp.verification_cost_usd_[0])
    scores = Unsure(pomdp, worth, do="hold").decide(HAND).scores
    alone = table.quality[:, 0].mean() - 20.0 * pomdp.cost_usd_[0]
    assert scores["small"]["utility"] == pytest.approx(max(value, alone))


def together(n: int = 400) -> tuple[Outcomes, SelfEvaluations]:
    """On a third of the queries both fail, and the verifier's low score tells of it."""
    rng = np.random.default_rng(0)
    hopeless = rng.random(n) < 0.33
    small = ~hopeless & (rng.random(n) < 0.6)
    large = ~hopeless & (rng.random(n) < 0.95)
    p = np.where(small, 0.9, np.where(hopeless, 0.05, 0.4))
    scores = np.stack([rng.binomial(8, p) / 8, np.full(n, np.nan)], axis=1)
    cost = np.tile([1e-4, 1e-2], (n, 1))
    quality = np.stack([small, large], axis=1).astype(float)
    outcomes = Outcomes([f"q{i}" for i in range(n)], NAMES, quality, cost)
    return outcomes, SelfEvaluations(NAMES, scores, np.zeros((n, 2)))


@pytest.mark.parametrize(("kind", "lambda_"), [(Pomdp, 5.0), (CascadeRouting, 20.0)])
def test_where_both_fail_together_the_strong_candidate_is_not_paid_for(kind, lambda_):
    outcomes, scores = together()
    policy = kind(lambda_=lambda_).fit(outcomes, scores)
    plain = replay(policy, None, outcomes, evaluations=scores)
    early = replay(Unsure(policy, 0.4), None, outcomes, evaluations=scores)
    assert early.asked[early.abstained, 1].mean() < 0.05, "it ends before the strong one"
    assert early.mean_cost_usd < 0.7 * plain.mean_cost_usd
    assert 0.15 < early.abstained_share < 0.5
    assert early.answered_quality > plain.mean_quality + 0.2
    worth = [done.mean_quality - lambda_ * done.mean_cost_usd for done in (plain, early)]
    assert worth[1] > worth[0]


def test_a_person_has_a_price_and_a_latency_in_a_replay():
    outcomes, scores = hand_table()
    outcomes = replace(outcomes, latency_s=np.ones((4, 2)))
    scores = replace(scores, latency_s=np.zeros((4, 2)))
    person = Unsure(
        hand_pomdp(),
        1.0,
        do="interrupt",
        cost_usd=0.5,
        latency_s=60.0,
    )
    done = replay(person, None, outcomes, evaluations=scores)
    assert done.abstained.tolist() == [False, False, True, False], "1 - 0.5 is worth 0.5"
    np.testing.assert_allclose(done.cost_usd, [0.01, 0.01, 0.51, 0.11])
    assert done.latency_s.tolist() == [1, 1, 61, 2]
    dear = replace(person, cost_usd=1.0)
    assert not replay(dear, None, outcomes, evaluations=scores).abstained.any()
    # A request's λ prices the person, too.
    cheap = begin("q", HAND.arms, RoutingOptions(lambda_=0.0))
    assert (person.exit(HAND).worth, person.exit(cheap).worth) == (0.5, 1.0)


def seen(*attempts: Attempt, large: float | None = 0.5) -> Situation:
    arms = (Arm("small", quality=0.5, cost_usd=0.01), Arm("large", quality=large, cost_usd=0.1))
    return Situation("q", arms, attempts)


POOR = Attempt(candidate="small", verified=True, confidence=0.2)
LAST = Attempt(candidate="large")


def test_a_last_candidate_that_will_fail_too_is_not_asked():
    unsure = Unsure(ConfidenceThreshold(threshold=0.7), 0.4)
    assert unsure.decide(seen(POOR, large=0.3)).action == "abstain"
    assert unsure.decide(seen(POOR, large=0.3)).confidence == 0.2
    assert unsure.decide(seen(POOR, large=0.6)).action == "ask"
    assert unsure.decide(seen(POOR, large=None)).action == "ask", "unknown is not bad"


def test_a_last_answer_is_verified_and_may_be_the_best_that_is_not_good_enough():
    unsure = Unsure(ConfidenceThreshold(threshold=0.7), 0.4, do="hold", verify_last=True)
    asking = unsure.decide(seen(POOR, large=0.6))
    assert (asking.action, asking.final) == ("ask", False)
    assert unsure.decide(seen(POOR, LAST)).action == "verify"
    good = Attempt(candidate="large", verified=True, confidence=0.6)
    assert unsure.decide(seen(POOR, good)).action == "accept"
    poor = Attempt(candidate="large", verified=True, confidence=0.1)
    held = unsure.decide(seen(POOR, poor))
    assert (held.action, held.candidate, held.confidence) == ("abstain", "small", 0.2)
    assert held.ending == "hold"


def test_a_pomdp_reads_the_score_of_the_last_answer_as_in_its_training_rows():
    table = make_outcomes(n=400, candidates=NAMES)
    pomdp = Pomdp().fit(table, make_evaluations(table))
    scored = [
        pomdp.p_good(seen(POOR, LAST), Attempt(candidate="large", verified=True, confidence=score))
        for score in (0.25, 0.5, 0.75)
    ]
    assert scored == sorted(scored)
    assert scored[0] < pomdp.p_good(seen(POOR, LAST), LAST) < scored[-1]
    outcomes, unscored = hand_table()
    blind = Pomdp().fit(outcomes, unscored)
    known = Attempt(candidate="large", verified=True, confidence=0.125)
    assert blind.p_good(seen(POOR, LAST), known) == 0.125


def test_an_answer_that_was_streamed_is_never_taken_back():
    unsure = Unsure(ConfidenceThreshold(threshold=0.7), 0.9)
    loop = Loop(unsure, begin("q", seen(large=0.95).arms))
    assert loop.next().action == "ask"
    loop.saw(Attempt(candidate="small", committed=True))
    assert loop.next().action == "accept"


def test_an_only_candidate_is_verified_too_where_the_last_answer_is():
    unsure = Unsure(ConfidenceThreshold(), 0.4, verify_last=True)
    loop = Loop(unsure, begin("q", [Arm("small")]))
    assert (loop.next().action, loop.steps[0].final) == ("ask", False)
    loop.saw(Attempt(candidate="small"))
    assert loop.next().action == "verify"
    loop.saw(Attempt(candidate="small", verified=True, confidence=0.1))
    assert loop.next().action == "abstain"


@pytest.mark.parametrize(
    ("policy", "given", "message"),
    [
        (Always("small"), {"value": 0.5}, "must verify answers, but Always does not"),
        (ConfidenceThreshold(), {"value": 1.1}, "`value` must lie in"),
        (ConfidenceThreshold(), {"value": -0.1}, "`value` must lie in"),
        (ConfidenceThreshold(), {"value": 0.5, "cost_usd": -1.0}, "`cost_usd` must be"),
        (ConfidenceThreshold(), {"value": 0.5, "latency_s": -1.0}, "`latency_s` must be"),
        (ConfidenceThreshold(), {"value": 0.5, "do": "shrug"}, "`do` must be one of"),
    ],
)
def test_bad_input_is_refused_in_words(policy, given, message):
    with pytest.raises(ValueError, match=message):
        Unsure(policy, **given)


def test_a_policy_that_does_not_say_how_a_request_ends_cannot_abstain():
    class Odd(ConfidenceThreshold):
        def decide(self, situation):
            return Unsure(ConfidenceThreshold(), 1.0).decide(situation)

    loop = Loop(Odd(), begin("q", seen().arms))
    loop.next()
    loop.saw(POOR)
    with pytest.raises(PolicyError, match=r"only a `policies.Unsure` says"):
        loop.next()


def test_one_way_to_end_is_enough():
    inner = Unsure(ConfidenceThreshold(threshold=0.7), value=0.4)
    with pytest.raises(ValueError, match="is or holds an `Unsure` already"):
        Unsure(inner, value=0.5)


@pytest.mark.parametrize("do", ["refuse", "flag", "hold"])
def test_an_answer_that_could_not_be_verified_is_not_passed_as_verified(do):
    attempts = (
        Attempt(candidate="small", verified=True, confidence=0.2),
        Attempt(candidate="large", verified=True, confidence=None),
    )
    seen = Situation("q", (Arm("small"), Arm("large")), attempts)
    careful = Unsure(ConfidenceThreshold(threshold=0.7), 0.4, do=do, verify_last=True)
    step = careful.decide(seen)
    assert (step.action, step.ending) == ("abstain", do)
    # What is known to be poor is not better than what is unknown.
    assert replace(careful, verify_last=False).decide(seen).action == "accept"
