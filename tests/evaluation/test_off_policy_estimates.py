"""What another policy would have scored: unbiased where the log can tell, and honest where not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import (
    Resampling,
    doubly_robust,
    inverse_propensity,
    off_policy,
    self_normalized,
)
from langchain_llm_router.history import Changes, DecisionLog, read_log
from langchain_llm_router.policies import (
    Always,
    BudgetedRouting,
    ConfidenceThreshold,
    RandomMix,
    Threshold,
    Utility,
)
from langchain_llm_router.types import Arm, Situation
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes

NAMES = ("small", "large")
QUICK = Resampling(n_resamples=100)
POINT = Resampling(n_resamples=1)


class World:
    """Contexts, what each arm is worth in each, how the log draws, and what the new policy does."""

    def __init__(self, seed: int = 0, k: int = 3, n_contexts: int = 6) -> None:
        rng = np.random.default_rng(seed)
        self.quality = rng.uniform(0.1, 0.9, (n_contexts, k))
        self.logged = rng.dirichlet(np.full(k, 3.0), n_contexts) * 0.85 + 0.05
        self.new = rng.dirichlet(np.full(k, 0.5), n_contexts)
        self.truth = float((self.new * self.quality).sum(axis=1).mean())

    def draw(self, n: int, seed: int):
        """One log: contexts, arms, rewards."""
        rng = np.random.default_rng(seed)
        x = rng.integers(0, len(self.quality), n)
        arm = (rng.random((n, 1)) > self.logged[x].cumsum(axis=1)).sum(axis=1)
        return x, arm, (rng.random(n) < self.quality[x, arm]).astype(float)

    def estimates(self, n: int, seed: int, predicted, propensity=None, resampling=POINT):
        x, arm, reward = self.draw(n, seed)
        chance = self.logged if propensity is None else propensity
        weight, largest = self.new[x, arm] / chance[x, arm], 1 / chance.min()
        mean = (self.new * predicted).sum(axis=1)[x]
        return {
            "ips": inverse_propensity(weight, reward, resampling, max_weight=largest),
            "snips": self_normalized(weight, reward, resampling),
            "dr": doubly_robust(weight, reward, predicted[x, arm], mean, resampling),
        }


def many(world, predicted, propensity=None, n=300, repeats=200, resampling=POINT):
    runs = [world.estimates(n, seed, predicted, propensity, resampling) for seed in range(repeats)]
    values = {name: np.array([run[name].value for run in runs]) for name in runs[0]}
    covered = {
        name: float(np.mean([run[name].low <= world.truth <= run[name].high for run in runs]))
        for name in runs[0]
    }
    return values, covered


def assert_unbiased(values, truth):
    error = values.mean() - truth
    assert abs(error) < 3.5 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_estimates_are_unbiased_and_their_intervals_cover(seed):
    world = World(seed)
    wrong = np.full_like(world.quality, 0.5)
    values, covered = many(world, wrong, resampling=QUICK)
    assert_unbiased(values["ips"], world.truth)
    assert_unbiased(values["dr"], world.truth)
    assert abs(values["snips"].mean() - world.truth) < 0.01
    for name, share in covered.items():
        assert 0.90 <= share <= 0.995, name
    assert values["snips"].std() < values["ips"].std()


def test_intervals_hold_their_level_where_weights_are_large_and_rare():
    """The log asks each of two other arms on 5 % of the requests; the bootstrap held .88 to .91."""
    rng, covered = np.random.default_rng(0), dict.fromkeys(("ips", "snips", "dr"), 0)
    shares = np.array([0.9, 0.05, 0.05])
    quality = 0.35 + 0.5 * np.linspace(0, 1, 6)[:, None] + [-0.1, 0.0, 0.1]
    new = np.array([1, 2, 1, 2, 0, 0])
    truth, times = quality[np.arange(6), new].mean(), 1000
    for _ in range(times):
        x, arm = rng.integers(0, 6, 150), rng.choice(3, 150, p=shares)
        reward = (rng.random(150) < quality[x, arm]) * 1.0
        weight = (arm == new[x]) / shares[arm]
        guess = 0.25 + 0.5 * quality
        found = {
            "ips": inverse_propensity(weight, reward, max_weight=20.0),
            "snips": self_normalized(weight, reward),
            "dr": doubly_robust(weight, reward, guess[x, arm], guess[x, new[x]]),
        }
        for name, interval in found.items():
            covered[name] += interval.low <= truth <= interval.high
    assert min(covered["ips"], covered["snips"]) >= 0.94 * times
    assert covered["dr"] >= 0.94 * times


def test_a_largest_weight_that_is_exceeded_is_refused_and_so_are_scores_beyond_1():
    with pytest.raises(ValueError, match="`max_weight` is 2"):
        inverse_propensity([3.0], [1.0], max_weight=2.0)
    for w, r in (([1.0], [1.5]), ([1.0], [-0.5]), ([-1.0], [0.5])):
        with pytest.raises(ValueError, match="Rewards must be in"):
            self_normalized(w, r)
    with pytest.raises(ValueError, match="must be as many"):
        doubly_robust([1.0, 1.0], [0.0, 1.0], [0.5], [0.5])
    nothing = self_normalized([0.0, 0.0], [0.0, 1.0])
    assert (np.isnan(nothing.value), nothing.low, nothing.high) == (True, 0.0, 1.0)


@pytest.mark.parametrize(
    ("n", "chance", "truth"), [(100, 0.1, 0.9), (200, 0.02, 0.9), (50, 1, 0.98)]
)
def test_doubly_robust_holds_its_level_where_few_have_a_weight_and_nearly_all_are_good(
    n, chance, truth
):
    """Student's interval held 54 to 88 %."""
    rng, covered, times = np.random.default_rng(5), 0, 300
    for _ in range(times):
        new = rng.random(n) < chance
        reward = (rng.random(n) < np.where(new, truth, 0.5)) * 1.0
        done, weight = np.where(new, truth, 0.5), np.where(new, 1 / chance, 0.0)
        found = doubly_robust(weight, reward, done, np.full(n, truth), max_weight=1 / chance)
        assert 0 <= found.low < found.high
        covered += found.low <= truth <= found.high
    assert covered >= 0.94 * times


def test_equal_rows_and_weights_that_were_not_drawn_are_no_proof():
    assert doubly_robust([1.0] * 5, [1.0] * 5, [0.5] * 5, [0.5] * 5).low < 0.6
    undrawn = doubly_robust([0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.9, 0.9])
    assert (undrawn.value, undrawn.low, undrawn.high) == (0.9, 0.0, 1.0)


@pytest.mark.parametrize("largest", [np.nan, np.inf])
def test_a_largest_weight_must_be_finite(largest):
    with pytest.raises(ValueError, match=f"`max_weight` is {largest}"):
        inverse_propensity([1.0, 2.0], [1.0, 0.0], max_weight=largest)


def test_doubly_robust_survives_wrong_propensities_or_wrong_predictions_but_not_both():
    world = World(2)
    wrong_p = np.full_like(world.logged, 1 / 3)
    wrong_q = np.clip(world.quality + np.array([0.3, -0.3, 0.2]), 0, 1)
    right, _ = many(world, world.quality, wrong_p, repeats=100)
    assert_unbiased(right["dr"], world.truth)
    assert abs(right["ips"].mean() - world.truth) > 3 * right["ips"].std() / 10
    both, _ = many(world, wrong_q, wrong_p, repeats=100)
    assert abs(both["dr"].mean() - world.truth) > abs(right["dr"].mean() - world.truth)
    good, _ = many(world, world.quality, repeats=100)
    assert good["dr"].std() < good["ips"].std()


rewards = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(max_examples=40)
@given(rewards, st.floats(0.1, 10))
def test_equal_weights_give_the_mean_and_scale_does_not_matter_where_it_is_normalized(r, scale):
    ones = np.ones(len(r))
    assert inverse_propensity(ones, r, QUICK).value == pytest.approx(np.mean(r))
    assert doubly_robust(ones, r, r, r, QUICK).value == pytest.approx(np.mean(r))
    assert self_normalized(scale * ones, r, QUICK).value == pytest.approx(np.mean(r))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.just(0.0) | st.floats(1e-6, 5), st.floats(0, 1)), min_size=1, max_size=20)
)
def test_the_self_normalized_estimate_stays_within_the_rewards(rows):
    weight, reward = np.array(rows).T
    if weight.sum() > 0:
        found = self_normalized(weight, reward, QUICK)
        assert reward.min() - 1e-9 <= found.value <= reward.max() + 1e-9


def test_weights_and_rewards_are_checked():
    with pytest.raises(ValueError, match="all have the same shape"):
        inverse_propensity([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        self_normalized([1.0], [np.nan])


# From real logs

OUTCOMES = make_outcomes(n=400, candidates=NAMES, seed=5)
ESTIMATOR = NearestNeighbors(n_neighbors=15).fit(make_outcomes(n=200, candidates=NAMES))


def logged(tmp_path, policy, outcomes=OUTCOMES, scored=lambda i: True):
    """A log of a live router over all rows, with the table's quality as feedback."""
    log = DecisionLog(tmp_path / "log.jsonl")
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel("small"), Price(1, 2)),
            Candidate("large", ScriptedModel("large"), Price(10, 20)),
        ],
        policy=policy,
        estimator=ESTIMATOR,
        log=log,
    )
    for i, query in enumerate(outcomes.queries):
        record = route_of(router.invoke(query))
        if scored(i):
            column = NAMES.index(record["candidate"])
            log.feedback(record["decision_id"], float(outcomes.quality[i, column]))
    log.flush()
    return read_log(log.path)


MIX = RandomMix({"small": 0.6, "large": 0.4}, seed=4)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return logged(tmp_path_factory.mktemp("mixed"), MIX)


def truth(policy, outcomes=OUTCOMES):
    """What the policy's choices are worth, by the full table."""
    total = 0.0
    for query, predicted, quality in zip(
        outcomes.queries, ESTIMATOR.predict(outcomes.queries), outcomes.quality, strict=True
    ):
        arms = tuple(Arm(n, quality=float(q)) for n, q in zip(NAMES, predicted, strict=True))
        situation = Situation(query, arms)
        step = policy.decide(situation)
        for j, name in enumerate(NAMES):
            total += policy.chance(situation, replace(step, candidate=name)) * quality[j]
    return total / len(outcomes)


@pytest.mark.parametrize(
    "policy",
    [
        Always("large"),
        Always("small"),
        Threshold(0.6),
        # The same seed: its draws go hand in hand with the log's, which must not matter.
        RandomMix({"small": 0.2, "large": 0.8}, seed=4),
    ],
    ids=repr,
)
def test_a_log_with_lots_values_any_policy_within_its_interval(mixed, policy):
    found = off_policy(mixed, policy)
    assert found.overlap.enough
    assert found.overlap.n_unsupported == 0
    assert found.overlap.mean_weight.value == pytest.approx(1, abs=0.2)
    expected = truth(policy)
    for figure in (found.ips, found.snips, found.dr):
        assert figure.low <= expected <= figure.high
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low


def test_the_logged_policy_itself_is_valued_as_it_was(mixed):
    found = off_policy(mixed, MIX)
    assert found.overlap.effective_n == pytest.approx(len(OUTCOMES))
    assert found.ips.value == pytest.approx(found.logged.value)
    assert found.replay.n_identical == len(OUTCOMES)


@pytest.mark.slow
def test_without_lots_only_agreeing_decisions_are_valued_and_that_is_said(tmp_path):
    history = logged(tmp_path, Threshold(0.6))
    other = Threshold(0.5)
    found = off_policy(history, other)
    n = found.overlap.n_unsupported
    assert 0 < n < len(OUTCOMES)
    assert not found.overlap.enough
    assert f"On {n} of 400 requests" in str(found.overlap)
    low, high = found.bounds
    assert low <= truth(other) <= high
    assert high - low == pytest.approx(n / len(OUTCOMES))
    same = off_policy(history, Threshold(0.6))
    assert same.overlap.enough
    assert same.bounds[0] == same.bounds[1] == pytest.approx(same.logged.value)


def test_a_policy_that_the_log_never_followed_gets_no_figure(tmp_path):
    history = logged(tmp_path, Always("small"), OUTCOMES.take(np.arange(40)))
    found = off_policy(history, Always("large"))
    assert (found.ips, found.snips) == (None, None)
    assert found.bounds == (0.0, 1.0)
    assert "no request" in str(found.overlap)
    # Doubly robust is then as good as the predictions, which it does say.
    assert found.dr is not None
    assert not found.overlap.enough


def test_a_candidate_that_no_lot_could_fall_on_shows_in_the_weights(tmp_path):
    mix = RandomMix({"small": 0.5, "large": 0.5})
    history = logged(tmp_path, mix, OUTCOMES.take(np.arange(100)))
    found = off_policy(history, Always("small"), changes=Changes(lambda_=None))
    assert found.overlap.enough
    # As if the log had drawn twice as surely as it did: the weights no longer average to 1.
    lying = [
        replace(e, steps=tuple(replace(s, propensity=0.99) for s in e.steps))
        for e in history.entries
    ]
    found = off_policy(replace(history, entries=tuple(lying)), Always("small"))
    assert not found.overlap.enough
    assert "should be 1" in str(found.overlap)


def test_few_effective_requests_are_too_few(tmp_path):
    history = logged(tmp_path, MIX, OUTCOMES.take(np.arange(40)))
    found = off_policy(history, Always("large"))
    assert found.overlap.effective_n < 30
    assert "too little" in str(found.overlap)


def test_requests_without_feedback_are_left_out(tmp_path):
    history = logged(tmp_path, MIX, OUTCOMES.take(np.arange(60)), scored=lambda i: i % 2 == 0)
    assert off_policy(history, MIX).overlap.n == 30
    nothing = off_policy(history, MIX, key="somebody else")
    assert nothing.overlap.n == 0
    assert nothing.ips is None
    assert "give feedback first" in str(nothing.overlap)


def test_a_cascade_is_valued_on_the_ways_it_would_have_gone_too(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", JudgeModel("draft", verdicts=["yes", "no"]), Price(1, 2)),
            Candidate("large", ScriptedModel("large"), Price(10, 20)),
        ],
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(n_samples=1),
        log=log,
    )
    for i in range(40):
        log.feedback(route_of(router.invoke(f"question {i}"))["decision_id"], 1 - i % 2 / 2)
    log.flush()
    found = off_policy(read_log(log.path), ConfidenceThreshold(threshold=0.0))
    # It would have kept every draft: half of them were, and the worth of the others is unknown.
    assert (found.overlap.n_agreeing, found.overlap.n_unsupported) == (20, 20)
    assert found.snips.value == 1.0
    assert found.bounds == (0.5, 1.0)
    assert found.replay.share_on_record == 1.0


def test_lots_among_ties_have_their_chances():
    policy = BudgetedRouting(0.02)
    policy.lambda_, policy.gamma_ = 10.0, 0.25
    arms = (
        Arm("a", quality=0.5, cost_usd=0.01),
        Arm("b", quality=0.6, cost_usd=0.02),
        Arm("c", quality=0.1, cost_usd=0.02),
    )
    for query in map(str, range(20)):
        situation = Situation(query, arms)
        step = policy.decide(situation)
        chances = {n: policy.chance(situation, replace(step, candidate=n)) for n in "abc"}
        assert chances == {"a": 0.75, "b": 0.25, "c": 0.0}


def test_a_policy_that_draws_without_saying_how_is_refused(mixed):
    class Lots(Utility):
        def choose(self, situation):
            return replace(super().choose(situation), propensity=0.5)

    with pytest.raises(NotImplementedError, match="chance"):
        off_policy(mixed, Lots())


def test_a_pool_that_repeats_the_logged_decisions_has_the_logged_quality(tmp_path):
    log = DecisionLog(tmp_path / "pool.jsonl")
    answers = {"a": [str(i % 4) for i in range(24)], "b": [str(i % 3) for i in range(24)]}
    prices = {"a": Price(0.1, 0.4), "b": Price(0.15, 0.6), "c": Price(2.5, 10)}
    router = ChatLLMRouter(
        candidates=[
            Candidate(name, ScriptedModel(*answers.get(name, ["9"])), price)
            for name, price in prices.items()
        ],
        log=log,
    )
    records = [route_of(router.invoke(f"question {i}")) for i in range(24)]
    # The answers of `c` are accepted as they come, so they are not compared.
    assert {record["candidate"] for record in records} == {"a", "c"}
    for i, record in enumerate(records):
        log.feedback(record["decision_id"], i % 2)
    log.flush()
    found = off_policy(read_log(log.path), router.policy)
    assert found.replay.n_identical == 24
    assert found.overlap.n_unsupported == 0
    assert found.overlap.n_agreeing == 24
    assert found.bounds == (0.5, 0.5)
    assert found.snips.value == found.ips.value == found.logged.value == 0.5
    assert "they are too few for a reliable estimate" in str(found.overlap)
