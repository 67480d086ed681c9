"""From a target in words to a knob, and promises that hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.evaluation.sweeps import Sweep
from langchain_llm_router.policies import Always, ConfidenceThreshold, Pomdp, Threshold, Utility
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.training import (
    Split,
    Target,
    Trials,
    calibrate,
    certified,
    meet_target,
    p_value,
    rows_needed,
)
from langchain_llm_router.types.errors import CalibrationError
from tests.support.fakes import ScriptedModel, make_evaluations, make_outcomes

# Targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quality >= 0.95 * best", Target("quality", ">=", 0.95, best=True)),
        ("quality>=.9", Target("quality", ">=", 0.9)),
        ("cost_usd <= 0.002", Target("cost_usd", "<=", 0.002)),
        ("cost_usd <= 2e-3", Target("cost_usd", "<=", 0.002)),
        ("cost_usd <= 0.5 * best", Target("cost_usd", "<=", 0.5, best=True)),
        ("strong share = 0.3", Target("strong share", "=", 0.3)),
        (" strong share <= 0.3 ", Target("strong share", "<=", 0.3)),
    ],
)
def test_targets_are_read(text, expected):
    assert Target.parse(text) == expected
    assert Target.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "quality <= 0.9",
        "quality = 0.9",
        "quality > 0.9",
        "quality >= -1",
        "cost_usd >= 0.002",
        "strong share = 0.3 * best",
        "quality >= 0.9 and cost_usd <= 1",
        "",
    ],
)
def test_an_unknown_target_is_refused_with_the_allowed_forms(text):
    with pytest.raises(ValueError, match=r"quality >= 0.95 \* best.*strong share = 0.3"):
        Target.parse(text)


@pytest.mark.parametrize("text", ["quality >= 95", "strong share = 30"])
def test_percent_for_share_is_refused(text):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Target.parse(text)


# The test of a mean


def slow_p_value(margins, low, high, delta=0.05):
    """The gambler, row by row."""
    capital, highest, seen = 1.0, 1.0, [low, high]
    for margin in margins:
        variance = np.mean(np.square(seen)) - np.mean(seen) ** 2
        bet = math.sqrt(2 * math.log(1 / delta) / (len(margins) * max(variance, 1e-12)))
        capital *= 1 + min(bet, 0.75 / -low) * margin
        highest = max(highest, capital)
        seen.append(margin)
    return 1 / highest


@given(st.lists(st.sampled_from([-0.95, 0.0, 0.05, 1.0]), min_size=1, max_size=60))
@settings(max_examples=50)
def test_the_p_value_is_that_of_the_gambler(margins):
    assert p_value(margins, -0.95, 1.0) == pytest.approx(slow_p_value(margins, -0.95, 1.0))


def fair(rng, n):
    """Margins as they come from comparing two models, with mean exactly 0."""
    kinds, chances = [-0.95, 0.0, 0.05, 1.0], np.array([0.1, 0.3, 0.5, 0.1])
    chances[0] = (0.05 * 0.5 + 1.0 * 0.1) / 0.95
    return rng.choice(kinds, n, p=chances / chances.sum())


def test_without_an_effect_it_rejects_at_most_as_often_as_it_says():
    rng = np.random.default_rng(0)
    rejected = np.mean([p_value(fair(rng, 400), -0.95, 1.0) <= 0.05 for _ in range(1000)])
    assert rejected <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5


def test_with_an_effect_it_finds_it():
    rng = np.random.default_rng(0)
    found = [p_value(np.minimum(fair(rng, 1000) + 0.05, 1), -0.95, 1.0) <= 0.05 for _ in range(200)]
    assert np.mean(found) > 0.6


def test_bounds_on_one_side_of_zero_need_no_rows():
    assert p_value([0.2, 0.1], 0.0, 1.0) == 0.0
    assert p_value([-0.2, -0.1], -1.0, 0.0) == 1.0
    assert p_value([], -1.0, 1.0) == 1.0


def test_margins_outside_their_bounds_are_refused():
    with pytest.raises(ValueError, match="must lie in"):
        p_value([2.0], -1.0, 1.0)


def test_the_sequence_stops_at_the_first_failure():
    asked = []

    def test_of(p):
        return lambda: asked.append(p) or p

    assert certified([test_of(p) for p in (0.01, 0.04, 0.2, 0.0)], 0.05) == 2
    assert asked == [0.01, 0.04, 0.2]


def test_so_many_rows_as_said_find_the_effect_four_times_in_five():
    rng = np.random.default_rng(1)
    seen = np.minimum(fair(rng, 100_000) + 0.05, 1)
    n = rows_needed(seen, 0.05)
    found = [p_value(rng.choice(seen, n), -0.95, 1.0) <= 0.05 for _ in range(300)]
    assert 0.65 < np.mean(found) < 0.92
    assert rows_needed(-seen, 0.05) is None


# Meeting a target


def ladder(n=2000, seed=0):
    """Three settings between a cheap and a strong model; quality rises with the strong share."""
    rng = np.random.default_rng(seed)
    weak, strong = rng.random(n) < 0.6, rng.random(n) < 0.9
    hard = rng.random(n)
    shares = np.array([0.0, 0.3, 0.6, 0.9, 1.0])
    asked = hard[None, :] < shares[:, None]
    quality = np.where(asked, strong, weak).astype(float)
    cost = np.where(asked, 0.01, 0.001)
    singles = np.column_stack([weak, strong]).astype(float)
    outcomes = Outcomes(["q"] * n, ("weak", "strong"), singles, np.tile([0.001, 0.01], (n, 1)))
    return Trials.of_sweep(Sweep(shares, quality, cost), outcomes, strong=asked)


def test_of_the_settings_that_keep_the_quality_the_cheapest_is_chosen():
    found = meet_target(ladder(), "quality >= 0.8 * best")  # 0.72 of 0.9: a share of 0.4
    assert found.knob == 0.6
    assert found.holds
    assert found.confidence is None
    assert found.quality.value == pytest.approx(0.78, abs=0.04)
    assert found.cost_usd.value == pytest.approx(0.0064, abs=0.0006)
    assert found.knob_interval.low <= 0.6 <= found.knob_interval.high


def test_of_the_settings_within_the_cost_the_best_is_chosen():
    assert meet_target(ladder(), "cost_usd <= 0.0075").knob == 0.6
    assert meet_target(ladder(), "cost_usd <= 0.75 * best").knob == 0.6


def test_a_share_of_strong_calls_is_hit_or_kept():
    assert meet_target(ladder(), "strong share = 0.5").knob == 0.6
    assert meet_target(ladder(), "strong share <= 0.5").knob == 0.3
    assert meet_target(ladder(), "strong share = 0.6").holds
    assert not meet_target(ladder(), "strong share = 0.45").holds


def test_a_target_that_no_setting_meets_names_the_nearest_that_one_does():
    with pytest.raises(CalibrationError, match=r"Ask for less, e\.g\. for '(.*)', or") as caught:
        meet_target(ladder(), "quality >= 0.99")
    words = str(caught.value).split("'")[-2]
    assert meet_target(ladder(), words).knob == 1.0
    harder = f"quality >= {Target.parse(words).value + 0.01}"
    with pytest.raises(CalibrationError, match="No setting meets"):
        meet_target(ladder(), harder)
    with pytest.raises(CalibrationError, match="Ask for less, or give"):
        meet_target(ladder(), "cost_usd <= 0.0001")


def test_settings_are_tried_between_those_at_which_the_share_jumps():
    outcomes = make_outcomes(n=400)
    rng = np.random.default_rng(0)
    # Predictions so alike that two of the sixty values of λ have them all between them.
    gap = 0.02 + 0.001 * rng.random(400)
    predicted = np.stack([np.full(400, 0.5), np.full(400, 0.1), 0.5 + gap], axis=1)
    found = calibrate(
        Utility(), outcomes, target="strong share = 0.3", quality=predicted, confidence=None
    )
    assert found.strong_share.value == pytest.approx(0.3, abs=0.06)
    coarse = Utility().knob_values(outcomes.mean_cost_usd, predicted)
    given = calibrate(
        Utility(), outcomes, target="strong share = 0.3", quality=predicted, confidence=None,
        knobs=coarse,
    )  # fmt: skip
    assert given.strong_share.value in (0.0, 1.0)


def test_a_promise_is_at_most_as_bold_as_the_plain_choice():
    plain = meet_target(ladder(), "quality >= 0.8 * best")
    promised = meet_target(ladder(), "quality >= 0.8 * best", confidence=0.95)
    assert promised.knob >= plain.knob
    assert promised.confidence == 0.95
    assert promised.certified[0] >= promised.certified[-1] == promised.knob
    assert promised.more_labels is None or promised.more_labels > 0


def test_no_candidate_may_be_better_than_the_best_that_is_promised_against():
    n = 400
    rng = np.random.default_rng(0)
    always_a = np.column_stack([rng.random(n) < 0.7, rng.random(n) < 0.7]).astype(float)
    outcomes = Outcomes(["q"] * n, ("a", "b"), always_a, np.ones((n, 2)))
    trials = Trials.of_sweep(Sweep(np.array([0.0]), always_a[:, :1].T, np.ones((1, n))), outcomes)
    margins = Target.parse("quality >= 0.9 * best").margins(trials, 0)
    assert len(margins) == 2


def test_too_few_labels_say_how_many_more_are_needed():
    few = ladder().take(np.arange(120))
    with pytest.raises(CalibrationError, match=r"label about \d+ more") as caught:
        meet_target(few, "quality >= 0.87", confidence=0.95)
    assert caught.value.more_labels > 100


def test_a_target_out_of_reach_says_so_and_by_how_much():
    for confidence in (None, 0.95):
        with pytest.raises(CalibrationError, match=r"misses it by 0\.0") as caught:
            meet_target(ladder(), "quality >= 0.96", confidence=confidence)
        assert caught.value.more_labels is None


def test_an_equality_cannot_be_promised():
    with pytest.raises(ValueError, match="no equation can be promised"):
        meet_target(ladder(), "strong share = 0.3", confidence=0.95)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, 95])
def test_a_confidence_that_promises_nothing_is_refused(confidence):
    with pytest.raises(ValueError, match=r"\(0.5, 1\)"):
        meet_target(ladder(), "quality >= 0.5", confidence=confidence)


def test_a_promise_about_cost_names_what_it_supposes():
    found = meet_target(ladder(), "cost_usd <= 0.0075", confidence=0.9)
    assert found.cost_ceiling_usd == pytest.approx(0.011)
    assert "costs more than $0.011" in found.explain()


def test_the_split_is_a_partition_in_random_order_and_repeats():
    chosen, checked = Split(held_out=0.3, seed=4).rows(100)
    assert len(checked) == 30
    assert sorted([*chosen, *checked]) == list(range(100))
    assert list(chosen) != sorted(chosen)
    np.testing.assert_array_equal(chosen, Split(held_out=0.3, seed=4).rows(100)[0])
    with pytest.raises(CalibrationError, match="label 1 more"):
        Split().rows(1)
    with pytest.raises(ValueError, match="held_out"):
        Split(held_out=1.0)


def test_unknown_costs_are_refused_for_targets_about_cost_only():
    outcomes = make_outcomes(n=200)
    unpriced = Outcomes(outcomes.queries, outcomes.candidates, outcomes.quality)
    with pytest.raises(ValueError, match="the data lacks some"):
        calibrate(Threshold(0.5), unpriced, target="cost_usd <= 1", quality=outcomes.quality)
    found = calibrate(Threshold(0.5), unpriced, target="quality >= 0.6", quality=outcomes.quality)
    assert found.cost_usd is None


# Policies and routers


def test_a_threshold_is_turned_until_the_quality_is_kept():
    outcomes = make_outcomes(n=200)
    predicted = NearestNeighbors().fit(make_outcomes(n=200, seed=9)).predict(outcomes.queries)
    found = calibrate(Threshold(0.5), outcomes, target="quality >= 0.95 * best", quality=predicted)
    assert isinstance(found.policy, Threshold)
    assert found.policy.threshold == found.knob
    done = replay(found.policy, predicted, outcomes)
    assert done.mean_quality >= 0.9 * outcomes.quality.mean(axis=0).max()
    assert done.mean_cost_usd < outcomes.mean_cost_usd[-1]


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (Utility(), "cost"),
        (ConfidenceThreshold(threshold=0.5), "threshold"),
        (ConfidenceThreshold(lambda_=1.0), "lambda_"),
    ],
)
def test_the_knob_is_the_policy_s_own(policy, name):
    outcomes = make_outcomes(n=200)
    found = calibrate(
        policy,
        outcomes,
        target="quality >= 0.5",
        quality=outcomes.quality * 0.8 + 0.1,
        evaluations=make_evaluations(outcomes),
        knobs=[0.0, 0.3, 0.6, 0.9],
    )
    assert getattr(found.policy, name) == found.knob
    assert type(found.policy) is type(policy)


def test_a_fitted_pomdp_is_turned_without_fitting_again():
    train, outcomes = make_outcomes(n=150, seed=1), make_outcomes(n=150, seed=2)
    pomdp = Pomdp(n_samples=4).fit(train, make_evaluations(train))
    found = calibrate(
        pomdp,
        outcomes,
        target="cost_usd <= 0.004",
        evaluations=make_evaluations(outcomes),
        knobs=[0.0, 1.0, 10.0, 100.0, 1000.0],
    )
    assert found.policy.lambda_ == found.knob > 0
    assert found.policy.candidates_ == pomdp.candidates_


def test_a_router_predicts_for_itself_in_the_order_of_its_candidates():
    train, outcomes = make_outcomes(n=200, seed=1), make_outcomes(n=200, seed=2)
    costs = train.mean_cost_usd
    router = ChatLLMRouter(
        candidates=[
            Candidate(name, ScriptedModel(name), expected_cost_usd=float(costs[j]))
            for j, name in enumerate(train.candidates)
        ],
        estimator=NearestNeighbors().fit(train.select(["large", "small", "medium"])),
        policy=Utility(),
    )
    found = calibrate(router, outcomes, target="quality >= 0.9 * best", confidence=0.9)
    assert isinstance(found.policy, Utility)
    assert found.knob > 0
    assert "promised with confidence 0.9" in found.explain()


def test_a_function_needs_its_settings_and_a_policy_a_knob():
    outcomes = make_outcomes(n=50)
    with pytest.raises(ValueError, match="knobs"):
        calibrate(Threshold, outcomes, target="quality >= 0.5", quality=outcomes.quality)
    with pytest.raises(CalibrationError, match="Always, has no setting to calibrate"):
        calibrate(Always("small"), outcomes, target="quality >= 0.5")
    found = calibrate(
        Threshold, outcomes, target="quality >= 0.5", quality=outcomes.quality, knobs=[0.5, 0.9]
    )
    assert found.knob in (0.5, 0.9)


def test_a_cascade_is_calibrated_on_its_verifier_s_scores():
    train, outcomes = make_outcomes(n=200, seed=1), make_outcomes(n=300, seed=2)
    said = make_evaluations(train)
    model = KernelDensity().fit(said.confidence[:, 0], train.quality[:, 0] > 0.5)
    found = calibrate(
        ConfidenceThreshold(model),
        outcomes,
        target="quality >= 0.9 * best",
        evaluations=make_evaluations(outcomes, seed=3),
        knobs=np.linspace(0, 1, 11).tolist(),
        confidence=0.9,
    )
    assert 0 < found.knob <= 1
    assert found.margin.value > 0


# The guarantee


def population(n=4000, seed=0):
    """A threshold router of middling skill, at forty thresholds."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)
    weak = (rng.random(n) < 0.95 - 0.7 * difficulty).astype(float)
    strong = (rng.random(n) < 0.97 - 0.2 * difficulty).astype(float)
    rate = np.clip(difficulty + rng.normal(0, 0.25, n), 0, 1)
    knobs = np.linspace(0, 1.01, 40)
    asked = rate[None, :] >= knobs[:, None]
    outcomes = Outcomes(
        ["q"] * n, ("w", "s"), np.column_stack([weak, strong]), np.tile([0.001, 0.01], (n, 1))
    )
    quality, cost = np.where(asked, strong, weak), np.where(asked, 0.01, 0.001)
    return Trials.of_sweep(Sweep(knobs, quality, cost), outcomes, strong=asked)


@pytest.mark.slow
def test_a_promise_is_broken_seldom_and_the_naive_threshold_often():
    """The rows are drawn anew each time from a table whose truth is known exactly."""
    trials, target, n_times = population(), "quality >= 0.95 * best", 150
    truth = np.min([m.mean(axis=1) for m in Target.parse(target).margins(trials, 1)], axis=0)
    true_margin = dict(zip(trials.knob.tolist(), truth.tolist(), strict=True))
    broken = {"naive": 0, "promise": 0}
    kept = 0
    for seed in range(n_times):
        rows = np.random.default_rng(seed).integers(0, len(trials), 800)
        drawn = trials.take(rows)
        naive = meet_target(drawn, target, split=Split(held_out=1 / 800))
        broken["naive"] += true_margin[naive.knob] < 0
        try:
            promised = meet_target(drawn, target, confidence=0.95)
        except CalibrationError:
            continue
        kept += 1
        broken["promise"] += true_margin[promised.knob] < 0
    allowed = 0.05 + 2 * (0.05 * 0.95 / n_times) ** 0.5
    assert broken["promise"] / n_times <= allowed
    assert broken["naive"] / n_times > 3 * allowed
    assert kept / n_times > 0.9  # and it is not kept by promising nothing
