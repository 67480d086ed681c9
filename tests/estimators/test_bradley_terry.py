"""RouteLLM's similarity-weighted ranking, against its own fit and brute force."""

import numpy as np
import pytest

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import ApproximateMemory, BradleyTerry
from langchain_llm_router.estimators.preference import IndexedBattles
from langchain_llm_router.policies import Threshold
from langchain_llm_router.types import Arm, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from tests.support.fakes import TableEmbeddings, make_outcomes
from tests.support.shared_data import shared_data

TABLE = {
    "north": [1.0, 0.0],
    "northeast": [0.8, 0.6],
    "east": [0.0, 1.0],
    "south": [-1.0, 0.0],
    "nothing": [0.0, 0.0],
}
EMBEDDINGS = TableEmbeddings(TABLE)


def compass(**kwargs):
    battles = Battles(
        ["north", "northeast", "east", "south", "east"],
        ["strong", "weak", "strong", "strong", "weak"],
        ["weak", "strong", "weak", "weak", "strong"],
        [1.0, 0.0, 0.0, 0.5, 1.0],
    )
    return BradleyTerry(EMBEDDINGS, candidates=("weak", "strong"), ridge=1e-9, **kwargs).fit(
        battles
    )


def win_rate(estimator, query):
    weak, strong = estimator.predict([query])[0]
    return (1 + strong - weak) / 2


def test_for_a_pair_the_win_rate_is_the_weighted_mean_of_labels():
    """Section 4.2 with two classes: P = Σ ω y / Σ ω, ω = 10^(1 + cos / max cos), by hand."""
    y = np.array([1.0, 1.0, 0.0, 0.5, 0.0])
    cosine = np.array([0.8, 1.0, 0.6, -0.8, 0.6])
    omega = 10 ** (1 + cosine)
    assert win_rate(compass(), "northeast") == pytest.approx((omega * y).sum() / omega.sum(), 1e-5)
    near = win_rate(compass(gamma=1e4), "north")
    assert near > win_rate(compass(), "north") > win_rate(compass(gamma=1), "north")
    assert win_rate(compass(gamma=1), "north") == pytest.approx(y.mean(), 1e-5)


def test_a_query_that_resembles_nothing_gets_the_overall_win_rate():
    assert win_rate(compass(), "nothing") == pytest.approx(0.5, abs=1e-5)


def test_the_similarity_is_relative_to_the_largest_one():
    """Halving the incoming query's similarity to everything changes nothing (the code's S)."""
    table = {**TABLE, "faint": [0.4, 0.3, np.sqrt(0.75)]}
    wide = TableEmbeddings({text: [*v, 0.0][:3] for text, v in table.items()})
    estimator = compass()
    estimator.embeddings_, estimator.width_ = wide, 3
    estimator.memory_.vectors_ = np.pad(estimator.memory_.vectors_, ((0, 0), (0, 1)))
    assert win_rate(estimator, "faint") == pytest.approx(win_rate(compass(), "northeast"), 1e-5)


def test_top_k_uses_the_battles_of_the_nearest_queries_alone():
    estimator = compass(top_k=1)
    assert win_rate(estimator, "south") == pytest.approx(0.5)
    assert win_rate(estimator, "north") > 0.99
    assert win_rate(estimator, "east") < 0.01
    np.testing.assert_allclose(
        compass(top_k=99).predict(list(TABLE)[:4]), compass().predict(list(TABLE)[:4]), atol=1e-6
    )


def test_outcomes_and_their_battles_give_the_same_fit():
    outcomes = make_outcomes()
    embeddings = LexicalEmbeddings(64)
    queries = ["prove hard theorem 3", "add easy numbers 9"]
    ours = BradleyTerry(embeddings).fit(outcomes)
    theirs = BradleyTerry(embeddings).fit(outcomes.to_battles())
    assert ours.candidates_ == theirs.candidates_
    np.testing.assert_allclose(ours.predict(queries), theirs.predict(queries), atol=1e-8)


def test_outcomes_are_numbered_as_to_battles_spells_them_out():
    outcomes = Outcomes(["q", "r", "q"], ("a", "b", "c"), [[0, 0.5, 1], [1, 1, 0], [0.2, 0.3, 0.2]])
    direct = IndexedBattles.of_outcomes(outcomes)
    spelled = IndexedBattles.of_battles(outcomes.to_battles())
    assert direct.texts == spelled.texts == ("q", "r")
    for name in ("query", "a", "b", "score"):
        np.testing.assert_array_equal(getattr(direct, name), getattr(spelled, name))


def test_similar_queries_decide():
    fitted = BradleyTerry(gamma=1e4).fit(make_outcomes(n=200, candidates=("weak", "strong")))
    hard, easy = (win_rate(fitted, q) for q in ("prove hard theorem 999", "add easy numbers 999"))
    assert hard > easy + 0.2


def test_more_than_two_candidates_are_scored_by_their_mean_win_rate_and_strengths_keep_pairs():
    fitted = BradleyTerry().fit(make_outcomes())
    strengths = fitted.predict_strengths(["prove hard theorem 3"])[0]
    quality = fitted.predict(["prove hard theorem 3"])[0]
    rate = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    expected = [np.delete(rate[i], i).mean() for i in range(3)]
    np.testing.assert_allclose(quality, expected, atol=1e-9)
    assert fitted.predict_strengths([]).shape == (0, 3)


def test_tiers_share_a_strength_and_their_inner_battles_are_dropped():
    rng = np.random.default_rng(0)
    true = {"gpt": 2.0, "gpt-twin": 2.0, "mid": 0.0, "mid-twin": 0.0}
    names = list(true)
    pairs = [rng.choice(4, size=2, replace=False) for _ in range(3000)]
    a, b = [names[i] for i, _ in pairs], [names[j] for _, j in pairs]
    p = [1 / (1 + np.exp(true[y] - true[x])) for x, y in zip(a, b, strict=True)]
    battles = Battles(["north"] * 3000, a, b, (rng.random(3000) < p).astype(float))
    fitted = BradleyTerry(EMBEDDINGS, n_tiers=2, candidates=("mid", "gpt", "gpt-twin")).fit(battles)
    np.testing.assert_array_equal(fitted.tier_, [1, 0, 0])
    mid, gpt, twin = fitted.predict_strengths(["east"])[0]
    assert gpt == twin
    assert gpt - mid == pytest.approx(2.0, abs=0.2)
    across = [i for i, (x, y) in enumerate(pairs) if (x < 2) != (y < 2)]
    assert fitted.wins_.sum() == pytest.approx(len(across))


def test_battles_against_oneself_are_dropped_and_only_such_battles_say_nothing():
    fitted = BradleyTerry(EMBEDDINGS).fit(Battles(["north"], ["a"], ["a"], [1.0]))
    np.testing.assert_allclose(fitted.predict(["east"]), [[0.5]])


def test_a_candidate_that_never_lost_stays_finite():
    battles = Battles(["north"] * 5, ["a"] * 5, ["b"] * 5, [1.0] * 5)
    strengths = BradleyTerry(EMBEDDINGS).fit(battles).predict_strengths(["north"])
    assert np.isfinite(strengths).all()
    assert strengths[0, 0] > strengths[0, 1] + 4


def clustered(n=300):
    """Two topics; in each, another candidate wins nine times in ten."""
    rng = np.random.default_rng(1)
    topic = rng.integers(2, size=n)
    angle = topic * np.pi / 2 + rng.normal(0, 0.2, n)
    table = {f"q{i}": [float(np.cos(t)), float(np.sin(t))] for i, t in enumerate(angle)}
    won = (rng.random(n) < np.where(topic == 1, 0.9, 0.1)).astype(float)
    battles = Battles(list(table), ["strong"] * n, ["weak"] * n, won)
    return TableEmbeddings(table), battles


def test_leaving_one_out_finds_a_sharp_gamma_where_queries_matter():
    embeddings, battles = clustered()
    fitted = BradleyTerry(embeddings, gamma="loo", top_k="loo").fit(battles)
    losses = {(gamma, k): loss for gamma, k, loss in fitted.leave_one_out_}
    assert losses[fitted.gamma_, fitted.top_k_] == min(losses.values())
    assert min(losses.values()) < losses[10.0, None] - 0.02
    assert min(losses.values()) < losses[1.0, None] - 0.3


def test_leaving_one_out_is_what_fitting_without_that_query_predicts():
    embeddings, battles = clustered(20)
    fitted = BradleyTerry(embeddings, gamma="loo", top_k=5).fit(battles)
    losses = {gamma: loss for gamma, _, loss in fitted.leave_one_out_}
    loss = 0.0
    for i in range(20):
        rest = BradleyTerry(embeddings, gamma=30.0, top_k=5, candidates=("strong", "weak")).fit(
            battles.take([j for j in range(20) if j != i])
        )
        ahead = np.subtract(*rest.predict_strengths([battles.queries[i]])[0])
        loss += np.logaddexp(0, -ahead if battles.score_a[i] == 1 else ahead)
    assert losses[30.0] == pytest.approx(loss / 20, rel=1e-4)


def test_leaving_one_out_finds_no_sharpness_where_queries_do_not_matter():
    embeddings, battles = clustered()
    won = (np.random.default_rng(5).random(len(battles)) < 0.7).astype(float)
    noise = Battles(battles.queries, battles.candidate_a, battles.candidate_b, won)
    fitted = BradleyTerry(embeddings, gamma="loo").fit(noise)
    assert fitted.gamma_ <= 30


def routellm_fit(a, b, score, weights, n):
    """RouteLLM's compute_elo_mle_with_tie: natural-log strengths by scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    x = np.zeros((len(a), n))
    x[np.arange(len(a)), a] = np.log(10)
    x[np.arange(len(a)), b] = -np.log(10)
    y = np.where(score == 1.0, 1.0, 0.0)
    twice = np.vstack([x, x])
    second = np.where(score == 0.5, 1.0, y)
    model = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(twice, np.r_[y, second], sample_weight=np.r_[weights, weights])
    return model.coef_[0] * np.log(10)


def test_alpaca_eval_battles_give_routellms_own_fit_to_1e_4_in_win_rate():
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(shared_data("alpaca_eval/preferences.parquet"))
    texts = pandas.read_parquet(shared_data("alpaca_eval/instructions.parquet"))
    texts = dict(zip(texts.instruction_id.astype(str), texts.instruction, strict=True))
    names = ["model_a", "model_b", "instruction_id"]
    table[names] = table[names].astype(str)
    table = table[table.model_a != table.model_b].sample(20_000, random_state=0)
    score = np.select([table.p_b > 0.5, table.p_b < 0.5], [0.0, 1.0], 0.5)
    battles = Battles(
        [texts[i] for i in table.instruction_id], list(table.model_a), list(table.model_b), score
    )
    fitted = BradleyTerry(LexicalEmbeddings(256), n_tiers=10).fit(battles)
    tier_of = dict(zip(fitted.candidates_, fitted.tier_, strict=True))
    a = np.array([tier_of[name] for name in battles.candidate_a])
    b = np.array([tier_of[name] for name in battles.candidate_b])
    across = a != b
    query = "Write a short poem about the sea."
    vector = LexicalEmbeddings(256).embed_array([query])[0]
    cosine = LexicalEmbeddings(256).embed_array(battles.queries) @ vector
    weights = 10 ** (1 + cosine / cosine.max())
    reference = routellm_fit(
        a[across], b[across], np.asarray(battles.score_a)[across], weights[across], 10
    )[fitted.tier_]
    ours = fitted.predict_strengths([query])[0]
    rates = [1 / (1 + np.exp(s[None, :] - s[:, None])) for s in (ours, reference)]
    np.testing.assert_allclose(rates[0], rates[1], atol=1e-4)


def test_its_predictions_keep_the_meaning_of_a_threshold():
    weak, strong = compass().predict(["northeast"])[0]
    rate = win_rate(compass(), "northeast")
    seen = Situation("northeast", (Arm("weak", quality=weak), Arm("strong", quality=strong)))
    assert Threshold(rate - 1e-6).decide(seen).candidate == "strong"
    assert Threshold(rate + 1e-6).decide(seen).candidate == "weak"


def test_a_batch_larger_than_the_memory_budget_is_cut_and_agrees(monkeypatch):
    fitted = BradleyTerry().fit(make_outcomes())
    queries = [f"prove hard numbers {i}" for i in range(9)]
    whole = fitted.predict(queries)
    monkeypatch.setattr("langchain_llm_router.estimators.bradley_terry._MAX_ENTRIES", 100)
    np.testing.assert_allclose(fitted.predict(queries), whole, atol=1e-6)


def test_what_was_chosen_survives_saving(tmp_path):
    embeddings, battles = clustered(60)
    fitted = BradleyTerry(embeddings, gamma="loo", top_k="loo").fit(battles)
    loaded = BradleyTerry.load(fitted.save(tmp_path / "it"), embeddings=embeddings)
    assert (loaded.gamma_, loaded.top_k_) == (fitted.gamma_, fitted.top_k_)
    assert loaded.leave_one_out_ == fitted.leave_one_out_
    np.testing.assert_allclose(
        loaded.predict_strengths(["q0", "q5"]), fitted.predict_strengths(["q0", "q5"]), atol=1e-6
    )


def test_an_artifact_of_another_shape_is_refused(tmp_path):
    fitted = compass()
    fitted.tier_ = fitted.tier_ + 1
    with pytest.raises(ArtifactError, match=r"the tiers \[2, 1\]"):
        BradleyTerry.load(fitted.save(tmp_path / "it"), embeddings=EMBEDDINGS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.5}, "`gamma` must be"),
        ({"gamma": float("nan")}, "`gamma` must be"),
        ({"top_k": 0}, "`top_k` must be"),
        ({"n_tiers": 1}, "`n_tiers` must be"),
        ({"ridge": 0.0}, "`ridge` must be"),
        ({"memory": ApproximateMemory()}, "set `top_k`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BradleyTerry(**arguments)


def test_empty_battles_and_unknown_candidates_are_refused():
    with pytest.raises(ValueError, match="0 battles"):
        BradleyTerry().fit(Battles([], [], [], []))
    with pytest.raises(ValueError, match=r"got \['nobody'\]"):
        BradleyTerry(candidates=("nobody",)).fit(make_outcomes())
    with pytest.raises(NotFittedError):
        BradleyTerry().predict_strengths(["q"])


def lopsided(**params):
    """Strong wins eight of ten everywhere."""
    battles = Battles(["north"] * 10, ["strong"] * 10, ["weak"] * 10, [1.0] * 8 + [0.0] * 2)
    return BradleyTerry(EMBEDDINGS, **params).fit(battles)


@pytest.mark.parametrize(
    ("weights", "rate"),
    [
        (None, 0.8),
        ("even", 0.5),
        ({"weak": 4.0}, 0.5),
        ({"strong": 1.25}, 10 / 12),
        ({"strong": 0.5, "weak": 1.0}, 4 / 6),
    ],
)
def test_wins_can_be_weighed_to_balance_the_sides(weights, rate):
    fitted = lopsided(win_weights=weights, ridge=1e-9)
    strong, weak = fitted.predict(["north"])[0]
    assert strong == pytest.approx(rate, abs=1e-6)
    assert weak == pytest.approx(1 - rate, abs=1e-6)


def test_even_weights_keep_what_the_query_says():
    embeddings, battles = clustered()
    fitted = BradleyTerry(embeddings, gamma="loo", win_weights="even").fit(battles)
    assert fitted.predict(battles.queries)[:, 0].mean() == pytest.approx(0.5, abs=0.02)
    plain = BradleyTerry(embeddings, gamma="loo").fit(battles)
    assert fitted.gamma_ == plain.gamma_


def test_win_weights_are_saved_and_checked(tmp_path):
    again = BradleyTerry.load(
        lopsided(win_weights={"weak": 4.0}).save(tmp_path / "bt"), embeddings=EMBEDDINGS
    )
    assert again.win_weights == {"weak": 4.0}
    with pytest.raises(ValueError, match="`win_weights` must map names to finite numbers >= 0"):
        BradleyTerry(win_weights={"weak": -1.0})
    with pytest.raises(ValueError, match=r"`win_weights` must be .* got 'odd'"):
        BradleyTerry(win_weights="odd")
    with pytest.raises(ValueError, match=r"`win_weights` must name candidates .* got \['mid'\]"):
        lopsided(win_weights={"mid": 1.0})
