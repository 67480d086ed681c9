"""A confidence is read from the last line in many wordings, and text about confidence stays."""

import time

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate
from langchain_llm_router.verification import Case, SelfReported
from langchain_llm_router.verification.confidence_reader import (
    longest_line,
    read_number,
    split_last_line,
    split_report,
)

WORDINGS = [
    "Confidence: 85%",
    "Confidence: 0.85",
    "Confidence: .85",
    "**Confidence:** 85 %",
    "**Confidence: 85%**",
    "Confidence: **85%**.",
    "`Confidence: 85%`",
    "(Confidence: 85%)",
    "- Confidence: 85%",
    "confidence=85/100",
    "Confidence level: 8.5/10",
    "Confidence: 85 out of 100",
    "Confidence: 85\\%",
    "Confidence: 80-90%",
    "Confidence: 85% sure",
    "Confidence: 85% (I looked it up.)",
    "Confidence in my answer: 85%",
    "My confidence is 85 percent.",
    "I am 85% sure",
    "I'm 85% confident that this is right.",
    "Konfidenz: 0,85",
    "Sicherheit: 85 Prozent",
    "Ich bin mir zu 85 % sicher.",
    "Confiance : 85 %",
    "Je suis sûr à 85 %.",
]

TALK = [
    "A confidence interval of 95%",
    "Confidence: 95% interval is [1, 2]",
    "We have a high confidence: 85% of voters said so.",
    "The confidence level is 95%",
    "Consumer confidence is 85%.",
    "Confidence in vaccines is 85%.",
    "I am 85% of the way.",
    "Voters' confidence: 85%",
    "Confidence: 85%\nBye",  # `split_report` removes it.
    "Confidence: 85% " + "and so on " * 20,
    "",
]


@pytest.mark.parametrize("line", WORDINGS)
def test_the_last_line_is_read_and_cut_off(line):
    found = split_last_line(f"It is\n\nParis.\n\n{line}\n")
    assert found == ("It is\n\nParis.", pytest.approx(0.85))


@pytest.mark.parametrize("line", TALK)
def test_text_that_merely_speaks_of_confidence_stays(line):
    assert split_last_line(f"Paris.\n{line}") is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Paris. Confidence: 85%", "Paris."),
        ("**Paris.** **Confidence: 85%**", "**Paris.**"),
        ("Paris (Confidence: 85%)", None),
        ("Confidence: 85%", ""),
    ],
)
def test_it_is_read_behind_the_last_sentence_too(text, kept):
    found = split_last_line(text)
    assert found == (None if kept is None else (kept, 0.85))


@pytest.mark.parametrize(
    ("text", "kept", "score"),
    [
        ("Paris.\nConfidence: 80%\nConfidence: 85%", "Paris.", 0.85),
        ("Paris. Confidence: 80%\nConfidence: 85%", "Paris.", 0.85),
        ("Confidence: 85%\nParis.", "Paris.", 0.85),
        ("**Confidence: 80%**\n\nParis.\n\nConfidence: 85%", "Paris.", 0.85),
        ("Paris.\nConfidence: 85%\nHope this helps!", "Paris.\nHope this helps!", 0.85),
        ("Paris.\n```\nConfidence: 85%\n```", "Paris.", 0.85),
        ("Paris.\n```text\nConfidence: 85%\n```\nBye", "Paris.\nBye", 0.85),
        ("```\nParis.\nConfidence: 85%\n```", "```\nParis.\n```", 0.85),
        ("Paris.\n\n**Confidence**:\n\n85%", "Paris.", 0.85),
        ("Paris.\n<confidence>85%</confidence>", "Paris.", 0.85),
        ("Paris.\nConfidence (0-100): 85", "Paris.", 0.85),
        ("Paris.\nConfidence：85%", "Paris.", 0.85),
        ("Paris.\nConfidence: high", "Paris.", None),
        ("Paris.\nConfidence: very high (I looked it up)\nBye", "Paris.\nBye", None),
        ("Paris.\nConfidence: 850%", "Paris.", None),
        ("Answer: 42\nConfidence: 85%\nBye", "Answer: 42\nBye", 0.85),
        ("```\nConfidence: 85%\n```python\nx = 1\n```\nBye", "```python\nx = 1\n```\nBye", 0.85),
    ],
)
def test_every_line_that_is_a_confidence_alone_is_removed_wherever_it_is(text, kept, score):
    assert split_report(text) == (kept, score)


@pytest.mark.parametrize(
    "text",
    [
        "Support: 0.3\nConfidence: 0.85\nLift: 2.1",
        "- Support: 30%\n- **Confidence**: 85%\n- Lift: 2.1\n\nThe rule holds.",
        "```python\nconfidence = 0.85\nprint(confidence)\n```\nThis prints 0.85.",
        "```yaml\nthreshold: 3\nconfidence: 85%\n```",
        "| Support | 30% |\n| Confidence | 85% |",
        "Preis: niedrig\nSicherheit: hoch",
        "I am 85% sure.\nIt is Paris.",
        "I am 85% sure that it is Paris.",
        "Confidence: 85% of voters said so.\nThat is many.",
        "Confidence is high among voters.",
        "High confidence\nLow confidence\nBye",
        "The confidence: 85% of it.\nBye",
    ],
)
def test_prose_code_tables_and_lists_of_figures_stay(text):
    assert split_report(text) is None


def test_a_copy_of_the_form_is_cut_off_without_a_verdict():
    assert split_last_line("Paris.\n\nConfidence: N%") == ("Paris.", None)


@pytest.mark.parametrize(
    ("line", "score"),
    [
        ("Confidence: A=10, B=70, C=20", 0.5),
        ("Confidence: A: 10%; B: 70%; C: 20%", 0.5),
        ("**Confidence:** (A) 10, (B) 70", 0.6),
        ("Confidence: A=0.1, B=0.7", 0.6),
        ("Confidence: A=40, B=40, C=20", 0.0),
        ("Confidence: A=70", None),
        ("Confidence: 85%", None),
    ],
)
def test_scores_of_options_give_the_margin_between_the_best_two(line, score):
    found = split_last_line(f"B\n{line}", ("A", "B", "C"))
    assert found == ("B", None if score is None else pytest.approx(score))


def test_a_letter_that_only_looks_like_an_option_without_case_is_none():
    assert split_last_line("x\nConfidence: \u0130=40, j=20", ("i", "j")) is None


def test_an_option_may_begin_with_another_and_have_several_words():
    options = ("New York", "New York City", "Rome")
    line = "Confidence: New York=10, New York City=80, Rome=5"
    assert split_last_line(f"x\n{line}", options) == ("x", pytest.approx(0.7))
    assert len(line) < longest_line(options)


@pytest.mark.parametrize(
    ("value", "score"),
    [(85, 0.85), (0.85, 0.85), (1, 1.0), ("85 %", 0.85), ("85", 0.85), (0, 0.0), (100, 1.0),
     (101, None), (-1, None), (True, None), (None, None), ("much", None), ({}, None)],
)  # fmt: skip
def test_a_field_may_have_percent_shares_or_text(value, score):
    assert read_number(value) == score


def test_scores_in_a_field_must_all_be_in_range():
    report = SelfReported(("A", "B")).report_of("small")
    assert report.read_field({"A": 70, "B": 10}) == pytest.approx(0.6)
    for odd in (float("nan"), float("inf"), -1, 101):
        assert report.read_field({"A": odd, "B": 10}) is None


@pytest.mark.parametrize(
    "text",
    [piece * (200_000 // len(piece))
     for piece in ("my ", "final level of ", "confidence ", "Confidence: ", "Confidence: 85%\n",
                   "`", "```\n", "~~~\n", "a: 1\n", " ", "\n", "| ", "<confidence>", "high (")]
    + ["(" * 100_000 + ")" * 100_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_reading_takes_linear_time(text):
    began = time.process_time()
    split_report(text)
    split_report(f"{text}x")
    assert time.process_time() - began < 3


def evaluated(answer: AIMessage, verifier: SelfReported | None = None):
    case = Case([HumanMessage("?")], answer, Candidate("small"))
    steps = (verifier or SelfReported()).evaluate(case)
    with pytest.raises(StopIteration) as end:
        next(steps)
    return end.value.value


def test_a_confidence_in_the_thoughts_is_none():
    thought = AIMessage("<think>It is Rome.\nConfidence: 20%</think>Paris")
    assert evaluated(thought).confidence is None
    said = AIMessage("<think>Confidence: 20%</think>Paris\nConfidence: 85%")
    assert evaluated(said).confidence == 0.85
    unfinished = AIMessage("<think>It is Rome.\nConfidence: 20%")
    assert evaluated(unfinished).confidence is None


def test_a_missing_line_is_no_verdict_and_says_so():
    evaluation = evaluated(AIMessage("Paris"))
    assert evaluation.confidence is None
    assert "left out" in evaluation.errors[0]


@pytest.mark.parametrize("options", [("A",), ("A", "A")])
def test_options_that_cannot_have_a_margin_are_refused(options):
    with pytest.raises(ValueError, match="two or more different names"):
        SelfReported(options)
    with pytest.raises(TypeError, match="must be a sequence"):
        SelfReported("AB")


def test_the_options_from_json_are_the_same_options():
    assert SelfReported(["A", "B"]) == SelfReported(("A", "B"))
