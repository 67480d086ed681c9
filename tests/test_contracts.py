"""What every estimator, policy and verifier promises. A new class adds one line to a list here."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage

from examples.extend import CheapestGoodEnough
from langchain_llm_router import policies as policies_room
from langchain_llm_router.data.artifacts import kind_of
from langchain_llm_router.estimators import (
    Abstaining,
    AddedCandidates,
    BradleyTerry,
    Clusters,
    Constant,
    DecisionModelEstimator,
    Ensemble,
    Heuristics,
    Linear,
    MatrixFactorization,
    NearestNeighbors,
    QualityEstimator,
    Random,
)
from langchain_llm_router.estimators import estimator as estimator_room
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.policies import (
    Always,
    AnswerPool,
    AutoMix,
    BudgetedRouting,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Policy,
    Pomdp,
    RandomMix,
    SafeArm,
    Threshold,
    Unsure,
    Utility,
)
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Arm, Attempt, Candidate, Decision, Situation
from langchain_llm_router.types.errors import ArtifactError, NotFittedError
from langchain_llm_router.types.options import RoutingOptions
from langchain_llm_router.verification import (
    Agreement,
    AnswerGroups,
    AnswerLogprob,
    AnswerScorer,
    ByCandidate,
    Case,
    Checks,
    DecisionVerifier,
    Evaluation,
    Reply,
    SelfEvaluator,
    SelfReported,
    TokenProbability,
    Verdict,
    Verifier,
    compiles,
    finished,
)
from tests.support.fakes import StatingModel, make_evaluations, make_outcomes
from tests.support.networks import tiny
from tests.support.paths import ROOT
from tests.support.pools import make_pool

ESTIMATORS: dict[str, Callable[[], QualityEstimator]] = {
    # What it predicts is finite as long as it does not abstain, which p < 0 never makes it.
    "Abstaining": lambda: Abstaining(NearestNeighbors(n_neighbors=5), p_query=0.0),
    "AddedCandidates": lambda: AddedCandidates(NearestNeighbors(n_neighbors=5)),
    "Constant": Constant,
    "DecisionModelEstimator": lambda: DecisionModelEstimator(StatingModel()),
    "Random": Random,
    "Heuristics": Heuristics,
    "NearestNeighbors": lambda: NearestNeighbors(n_neighbors=5),
    "BradleyTerry": BradleyTerry,
    "BradleyTerryTopK": lambda: BradleyTerry(gamma="loo", top_k=5, n_tiers=2),
    "Linear": lambda: Linear(n_surface=32),
    "LinearLogit": lambda: Linear(link="logit", n_surface=32),
    "Clusters": lambda: Clusters(n_clusters=4),
    "Ensemble": lambda: Ensemble([Linear(n_surface=32), NearestNeighbors(n_neighbors=5)]),
    "MatrixFactorization": lambda: MatrixFactorization(n_factors=8, n_epochs=2),
    "EncoderClassifier": lambda: tiny("EncoderClassifier"),
    "ModelScorer": lambda: tiny("ModelScorer"),
    "CausalLMClassifier": lambda: tiny("CausalLMClassifier", max_length=128),
}


def fitted(policy):
    """A cascade's policy, fitted on answers and what a verifier said of them."""
    outcomes = make_outcomes(n=120)
    return policy.fit(outcomes, make_evaluations(outcomes))


def fitted_pair(policy):
    """A policy for two, fitted on the ends of the pool."""
    outcomes = make_outcomes(n=120, candidates=("small", "large"))
    return policy.fit(outcomes, make_evaluations(outcomes))


POLICIES: dict[str, Callable[[], Policy]] = {
    "Always": lambda: Always("medium"),
    "CheapestGoodEnough": lambda: CheapestGoodEnough(bar=0.5),
    "RandomMix": lambda: RandomMix({"small": 0.5, "large": 0.5}),
    "SafeArm": lambda: SafeArm(Utility(cost=10.0), safe="large"),
    "SafeArm (cascade)": lambda: SafeArm(ConfidenceThreshold(threshold=0.7), safe="large"),
    "Threshold": lambda: Threshold(0.6),
    "Utility": lambda: Utility(cost=10.0),
    "ConfidenceThreshold": lambda: ConfidenceThreshold(threshold=0.7),
    "AnswerPool": lambda: AnswerPool(20.0).fit(*make_pool(120, ("small", "medium", "large"))),
    "AnswerPool (prices)": lambda: AnswerPool.from_prices(
        {"small": 0.001, "medium": 0.01, "large": 0.1}
    ),
    "AutoMix": lambda: fitted_pair(AutoMix()),
    "BudgetedRouting": lambda: BudgetedRouting(0.02).fit(
        [[0.4, 0.6, 0.9], [0.8, 0.85, 0.9]], [0.001, 0.01, 0.1]
    ),
    "CascadeRouting": lambda: fitted(CascadeRouting(lambda_=5.0)),
    "CascadeRouting (budget)": lambda: CascadeRouting().fit(
        make_outcomes(n=120), make_evaluations(make_outcomes(n=120)), max_cost_usd=0.004
    ),
    "CascadeRouting (chain)": lambda: fitted(CascadeRouting(lambda_=5.0, chain=True)),
    "FrugalCascade": lambda: FrugalCascade(n_grid=10).fit(
        make_outcomes(), make_evaluations(make_outcomes()), max_cost_usd=0.005
    ),
    "Pomdp": lambda: fitted(Pomdp(lambda_=20.0)),
    "Pomdp (article)": lambda: fitted(Pomdp(lambda_=20.0, mode="article")),
    "Unsure": lambda: Unsure(ConfidenceThreshold(threshold=0.7), 0.3, verify_last=True),
    "Unsure (Pomdp)": lambda: Unsure(fitted(Pomdp(lambda_=20.0)), 0.3, do="hold", cost_usd=0.001),
}


def answer_scorer():
    """A scorer fitted on a few answers."""
    questions = [f"question {i % 5}" for i in range(20)]
    return AnswerScorer().fit(questions, ["yes", "perhaps"] * 10, [1.0, 0.0] * 10)


VERIFIERS: dict[str, Callable[[], Verifier]] = {
    "SelfEvaluator": lambda: SelfEvaluator(4),
    "SelfEvaluator (adaptive)": lambda: SelfEvaluator(4, adaptive=True),
    "Agreement": lambda: Agreement([Candidate("a"), Candidate("b")], n_resamples=1),
    "AnswerGroups": AnswerGroups,
    "AnswerGroups (judge)": lambda: AnswerGroups(judge=Candidate("judge"), max_chars=1),
    "TokenProbability": TokenProbability,
    "AnswerLogprob": AnswerLogprob,
    "AnswerScorer": answer_scorer,
    "SelfReported": SelfReported,
    "SelfReported (options)": lambda: SelfReported(("A", "B")),
    "Checks": lambda: Checks([finished, compiles]),
    "DecisionVerifier": lambda: DecisionVerifier(StatingModel()),
    "ByCandidate": lambda: ByCandidate({"small": SelfEvaluator(2)}),
}

QUERIES = ["prove hard theorem 7", "add easy numbers 1", "", "nie gesehen ∀"]

# Made and fitted once for all tests that only look: nothing here changes what it looks at.
policy_of = cache(lambda name: POLICIES[name]())
verifier_of = cache(lambda name: VERIFIERS[name]())
estimator_of = cache(lambda name: ESTIMATORS[name]().fit(make_outcomes()))

estimators = pytest.mark.parametrize("name", ESTIMATORS)
verifiers = pytest.mark.parametrize("name", VERIFIERS)
policies = pytest.mark.parametrize("name", POLICIES)


@estimators
def test_predicting_before_fit_says_what_to_do(name):
    with pytest.raises(NotFittedError, match="fit"):
        ESTIMATORS[name]().predict(QUERIES)


@estimators
def test_predictions_are_finite_qualities_of_the_right_shape(name):
    predicted = estimator_of(name).predict(QUERIES)
    assert predicted.shape == (len(QUERIES), 3)
    assert np.isfinite(predicted).all()
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert estimator_of(name).predict([]).shape == (0, 3)


@estimators
def test_rows_follow_the_queries(name):
    fitted = estimator_of(name)
    forward, backward = fitted.predict(QUERIES), fitted.predict(QUERIES[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


@estimators
def test_many_queries_are_predicted_in_parts(name, monkeypatch):
    whole = estimator_of(name).predict(QUERIES)
    monkeypatch.setattr(estimator_room, "_PREDICTED_AT_ONCE", 2)
    np.testing.assert_allclose(estimator_of(name).predict(QUERIES), whole, atol=1e-4)


@estimators
def test_refitting_forgets(name):
    twice = ESTIMATORS[name]().fit(make_outcomes(seed=1)).fit(make_outcomes()).predict(QUERIES)
    np.testing.assert_allclose(twice, estimator_of(name).predict(QUERIES), atol=1e-6)


@estimators
def test_two_candidates_are_enough_and_one_row_does_not_crash(name):
    make, outcomes = ESTIMATORS[name], make_outcomes(n=20, candidates=("weak", "strong"))
    assert make().fit(outcomes).predict(QUERIES).shape == (len(QUERIES), 2)
    assert make().fit(outcomes.take([0])).predict(QUERIES).shape == (len(QUERIES), 2)


@estimators
def test_a_candidate_is_added_from_a_few_answers(name, tmp_path: Path):
    table = make_outcomes()
    fitted = ESTIMATORS[name]().fit(table.select(["small", "large"]))
    before = fitted.predict(QUERIES)
    added = fitted.add_candidate("medium", table.take(range(30)))
    assert added.fitted_candidates == ("small", "large", "medium")
    predicted = added.predict(QUERIES)
    np.testing.assert_allclose(predicted[:, :2], before, atol=1e-6)
    assert np.isfinite(predicted).all()
    loaded = type(added).load(added.save(tmp_path / "it"))
    if isinstance(fitted, DecisionModelEstimator):
        loaded.estimator_.model = fitted.model
    np.testing.assert_allclose(loaded.predict(QUERIES), predicted, atol=1e-6)


@estimators
def test_a_single_text_instead_of_a_list_is_refused(name):
    with pytest.raises(TypeError, match="sequence of"):
        estimator_of(name).predict("one text")


_READER = """
import json, sys
from langchain_llm_router import estimators
for line in sys.stdin:
    kind, folder, queries = json.loads(line)
    predicted = getattr(estimators, kind).load(folder).predict(queries)
    print(json.dumps(predicted.tolist()), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere():
    """Loads and predicts in another process, which knows of the fitted one its folder alone."""
    with subprocess.Popen(
        [sys.executable, "-c", _READER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip

        def predict(kind: str, folder: Path) -> list[list[float]]:
            process.stdin.write(json.dumps([kind, str(folder), QUERIES]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield predict


@estimators
def test_saved_and_loaded_in_another_process_predicts_the_same(name, elsewhere, tmp_path: Path):
    fitted = estimator_of(name)
    if isinstance(fitted, DecisionModelEstimator):
        pytest.skip("its model is not saved: tests/estimators/test_decision_estimator.py loads it")
    found = elsewhere(type(fitted).__name__, fitted.save(tmp_path / "it"))
    np.testing.assert_allclose(found, fitted.predict(QUERIES), atol=1e-6)


@estimators
def test_an_artifact_holds_no_pickle_and_refuses_corruption(name, tmp_path: Path):
    folder = estimator_of(name).save(tmp_path / "it")
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} <= {".json", ".npz", ".safetensors"}
    arrays = folder / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-3] + b"???")
    with pytest.raises(ArtifactError, match="corrupted"):
        type(estimator_of(name)).load(folder)


@estimators
def test_fitted_estimators_travel_to_worker_processes(name):
    fitted = estimator_of(name)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(again.predict(QUERIES), fitted.predict(QUERIES), atol=1e-6)


def situation(*attempts: Attempt, query: str = "q") -> Situation:
    arms = (
        Arm("small", quality=0.4, cost_usd=0.001),
        Arm("medium", quality=0.6, cost_usd=0.01),
        Arm("large", quality=0.9, cost_usd=0.1),
    )
    return Situation(query, arms, attempts)


SITUATIONS = [
    situation(),
    situation(Attempt(candidate="small", cost_usd=0.001)),
    situation(Attempt(candidate="small", verified=True, confidence=0.2)),
    situation(Attempt(candidate="small", verified=True, confidence=None)),
    situation(Attempt(candidate="medium", error="TimeoutError: slow")),
]


@policies
def test_a_policy_is_pure_and_names_only_given_candidates(name):
    one, other = policy_of(name), POLICIES[name]()
    for seen in SITUATIONS:
        first, second = one.decide(seen), other.decide(seen)
        assert first == second == one.decide(seen), seen
        assert first.candidate in seen.names, seen
        assert first.policy == type(one).__name__
        assert first.reason, seen
        assert 0 < first.propensity <= 1, seen


@policies
@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, None])
def test_a_policy_accepts_within_twice_the_candidates(name, confidence):
    def answer(step: Decision) -> Attempt:
        attempt = Attempt(candidate=step.candidate, cost_usd=0.001)
        if step.action == "verify":
            attempt.update(verified=True, confidence=confidence)
        return attempt

    assert isinstance(drive(policy_of(name), situation(), answer), Decision)


@policies
def test_a_policy_survives_every_failure(name):
    def fail(step: Decision) -> Attempt:
        return Attempt(candidate=step.candidate, error="RuntimeError: down")

    assert drive(policy_of(name), situation(), fail) is None


@policies
def test_a_policy_that_verifies_may_abstain_and_any_other_is_refused(name):
    policy = policy_of(name)
    if not policy.verifies:
        with pytest.raises(ValueError, match="must verify"):
            Unsure(policy, 0.5)
        return
    if policy.exit_terms is not None:
        with pytest.raises(ValueError, match="is or holds an `Unsure` already"):
            Unsure(policy, 0.5)
        return
    for seen in SITUATIONS:
        plain = policy.decide(seen)
        never = Unsure(policy, 0.0).decide(seen)
        assert replace(never, policy=plain.policy) == plain

    def poor(step: Decision) -> Attempt:
        attempt = Attempt(candidate=step.candidate, cost_usd=0.001)
        if step.action == "verify":
            attempt.update(verified=True, confidence=0.0)
        return attempt

    ended = drive(Unsure(policy, 1.0, verify_last=True), situation(), poor)
    assert (ended.action, ended.ending) == ("abstain", "refuse")


def decisions(policy: Policy) -> list[Decision]:
    return [policy.decide(seen) for seen in SITUATIONS]


@policies
def test_a_policy_travels_to_worker_processes(name):
    policy = policy_of(name)
    assert decisions(pickle.loads(pickle.dumps(policy))) == decisions(policy)


@policies
def test_a_saved_policy_decides_the_same_loaded_by_its_own_class_or_by_any(name, tmp_path: Path):
    policy = policy_of(name)
    folder = policy.save(tmp_path / "it")
    for loaded in (Policy.load(folder), type(policy).load(folder)):
        assert type(loaded) is type(policy)
        assert loaded.knob == policy.knob
        assert loaded.named_candidates == policy.named_candidates
        assert decisions(loaded) == decisions(policy)


@policies
def test_a_saved_policy_is_found_in_a_process_that_has_not_imported_its_file(name):
    kind = kind_of(type(policy_of(name)))
    elsewhere = ":" in kind
    assert elsewhere or kind in policies_room.__all__, f"name {kind} in `policies/__init__.py`"


@policies
def test_a_policy_s_artifact_holds_no_pickle_and_refuses_corruption(name, tmp_path: Path):
    folder = policy_of(name).save(tmp_path / "it")
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {".json", ".npz"}
    arrays = folder / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-3] + b"???")
    with pytest.raises(ArtifactError, match="corrupted"):
        Policy.load(folder)


@policies
def test_a_knob_that_is_turned_to_where_it_stands_changes_nothing(name):
    policy = policy_of(name)
    knob = policy.knob
    if knob is None:
        with pytest.raises(ValueError, match="has no knob"):
            policy.with_knob(0.5)
        return
    assert knob.low <= knob.value
    assert knob.high is None or knob.value <= knob.high
    assert knob.more
    same = policy.with_knob(knob.value)
    assert (type(same), same.knob) == (type(policy), knob)
    assert decisions(same) == decisions(policy)


@policies
def test_every_setting_worth_trying_can_be_set_and_leaves_the_policy_as_it_was(name):
    policy = policy_of(name)
    if policy.knob is None:
        pytest.skip("it has no knob")
    before = decisions(policy)
    values = policy.knob_values([0.001, 0.01, 0.1], [[0.2, 0.5, 0.9]] * 3)
    assert values == sorted(set(values))
    assert values[0] == policy.knob.low
    for value in values:
        turned = policy.with_knob(value)
        assert turned.knob == replace(policy.knob, value=value)
        assert turned.decide(situation()).candidate in situation().names
    assert decisions(policy) == before


OPTIONS = [{"lambda": 3.0}, {"threshold": 0.3}, {"lambda": 0.0, "threshold": 0.9}, {"weights": {
    "cost": 7.0, "quality": 0.5}}]  # fmt: skip


@policies
def test_options_do_what_the_policy_that_they_make_does_without_them(name):
    policy = policy_of(name)
    for given in OPTIONS:
        options = RoutingOptions.parse(given)
        settled = policy.with_options(options)
        for seen in SITUATIONS:
            assert policy.decide(replace(seen, options=options)) == settled.decide(seen), given


@policies
def test_a_policy_that_a_saved_router_brings_back_decides_the_same(name, tmp_path: Path):
    policy = policy_of(name)
    SavedRouter(situation().names, policy).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it").policy
    assert type(loaded) is type(policy)
    assert [loaded.decide(seen) for seen in SITUATIONS] == [policy.decide(s) for s in SITUATIONS]


def drive(policy: Policy, seen: Situation, world: Callable[[Decision], Attempt]) -> Decision | None:
    loop = Loop(policy, begin(seen.query, seen.arms))
    while (step := loop.next()) is not None and not step.ends:
        loop.saw(world(step))
    return step


LOGPROBS = [{"token": "Correct", "logprob": -0.1, "top_logprobs": []}]
SAID = AIMessage("Correct", response_metadata={"logprobs": {"content": LOGPROBS}})

REPLIES = {
    "good": Reply(SAID, Verdict(rationale="because", verdict="Correct")),
    "poor": Reply(AIMessage("no"), Verdict(rationale="because", verdict="Incorrect")),
    "failed": Reply(error="TimeoutError: slow"),
    "unreadable": Reply(AIMessage("?"), None, error="ValueError: not JSON"),
}

ANSWERS = [AIMessage("yes"), AIMessage(""), SAID, AIMessage([{"type": "text", "text": "in parts"}])]


def verify(verifier: Verifier, answer: AIMessage, reply: Reply, **kwargs) -> Evaluation:
    """Drive a verifier that gets the same reply to every call."""
    case = Case([HumanMessage("question 1")], answer, Candidate("small"), **kwargs)
    steps = verifier.evaluate(case)
    try:
        calls = next(steps)
        while True:
            calls = steps.send([reply] * len(calls))
    except StopIteration as stop:
        return stop.value


@verifiers
def test_a_verifier_that_reads_along_scores_what_has_come_of_an_answer(name):
    verifier = verifier_of(name)
    scores = [verifier.score_so_far(answer) for answer in ANSWERS]
    assert all(score is None or 0 <= score <= 1 for score in scores)
    assert verifier.reads_along == any(score is not None for score in scores)


@verifiers
def test_a_verifier_ends_in_a_score_or_in_none(name):
    one, other = verifier_of(name), VERIFIERS[name]()
    for answer, (kind, reply) in product(ANSWERS, REPLIES.items()):
        first, second = verify(one, answer, reply), verify(other, answer, reply)
        assert first == second, (answer, kind)
        assert first.confidence is None or 0 <= first.confidence <= 1, (answer, kind)
        assert set(first.verdicts) <= {True, False, None}, (answer, kind)


@verifiers
def test_a_verifier_whose_calls_all_fail_has_no_verdict_rather_than_a_bad_one(name):
    verifier = verifier_of(name)
    case = Case([HumanMessage("question 1")], AIMessage("yes"), Candidate("small"))
    asks = len(next(verifier.evaluate(case), ())) > 0
    evaluation = verify(verifier, AIMessage("yes"), REPLIES["failed"])
    if asks:
        assert evaluation.confidence is None


@verifiers
def test_a_verifier_takes_the_router_s_next_step_as_a_hint_only(name):
    plain = verify(verifier_of(name), SAID, REPLIES["good"])
    hinted = verify(
        verifier_of(name), SAID, REPLIES["good"], next_step=lambda found: found.confidence
    )
    assert hinted.confidence == plain.confidence


@verifiers
def test_a_verifier_says_what_it_needs_of_answers_as_plain_data(name):
    assert json.dumps(dict(verifier_of(name).answer_kwargs("small")))


@verifiers
def test_a_verifier_travels_to_worker_processes(name):
    verifier = verifier_of(name)
    expected = verify(verifier, SAID, REPLIES["good"])
    assert verify(pickle.loads(pickle.dumps(verifier)), SAID, REPLIES["good"]) == expected
