"""RouteLLM's routers: similar queries in a Bradley–Terry model, and fine-tuned networks."""

import numpy as np
import pytest

from langchain_llm_router import Battles, Candidate, ChatLLMRouter, Outcomes, estimators, plots
from langchain_llm_router.estimators import BradleyTerry, MatrixFactorization
from langchain_llm_router.evaluation import Resampling, auc, closeness, separability
from langchain_llm_router.policies import Threshold
from langchain_llm_router.testing import ScriptedChatModel
from tests.estimators.test_contrastive import make_encoder, make_rows, untrained
from tests.estimators.test_matrix_factorization import two_topics
from tests.support.article_data import article_weights, example_of_weights
from tests.support.article_rows import row
from tests.support.fakes import TableEmbeddings, make_outcomes
from tests.support.networks import need_torch, smollm2, tiny

HARD, EASY = "prove hard theorem", "add easy numbers"


def p_large(new, known, labels, **settings) -> float:
    """Return P(the large model is needed) of a query, from the labels of known ones."""
    table = {f"q{i}": vector.tolist() for i, vector in enumerate(known)}
    n = len(known)
    battles = Battles(list(table), ["large"] * n, ["small"] * n, labels)
    fitted = BradleyTerry(
        TableEmbeddings({**table, "new": new.tolist()}),
        candidates=("small", "large"), ridge=1e-9, **settings,
    ).fit(battles)  # fmt: skip
    return float(fitted.predict(["new"])[0, 1])


def learned_weights(gamma: float) -> np.ndarray:
    """Return the share of each known query in the decision: what it is if it alone is "large"."""
    new, known = example_of_weights()
    return np.array([p_large(new, known, np.eye(10)[i], gamma=gamma) for i in range(10)])


@row(44, "similarity: the cosine, divided by the largest one")
def test_similarities_are_cosines_relative_to_the_nearest_query():
    new, known = example_of_weights()
    cosine = known @ new / (np.linalg.norm(known, axis=1) * np.linalg.norm(new))
    shares = learned_weights(gamma=10.0)
    similarity = 1 + np.log10(shares / shares.max())
    np.testing.assert_allclose(similarity, cosine / cosine.max(), atol=2e-6)


@pytest.mark.parametrize("gamma", [10.0, 1.1])
@row(45, "weight: γ to the power of 1 + similarity, with γ = 10; an example with seed 0")
def test_queries_weigh_as_in_the_articles_example(gamma):
    expected = article_weights(*example_of_weights(), gamma)
    np.testing.assert_allclose(learned_weights(gamma), expected / expected.sum(), rtol=1e-5)


def compute_coefficients(weights, labels, random, learning_rate=0.01, epochs=10):
    """The article's own fit of the two coefficients, small and large."""
    xi = random.rand(2)
    large_model_bias = 1 / (labels.sum() / len(labels))
    for _ in range(epochs):
        for weight, label in zip(weights, labels, strict=True):
            probability = 1 / (1 + np.exp(-np.clip(xi[1] - xi[0], -500, 500)))
            loss = cross_entropy(label, probability) * (large_model_bias if label else 1)
            direction = label * 2 - 1
            xi += learning_rate * weight * loss * np.array([-direction, direction])
    return xi


def cross_entropy(label, probability):
    p = np.clip(probability, 1e-10, 1 - 1e-10)
    return -(label * np.log(p) + (1 - label) * np.log(1 - p))


@row(
    46,
    "two coefficients per query, fitted by weighted binary cross-entropy",
    kind="reason",
    why="the same loss is minimized: P(large) is .687, the weighted share of the labels, at a mean "
    "loss of .62; the article steps by the loss, not by its gradient, and ends at .107, at 1.57",
)
def test_the_articles_loss_is_minimized_which_its_own_gradient_does_not():
    random = np.random.RandomState(10)
    new, known = random.rand(20), random.rand(10, 20)
    labels = random.randint(0, 2, size=10)
    weights = article_weights(new, known)
    small, large = compute_coefficients(weights, labels, random)
    theirs = 1 / (1 + np.exp(small - large))
    ours = p_large(new, known, labels, gamma=10.0)
    assert ours == pytest.approx((weights * labels).sum() / weights.sum(), abs=1e-5)
    assert ours == pytest.approx(0.687, abs=5e-4)
    assert labels.sum() == 7
    assert theirs == pytest.approx(0.107, abs=5e-4)

    def loss(probability):
        return (weights * cross_entropy(labels, probability)).sum() / weights.sum()

    nearby = np.linspace(0.01, 0.99, 99)
    assert loss(ours) <= min(loss(p) for p in nearby) + 1e-9
    assert loss(ours) == pytest.approx(0.62, abs=5e-3)
    assert loss(theirs) == pytest.approx(1.57, abs=5e-3)


def clustered(n: int, seed: int = 0) -> tuple[TableEmbeddings, Outcomes]:
    """Queries of two topics, of which one needs the large model."""
    random = np.random.default_rng(seed)
    hard = random.random(n) < 0.5
    angle = np.where(hard, 0.0, np.pi / 2) + random.normal(0, 0.2, n)
    table = {f"q{i}": [float(np.cos(t)), float(np.sin(t))] for i, t in enumerate(angle)}
    quality = np.where(hard[:, None], [0.0, 1.0], [1.0, 0.0])
    return TableEmbeddings(table), Outcomes(list(table), ("small", "large"), quality)


@row(47, "a threshold on P(large), which a request may move towards cost or performance")
def test_the_large_model_is_asked_where_its_probability_reaches_the_threshold():
    embeddings, known = clustered(60)
    names = known.candidates
    fitted = BradleyTerry(embeddings, candidates=names).fit(known)
    router = ChatLLMRouter(
        candidates=[Candidate(name, ScriptedChatModel(name)) for name in names],
        estimator=fitted,
        policy=Threshold(0.5),
    )
    p = fitted.predict(known.queries)[:, 1]

    def asked(**options):
        config = {"configurable": {"llm_router": options}}
        return [router.route(query, config).candidate == "large" for query in known.queries]

    assert 0.2 < np.mean(p >= 0.5) < 0.8
    assert asked() == (p >= 0.5).tolist()
    for threshold in (0.0, 0.3, 0.7, 1.0):
        assert asked(threshold=threshold) == (p >= threshold).tolist()


def noise(n: int = 200, seed: int = 0) -> tuple[TableEmbeddings, Outcomes]:
    """Queries whose vectors say nothing about which model they need."""
    random = np.random.default_rng(seed)
    table = {f"q{i}": random.normal(size=16).tolist() for i in range(n)}
    large = random.random(n) < 0.57
    quality = np.where(large[:, None], [0.0, 1.0], [1.0, 0.0])
    return TableEmbeddings(table), Outcomes(list(table), ("small", "large"), quality)


@row(48, '"the Bradley–Terry model failed to make any substantive decisions"')
def test_without_a_signal_there_is_no_decision_and_with_one_there_is():
    embeddings, outcomes = noise(seed=1)
    spread = {}
    for gamma in (10.0, "loo"):
        fitted = BradleyTerry(embeddings, candidates=("small", "large"), gamma=gamma).fit(outcomes)
        spread[gamma] = np.ptp(fitted.predict(outcomes.queries)[:, 1])
    assert spread[10.0] < 0.15
    # Told to choose for itself, it says the same for every query.
    assert fitted.gamma_ == 1.0
    assert spread["loo"] < 1e-6
    embeddings, known = clustered(400)
    train, test = np.arange(200), np.arange(200, 400)
    learned = BradleyTerry(embeddings, candidates=known.candidates).fit(known.take(train))
    p = learned.predict(known.take(test).queries)[:, 1]
    assert auc(p, known.quality[test, 1] == 1) > 0.95


@row(51, "the distributions overlap, so an embedding as it is cannot tell queries apart")
def test_a_sentence_says_whether_an_embedding_can_work_at_all():
    embeddings, outcomes = noise()
    quick = Resampling(100)
    nothing = separability(outcomes, embeddings=embeddings, resampling=quick)
    assert nothing.p_value > 0.05
    assert nothing.sentence.startswith("This embedding carries no reliable signal for routing")
    assert nothing.pair_auc == pytest.approx(0.5, abs=0.03)
    embeddings, outcomes = clustered(200)
    something = separability(outcomes, embeddings=embeddings, resampling=quick)
    assert something.p_value < 0.01
    assert something.sentence.startswith("This embedding carries a signal for routing")


@pytest.mark.slow
@row(52, "an encoder designed for this task, in a Bradley–Terry model: the article's proposal")
def test_an_encoder_trained_for_routing_makes_the_bradley_terry_model_decide():
    test = make_rows(60, seed=2)
    first = test.quality[:, 0] > test.quality[:, 1]
    found = {}
    for name, encoder in (("frozen", untrained()), ("trained", make_encoder().fit(make_rows()))):
        predicted = BradleyTerry(encoder).fit(make_rows()).predict(test.queries)
        found[name] = auc(predicted[:, 0] - predicted[:, 1], first)
    assert found["trained"] > 0.95
    assert found["trained"] > found["frozen"] + 0.05


@row(53, "BERT: a head on [CLS], the whole model fine-tuned on preferences between two models")
def test_a_bert_with_a_head_learns_from_battles_which_queries_need_the_strong_model():
    need_torch()
    battles = make_outcomes(200).select(["small", "large"]).to_battles()

    def fit(**training):
        settings = estimators.Training(**training)
        return tiny("EncoderClassifier", objective="three_way", training=settings).fit(battles)

    fitted = fit(epochs=4, learning_rate=5e-3)
    start = fit(max_steps=1, learning_rate=1e-9).network_.state_dict()
    hard, easy = fitted.predict([HARD, EASY])
    assert fitted.pooling == "cls"
    assert hard[1] > 0.8
    assert easy[1] < 0.65
    moved = {
        name.split(".")[1]
        for name, weight in fitted.network_.state_dict().items()
        if name.startswith("model.") and not np.allclose(weight, start[name], atol=1e-4)
    }
    assert {"embeddings", "encoder"} <= moved


@pytest.mark.slow
@row(54, "a causal language model that classifies, on a real small one: SmolLM2-135M-Instruct")
def test_a_real_language_model_learns_when_the_weak_model_will_do():
    pretrained = smollm2()
    training = estimators.Training(
        max_steps=20, batch_size=4, learning_rate=3e-4, validation_share=0.0
    )
    queries = [f"{HARD if i % 2 else EASY} {i}" for i in range(80)]
    table = Outcomes(queries, ["weak", "strong"], [[1 - i % 2, 1.0] for i in range(80)])
    fitted = estimators.CausalLMClassifier(pretrained, 160, rate="weak", training=training).fit(
        table
    )
    hard, easy = fitted.predict(["prove a harder theorem", "add two easy numbers"])
    assert hard[1] > easy[1] + 0.2


@row(55, "matrix factorization of models and queries")
def test_the_win_rate_of_two_models_is_that_of_the_papers_product():
    embeddings, battles = two_topics()
    fitted = MatrixFactorization(
        embeddings, candidates=("a", "b", "c"), n_factors=8, n_epochs=60, learning_rate=0.01
    ).fit(battles)
    strengths = fitted.predict_strengths(["zero", "one"])
    weights = fitted.weights_
    for query, found in zip(np.eye(2), strengths, strict=True):
        hidden = weights["projection"].T @ query + weights["bias"]
        by_hand = [weights["output"] @ (model * hidden) for model in weights["models"]]
        np.testing.assert_allclose(found, by_hand, rtol=1e-4)
    # Truth: a beats b with 88 % on the first topic and with 12 % on the second.
    rates = 1 / (1 + np.exp(strengths[:, 1] - strengths[:, 0]))
    assert rates.tolist() == pytest.approx([0.88, 0.12], abs=0.12)


@row(50, "figure: how close one query is to those with the same label and to the others")
def test_the_histograms_of_one_query_are_those_by_hand():
    embeddings, outcomes = noise(80)
    vectors = np.array([embeddings.table[query] for query in outcomes.queries])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    label = outcomes.quality[:, 1] > outcomes.quality[:, 0]
    pairs = separability(outcomes, embeddings=embeddings, resampling=Resampling(50))
    for index in (0, 1, 2):
        one = closeness(outcomes, index, embeddings=embeddings, n_bins=15)
        others = np.arange(80) != index
        cosine = vectors[others] @ vectors[index]
        equal = label[others] == label[index]
        for share, values in ((one.same, cosine[equal]), (one.different, cosine[~equal])):
            counts = np.histogram(values, one.edges)[0]
            assert len(share) == 15
            np.testing.assert_allclose(share * len(values), counts, atol=1.01)
            assert share.sum() == pytest.approx(1.0)
        left, right = plots.closeness_histograms(one, pairs).axes
        heights = [bar.get_height() for bar in left.patches if hasattr(bar, "get_height")]
        np.testing.assert_allclose(heights[:30], 100 * np.r_[one.same, one.different])
        assert len(right.patches) >= 2 * len(pairs.same)
