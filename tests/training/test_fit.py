"""From data to a router in one call, saved, reported and brought to life."""

import json
import re

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, SelfEvaluator, route_of
from langchain_llm_router.apps.cli.fit_report import saved_line, write_report
from langchain_llm_router.collect import Collected
from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import Heuristics, Linear, NearestNeighbors
from langchain_llm_router.evaluation import Exam
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    Policy,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import fit_router
from langchain_llm_router.training.contenders import (
    CHEAP_ESTIMATORS,
    HEURISTICS,
    Tables,
    contenders,
)
from langchain_llm_router.types.errors import ArtifactError
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes
from tests.support.forks import run_forked

NAMES = ("small", "medium", "large")
ONE = {"near": NearestNeighbors}


def oracle_evaluations(outcomes, seed=0, trust=0.9):
    """A verifier that mostly knows."""
    rng = np.random.default_rng(seed)
    right = rng.random(outcomes.quality.shape) < trust
    scores = np.where(right, outcomes.quality, 1 - outcomes.quality)
    scores = np.clip(scores + rng.normal(0, 0.05, scores.shape), 0, 1)
    return SelfEvaluations(outcomes.candidates, scores, np.zeros_like(scores))


def half_easy(n, *, signal=True, seed=0):
    """Questions of which half are easy for the small model, whose wording may tell so."""
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < 0.5
    large = (rng.random(n) < 0.9).astype(float)
    small = np.where(easy, large, np.where(rng.random(n) < 0.6, 0.0, large))
    words = np.where(easy & signal, "add the numbers", "prove the theorem")
    queries = [f"{text} {rng.random():.12f}" for text in words]
    cost = np.tile([1e-4, 2e-3], (n, 1)) * rng.lognormal(0, 0.3, (n, 2))
    return Outcomes(queries, ("small", "large"), np.stack([small, large], axis=1), cost)


@pytest.fixture(scope="module")
def outcomes():
    return make_outcomes(n=300)


@pytest.fixture(scope="module")
def kept():
    return fit_router(half_easy(500), target="quality >= best - 3 points", estimators=ONE)


@pytest.fixture(scope="module")
def refused():
    table = half_easy(300, signal=False)
    return fit_router(table, target="quality >= best - 1 point", estimators=ONE)


def test_wording_that_tells_makes_a_router_that_keeps_its_target(kept):
    assert kept.worth_it
    assert kept.verdict.outcome == "kept"
    assert kept.router is kept.winner
    assert isinstance(kept.router.policy, Utility)
    assert kept.saved.low > 0.3
    assert kept.gain.low > -0.03
    assert saved_line(kept) == "Saved: the router utility by near."


def test_a_verifier_that_knows_makes_a_cascade_win():
    table = half_easy(400, signal=False)
    fitted = fit_router(
        table, {"self": oracle_evaluations(table, trust=0.99)}, estimators=ONE,
        target="quality >= best - 3 points",
    )  # fmt: skip
    assert fitted.worth_it
    assert fitted.router.verifier == "self"


def test_without_a_signal_the_best_single_model_is_saved_unless_asked_otherwise(refused):
    assert not refused.worth_it
    assert refused.router.candidates == (refused.verdict.use,)
    assert isinstance(refused.router.policy, Always)
    assert "alone. `--even-if-worse` saves the router" in saved_line(refused)
    table = half_easy(300, signal=False)
    forced = fit_router(
        table, target="quality >= best - 1 point", estimators=ONE, even_if_worse=True
    )
    assert forced.verdict == refused.verdict
    assert forced.router is forced.winner
    assert "all the same, as asked" in saved_line(forced)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_a_handful_of_questions_proves_nothing(n):
    table = half_easy(n)
    fitted = fit_router(table, {"self": oracle_evaluations(table)}, estimators=ONE)
    assert fitted.verdict.outcome != "kept"
    assert len(fitted.router.candidates) == 1


def test_candidates_that_do_not_differ_are_not_worth_routing():
    rng = np.random.default_rng(1)
    quality = np.repeat((rng.random((200, 1)) < 0.7).astype(float), 2, axis=1)
    table = Outcomes([f"q{i}" for i in range(200)], ("a", "b"), quality, [[1e-3, 1e-2]] * 200)
    for goal in ({"lambda_": 1.0}, {}):
        fitted = fit_router(table, **goal, estimators=ONE)
        assert not fitted.worth_it
        assert fitted.router.candidates == ("a",)


def test_a_router_by_lambda_has_more_utility_than_every_model():
    table = half_easy(500)
    fitted = fit_router(table, lambda_=100.0, estimators=ONE)
    assert fitted.worth_it
    utility = fitted.done.quality - 100 * fitted.done.cost_usd
    assert utility.mean() > (table.quality - 100 * table.cost_usd).mean(axis=0).max()


def test_all_that_apply_compete(outcomes):
    evaluations = {"self": oracle_evaluations(outcomes), "other": oracle_evaluations(outcomes, 1)}
    named = [c.name for c in contenders(Tables(outcomes, evaluations, CHEAP_ESTIMATORS))]
    assert len(set(named)) == len(named)
    for estimator in (HEURISTICS, "nearest neighbors", "clusters", "linear", "Bradley-Terry"):
        assert f"utility by {estimator}" in named
    for verifier in evaluations:
        assert f"FrugalGPT on {verifier}" in named
        assert f"cascade routing on {verifier}: small → medium → large" in named
        for kind in ("threshold", "POMDP"):
            for chain in ("small → medium → large", "small → large", "medium → large"):
                assert f"{kind} on {verifier}: {chain}" in named


def pooled(n=400, seed=0):
    """Answers of three models, of which wrong ones seldom agree, and the groups of equal ones."""
    rng = np.random.default_rng(seed)
    hard = rng.random((n, 1)) < 0.4
    right = rng.random((n, 3)) < np.where(hard, [0.3, 0.4, 0.9], [0.97, 0.97, 0.97])
    groups = np.where(right, 0, 1 + rng.integers(0, 9, (n, 3)))
    cost = np.tile([0.0001, 0.0002, 0.01], (n, 1))
    outcomes = Outcomes([f"question {i}" for i in range(n)], NAMES, right.astype(float), cost)
    nothing = np.full(cost.shape, np.nan)
    equal = SelfEvaluations(NAMES, nothing, 0 * cost, answer_groups=groups)
    return outcomes, {"answer_groups": equal}


def test_where_equal_answers_are_known_a_pool_of_them_competes_and_wins_if_they_tell(tmp_path):
    outcomes, equal = pooled()
    estimators = {"linear": Linear}
    target = "quality >= best - 5 points"
    fitted = fit_router(outcomes, equal, target=target, estimators=estimators)
    names = [standing.name for standing in fitted.standings]
    assert names[0] == "answer pool on answer_groups"
    assert "answer pool on answer_groups, query read by linear" in names
    assert (fitted.verdict.outcome, fitted.router.verifier) == ("kept", "answer_groups")
    loaded = SavedRouter.load(fitted.save(tmp_path / "router"))
    fresh, groups = pooled(seed=1)
    done = [Exam.of(it, fresh, groups, seen=True).replay() for it in (fitted.router, loaded)]
    assert done[0].accepted.tolist() == done[1].accepted.tolist()
    assert done[0].mean_quality > 0.9


def test_a_pool_of_two_does_not_compete(outcomes):
    pair, equal = pooled()[0].select(NAMES[:2]), pooled()[1]["answer_groups"].select(NAMES[:2])
    named = [c.name for c in contenders(Tables(pair, {"answer_groups": equal}, ONE))]
    assert not any("answer pool" in name for name in named)


def test_every_contender_stands_in_the_standings_the_winner_first(kept):
    names = {c.name for c in contenders(Tables(kept.outcomes, {}, ONE))}
    assert kept.left_out == {}
    assert {s.name for s in kept.standings} == names
    scores = [standing.score for standing in kept.standings]
    assert scores == sorted(scores, reverse=True)


def test_a_verifier_of_unknown_cost_does_not_apply_and_the_rest_competes(outcomes):
    known = oracle_evaluations(outcomes)
    unpriced = SelfEvaluations(known.candidates, known.confidence)
    fitted = fit_router(outcomes, {"self": unpriced}, estimators=ONE)
    assert [s.name for s in fitted.standings] == ["utility by near"]
    assert any("cost" in why for why in fitted.left_out.values())


def test_every_row_counts_in_the_verdict_and_had_a_part_in_the_router(kept):
    assert kept.verdict.n_rows == len(kept.outcomes) == 500
    assert kept.winner.knows(kept.outcomes.queries).all()
    assert len(kept.done.quality) == 500


def test_of_many_questions_some_are_compared_on_and_all_are_fitted_on(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("langchain_llm_router.training.fit._MOST_QUERIES", 200)
    table = half_easy(500)
    twice = table.take([*range(500), *range(500)])
    fitted = fit_router(twice, target="quality >= best - 10 points", estimators=ONE)
    assert fitted.worth_it
    assert fitted.n_rows == 1000
    assert len(fitted.outcomes) == len(fitted.done.quality) == 400
    assert fitted.verdict.n_rows == len(set(fitted.outcomes.queries)) == 200
    assert fitted.winner.estimator.memory_.n_rows_ == 1000
    assert fitted.winner.knows(table.queries).all()
    costs = dict(zip(table.candidates, table.mean_cost_usd, strict=True))
    assert fitted.winner.expected_cost_usd == pytest.approx(costs)
    assert "On 400 questions drawn from 1,000, each" in write_report(fitted, tmp_path).read_text()


def test_waiting_is_that_on_the_questions_compared_on(monkeypatch):
    monkeypatch.setattr("langchain_llm_router.training.fit._MOST_QUERIES", 200)
    table = half_easy(400)
    seconds = np.random.default_rng(0).exponential(size=(400, 2))
    nothing = np.full((400, 2), np.nan)
    numbers = (seconds, seconds / 2, nothing, nothing, nothing)
    collected = Collected(tuple(table.queries), table, {}, [{}] * 400, *numbers, None, {})
    fitted = fit_router(collected, target="quality >= best - 10 points", estimators=ONE)
    used = [table.queries.index(query) for query in fitted.outcomes.queries]
    alone = seconds[used, table.candidates.index(fitted.single)]
    assert fitted.latency.n_rows == len(used) == 200
    assert fitted.latency.whole_alone.median_s == pytest.approx(np.median(alone))
    chosen = seconds[used, fitted.done.accepted]
    assert fitted.latency.whole.median_s == pytest.approx(np.median(chosen))


def test_several_targets_must_be_kept_at_once():
    both = "quality >= best - 3 points and cost <= 70 % of large"
    fitted = fit_router(half_easy(600), target=both, estimators=ONE)
    assert fitted.worth_it
    assert fitted.done.cost_usd.mean() <= 0.7 * fitted.outcomes.mean_cost_usd[1]
    impossible = "quality >= best - 3 points and cost <= 10 % of large"
    assert not fit_router(half_easy(600), target=impossible, estimators=ONE).worth_it


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "as good as it gets"}, "must have a form such as"),
        ({"target": "at least 99 % of huge"}, "names 'huge', but the candidates are"),
        ({"confidence": 0.3}, r"\(0.5, 1\)"),
        ({"target": "quality >= 0.9", "lambda_": 1.0}, "exclude each other"),
        ({"target": "strong share = 0.3"}, "no data can prove"),
        ({"lambda_": -1.0}, "lambda_"),
        ({"n_folds": 1}, "n_folds"),
        ({"target": "p95 latency <= 2 s"}, "needs latencies"),
    ],
)
def test_senseless_goals_are_refused(outcomes, given, words):
    with pytest.raises(ValueError, match=words):
        fit_router(outcomes, estimators=ONE, **given)


def test_a_target_that_no_contender_meets_is_not_kept(outcomes):
    fitted = fit_router(outcomes, target="quality >= 1", estimators=ONE)
    assert (fitted.verdict.outcome, fitted.verdict.use) == ("not_kept", "large")


def test_unknown_prices_and_too_few_rows_are_refused(outcomes):
    with pytest.raises(ValueError, match="add prices"):
        fit_router(Outcomes(outcomes.queries, NAMES, outcomes.quality))
    with pytest.raises(ValueError, match="at least 2 different"):
        fit_router(outcomes.take([0]))
    with pytest.raises(ValueError, match="there must be two candidates"):
        fit_router(outcomes.select(["small"]))


def test_the_saved_folder_holds_the_verdict(kept, tmp_path):
    saved = json.loads((kept.save(tmp_path / "router") / "verdict.json").read_text())
    assert saved["verdict"] == "kept"
    assert saved["sentence"] == kept.verdict.sentence


def test_the_report_begins_with_the_verdict(kept, refused, tmp_path):
    pytest.importorskip("matplotlib")
    report = write_report(kept, tmp_path / "router", notes="3 rows were left out.").read_text()
    assert report.startswith(f"# Fitted router\n\n**The target is kept.** {kept.verdict.sentence}")
    assert "3 rows were left out." in report
    assert "large alone" in report
    for name in ("cost_quality", "contest", "shares"):
        assert f"({name}.png)" in report
        assert (tmp_path / "router" / f"{name}.png").stat().st_size > 10_000
    report = write_report(refused, tmp_path / "other").read_text()
    assert f"use `{refused.verdict.use}` alone" in report.splitlines()[2]


def test_the_report_shows_the_baseline_by_rules_however_far_down_it_stands(tmp_path):
    pytest.importorskip("matplotlib")
    kinds = {f"near {i}": lambda i=i: NearestNeighbors(n_neighbors=i) for i in range(3, 18)}
    fitted = fit_router(
        half_easy(120), target="quality >= 0.5", estimators={**kinds, HEURISTICS: Heuristics}
    )
    report = write_report(fitted, tmp_path).read_text()
    assert f"| utility by {HEURISTICS} |" in report
    assert report.count("| utility by near") < len(kinds)


def test_the_block_of_the_report_runs_as_pasted(kept, tmp_path):
    pytest.importorskip("matplotlib")
    folder = kept.save(tmp_path / "router")
    block = re.search(r"```python\n(.*?)```", write_report(kept, folder).read_text(), re.DOTALL)[1]
    assert "..." not in block
    code = block.replace("=provider:model", "=openai:gpt-4o-mini").rsplit("print(", 1)[0]
    code += "print(router.route('add the numbers 1').candidate)"
    done = run_forked(code, cwd=tmp_path)
    assert done.stdout.strip() in ("small", "large"), done.stderr


def test_the_saved_router_decides_as_the_fitted_one(tmp_path):
    table = half_easy(400, signal=False)
    fitted = fit_router(
        table, {"self": oracle_evaluations(table, trust=0.99)}, estimators=ONE,
        target="quality >= best - 3 points",
    )  # fmt: skip
    folder = fitted.save(tmp_path / "router")
    loaded = SavedRouter.load(folder)
    assert loaded.candidates == fitted.router.candidates
    assert loaded.expected_cost_usd == fitted.router.expected_cost_usd
    small = JudgeModel("draft", verdicts=["yes"])
    models = {"small": small, "medium": ScriptedModel("m"), "large": ScriptedModel("l")}
    router = ChatLLMRouter.load(
        folder,
        candidates=[Candidate(name, model) for name, model in models.items()],
        verifier={"self": SelfEvaluator(n_samples=2), "other": SelfEvaluator(1)},
    )
    answer = router.invoke("add easy numbers 1")
    assert route_of(answer)["policy"] == type(fitted.router.policy).__name__
    with pytest.raises(ValueError, match="fitted with the verifier 'self'"):
        ChatLLMRouter.load(folder, candidates=router.candidates)
    with pytest.raises(ValueError, match="which the router was fitted with"):
        ChatLLMRouter.load(folder, candidates=[], verifier=SelfEvaluator(1))


@pytest.mark.parametrize(
    "policy",
    [
        Always("small"),
        Utility(cost=3.0),
        ConfidenceThreshold(threshold=0.25),
        ConfidenceThreshold(KernelDensity().fit([0.1, 0.9, 0.8], [False, True, True])),
        ConfidenceThreshold(
            {"small": KernelDensity().fit([0.1, 0.9, 0.8], [False, True, True])}, lambda_=2.0
        ),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_every_policy_that_can_win_survives_saving(policy, tmp_path):
    SavedRouter(NAMES, policy).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it").policy
    if getattr(policy, "observation", None) is None:
        assert loaded == policy
        return
    model = policy.observation
    again = loaded.observation
    if isinstance(model, dict):
        model, again = model["small"], again["small"]
    assert again.p_good(0.7) == model.p_good(0.7)
    assert loaded.lambda_ == policy.lambda_


def test_the_estimator_travels_along(outcomes, tmp_path):
    estimator = NearestNeighbors(n_neighbors=5).fit(outcomes)
    SavedRouter(NAMES, Utility(), estimator).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it").estimator
    queries = list(outcomes.queries[:5])
    np.testing.assert_allclose(loaded.predict(queries), estimator.predict(queries))


def test_progress_names_every_contender_and_reaches_the_end(outcomes):
    told = []
    fitted = fit_router(outcomes, estimators=ONE, watch=lambda *step: told.append(step))
    names, done, total = zip(*told, strict=True)
    assert set(names[:-2]) == {standing.name for standing in fitted.standings}
    assert names[-1] == f"fitting {fitted.standings[0].name} on all rows"
    assert list(done) == list(range(len(told)))
    assert set(total) == {len(told)}


def test_a_policy_without_save_and_a_broken_folder_are_refused(tmp_path):
    class Mine(Policy):
        def decide(self, situation):
            raise NotImplementedError

    with pytest.raises(ArtifactError, match="Mine cannot be saved"):
        SavedRouter(NAMES, Mine()).save(tmp_path / "it")
    SavedRouter(NAMES, Always("small")).save(tmp_path / "ok")
    (tmp_path / "ok" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a saved artifact"):
        SavedRouter.load(tmp_path / "ok")
