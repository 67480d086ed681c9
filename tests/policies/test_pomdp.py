"""The POMDP against a brute-force enumerator, and what AutoMix promises of it."""

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Pomdp
from langchain_llm_router.policies.belief import build_beliefs, solve, tilted_weights
from langchain_llm_router.policies.observation import score_index, score_likelihoods
from langchain_llm_router.policies.recall_plans import solve_with_recall
from langchain_llm_router.types import Arm, Attempt, RoutingOptions, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError

NAMES = ("a", "b", "c", "d", "e")


class BruteForce:
    """Expectimax over explicit particle weights, by recursion: slow, and plainly right."""

    def __init__(self, performance, likelihoods, lambda_, cost, verifying, available, recall):
        self.performance, self.likelihoods, self.lambda_ = performance, likelihoods, lambda_
        self.cost, self.verifying = cost, verifying
        self.available, self.recall = available, recall

    def keep(self, weights, held):
        believed = (weights @ self.performance) / weights.sum()
        return max(believed[i] for i in (held if self.recall else held[-1:]))

    def options(self, weights, held):
        n = self.performance.shape[1]
        believed = (weights @ self.performance) / weights.sum()
        after = -1 if self.recall else max(held, default=-1)
        return [
            (j, verify, believed[j] - self.lambda_ * self.cost[j])
            if not verify
            else (j, verify, None)
            for j in range(after + 1, n)
            if self.available[j] and j not in held
            for verify in ((False, True) if j < len(self.likelihoods) else (False,))
        ]

    def value_of_asking(self, weights, held, j):
        """Ask j, verify, go on optimally: an expectation over every observation."""
        total = 0.0
        for likelihood in self.likelihoods[j]:
            after = weights * likelihood
            if after.sum() > 0:
                total += after.sum() / weights.sum() * self.value(after, [*held, j])
        return total - self.lambda_ * (self.cost[j] + self.verifying[j])

    def utilities(self, weights, held):
        found = {}
        for j, verify, utility in self.options(weights, held):
            found[j, verify] = self.value_of_asking(weights, held, j) if verify else utility
        return found

    def value(self, weights, held):
        values = list(self.utilities(weights, held).values())
        if held:
            values.append(self.keep(weights, held))
        return max(values)


def random_instance(rng):
    recall = bool(rng.random() < 0.5)
    # In any order there are many more ways to go.
    n = int(rng.integers(2, 4 if recall else 5))
    k, rows = int(rng.integers(1, 3)), int(rng.integers(1, 7))
    performance = rng.integers(0, 3, (rows, n)) / 2 if rng.random() < 0.5 else rng.random((rows, n))
    n_verified = n if recall and rng.random() < 0.7 else n - 1
    likelihoods = [rng.dirichlet(np.ones(k + 2), rows).T for _ in range(n_verified)]
    cost = np.sort(rng.random(n))
    verifying = rng.random(n) * rng.choice([0.0, 0.3])
    available = tuple(bool(x) for x in rng.random(n) < 0.9)
    if not any(available):
        available = (True,) * n
    lambda_ = float(rng.choice([0.0, 0.1, 0.5, 1.0, 3.0]))
    return performance, likelihoods, lambda_, cost, verifying, available, recall


@pytest.mark.parametrize("n_instances", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_expectimax_equals_brute_force_on_random_instances(n_instances):
    rng = np.random.default_rng(0)
    for _ in range(n_instances):
        performance, likelihoods, lambda_, cost, verifying, available, recall = random_instance(rng)
        beliefs = build_beliefs(performance, likelihoods)
        make = solve_with_recall if recall else solve
        plan = make(beliefs, lambda_, cost, verifying, available=available)
        brute = BruteForce(performance, likelihoods, lambda_, cost, verifying, available, recall)
        n, unseen = len(likelihoods), beliefs.unobserved
        history, weights, held = [unseen] * n, np.full(len(performance), 1.0), []
        order = rng.permutation(n)[: int(rng.integers(0, n + 1))].tolist()
        for j in [-1, *(order if recall else sorted(order))]:
            if j >= 0:
                observed = int(rng.integers(unseen))
                history[j], held = observed, [*held, j]
                weights = weights * likelihoods[j][observed]
            options = plan.options(tuple(history), held)
            found = {(o.candidate, o.verify): o.utility for o in options}
            expected = brute.utilities(weights, held)
            assert found.keys() == expected.keys()
            for key, utility in expected.items():
                assert found[key] == pytest.approx(utility, abs=1e-9)


def make_tables(n_rows=400, n=2, seed=0, missing=0.05):
    """Stronger candidates are right more often; a verifier that knows something."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random((n_rows, 1))
    skill = np.linspace(0.55, 0.95, n)
    quality = (rng.random((n_rows, n)) < np.clip(skill + 0.4 - 0.8 * difficulty, 0.02, 0.98)) * 1.0
    p = 0.25 + 0.5 * quality
    scores = rng.binomial(8, p) / 8
    scores = np.where(rng.random((n_rows, n)) < missing, np.nan, scores)
    cost = np.tile(np.geomspace(1e-4, 1e-2, n), (n_rows, 1))
    queries = [f"q{i}" for i in range(n_rows)]
    outcomes = Outcomes(queries, NAMES[:n], quality, cost)
    return outcomes, SelfEvaluations(NAMES[:n], scores, cost * 0.5)


def arms(n):
    return tuple(
        Arm(name, cost_usd=float(c))
        for name, c in zip(NAMES, np.geomspace(1e-4, 1e-2, n), strict=False)
    )


def seen(n, *attempts, lambda_=None):
    return Situation("q", arms(n), attempts, RoutingOptions(lambda_=lambda_))


def verified(name, confidence):
    return Attempt(candidate=name, verified=True, confidence=confidence)


OBSERVATIONS = [None, *(c / 8 for c in range(9))]


@pytest.mark.parametrize("likelihood", ["rows", "kde", "beta_binomial"])
@pytest.mark.parametrize("lambda_", [0.0, 5.0, 20.0, 40.0, 80.0])
def test_with_two_candidates_it_escalates_iff_the_gain_exceeds_lambda_times_the_cost(
    likelihood, lambda_
):
    outcomes, evaluations = make_tables()
    policy = Pomdp(lambda_, likelihood=likelihood).fit(outcomes, evaluations)
    table = score_likelihoods(
        evaluations.confidence[:, 0], outcomes.quality[:, 0], n_samples=8, kind=likelihood
    )
    for v in OBSERVATIONS:
        weights = table[9 if v is None else round(v * 8)]
        gain = weights @ (outcomes.quality[:, 1] - outcomes.quality[:, 0]) / weights.sum()
        decision = policy.decide(seen(2, verified("a", v)))
        assert (decision.action == "ask") == (gain > lambda_ * outcomes.cost_usd[0, 1])
        assert decision.final == (decision.action == "ask")


def test_a_missing_verdict_leaves_the_belief_as_it_was():
    policy = Pomdp(20.0).fit(*make_tables(n=3))
    before = policy.decide(seen(3)).scores
    after = policy.decide(seen(3, verified("a", None))).scores
    for name in NAMES[:3]:
        assert after[name]["quality"] == pytest.approx(before[name]["quality"])


def test_a_missing_verdict_that_training_never_saw_is_no_crash():
    policy = Pomdp(20.0).fit(*make_tables(n=3, missing=0.0))
    assert policy.decide(seen(3, verified("a", None))).candidate in NAMES


def test_a_useless_middle_model_is_skipped_after_every_observation():
    outcomes, evaluations = make_tables(n=2, n_rows=600)
    rng = np.random.default_rng(1)
    useless = (rng.random(600) < 0.1) * 1.0
    quality = np.column_stack([outcomes.quality[:, 0], useless, outcomes.quality[:, 1]])
    cost = np.tile([1e-4, 4e-3, 1e-2], (600, 1))
    scores = np.column_stack(
        [evaluations.confidence[:, 0], rng.random(600), evaluations.confidence[:, 1]]
    )
    policy = Pomdp().fit(
        Outcomes(outcomes.queries, NAMES[:3], quality, cost),
        SelfEvaluations(NAMES[:3], scores, cost * 0.5),
    )
    asked = {
        policy.decide(seen(3, verified("a", v), lambda_=lambda_)).candidate
        for v in OBSERVATIONS
        for lambda_ in (2.0, 5.0, 10.0, 20.0)
    }
    assert asked == {"a", "c"}


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(2, 4))
def test_a_higher_lambda_never_spends_more_in_expectation(seed, n):
    policy = Pomdp(n_samples=4).fit(*make_tables(n_rows=60, n=n, seed=seed))
    spent = []
    for lambda_ in (0.0, 1.0, 10.0, 30.0, 100.0, 1000.0):
        plan = policy._solver(lambda_, (True,) * n)
        options = plan.options((policy.beliefs_.unobserved,) * (n - 1), ())
        spent.append(max(options, key=lambda option: option.utility).cost_usd)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(spent))


def test_with_two_candidates_a_higher_lambda_escalates_a_subset():
    policy = Pomdp().fit(*make_tables())
    sets = [
        {v for v in OBSERVATIONS if policy.decide(seen(2, verified("a", v), lambda_=x)).final}
        for x in np.linspace(0, 80, 30)
    ]
    assert all(later <= earlier for earlier, later in itertools.pairwise(sets))
    assert len({len(s) for s in sets}) > 3


def test_lambda_at_request_time_equals_a_policy_made_with_it():
    tables = make_tables(n=3)
    requested, made = Pomdp().fit(*tables), Pomdp(30.0).fit(*tables)
    for v in OBSERVATIONS:
        asked = requested.decide(seen(3, verified("a", v), lambda_=30.0))
        assert asked == made.decide(seen(3, verified("a", v)))
        assert asked == requested.with_lambda(30.0).decide(seen(3, verified("a", v)))


def test_an_answer_whose_verdict_cannot_matter_is_accepted_unseen():
    outcomes, evaluations = make_tables()
    dear = SelfEvaluations(NAMES[:2], evaluations.confidence, np.full((400, 2), 10.0))
    first = Pomdp(30.0).fit(outcomes, dear).decide(seen(2))
    assert first.final
    worth = Pomdp(30.0).fit(outcomes, evaluations).decide(seen(2))
    assert (worth.candidate, worth.final) == ("a", False)


def test_the_rule_without_planning_keeps_iff_what_is_missing_is_not_worth_the_next_cost():
    outcomes, evaluations = make_tables(n=3)
    policy = Pomdp(mode="article").fit(outcomes, evaluations)
    costs = outcomes.cost_usd[0]
    for v in OBSERVATIONS:
        for lambda_ in (0.0, 100.0, 500.0, 800.0):
            decision = policy.decide(seen(3, verified("a", v), lambda_=lambda_))
            keeps = 1 - decision.confidence <= lambda_ * costs[1]
            assert decision.action == ("accept" if keeps else "ask")
            assert decision.candidate == ("a" if keeps else "b")
    assert policy.decide(seen(3, Attempt(candidate="a"))).action == "verify"


def test_by_the_article_s_rule_good_and_poor_answers_are_equally_likely_before():
    outcomes, evaluations = make_tables(n=3)
    policy = Pomdp(mode="article").fit(outcomes, evaluations)
    good = outcomes.quality[:, 1] >= 0.5
    table = score_likelihoods(evaluations.confidence[:, 1], outcomes.quality[:, 1], n_samples=8)
    for k in range(9):
        f_good, f_poor = table[k, good].mean(), table[k, ~good].mean()
        attempts = (verified("a", 1.0), verified("b", k / 8))
        decision = policy.decide(seen(3, *attempts, lambda_=50.0))
        assert decision.confidence == pytest.approx(f_good / (f_good + f_poor))
        assert policy.p_good(seen(3, *attempts), attempts[1]) == decision.confidence


def test_the_share_of_good_answers_moves_the_belief_and_not_the_article_s_rule():
    outcomes, evaluations = make_tables()
    right = np.flatnonzero(outcomes.quality[:, 0] == 1)
    more = np.concatenate([np.arange(len(outcomes)), np.repeat(right, 5)])
    found = {}
    for mode in ("article", "exact"):
        few = Pomdp(mode=mode, bandwidth=0.3).fit(outcomes, evaluations)
        many = Pomdp(mode=mode, bandwidth=0.3).fit(outcomes.take(more), evaluations.take(more))
        half = verified("a", 0.5)
        found[mode] = [policy.p_good(seen(2, half), half) for policy in (few, many)]
    assert found["article"][1] == pytest.approx(found["article"][0], abs=0.01)
    assert found["exact"][1] > found["exact"][0] + 0.15
    unread = verified("a", None)
    policy = Pomdp(mode="article").fit(outcomes, evaluations)
    assert policy.decide(seen(2, unread, lambda_=1.0)).confidence == pytest.approx(0.5)


def test_with_recall_an_earlier_and_better_looking_answer_is_kept():
    tables = make_tables(n=3, n_rows=800)
    trace = (verified("a", 1.0), verified("b", 0.0))
    kept = Pomdp(500.0, recall=True).fit(*tables).decide(seen(3, *trace))
    last = Pomdp(500.0).fit(*tables).decide(seen(3, *trace))
    assert (kept.action, kept.candidate) == ("accept", "a")
    assert (last.action, last.candidate) == ("accept", "b")


def test_with_recall_a_verdict_on_the_last_candidate_chooses_among_the_answers():
    """The verifier is perfect, and the cheap answer was not quite hopeless."""
    rng = np.random.default_rng(0)
    quality = (rng.random((400, 2)) < [0.5, 0.6]) * 1.0
    cost = np.tile([1e-4, 1e-2], (400, 1))
    outcomes = Outcomes([str(i) for i in range(400)], NAMES[:2], quality, cost)
    scores = np.column_stack([np.where(rng.random(400) < 0.3, 0.5, quality[:, 0]), quality[:, 1]])
    said = SelfEvaluations(NAMES[:2], scores, cost * 0.01)
    policy = Pomdp(1.0, recall=True).fit(outcomes, said)
    last = Attempt(candidate="b")
    assert policy.decide(seen(2, verified("a", 0.5), last)).action == "verify"
    for v, kept in ((0.0, "a"), (1.0, "b")):
        decision = policy.decide(seen(2, verified("a", 0.5), verified("b", v)))
        assert (decision.action, decision.candidate) == ("accept", kept)
    silent = Pomdp(1.0, recall=True).fit(
        outcomes, SelfEvaluations(NAMES[:2], np.column_stack([scores[:, 0], [np.nan] * 400]), cost)
    )
    assert silent.decide(seen(2, verified("a", 0.5), last)).action == "accept"


def test_with_recall_all_rows_are_weighted_to_be_as_good_as_predicted():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.1, 0.9, (2000, 3))
    quality = (rng.random((2000, 3)) < chance) * 1.0
    centers = np.array([[0.2, 0.5, 0.8], [0.8, 0.8, 0.3], [0.5, 0.5, 0.5]])
    weights = tilted_weights(chance, quality, centers)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights @ quality, centers, atol=0.04)
    assert weights[2].max() < 1.5 / 2000
    # A candidate that is never right cannot be weighted to be right.
    hopeless = tilted_weights(chance, quality * [1, 1, 0], centers)
    assert np.isfinite(hopeless).all()


def test_with_recall_candidates_are_asked_in_any_order():
    """Predictions say that the dear one is right here; where it is not, the cheap one may be."""
    rng = np.random.default_rng(0)
    quality = (rng.random((600, 2)) < [0.5, 0.8]) * 1.0
    cost = np.tile([4e-3, 5e-3], (600, 1))
    outcomes = Outcomes([str(i) for i in range(600)], NAMES[:2], quality, cost)
    said = SelfEvaluations(NAMES[:2], quality, cost * 0.01)
    after = seen(2, verified("b", 0.0))
    assert Pomdp(20.0).fit(outcomes, said).decide(after).action == "accept"
    decision = Pomdp(20.0, recall=True).fit(outcomes, said).decide(after)
    assert (decision.action, decision.candidate) == ("ask", "a")


def test_a_failed_candidate_is_passed_over_and_is_no_evidence():
    policy = Pomdp(10.0).fit(*make_tables(n=3))
    failed = Attempt(candidate="a", error="TimeoutError: slow")
    after = policy.decide(seen(3, failed))
    assert after.action == "ask"
    assert after.candidate in {"b", "c"}
    assert after.scores["c"]["quality"] == pytest.approx(
        policy.decide(seen(3)).scores["c"]["quality"]
    )
    held = policy.decide(
        seen(
            3,
            verified("a", 0.0),
            Attempt(candidate="b", error="x"),
            Attempt(candidate="c", error="x"),
        )
    )
    assert (held.action, held.candidate) == ("accept", "a")


def test_it_saves_money_at_no_loss_against_always_asking_the_strong_one():
    outcomes, evaluations = make_tables(n_rows=1000)
    train, test = np.arange(500), np.arange(500, 1000)
    policy = Pomdp(20.0).fit(outcomes.take(train), evaluations.take(train))
    done = replay(policy, None, outcomes.take(test), evaluations=evaluations.take(test))
    strong = outcomes.take(test).quality[:, 1].mean()
    assert done.mean_cost_usd < 0.7 * 0.01
    assert done.mean_quality > strong - 0.02
    assert 0.2 < done.shares["a"] < 0.8


def test_predictions_are_the_first_evidence_about_a_query(tmp_path):
    """Two kinds of queries: on one the weak candidate is as good, on the other it is hopeless."""
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.5
    quality = np.column_stack([~hard, np.ones(400)]) * 1.0
    predicted = np.column_stack([np.where(hard, 0.1, 0.9), np.full(400, 0.95)])
    predicted += rng.normal(0, 0.02, (400, 2))
    outcomes = Outcomes(
        [str(i) for i in range(400)], NAMES[:2], quality, np.tile([1e-4, 1e-2], (400, 1))
    )
    silent = SelfEvaluations(NAMES[:2], np.full((400, 2), 0.5), np.full((400, 2), 1e-5))
    policy = Pomdp(20.0, n_groups=2).fit(outcomes, silent, predicted=predicted)
    for each in (policy, Pomdp.load(policy.save(tmp_path / "it"))):
        for weak, expected in ((0.1, "b"), (0.9, "a")):
            two = (Arm("a", quality=weak, cost_usd=1e-4), Arm("b", quality=0.95, cost_usd=1e-2))
            decision = each.decide(Situation("q", two))
            assert decision.candidate == expected
            assert decision.scores["a"]["quality"] == pytest.approx(float(weak > 0.5), abs=0.1)
    blind = policy.decide(seen(2))
    assert blind.scores["a"]["quality"] == pytest.approx(1 - hard.mean(), abs=0.02)
    with pytest.raises(ValueError, match="predicted"):
        Pomdp().fit(outcomes, silent, predicted=predicted[:5])


def test_saved_loaded_and_pickled_it_decides_the_same(tmp_path):
    policy = Pomdp(25.0, likelihood="kde", recall=True).fit(*make_tables(n=3))
    again = [Pomdp.load(policy.save(tmp_path / "it")), pickle.loads(pickle.dumps(policy))]
    for v in OBSERVATIONS:
        for other in again:
            assert other.decide(seen(3, verified("a", v))) == policy.decide(
                seen(3, verified("a", v))
            )


def test_many_threads_get_the_same_decisions():
    policy = Pomdp().fit(*make_tables(n=3))
    cases = [(v, lambda_) for v in OBSERVATIONS for lambda_ in np.linspace(0, 60, 20)]

    def decide(case):
        return policy.decide(seen(3, verified("a", case[0]), lambda_=float(case[1])))

    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(decide, cases))
    assert threaded == [decide(case) for case in cases]


def test_observations_are_binned_to_the_nearest_score_not_floored():
    assert score_index([0.0, 0.5, 0.9, 1.0, np.nan], 10).tolist() == [0, 5, 9, 10, 11]
    assert score_index([0.06, 0.07], 8).tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["rows", "kde", "beta_binomial"])
@pytest.mark.parametrize("scores", [[1.0] * 5, [np.nan] * 5, [0.2, np.nan, 0.9, 0.9, 0.1], [0.5]])
def test_likelihoods_are_probabilities_even_for_constant_missing_and_single_scores(kind, scores):
    good = np.arange(len(scores)) % 2
    table = score_likelihoods(scores, good, n_samples=8, kind=kind)
    assert table.shape == (10, len(scores))
    assert (table > 0).all()
    np.testing.assert_allclose(table.sum(axis=0), 1)


def test_wrong_arguments_are_refused_with_words():
    outcomes, evaluations = make_tables()
    with pytest.raises(ValueError, match="lambda_"):
        Pomdp(-1.0)
    with pytest.raises(ValueError, match="n_samples"):
        Pomdp(n_samples=0)
    with pytest.raises(ValueError, match="needs the mode 'exact'"):
        Pomdp(mode="article", recall=True)
    with pytest.raises(ValueError, match="likelihood"):
        Pomdp(likelihood="magic")
    with pytest.raises(NotFittedError, match="fit"):
        Pomdp().decide(seen(2))
    with pytest.raises(ValueError, match="same"):
        Pomdp().fit(outcomes, evaluations.take([0]))
    with pytest.raises(ValueError, match="must have costs"):
        Pomdp().fit(outcomes, SelfEvaluations(NAMES[:2], evaluations.confidence))
    with pytest.raises(ValueError, match="has no cost for 'a'"):
        Pomdp().fit(
            outcomes, SelfEvaluations(NAMES[:2], evaluations.confidence, np.full((400, 2), np.nan))
        )
    with pytest.raises(ValueError, match="must have the same candidates"):
        Pomdp().fit(outcomes, SelfEvaluations(("x", "y"), evaluations.confidence))
    many = [np.full((202, 1), 1 / 202)] * 4
    with pytest.raises(ValueError, match="smaller `n_samples`"):
        build_beliefs(np.ones((1, 5)), many)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Pomdp().fit(outcomes, evaluations).decide(seen(2, verified("a", 1.5)))


def test_a_damaged_artifact_is_refused(tmp_path):
    folder = Pomdp().fit(*make_tables()).save(tmp_path / "it")
    (folder / "arrays.npz").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="corrupted"):
        Pomdp.load(folder)
