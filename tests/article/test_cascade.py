"""AutoMix's decision: the probability that an answer is good against the cost of the next model."""

import numpy as np
import pytest

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Outcomes,
    SelfEvaluations,
    SelfEvaluator,
    create_cascade,
    plots,
    route_of,
)
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import ConfidenceThreshold, KernelDensity, Pomdp, Unsure
from langchain_llm_router.policies.observation import score_likelihoods
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Arm, Attempt, Situation
from tests.policies.test_pomdp import BruteForce
from tests.support.article_rows import row
from tests.support.fakes import make_evaluations, make_outcomes

COSTS = {"LM1": 1.0, "LM2": 1.2, "LM3": 1.5}
ARMS = tuple(Arm(name, cost_usd=cost) for name, cost in COSTS.items())
LAMBDA = 0.5


def observers(**settings) -> dict[str, KernelDensity]:
    """Three models; the larger, the better its self-evaluations tell good answers from poor."""
    random = np.random.default_rng(0)
    found = {}
    for i, name in enumerate(COSTS):
        good, poor = random.normal(0.8, 0.08, 80), random.normal(0.7 - 0.1 * i, 0.08, 60)
        scores = np.clip(np.concatenate([good, poor]), 0, 1)
        labels = np.repeat([True, False], [80, 60])
        found[name] = KernelDensity(base_rate=False, **settings).fit(scores, labels)
    return found


def verified(**scores: float) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(candidate=name, verified=True, confidence=score) for name, score in scores.items()
    )


@row(26, "three language models, each with its own kernel densities")
def test_the_same_score_is_read_through_the_densities_of_the_model_that_was_judged():
    models = observers()
    policy = ConfidenceThreshold(models, threshold=0.8)
    read = {
        name: policy.decide(Situation("q", ARMS, verified(**{name: 0.78}))).confidence
        for name in ("LM1", "LM2")
    }
    assert read == {name: models[name].p_good(0.78) for name in read}
    assert read["LM1"] < 0.8 < read["LM2"]


def chosen(policy: ConfidenceThreshold, scores: dict[str, float]) -> str:
    """Return the model whose answer is kept if these are the scores."""
    seen: dict[str, float] = {}
    while True:
        decision = policy.decide(Situation("q", ARMS, verified(**seen)))
        if decision.action == "accept":
            return decision.candidate
        seen[decision.candidate] = scores[decision.candidate]


def chosen_by_the_article(models: dict[str, KernelDensity], scores: dict[str, float]) -> str:
    """Return the same by `POMDP.run_simulation`."""
    names = list(COSTS)
    for i, name in enumerate(names):
        reward = 1.0
        if i < len(names) - 1:
            reward = models[name].p_good(scores[name]) - LAMBDA * COSTS[names[i + 1]]
        if reward > 0:
            return name
    raise AssertionError("unreachable, as in the article: the last reward is 1")


@row(
    28,
    "reward: P(good) - λ·cost of the next model; stick if it is above 0 (costs 1, 1.2, 1.5, λ 0.5)",
    kind="option",
    why="`lambda_raises_bar=True`; by default the answer is kept iff 1 - P(good) is not worth "
    "λ·cost, because by the article's reward a higher λ is dearer, against its own text (row 31)",
)
def test_two_thousand_choices_are_those_of_the_articles_simulation():
    models = observers()
    policy = ConfidenceThreshold(models, lambda_=LAMBDA, lambda_raises_bar=True)
    drawn = np.random.default_rng(1).uniform(0.6, 1.0, (2000, 3))
    equal, stuck = 0, dict.fromkeys(COSTS, 0)
    for values in drawn.tolist():
        scores = dict(zip(COSTS, values, strict=True))
        kept = chosen(policy, scores)
        equal += kept == chosen_by_the_article(models, scores)
        stuck[kept] += 1
    assert equal == 2000
    assert min(stuck.values()) > 100


@row(29, "the last model is always accepted")
def test_the_last_model_is_kept_whatever_its_score():
    policy = ConfidenceThreshold(observers(), lambda_=0.0)
    seen = verified(LM1=0.6, LM2=0.6)
    assert policy.decide(Situation("q", ARMS, seen)).final
    for last in (verified(LM3=0.0), (Attempt(candidate="LM3"),)):
        decision = policy.decide(Situation("q", ARMS, (*seen, *last)))
        assert (decision.action, decision.candidate) == ("accept", "LM3")


NOT_FOUND = "No suitable model found, escalating failed."


def doubting(policy):
    models = {
        name: ScriptedChatModel(f"by {name}", verdicts=["Incorrect"]) for name in ("LM1", "LM2")
    }
    candidates = [Candidate(name, model) for name, model in models.items()]
    return ChatLLMRouter(candidates=candidates, policy=policy, verifier=SelfEvaluator(2)), models


@row(
    30,
    '"No suitable model found, escalating failed" where no answer is good enough',
    kind="option",
    why="`Unsure(policy, value, verify_last=True)`; by default the last answer is kept as in row "
    "29, and its record says `confidence: unverified`",
)
def test_where_no_answer_is_good_enough_the_request_ends_without_one():
    simple = ConfidenceThreshold(threshold=0.6)
    router, models = doubting(Unsure(simple, value=0.4, verify_last=True, message=NOT_FOUND))
    answer = router.invoke("question?")
    assert answer.content == NOT_FOUND
    assert route_of(answer)["unsure"]["do"] == "refuse"
    assert {name: len(model.calls) for name, model in models.items()} == {"LM1": 3, "LM2": 3}
    kept = doubting(simple)[0].invoke("question?")
    assert kept.content == "by LM2"
    assert route_of(kept)["confidence"] == "unverified"


@row(31, "a small λ is for quality, a large λ is for low cost")
def test_the_higher_lambda_is_the_cheaper_and_the_poorer_the_answers_are():
    outcomes = make_outcomes(400)
    said = make_evaluations(outcomes)
    models = {
        name: KernelDensity().fit(said.confidence[:, j], outcomes.quality[:, j] >= 0.5)
        for j, name in enumerate(outcomes.candidates)
    }
    played = [
        replay(ConfidenceThreshold(models, lambda_=lambda_), None, outcomes, evaluations=said)
        for lambda_ in (0.0, 10.0, 30.0, 60.0, 100.0, 1000.0)
    ]
    costs = [run.cost_usd.mean() for run in played]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] / 10
    assert played[0].quality.mean() > played[-1].quality.mean() + 0.1


@row(32, "the full POMDP, which looks at all probabilities and costs of all future models")
def test_the_plan_over_all_future_models_is_that_of_a_search_through_all_of_them():
    random = np.random.default_rng(0)
    n_situations, n_samples, names = 0, 2, tuple(COSTS)
    for lambda_ in (0.0, 0.1, 0.3, 0.8):
        quality = (random.random((12, 3)) < [0.5, 0.7, 0.9]) * 1.0
        scores = random.binomial(n_samples, 0.2 + 0.6 * quality) / n_samples
        cost = np.tile([0.1, 0.4, 1.0], (12, 1))
        outcomes = Outcomes([f"q{i}" for i in range(12)], names, quality, cost)
        verifying = np.tile([0.02, 0.02, 0.0], (12, 1))
        policy = Pomdp(lambda_, n_samples).fit(outcomes, SelfEvaluations(names, scores, verifying))
        likelihoods = [
            score_likelihoods(scores[:, j], quality[:, j], n_samples=n_samples) for j in (0, 1)
        ]
        brute = BruteForce(
            quality, likelihoods, lambda_, cost[0], verifying[0], (True,) * 3, recall=False
        )
        histories: list[tuple[int, ...]] = [()]
        histories += [(first,) for first in range(3)]
        histories += [(first, second) for first in range(3) for second in range(3)]
        for history in histories:
            weights = np.ones(12)
            for likelihood, seen in zip(likelihoods, history, strict=False):
                weights = weights * likelihood[seen]
            held = list(range(len(history)))
            worth: dict[tuple[str, str], float] = {}
            for (j, _), utility in brute.utilities(weights, held).items():
                key = ("ask", names[j])
                worth[key] = max(utility, worth.get(key, -np.inf))
            if held:
                worth["accept", names[held[-1]]] = brute.keep(weights, held)
            attempts = verified(**{names[j]: seen / n_samples for j, seen in enumerate(history)})
            decision = policy.decide(Situation("q", ARMS, attempts))
            best = max(worth.values())
            assert worth[decision.action, decision.candidate] == pytest.approx(best, abs=1e-9)
            n_situations += 1
    assert n_situations == 4 * 13


@row(34, "a printout per model: its score, its reward, its probability, the decision")
def test_every_model_that_was_asked_has_its_score_probability_bar_and_decision_in_the_record():
    models = [
        Candidate("LM1", ScriptedChatModel("one", verdicts=["Incorrect"]), expected_cost_usd=1.0),
        Candidate("LM2", ScriptedChatModel("two", verdicts=["Correct"]), expected_cost_usd=1.2),
        Candidate("LM3", ScriptedChatModel("three"), expected_cost_usd=1.5),
    ]
    graph = create_cascade(
        models, verifier=SelfEvaluator(4), policy=ConfidenceThreshold(lambda_=LAMBDA)
    ).compile()
    question = {"messages": [("human", "question?")]}
    said = list(graph.stream(question, stream_mode="custom"))
    record = route_of(graph.invoke(question)["messages"][-1])
    assert [attempt["confidence"] for attempt in record["attempts"]] == [0.0, 1.0]
    escalated, kept = record["steps"][2], record["steps"][4]
    assert escalated["reason"] == ("P(good) 0.000 of LM1 does not pass 1 - λ·cost of LM2 = 0.400")
    assert (escalated["action"], escalated["candidate"]) == ("ask", "LM2")
    assert kept["reason"] == "P(good) 1.000 passes 1 - λ·cost of LM3 = 0.250"
    assert (kept["action"], kept["candidate"]) == ("accept", "LM2")
    # The same is told while it happens.
    assert any("does not pass 1 - λ·cost of LM2" in str(event) for event in said)


@row(35, "a Markov decision process: the best plan through states and costs, seen or believed")
def test_a_verifier_that_sees_all_makes_it_an_mdp_and_one_that_sees_nothing_leaves_the_belief():
    """The small model is right 60 %, the large one on these and on three of four others."""
    small = np.repeat([1.0, 0.0], [72, 48])
    large = np.r_[np.ones(72), np.tile([1.0, 1.0, 1.0, 0.0], 12)]
    names, cost = ("small", "large"), 1.0
    outcomes = Outcomes(
        [f"q{i}" for i in range(120)], names, np.c_[small, large], np.tile([0.0, cost], (120, 1))
    )
    seen = SelfEvaluations(names, np.c_[small, large], np.zeros((120, 2)))
    # As often 0 as 1 among all kinds of questions.
    turns = np.repeat(np.arange(30) % 2.0, 4)
    blind = SelfEvaluations(names, np.c_[turns, turns], np.zeros((120, 2)))
    arms = (Arm("small", cost_usd=0.0), Arm("large", cost_usd=cost))

    def after(score: float, evaluations: SelfEvaluations, lambda_: float) -> str:
        policy = Pomdp(lambda_, n_samples=1).fit(outcomes, evaluations)
        return policy.decide(Situation("q", arms, verified(small=score))).action

    # A wrong answer that is seen to be wrong gains 3/4 by the large model, a right one nothing.
    assert after(0.0, seen, 0.74) == "ask"
    assert after(0.0, seen, 0.76) == "accept"
    assert after(1.0, seen, 0.01) == "accept"
    # Without any sight the belief stays at 60 % and 90 %, whatever the score.
    assert {after(score, blind, 0.29) for score in (0.0, 1.0)} == {"ask"}
    assert {after(score, blind, 0.31) for score in (0.0, 1.0)} == {"accept"}


@row(27, "figure: three models' densities side by side, each with its observation and probability")
def test_the_figure_says_of_each_model_what_was_observed_and_what_is_done():
    models = observers()
    scores = {"LM1": 0.66, "LM2": 0.8, "LM3": 0.9}
    figure = plots.cascade_scores(models, scores, lambda_=LAMBDA, cost_usd=COSTS, raises_bar=True)
    assert len(figure.axes) == 3
    said = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    for name, panel in zip(("LM1", "LM2"), said, strict=False):
        p = models[name].p_good(scores[name])
        assert panel[0] == f"score {scores[name]:.3f}: P(good) {p:.3f}"
    p1, p2 = (models[name].p_good(scores[name]) for name in ("LM1", "LM2"))
    assert said[0][1:] == [f"reward {p1:.3f} - 0.600 = {p1 - 0.6:+.3f}", "escalate to LM2"]
    assert said[1][1:] == [f"reward {p2:.3f} - 0.750 = {p2 - 0.75:+.3f}", "keep LM2's answer"]
    assert said[2] == ["not asked"]
    for name, ax in zip(COSTS, figure.axes, strict=True):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), models[name].density_good_)
        np.testing.assert_allclose(ax.lines[1].get_ydata(), models[name].density_poor_)


@row(
    33,
    "the rule without a plan, inside the POMDP, on P(good) without the base rate",
    kind="option",
    why='`Pomdp(mode="article")`; by default the whole plan, on a belief that starts from the base '
    "rate",
)
def test_the_mode_of_the_article_compares_the_ratio_of_densities_with_the_next_cost():
    random = np.random.default_rng(0)
    good = random.random(300) < 2 / 3
    scores = np.clip(
        np.where(good, random.normal(0.6, 0.15, 300), random.normal(0.5, 0.15, 300)), 0, 1
    )
    names = ("LM1", "LM2")
    outcomes = Outcomes(
        [f"q{i}" for i in range(300)],
        names,
        np.c_[good, np.ones(300)],
        np.tile([0.1, 1.0], (300, 1)),
    )
    said = SelfEvaluations(names, np.c_[scores, scores], np.zeros((300, 2)))
    model = KernelDensity(min_bandwidth=0.05).fit(scores, good)
    policy = Pomdp(LAMBDA, n_samples=10, likelihood="kde", mode="article").fit(outcomes, said)
    arms = (Arm("LM1", cost_usd=0.1), Arm("LM2", cost_usd=1.0))
    ratios = {}
    for score in (i / 10 for i in range(2, 10)):
        f_good, f_poor = model.likelihoods(score)
        decision = policy.decide(Situation("q", arms, verified(LM1=score)))
        ratios[score] = f_good / (f_good + f_poor)
        assert decision.confidence == pytest.approx(ratios[score], abs=0.02)
        if abs(ratios[score] - (1 - LAMBDA)) > 0.02:
            assert (decision.action == "accept") == (ratios[score] >= 1 - LAMBDA)
    # With the base rate of 2/3 the same score says more.
    exact = Pomdp(LAMBDA, n_samples=10, likelihood="kde").fit(outcomes, said)
    attempt = verified(LM1=0.5)[0]
    with_rate = exact.p_good(Situation("q", arms, (attempt,)), attempt)
    assert with_rate > ratios[0.5] + 0.08
