"""AutoMix's cascade: a model answers, judges its own answer, and a larger one is asked."""

import numpy as np
import pytest
from langchain_core.messages import HumanMessage
from scipy.stats import norm

from langchain_llm_router import (
    Candidate,
    ChatLLMRouter,
    Outcomes,
    Price,
    SelfEvaluator,
    create_cascade,
    plots,
    route_of,
)
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.article_data import RIDDLE, RIGHT_ANSWER
from tests.support.article_rows import row

THINGS = ["sand", "rain", "ice", "fire", "soup", "fog", "snow", "oil", "sea", "tea"]


@row(1, "a router picks a model for each query: 2+2 for Gemini Nano, a derivative for GPT-4")
def test_a_simple_a_common_and_a_complex_query_go_to_three_models():
    sums = [f"what is {i}+{i + 1}?" for i in range(10)]
    common = [f"Is {thing} wet?" for thing in THINGS]
    complex_ = [f"What is the derivative of {i}x^{i + 3}x?" for i in range(10)]
    names = ("gemini-nano", "gpt-4o", "gpt-4")
    quality = [[1, 1, 1]] * 10 + [[0, 1, 1]] * 10 + [[0, 0, 1]] * 10
    known = Outcomes([*sums, *common, *complex_], names, quality)
    costs = (1e-5, 1e-3, 1e-2)
    router = ChatLLMRouter(
        candidates=[
            Candidate(name, ScriptedChatModel(f"by {name}"), expected_cost_usd=cost)
            for name, cost in zip(names, costs, strict=True)
        ],
        estimator=NearestNeighbors(n_neighbors=5).fit(known),
        policy=Utility(cost=10.0),
    )
    asked = {
        "what is 2+2?": "gemini-nano",
        "Is water wet?": "gpt-4o",
        "What is the derivative of 3x^32x?": "gpt-4",
    }
    for query, name in asked.items():
        assert router.route(query).candidate == name
        assert router.invoke(query).content == f"by {name}"


def claude(*verdicts: str) -> list[Candidate]:
    """Haiku, Sonnet and Opus; the first ones judge their own answers with these verdicts."""
    prices = {"haiku": Price(0.25, 1.25), "sonnet": Price(3, 15), "opus": Price(15, 75)}
    said = dict(zip(prices, verdicts, strict=False))
    return [
        Candidate(name, ScriptedChatModel(f"by {name}", verdicts=[said.get(name, "Correct")]), p)
        for name, p in prices.items()
    ]


def asked_in(graph) -> list[str]:
    message = graph.compile().invoke({"messages": [("human", "question?")]})["messages"][-1]
    return [attempt["candidate"] for attempt in route_of(message)["attempts"]]


@row(2, "an LLM cascade: the cheapest answers and judges itself, else the next one does")
def test_haiku_is_kept_where_it_calls_itself_correct_and_else_sonnet_and_opus_are_asked():
    def cascade(*verdicts):
        return create_cascade(
            claude(*verdicts), verifier=SelfEvaluator(n_samples=1), policy=ConfidenceThreshold()
        )

    assert asked_in(cascade("Correct")) == ["haiku"]
    assert asked_in(cascade("Incorrect", "Correct")) == ["haiku", "sonnet"]
    assert asked_in(cascade("Incorrect", "Incorrect")) == ["haiku", "sonnet", "opus"]


@row(3, "a cascade needs no training, and may cost a tenth")
def test_a_cascade_without_any_data_costs_less_than_a_tenth_where_the_small_model_suffices():
    router = ChatLLMRouter(
        candidates=claude("Correct"), verifier=SelfEvaluator(1), policy=ConfidenceThreshold()
    )
    strong = {"configurable": {"llm_router": {"force": "opus"}}}
    question = "Who wrote The Trial?" + " Think of a novelist from Prague." * 40
    cheap, dear = (route_of(router.invoke(question, config)) for config in ({}, strong))
    assert (cheap["candidate"], dear["candidate"]) == ("haiku", "opus")
    assert cheap["attempts"][0]["verification_cost_usd"] > 0
    assert cheap["cost_usd"] < dear["cost_usd"] / 10


def evaluated(*verdicts: str, n_samples: int, **settings):
    """Return the model that judged itself on the riddle, and the record of the request."""
    small = ScriptedChatModel(RIGHT_ANSWER, verdicts=list(verdicts), **settings)
    router = ChatLLMRouter(
        candidates=[Candidate("small", small), Candidate("large", ScriptedChatModel("large says"))],
        policy=ConfidenceThreshold(),
        verifier=SelfEvaluator(n_samples=n_samples),
    )
    return small, route_of(router.invoke([HumanMessage(RIDDLE)]))


@row(4, "the evaluator has structured output: a rationale first, then true or false")
def test_the_evaluator_is_asked_for_a_rationale_and_then_for_a_verdict_that_is_read_as_a_boolean():
    small, record = evaluated("Correct", "Incorrect", n_samples=2)
    schema = small.calls[1].kwargs["response_format"]
    assert list(schema["properties"]) == ["rationale", "verdict"]
    assert set(schema["required"]) == {"rationale", "verdict"}
    assert sorted(record["attempts"][0]["verdicts"]) == [False, True]


@row(6, "the evaluator has a temperature of 1")
def test_verdicts_are_sampled_at_temperature_one_whatever_that_of_the_answer():
    small, _ = evaluated("Correct", n_samples=2, temperature=0.1)
    assert [call.kwargs["temperature"] for call in small.calls] == [0.1, 1.0, 1.0]


@row(9, "an answer whose evaluations all fail has none, and the cascade goes on")
def test_without_one_verdict_that_can_be_read_the_next_model_is_asked():
    _, record = evaluated("I would say so.", n_samples=3)
    assert record["attempts"][0]["verdicts"] == [None, None, None]
    assert record["attempts"][0]["confidence"] is None
    assert record["steps"][2]["reason"].startswith("no verdict on small's answer")
    assert record["candidate"] == "large"


@row(10, "40 self-evaluations of the answer to the riddle")
def test_forty_verdicts_of_which_23_say_correct_give_a_mean_of_0_575():
    small, record = evaluated(*["Correct"] * 23, *["Incorrect"] * 17, n_samples=40)
    assert len(small.calls) == 1 + 40
    assert record["attempts"][0]["confidence"] == 0.575
    assert record["attempts"][0]["verdicts"].count(True) == 23
    assert record["candidate"] == "small"


@row(11, "an answer's own Gaussian: the mean of its evaluations, and √(p(1-p)/n)")
def test_every_answer_that_was_judged_has_a_mean_and_a_standard_error():
    _, record = evaluated(*["Correct"] * 23, *["Incorrect"] * 17, n_samples=40)
    attempt = record["attempts"][0]
    assert attempt["confidence"] == 0.575
    assert attempt["standard_error"] == pytest.approx((0.575 * 0.425 / 40) ** 0.5)
    assert attempt["standard_error"] == pytest.approx(0.078, abs=5e-4)
    _, agreed = evaluated("Correct", n_samples=40)
    assert agreed["attempts"][0]["standard_error"] == 0.0
    _, unread = evaluated("I would say so.", n_samples=40)
    assert unread["attempts"][0]["standard_error"] is None


@row(12, "figure: the Gaussian of one answer, by its mean and its standard deviation")
def test_the_figure_of_an_answer_is_the_normal_density_of_its_evaluations():
    curve, *_ = plots.answer_gaussian(0.575, 0.0782).axes[0].lines
    expected = norm.pdf(curve.get_xdata(), 0.575, 0.0782)
    np.testing.assert_allclose(curve.get_ydata(), expected, atol=1e-9)
    assert curve.get_ydata().max() == pytest.approx(5.10, abs=5e-3)


@row(13, "figure: five answers overlaid, right dotted and wrong solid, a spike at deviation 0")
def test_five_answers_are_overlaid_and_where_all_verdicts_agree_there_is_a_spike():
    shares = [0.575, 0.9, 1.0, 0.4, 0.0]
    gaussians = [(p, (p * (1 - p) / 40) ** 0.5) for p in shares]
    good = [True, True, True, False, False]
    lines = plots.answer_gaussians(gaussians, good).axes[0].lines
    assert [line.is_dashed() for line in lines] == good
    for line, (mean, deviation) in zip(lines, gaussians, strict=True):
        if deviation == 0:
            assert set(line.get_xdata()) == {mean}
        else:
            expected = norm.pdf(line.get_xdata(), mean, deviation)
            np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-9)


@row(5, "the rationale is kept beside the judgement")
def test_every_verdicts_rationale_is_in_the_record():
    said = [
        {"rationale": "Married people are not single.", "verdict": "Correct"},
        {"rationale": "Every person was killed.", "verdict": "Incorrect"},
    ]
    _, record = evaluated(*said, n_samples=2)
    attempt = record["attempts"][0]
    kept = dict(zip(attempt["rationales"], attempt["verdicts"], strict=True))
    assert kept == {"Married people are not single.": True, "Every person was killed.": False}


INSTRUCTION = (
    "Instruction: Your task is to evaluate if the AI Generated Answer is correct or incorrect "
    "based on the provided context and question. Provide ultimate reasoning that a human would be "
    "satisfied with, then choose between Correct (True) or Incorrect (False)."
)


@row(
    7,
    "the prompt: an instruction; then context, question and AI generated answer; a boolean",
    kind="option",
    why='`SelfEvaluator(prompt="article")`; by default with two examples and each part in a fence',
)
def test_the_articles_prompt_and_its_boolean_are_one_argument_away():
    message = f"context:\n{RIDDLE}\n\nquestion:\nSolve the riddle"
    for prompt in ("article", "examples"):
        small = ScriptedChatModel(RIGHT_ANSWER, verdicts=["Correct"])
        judging = {"rationale": "It solves it.", "judgement": True, "verdict": "Correct"}
        judge = ScriptedChatModel(judging)
        router = ChatLLMRouter(
            candidates=[Candidate("small", small), Candidate("large", ScriptedChatModel("large"))],
            policy=ConfidenceThreshold(),
            verifier=SelfEvaluator(1, judge=Candidate("judge", judge), prompt=prompt),
        )
        record = route_of(router.invoke([HumanMessage(message)]))
        assert record["attempts"][0]["verdicts"] == [True]
        system, human = judge.calls[0].messages
        fields = judge.calls[0].kwargs["response_format"]["properties"]
        if prompt == "article":
            assert system.content == INSTRUCTION
            parts = ("Context", RIDDLE), ("Question", "Solve the riddle")
            parts = (*parts, ("AI Generated Answer", RIGHT_ANSWER))
            assert human.content == "\n".join(f"{name}: {text}" for name, text in parts)
            assert (list(fields), fields["judgement"]["type"]) == (
                ["rationale", "judgement"], "boolean",
            )  # fmt: skip
        else:
            # One message of this form reaches the judge as two parts here as well.
            assert f"<context>\n{RIDDLE}\n</context>" in human.content
            assert "<question>\nSolve the riddle\n</question>" in human.content


@row(8, "an evaluation that cannot be parsed is tried once more, then skipped")
def test_a_verdict_that_cannot_be_read_is_asked_for_once_more_and_then_left_out():
    small, record = evaluated("I would say so.", "Correct", n_samples=1)
    assert record["attempts"][0]["verdicts"] == [True]
    assert len(small.calls) == 1 + 2
    small, record = evaluated("I would", "say", "Correct", "Correct", "Incorrect", n_samples=1)
    assert record["attempts"][0]["verdicts"] == [None]
    assert len(small.calls) == 1 + 2
    # What stays unread shrinks the evidence, as in the article: the mean is of the others.
    small, record = evaluated("?", "Correct", "Correct", "Incorrect", "?", n_samples=4)
    assert sorted(record["attempts"][0]["verdicts"], key=str) == [False, None, True, True]
    assert record["attempts"][0]["confidence"] == pytest.approx(2 / 3)
    assert len(small.calls) == 1 + 5
