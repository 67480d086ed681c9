"""Who is how strong: checked by hand, by brute force, and against scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.data import Battles
from langchain_llm_router.estimators import ratings


@st.composite
def battles(draw, n_candidates=4, min_size=1):
    n = draw(st.integers(min_size, 25))
    number = st.integers(0, n_candidates - 1)
    a = draw(st.lists(number, min_size=n, max_size=n))
    b = draw(st.lists(number, min_size=n, max_size=n))
    score = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n))
    return np.array(a), np.array(b), np.array(score)


def test_elo_moves_by_k_times_the_surprise():
    """Equal ratings expect 0.5, so a win of K = 32 moves 16 points; then 10^(−32/400) by hand."""
    one = ratings.elo([0], [1], [1.0], n_candidates=3)
    np.testing.assert_allclose(one, [1016, 984, 1000])
    two = ratings.elo([0, 1], [1, 0], [1.0, 1.0], n_candidates=2)
    expected = 1 / (1 + 10 ** ((1016 - 984) / 400))
    np.testing.assert_allclose(two, [1016 - 32 * (1 - expected), 984 + 32 * (1 - expected)])


def test_an_elo_draw_between_equals_changes_nothing_and_pulls_unequals_together():
    np.testing.assert_allclose(ratings.elo([0], [1], [0.5], n_candidates=2), [1000, 1000])
    after = ratings.elo([0, 0], [1, 1], [1.0, 0.5], n_candidates=2, k_factor=20)
    assert 1000 < after[0] < 1010
    assert after.sum() == pytest.approx(2000)


@given(battles())
def test_elo_keeps_its_mean(table):
    a, b, score = table
    assert ratings.elo(a, b, score, n_candidates=4).mean() == pytest.approx(1000)


def test_two_candidates_have_a_closed_form():
    """3 wins of 4 give a win rate of 3/4, i.e. a difference of ln 3."""
    strengths = ratings.bradley_terry(
        [0, 0, 1, 0], [1, 1, 0, 1], [1, 1, 0, 0], n_candidates=2, ridge=1e-9
    )
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3), abs=1e-6)
    assert ratings.to_elo(strengths)[0] - ratings.to_elo(strengths)[1] == pytest.approx(
        400 * np.log10(3), abs=1e-4
    )


def test_bradley_terry_agrees_with_logistic_regression_on_the_design_matrix():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    true = np.array([0.0, 0.5, 1.0, -0.7, 0.2])
    a, b = rng.integers(5, size=(2, 3000))
    score = (rng.random(3000) < 1 / (1 + np.exp(true[b] - true[a]))).astype(float)
    score[rng.random(3000) < 0.2] = 0.5
    weights = rng.random(3000) * 3
    ours = ratings.bradley_terry(a, b, score, weights=weights, n_candidates=5)
    other = a != b
    x = (np.eye(5)[a] - np.eye(5)[b])[other]
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(
        np.vstack([x, x]),
        np.r_[np.ones(len(x)), np.zeros(len(x))],
        sample_weight=np.r_[(weights * score)[other], (weights * (1 - score))[other]],
    )
    reference = fit.coef_[0] - fit.coef_[0].mean()
    np.testing.assert_allclose(ours, reference, atol=1e-4)


@given(battles(), st.floats(0.1, 5))
def test_the_fit_is_where_the_gradient_of_the_penalized_likelihood_is_zero(table, ridge):
    a, b, score = table
    strengths = ratings.bradley_terry(a, b, score, n_candidates=4, ridge=ridge)
    gradient = -ridge * strengths
    for i, j, won in zip(a, b, score, strict=True):
        if i != j:
            rate = 1 / (1 + np.exp(strengths[j] - strengths[i]))
            gradient[i] += won - rate
            gradient[j] -= won - rate
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    assert strengths.sum() == pytest.approx(0, abs=1e-8)


@given(battles())
def test_a_battle_of_weight_two_is_two_battles(table):
    a, b, score = table
    twice = ratings.bradley_terry(np.r_[a, a], np.r_[b, b], np.r_[score, score], n_candidates=4)
    heavy = ratings.bradley_terry(a, b, score, weights=np.full(len(a), 2.0), n_candidates=4)
    np.testing.assert_allclose(twice, heavy, atol=1e-5)


@given(battles())
def test_swapping_sides_changes_nothing_and_swapping_winners_flips(table):
    a, b, score = table
    fit = ratings.bradley_terry(a, b, score, n_candidates=4, ridge=0.01)
    np.testing.assert_allclose(
        ratings.bradley_terry(b, a, 1 - score, n_candidates=4, ridge=0.01), fit, atol=1e-6
    )
    np.testing.assert_allclose(
        ratings.bradley_terry(a, b, 1 - score, n_candidates=4, ridge=0.01), -fit, atol=1e-6
    )


@given(battles())
def test_a_tie_is_half_a_win_each(table):
    a, b, score = table
    tie = score == 0.5
    split = ratings.bradley_terry(
        np.r_[a, a[tie]],
        np.r_[b, b[tie]],
        np.r_[np.where(tie, 1.0, score), np.zeros(tie.sum())],
        weights=np.r_[np.where(tie, 0.5, 1.0), np.full(tie.sum(), 0.5)],
        n_candidates=4,
    )
    np.testing.assert_allclose(split, ratings.bradley_terry(a, b, score, n_candidates=4), atol=1e-5)


def test_a_candidate_that_never_lost_is_finite_and_first():
    strengths = ratings.bradley_terry([0] * 50 + [1], [1] * 50 + [2], [1.0] * 51, n_candidates=4)
    assert np.isfinite(strengths).all()
    assert strengths[0] == strengths.max()
    assert strengths[0] - strengths[1] > 4
    assert strengths[3] == pytest.approx(0, abs=1e-6)


def test_a_heavily_weighted_landslide_converges():
    wins = np.array([[0.0, 1e8, 3.0], [0.0, 0.0, 1e-6], [1e6, 0.0, 0.0]])
    strengths = ratings.fit_win_tables(wins)
    games = wins + wins.T
    rate = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    gradient = (wins - games * rate).sum(axis=1) - 1e-4 * strengths
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_many_tables_at_once_are_each_table_alone():
    wins = np.random.default_rng(1).random((7, 3, 3)) * 10
    together = ratings.fit_win_tables(wins)
    assert together.shape == (7, 3)
    for table, row in zip(wins, together, strict=True):
        np.testing.assert_allclose(ratings.fit_win_tables(table), row, atol=1e-8)


def test_elo_points_and_strengths_convert_back_and_an_anchor_holds():
    strengths = np.array([-1.0, 0.25, 0.75])
    np.testing.assert_allclose(ratings.from_elo(ratings.to_elo(strengths)), strengths)
    anchored = ratings.to_elo(strengths, anchor=(0, 1082.0))
    assert anchored[0] == pytest.approx(1082)
    assert anchored[1] - anchored[0] == pytest.approx(1.25 * 400 / np.log(10))


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_for_a_pair_half_of_one_plus_the_difference_is_the_win_rate(a, b):
    quality = ratings.mean_win_rates([a, b])
    assert (1 + quality[0] - quality[1]) / 2 == pytest.approx(1 / (1 + np.exp(b - a)))


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=6))
def test_mean_win_rates_keep_the_order_and_average_one_half(tenths):
    strengths = np.array(tenths) / 10
    quality = ratings.mean_win_rates(strengths)
    assert quality.min() >= 0
    assert quality.max() <= 1
    assert quality.mean() == pytest.approx(0.5)
    for i, j in itertools.combinations(range(len(strengths)), 2):
        if strengths[i] != strengths[j]:
            assert (quality[i] > quality[j]) == (strengths[i] > strengths[j])


def test_intervals_cover_the_fit_narrow_with_data_and_repeat_with_the_seed():
    rng = np.random.default_rng(0)

    def sample(n):
        a, b = rng.integers(3, size=(2, n))
        true = np.array([-0.5, 0.0, 0.5])
        return a, b, (rng.random(n) < 1 / (1 + np.exp(true[b] - true[a]))).astype(float)

    few, many = sample(200), sample(5000)
    wide = ratings.bootstrap_intervals(*few, n_candidates=3)
    narrow = ratings.bootstrap_intervals(*many, n_candidates=3)
    fit = ratings.bradley_terry(*few, n_candidates=3)
    assert ((wide[:, 0] < fit) & (fit < wide[:, 1])).all()
    assert ((wide[:, 1] - wide[:, 0]) > 2 * (narrow[:, 1] - narrow[:, 0])).all()
    np.testing.assert_array_equal(wide, ratings.bootstrap_intervals(*few, n_candidates=3))


def test_resampling_whole_queries_widens_the_interval_of_copied_battles():
    rng = np.random.default_rng(3)
    score = np.repeat((rng.random(40) < 0.6).astype(float), 25)
    a, b, query = np.zeros(1000, int), np.ones(1000, int), np.repeat(np.arange(40), 25)
    alone = ratings.bootstrap_intervals(a, b, score, n_candidates=2)
    grouped = ratings.bootstrap_intervals(a, b, score, n_candidates=2, groups=query)
    assert np.ptp(grouped[0]) > 3 * np.ptp(alone[0])


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_tiers_have_the_least_sum_of_variances_of_all_cuts(values, n_tiers):
    values = np.array(values, dtype=float)
    n_tiers = min(n_tiers, len(values))
    found = ratings.tiers(values, n_tiers)
    assert sorted(set(found)) == list(range(n_tiers))

    def cost(groups):
        return sum(np.var(group) for group in groups)

    ordered = np.sort(values)[::-1]
    least = min(
        cost(np.split(ordered, cuts))
        for cuts in itertools.combinations(range(1, len(values)), n_tiers - 1)
    )
    assert cost([values[found == t] for t in range(n_tiers)]) == pytest.approx(least, abs=1e-9)
    for tier in range(n_tiers - 1):
        assert values[found == tier].min() >= values[found == tier + 1].max()


def test_tiers_split_where_the_gap_is():
    np.testing.assert_array_equal(ratings.tiers([1000, 1250, 1240, 990], 2), [1, 0, 0, 1])


def arena():
    strength = {"gpt": 3.0, "gpt-old": 2.9, "mid": 1.0, "mid-old": 0.9, "small": -1.0}
    rng = np.random.default_rng(0)
    names = list(strength)
    rows = [rng.choice(5, size=2, replace=False) for _ in range(4000)]
    a, b = [names[i] for i, _ in rows], [names[j] for _, j in rows]
    p = [1 / (1 + np.exp(strength[y] - strength[x])) for x, y in zip(a, b, strict=True)]
    return Battles([f"q{i}" for i in range(4000)], a, b, (rng.random(4000) < p).astype(float))


def test_tiers_of_names_put_the_strongest_first():
    assert ratings.candidate_tiers(arena(), 3) == (
        ("gpt", "gpt-old"),
        ("mid", "mid-old"),
        ("small",),
    )


def test_sparse_battles_become_strong_against_weak_labels():
    table = Battles(
        ["q1", "q2", "q3", "q4"],
        ["gpt", "small", "gpt", "mid"],
        ["small", "gpt", "gpt-old", "gpt-old"],
        [1.0, 1.0, 0.0, 0.5],
    )
    merged = ratings.strong_weak_battles(table, strong=["gpt", "gpt-old"], weak=["small", "mid"])
    assert merged.queries == ("q1", "q2", "q4")
    assert set(merged.candidate_a) == {"strong"}
    assert set(merged.candidate_b) == {"weak"}
    np.testing.assert_array_equal(merged.score_a, [1.0, 0.0, 0.5])


def test_a_table_of_elo_ratings_is_sorted_and_has_names():
    battles = arena()
    table = ratings.elo_table(battles)
    index = {name: i for i, name in enumerate(battles.candidates)}
    a = [index[name] for name in battles.candidate_a]
    b = [index[name] for name in battles.candidate_b]
    points = ratings.elo(a, b, battles.score_a, n_candidates=5)
    assert dict(table) == {name: points[i] for name, i in index.items()}
    assert list(table.values()) == sorted(table.values(), reverse=True)
    assert set(list(table)[:2]) == {"gpt", "gpt-old"}
    assert repr(table).splitlines()[0].split() == ["name", "Elo", "rating"]
    assert sum(table.values()) == pytest.approx(5000)


def test_a_table_of_bradley_terry_ratings_does_not_depend_on_the_order():
    battles = arena()
    table, turned = (
        ratings.bradley_terry_table(battles.take(np.arange(4000)[::step])) for step in (1, -1)
    )
    assert table["gpt"] - table["mid"] == pytest.approx(2 * 400 / np.log(10), abs=40)
    assert turned["gpt"] == pytest.approx(table["gpt"], abs=1e-6)


def test_tiers_can_be_those_of_elo_ratings():
    battles = arena()
    tiers = ratings.candidate_tiers(battles, 3, rated=ratings.elo_table(battles))
    assert [set(tier) for tier in tiers] == [{"gpt", "gpt-old"}, {"mid", "mid-old"}, {"small"}]
    with pytest.raises(ValueError, match=r"`rated` must have the candidates .* got \['gpt'\]"):
        ratings.candidate_tiers(battles, 1, rated={"gpt": 1000.0})


@pytest.mark.parametrize(
    ("ties", "scores"), [("half", [1, 0.5, 0]), ("weak", [1, 0, 0]), ("drop", [1, 0])]
)
def test_a_tie_is_half_a_win_or_one_of_the_weak_model_or_dropped(ties, scores):
    table = Battles(
        ["q", "r", "s"], ["gpt", "small", "small"], ["small", "gpt", "gpt"], [1, 0.5, 1]
    )
    merged = ratings.strong_weak_battles(table, ["gpt"], ["small"], ties=ties)
    assert merged.score_a.tolist() == scores


def test_wrong_groups_are_named():
    with pytest.raises(ValueError, match=r"\['mid'\] are in both"):
        ratings.strong_weak_battles(arena(), ["gpt", "mid"], ["mid"])
    with pytest.raises(ValueError, match=r"\['nobody'\] are in no battle"):
        ratings.strong_weak_battles(arena(), ["gpt"], ["nobody"])
    with pytest.raises(ValueError, match="`ties` must be 'half', 'weak' or 'drop', got 'strong'"):
        ratings.strong_weak_battles(arena(), ["gpt"], ["mid"], ties="strong")
    lonely = Battles(["q", "r"], ["gpt", "mid"], ["mid", "small"], [1, 1])
    with pytest.raises(ValueError, match="no battle between"):
        ratings.strong_weak_battles(lonely, ["gpt"], ["small"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ratings.bradley_terry([0], [5], [1], n_candidates=2), r"must be 0 to 1, got 5"),
        (lambda: ratings.bradley_terry([0], [1], [2], n_candidates=2), r"in \[0, 1\], got 2.0"),
        (lambda: ratings.bradley_terry([0, 1], [1], [1], n_candidates=2), "all have the shape"),
        (
            lambda: ratings.bradley_terry([0], [1], [1], weights=[-1], n_candidates=2),
            "finite numbers >= 0",
        ),
        (lambda: ratings.fit_win_tables(np.zeros((2, 3))), "must be equal, got shape"),
        (lambda: ratings.fit_win_tables(np.zeros((2, 2)), ridge=0), "`ridge` must be > 0"),
        (lambda: ratings.elo([0], [1], [1], n_candidates=2, k_factor=0), "`k_factor`"),
        (lambda: ratings.tiers([1.0, 2.0], 3), r"must be 1 to 2"),
        (
            lambda: ratings.bootstrap_intervals([0], [1], [1], n_candidates=2, level=1.0),
            "`level` must be",
        ),
        (lambda: ratings.bootstrap_intervals([], [], [], n_candidates=2), "at least one battle"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
