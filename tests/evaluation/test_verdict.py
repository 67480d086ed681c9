"""One function decides the verdict, and its words follow from its numbers."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Goal, decide_verdict, trial_of
from langchain_llm_router.evaluation.intervals import Interval
from langchain_llm_router.evaluation.judgement import Optimism


class Done:
    """What a router reached and spent."""

    def __init__(self, quality, cost_usd):
        self.quality, self.cost_usd = np.asarray(quality, float), np.asarray(cost_usd, float)


def rows(n, *, share=0.5, lost=0.0, gap=0.4, seed=0, prices=(0.001, 0.01)):
    """A router that sends a share of the rows to small, which is as good there but for `lost`."""
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < share
    large = (rng.random(n) < 0.9).astype(float)
    small = np.where(rng.random(n) < np.where(easy, lost, gap), 1 - large, large)
    cost = np.array(prices) * rng.lognormal(0, 0.2, (n, 2))
    table = Outcomes(
        [f"q{i}" for i in range(n)], ("small", "large"), np.stack([small, large], axis=1), cost
    )
    chosen = np.where(easy, 0, 1)
    each = np.arange(n)
    return Done(table.quality[each, chosen], cost[each, chosen]), table


def verdict(done, table, target="quality >= best - 2 points", **kwargs):
    return decide_verdict(trial_of(done, table), Goal.of(target), **kwargs)


def test_a_router_that_is_as_good_for_less_keeps_its_target():
    found = verdict(*rows(2000))
    assert (found.outcome, found.reason, found.use) == ("kept", "proven", None)
    assert found.saved.low > 0.3
    assert re.fullmatch(
        r"\d+ % cheaper than `large` \(\d+ to \d+\), quality \S+ points \(\S+ to \S+\): the target "
        r"`quality >= best - 2 points` is kept with 95 % confidence "
        r"\(quality not below \S+ points\)\.",
        found.sentence,
    )
    assert found.gap_bound >= -0.02


def test_few_rows_prove_nothing_and_it_is_said_how_many_would():
    for n in (2, 5, 30):
        found = verdict(*rows(n))
        assert found.outcome == "unknown"
        assert f"cannot be said yet from {n} questions" in found.sentence
        assert found.more_rows > 0
        assert found.use in ("small", "large")


def test_one_row_proves_nothing():
    for seed in range(20):
        assert verdict(*rows(1, seed=seed)).outcome != "kept"


def test_a_router_that_is_worse_is_told_from_one_that_may_be():
    found = verdict(*rows(2000, lost=0.5))
    assert (found.outcome, found.reason, found.use) == ("not_kept", "missed", "large")
    assert "is not kept; use `large` alone" in found.sentence


def test_a_single_model_that_does_as_well_for_less_is_named():
    done, table = rows(3000, gap=0.0)
    quality = table.quality.copy()
    quality[:3] = [0.0, 1.0]
    found = verdict(done, Outcomes(table.queries, table.candidates, quality, table.cost_usd))
    assert (found.outcome, found.reason, found.use) == ("not_kept", "single", "small")
    assert "`small` alone keeps the target" in found.sentence
    assert found.use_saved.value > 0.8


def test_choosing_at_random_is_not_taken_for_routing():
    rng = np.random.default_rng(0)
    _, table = rows(4000, gap=0.1, share=0.0)
    chosen = (rng.random(4000) > 0.1).astype(int)
    each = np.arange(4000)
    found = verdict(Done(table.quality[each, chosen], table.cost_usd[each, chosen]), table)
    assert found.outcome != "kept"
    assert abs(found.above_random.value) < 0.02


def test_a_router_that_costs_more_is_never_kept():
    done, table = rows(2000)
    found = verdict(Done(done.quality, done.cost_usd + 0.02), table)
    assert (found.outcome, found.reason) == ("not_kept", "dearer")
    assert "% dearer than `large`" in found.sentence


def test_unknown_costs_leave_the_verdict_open():
    done, table = rows(2000)
    found = verdict(done, Outcomes(table.queries, table.candidates, table.quality))
    assert (found.outcome, found.reason) == ("unknown", "no prices")
    assert found.saved is None
    assert "saving against `large` is unknown" in found.sentence
    assert "give every model a price" in found.sentence


def test_a_pool_that_is_free_is_judged_by_its_quality():
    rng = np.random.default_rng(0)
    n = 2000
    good = rng.random(n) < 0.5
    table = Outcomes(
        [f"q{i}" for i in range(n)], ("a", "b"), np.stack([good, ~good], axis=1).astype(float),
        np.zeros((n, 2)),
    )  # fmt: skip
    found = verdict(Done(np.ones(n), np.zeros(n)), table)
    assert found.outcome == "kept"
    assert found.saved is None
    assert f"`{found.best}` costs nothing" in found.sentence


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (Interval(0.41, 0.33, 0.48), "41 % cheaper than `large` (33 to 48)"),
        (Interval(-0.2, -0.3, -0.1), "20 % dearer than `large` (10 to 30)"),
        (Interval(-0.01, -0.02, 0.01), "1 % dearer than `large` (2 % dearer to 1 % cheaper)"),
        (Interval(0.1, -np.inf, 0.9), "10 % cheaper than `large` (any amount dearer to 90 % c"),
    ],
)  # fmt: skip
def test_an_interval_of_the_saving_reads_the_same_way_as_its_value(saved, words):
    found = replace(verdict(*rows(200)), saved=saved)
    assert found.sentence.startswith(words)


def test_optimism_is_taken_off_before_anything_is_said():
    done, table = rows(2000)
    found = verdict(done, table, optimism=Optimism(quality=0.05))
    assert found.outcome == "not_kept"
    plain = verdict(done, table)
    assert found.gap.value == pytest.approx(plain.gap.value - 0.05)


def test_rows_of_one_question_do_not_count_twice():
    done, table = rows(100)
    once = verdict(done, table)
    many = np.tile(np.arange(100), 20)
    twice = verdict(
        Done(done.quality[many], done.cost_usd[many]), table.take(many),
        clusters=[table.queries[i] for i in many],
    )  # fmt: skip
    assert once.outcome == twice.outcome == "unknown"
    naive = verdict(Done(done.quality[many], done.cost_usd[many]), table.take(many))
    assert naive.gap.high - naive.gap.low < (twice.gap.high - twice.gap.low) / 2


def test_copies_of_questions_are_counted_once_and_need_as_many_more():
    done, table = rows(300, lost=0.01, seed=3)
    once = verdict(done, table, clusters=table.queries)
    twice = np.repeat(np.arange(300), 2)
    copied = verdict(
        Done(done.quality[twice], done.cost_usd[twice]), table.take(twice),
        clusters=[table.queries[i] for i in twice],
    )  # fmt: skip
    assert (copied.n_rows, copied.outcome) == (once.n_rows, once.outcome) == (300, "unknown")
    assert copied.more_rows == pytest.approx(once.more_rows, rel=0.05)


def ties(n, wins, losses):
    """A cheaper router that answers as `large` does, but wins some rows and loses some."""
    _, table = rows(n, share=1.0)
    large = np.r_[np.zeros(wins), np.ones(n - wins)]
    quality = np.r_[np.ones(n - losses), np.zeros(losses)]
    table = replace(table, quality=np.stack([0 * large, large], axis=1))
    return Done(quality, table.cost_usd.mean(axis=1)), table


HALF = "if its true gain is half of the largest that these allow"


def test_more_questions_for_a_gain_that_was_not_seen_say_so():
    done, table = ties(200, wins=10, losses=10)
    found = verdict(done, table, "quality >= best")
    assert (found.outcome, found.about, found.gap.value) == ("unknown", "target", 0)
    assert found.more_rows_hoped
    assert re.search(rf"about [\d,]+ more, {HALF}[;.]", found.sentence)
    # As good as the best model is enough for an easier target, which presumes no gain.
    easier = verdict(done, table, "quality >= best - 3 points")
    assert (easier.outcome, easier.more_rows_hoped) == ("unknown", False)
    assert HALF not in easier.sentence


def test_more_questions_for_the_gain_that_was_seen_presume_no_other():
    found = verdict(*ties(200, wins=10, losses=10), "cost <= 49 % of large")
    assert found.about != "better than random" or not found.more_rows_hoped
    seen = verdict(*ties(60, wins=1, losses=0), "quality >= best - 2 points")
    assert (seen.outcome, seen.more_rows_hoped) == ("unknown", False)


def test_several_targets_must_all_be_kept():
    done, table = rows(2000)
    both = "quality >= best - 2 points and cost <= 70 % of large"
    assert verdict(done, table, both).outcome == "kept"
    found = verdict(done, table, "quality >= best - 2 points and cost <= 10 % of large")
    assert (found.outcome, found.reason) == ("not_kept", "missed")


def test_the_easier_target_that_is_named_needs_fewer_rows():
    found = verdict(*rows(150, lost=0.04), "quality >= best - 1 point")
    assert found.outcome == "unknown"
    easier, more = found.easier
    assert more < found.more_rows
    assert easier in found.sentence


def test_a_router_is_judged_by_lambda_without_a_target():
    done, table = rows(2000)
    goal = Goal.of(None, lambda_=20.0)
    assert decide_verdict(trial_of(done, table), goal).outcome == "kept"
    worthless = decide_verdict(trial_of(done, table), replace(goal, lambda_=0.0))
    assert worthless.outcome != "kept"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Goal.of("strong share = 0.3"), "no data can prove"),
        (lambda: Goal(targets=()), "at least one"),
        (lambda: Goal.of(None, confidence=0.4), r"\(0.5, 1\)"),
    ],
)
def test_a_goal_that_nothing_can_prove_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@given(
    st.integers(1, 400), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.6),
    st.integers(0, 1000), st.sampled_from([1, 2, 3, 10]), st.floats(0, 0.05),
)  # fmt: skip
def test_no_sentence_contradicts_its_numbers(n, share, lost, gap, seed, points, optimism):
    done, table = rows(n, share=share, lost=lost, gap=gap, seed=seed)
    target = f"quality >= best - {points} point{'s' * (points > 1)}"
    found = verdict(done, table, target, optimism=Optimism(quality=optimism))
    data = json.loads(json.dumps(found.as_dict()))
    text = found.sentence
    assert data["sentence"] == text
    assert (found.outcome == "kept") == ("is kept with" in text)
    assert (found.use is None) == (found.outcome == "kept")
    assert (found.more_rows is not None) == (found.outcome == "unknown")
    assert found.more_rows_hoped == ("if its true gain is half" in text)
    assert found.gap.low <= found.gap.value <= found.gap.high
    if found.easier is not None and found.easier[1] == 0:
        kept = verdict(done, table, found.easier[0], optimism=Optimism(quality=optimism))
        assert kept.outcome == "kept"
    if found.outcome == "kept":
        assert found.gap_bound >= -points / 100
        assert found.saved.low > -0.05
        assert " cheaper than " in text
        assert found.above_random.value > 0
    else:
        assert f"use `{found.use}` alone" in text
    if found.saved is not None:
        assert ("dearer than" in text.split(",")[0]) == (found.saved.value < 0)


def specialists(n, *, dearer=0.0, seed=0):
    """Two models that each answer one half, and a router that always takes the right one."""
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.5
    right = np.where(np.stack([first, ~first], axis=1), 0.95, 0.3)
    quality = (rng.random((n, 2)) < right).astype(float)
    cost = 0.001 * rng.lognormal(0, 0.2, (n, 2))
    table = Outcomes([f"q{i}" for i in range(n)], ("a", "b"), quality, cost)
    each, chosen = np.arange(n), np.where(first, 0, 1)
    return Done(quality[each, chosen], (1 + dearer) * cost[each, chosen]), table


def test_a_router_that_is_better_for_about_the_same_money_is_kept():
    found = verdict(*specialists(1500))
    assert (found.outcome, found.reason, found.use) == ("kept", "better", None)
    assert "for about the same money" in found.sentence
    assert found.gap_bound > 0.2


def test_a_router_that_is_better_for_more_money_is_not_kept():
    found = verdict(*specialists(1500, dearer=0.2))
    assert (found.outcome, found.reason) == ("not_kept", "dearer")


def test_the_same_money_is_not_enough_for_a_router_that_is_only_as_good():
    _, table = specialists(1500)
    chosen = np.random.default_rng(1).integers(0, 2, 1500)
    each = np.arange(1500)
    done = Done(table.quality[each, chosen], table.cost_usd[each, chosen])
    assert verdict(done, table, "quality >= best - 10 points").outcome != "kept"


def test_a_target_out_of_reach_names_one_within_reach():
    done, table = rows(1500, lost=0.02)
    found = verdict(done, table, "quality >= best - 1 point")
    assert (found.outcome, found.reason) == ("not_kept", "unreachable")
    assert found.easier == ("quality >= best - 2 points", 0)
    assert "(these would do for `quality >= best - 2 points`)" in found.sentence


@pytest.mark.parametrize("target", ["quality >= best - 1 point", "quality >= 0.9"])
def test_a_target_that_is_missed_names_an_easier_one_that_is_kept(target):
    done, table = rows(2000, lost=0.1)
    found = verdict(done, table, target)
    assert (found.outcome, found.reason) == ("not_kept", "missed")
    easier, more = found.easier
    assert more == 0
    assert f"is not kept (`{easier}` is); use `large` alone" in found.sentence
    assert verdict(done, table, easier).outcome == "kept"


def test_an_easier_target_may_need_a_few_more_questions():
    found = verdict(*rows(150, lost=0.15), "quality >= 0.9")
    easier, more = found.easier
    assert found.reason == "missed"
    assert 0 < more <= 150
    assert (
        f"is not kept ({more} more questions would show that `{easier}` is); no single"
        in found.sentence
    )


def test_no_number_of_questions_is_named_for_a_gain_that_was_never_seen():
    done, table = rows(400)
    found = verdict(done, table, "quality >= best")
    assert found.gap.value == 0
    assert (found.outcome, found.reason) == ("not_kept", "unreachable")
    assert "(these would do for `quality >= best - 1 point`)" in found.sentence
    few = verdict(*rows(60, share=0.0), "quality >= best - 10 points")
    assert few.saved.value == 0
    assert (few.outcome, few.about, few.more_rows) == ("unknown", "cheaper", 40)


def test_an_empty_target_is_refused():
    with pytest.raises(ValueError, match="must have a form"):
        Goal.of("")


@pytest.mark.parametrize(
    ("target", "use", "words"),
    [
        ("p95 latency <= 1 s", "small", "use `small` alone"),
        ("p95 latency <= 5 s", "large", "use `large` alone"),
        ("mean latency <= 0.1 s", "large", "no single model here keeps it either"),
        ("strong share <= 0.2", "small", "use `small` alone"),
    ],
)
def test_the_single_model_that_is_named_keeps_the_target_itself_if_one_does(target, use, words):
    done, table = rows(2000, lost=0.5)
    slow = np.full((2000, 2), [0.2, 3.0])
    timed = Outcomes(table.queries, table.candidates, table.quality, table.cost_usd, latency_s=slow)
    goal = Goal.of(f"{target} and quality >= 0.85" if use == "large" else target)
    trial = trial_of(done, timed, np.ones(2000, bool), np.full(2000, 6.0))
    found = decide_verdict(trial, goal)
    assert (found.outcome, found.use) == ("not_kept", use)
    assert words in found.sentence


def test_a_verdict_on_one_row_can_be_saved(tmp_path):
    found = verdict(*rows(1))
    found.save(tmp_path)
    assert "inf" not in found.sentence.lower()
