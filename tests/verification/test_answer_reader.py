"""What answers say, in many phrasings: letters, numbers, texts, and what cannot be read."""

# ruff: noqa: E501 - a table

import time
from fractions import Fraction

import pytest

from langchain_llm_router.collect import ChoiceMatch, ExactMatch, NumberMatch
from langchain_llm_router.verification import read_letter, read_number, read_text, same_answer
from langchain_llm_router.verification.number_reader import quantities_of, whole_number

LETTERS = [
    ("B", "B"), ("b", "B"), ("(B)", "B"), ("B)", "B"), ("B.", "B"), ("[B]", "B"), ("**B**", "B"),
    ("`B`", "B"), ("$B$", "B"), ('"B"', "B"), ("（Ｂ）", "B"), ("Ｂ", "B"), ("Ⓑ", "B"),
    ("【B】", "B"), ("**(B)**", "B"), ("(b)", "B"), ("b)", "B"), ("b.", "B"), ("B: Paris", "B"),
    ("B) Paris", "B"), ("B. Paris is a city", "B"), ("B - Paris", "B"), ("A) Paris", "A"),
    ("A", "A"), ("I", "I"), ("J.", "J"), ("A, because it is small", "A"), ("A because it is", "A"),
    ("The answer is B.", "B"), ("The answer is (B).", "B"), ("The answer is: B", "B"),
    ("The answer is **B**.", "B"), ("Answer: b", "B"), ("Answer: B", "B"), ("**Answer:** B", "B"),
    ("**Answer: B**", "B"), ("ANSWER: B", "B"), ("Answer:\n\nB", "B"), ("answer=B", "B"),
    ("Final answer - A", "A"), ("Final Answer: (C)", "C"), ("Answer B", "B"), ("Answer is b.", "B"),
    ("The correct answer is option D.", "D"), ("The correct option is D", "D"),
    ("Correct answer: D", "D"), ("The best choice is A.", "A"), ("My answer would be C.", "C"),
    ("The answer must be C", "C"), ("I choose option B because A is too small.", "B"),
    ("I choose B", "B"), ("I would pick (C).", "C"), ("I'd go with D.", "D"), ("I'll select A.", "A"),
    ("I think it is C.", "C"), ("I think it's C", "C"), ("It must be C.", "C"),
    ("Therefore, A is correct.", "A"), ("So B.", "B"), ("Thus the answer is E", "E"),
    ("Hence, C", "C"), ("C is right.", "C"), ("C is the correct answer.", "C"),
    ("Option A is correct", "A"), ("Statement checks out, so option b is right.", "B"),
    ("A careful look shows that C is right.", "C"), ("B it is.", "B"), ("C fits best", "C"),
    ("Option A is tempting but wrong, so the answer is C.", "C"),
    ("Option A: no. Option B: no. The answer is D.", "D"),
    ("A is wrong. B is wrong. That leaves C.", "C"), ("Not A but C.", "C"),
    ("The answer is not A but C.", "C"), ("The answer is C, not B.", "C"),
    ("I don't think it is A. It is D.", "D"), ("The answer is a bit tricky: it must be C.", "C"),
    ("First I thought the answer is B. However, the correct answer is D.", "D"),
    ("A is not correct; B is.", "B"), ("Is it B? No, it is C.", "C"),
    ("The answer is C. I hope this helps!", "C"), ("A good question. The answer is D.", "D"),
    ("<think>Option A? No, B.</think>\nC", "C"), ("<think>A</think>The answer is B", "B"),
    ("Let me think.\n\nB", "B"), ("Reasoning: A is too big.\nC", "C"), ("#### B", "B"),
    ("\\boxed{A}", "A"), ("The answer is $\\boxed{A}$", "A"), ("\\boxed{\\text{C}}", "C"),
    ("$\\boxed{\\textbf{(D)}}$", "D"), ("\\boxed{B} and not \\boxed{A}? No: \\boxed{C}", "C"),
    ("答案是B", "B"), ("答案：Ｂ", "B"), ("正确答案是C。", "C"), ("选择B", "B"), ("答えはDです", "D"),
    ("Die Antwort ist C.", "C"), ("La réponse est B.", "B"), ("La respuesta es D.", "D"),
    ("Because of gravity it must be C", "C"), ("Neither A nor B, hence D.", "D"),
    ("Vitamin C is listed, so the answer is B.", "B"), ("B-cells are meant, answer: A", "A"),
    ("The answer to question 3 is option b", "B"), ("So the answer is B, I think", "B"),
    ("E) None of the above", "E"), ('{"answer": "B"}', "B"), ("<answer>B</answer>", "B"),
    # Not a letter that the answer chooses: unknown, not wrong.
    ("", None), ("nothing", None), ("I do not know.", None), ("A dog barks.", None),
    ("Both B and C could be meant.", None), ("The answer is B or C.", None), ("C++", None),
    ("All of the above", None), ("I am not sure", None), ("<think>It is B", None),
    ("The answer is vitamin rich", None), ("Not B", None), ("A/B", None),
]  # fmt: skip

NUMBERS = [
    ("18", "18"), ("18.", "18"), ("-18", "-18"), ("−18", "-18"), ("x = −5", "-5"), ("–5", "-5"),
    ("+7", "7"), ("１８", "18"), ("－３", "-3"), ("٤٢", "42"), ("१२", "12"), ("018", "18"),
    ("18.50", "37/2"), (".5", "1/2"), ("-.5", "-1/2"), ("1,5", "3/2"), ("0,125", "1/8"),
    ("1,000", "1000"), ("1,234,567", "1234567"), ("1,234.5", "2469/2"), ("1 000", "1000"),
    ("1\u00a0000\u202f000", "1000000"), ("1.234.567", "1234567"), ("1.234,5", "2469/2"),
    ("1'000'000", "1000000"), ("1’000", "1000"), ("1_000", "1000"), ("12,34,567", "1234567"),
    ("1{,}000", "1000"), ("1\\,000", "1000"), ("$18", "18"), ("$ 18", "18"), ("-$18", "-18"),
    ("$-18", "-18"), ("18 dollars", "18"), ("18 USD", "18"), ("USD 18", "18"), ("€5", "5"),
    ("5 €", "5"), ("£1,200.50", "2401/2"), ("¥500", "500"), ("5%", "5"), ("5 %", "5"),
    ("12 per cent", "12"), ("12 percent", "12"), ("\\$18", "18"), ("25\\%", "25"), ("$18$", "18"),
    ("1.5e3", "1500"), ("1.5E-3", "3/2000"), ("3 × 10^5", "300000"), ("3×10⁵", "300000"),
    ("3 x 10^5", "300000"), ("2.5 \\times 10^{3}", "2500"), ("2 · 10^-2", "1/50"), ("10^6", "1000000"),
    ("2^10", "1024"), ("1/2", "1/2"), ("-3/4", "-3/4"), ("½", "1/2"), ("2½", "5/2"), ("2 1/2", "5/2"),
    ("\\frac{3}{4}", "3/4"), ("\\dfrac{1}{3}", "1/3"), ("5 million", "5000000"), ("1.2 billion", "1200000000"),
    ("7-8", "8"), ("between 7 and 8", "8"), ("7–8", "8"), ("from 7 to 8", "8"),
    ("So the total is 18 dollars", "18"), ("so 9 * 2 = 18", "18"), ("The answer is 18.", "18"),
    ("The answer is 18 (see step 3)", "18"), ("18 (see step 3)", "18"), ("**18**", "18"), ("#### 18", "18"),
    ("He has 3 cats and 4 dogs.\n#### 7", "7"), ("\\boxed{18}", "18"), ("$\\boxed{\\frac{1}{2}}$", "1/2"),
    ("\\boxed{1,000} in 3 steps", "1000"), ("Answer: 42. I checked it in 3 ways.", "42"),
    ("The answer is 3 + 4 = 7", "7"), ("The answer is 5. Wait, that is wrong: it is 7.", "7"),
    ("The answer is 42, found after 3 attempts.", "42"), ("x = 4 by step 2", "4"), ("(18)", "18"),
    ("<think>maybe 5</think>6", "6"), ("答案是18", "18"), ("共18元", "18"), ("12345678901234567", "12345678901234567"),
    ("The answer is: $1,200.", "1200"), ("Total: 1 000", "1000"), ("5 kg", "5"), ("20°C", "20"),
    ("-\\frac{3}{4}", "-3/4"), ("\\frac34", "3/4"), ("2\\frac{1}{2}", "5/2"), ("minus 5", "-5"), ("$10-$20", "20"),
    ("1 1/2 cups", "3/2"), ("100k", "100000"), ("₹1,00,000", "100000"), ("1,2,3", "3"), ("3 - 5 = -2", "-2"),
    ("answer is 7, not 8", "7"), ("18.0", "18"), ('{"answer": 42}', "42"), ("3.0e+08 m/s", "300000000"),
    # No number that can be read.
    ("", None), ("no idea", None), ("eighteen", None), ("<think>5", None), ("2\\pi", None),
    ("√2", None), ("9" * 5000, None), ("1e999999999", None), ("5/0", None), ("2024-05-01", None), ("1/2/2024", None), ("1.2.3", None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "letter"), LETTERS)
def test_the_letter_that_an_answer_chooses_is_read(answer, letter):
    assert read_letter(answer) == letter
    if letter is not None:
        right = [c for c in "ABCDEFGHIJ" if ChoiceMatch().matches(answer, c)]
        assert right == [letter]


@pytest.mark.parametrize(
    "answer",
    ["It is **1,007**.", "It is **1,007.0** dollars", "is**1007**", "答案是**1007**", "1,007 m**2",
     "answer is**1007 dollars**", "1007 x**2", "So 3 + 4 = 7 is **1,007** in all", "**1,007**"],
)  # fmt: skip
def test_bold_type_is_no_power(answer):
    assert read_number(answer).value == 1007


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_the_number_that_an_answer_gives_is_read(answer, number):
    found = read_number(answer)
    assert (None if found is None else found.value) == (
        None if number is None else Fraction(number)
    )


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("12345671", "12345678", False), ("1000001", "1000000", False), ("1000000.0", "1000000", True),
        ("1" + "0" * 400, "2" + "0" * 400, False), ("1" + "0" * 400, "1" + "0" * 400, True),
        ("0.3333333", "1/3", True), ("0.333", "1/3", False), ("3e-7", "5e-7", False), ("1e-9", "0", True),
        ("€5", "$5", False), ("$5", "5", True), ("5%", "0.05", True), ("5%", "5", True), ("5%", "6%", False),
        ("5-8", "7-8", False), ("7 to 8", "7–8", True), ("3:2", "5:2", False), ("10:30", "10:30", True),
    ],
)  # fmt: skip
def test_numbers_are_compared_exactly_with_their_units(answer, reference, right):
    assert NumberMatch().matches(answer, reference) is right


def test_a_larger_tolerance_is_for_integers_too():
    assert NumberMatch(tolerance=0.05).matches("104", "100")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Paris", " paris. ", True), ("The answer is **Paris**.", "Paris", True), ("Paris", "Rome", False),
        ("Final answer: Paris. It is in France.", "paris", True), ("\\boxed{Paris}", "Paris", True),
        ("<think>Rome?</think>Paris", "Paris", True), ("1,5", "15", False), ("1,5", "1.5", True),
        ("5%", "5", False), ("5%", "5 percent", True), ("€5", "$5", False), ("$1,200.00.", "1200", True), ("½", "0.5", True),
        ("12345678901234999", "12345678901234567", False), ("B", "(b)", True), ("The answer is B.", "B", True),
        ("B", "B. Paris", True), ("B", "C. Paris", False), ("", "", False), ("Ｐａｒｉｓ", "Paris", True),
        ("1" + "0" * 9000, "2" + "0" * 9000, False), ("巴黎", "巴黎。", True), ("Paris, France", "paris", False),
    ],
)  # fmt: skip
def test_agreement_and_exact_match_read_answers_alike(a, b, same):
    assert same_answer(a, b) is same_answer(b, a) is ExactMatch().matches(a, b) is same


def test_the_text_that_an_answer_states_is_what_is_read():
    assert read_text("Let me see.\nThe answer is: **Paris**.\nI hope it helps.") == "Paris"


@pytest.mark.parametrize("read", [read_letter, read_number, read_text])
@pytest.mark.parametrize(
    "piece",
    ["answer ", "so ", "thus the ", "answer is ", "A ", "not B ", "1", "1,000,", "1 000 ", "(", "1/", ".",
     "<think>", "\\boxed{", "#### ", " ", "\n", "10^", "-", "$", "A is the the ", "**", "the answer is:",
     "\\frac{1}", "it is ", "\\text{", "1.000", "1-", "between 1 and "],
)  # fmt: skip
def test_reading_takes_linear_time(read, piece):
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    read(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    ["11," * 70_000, "111," * 50_000, "111 " * 50_000 + "1111", "111'" * 50_000 + "1111",
     "1.111." * 33_000 + "1"],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_numbers_in_groups_are_read_in_linear_time(text):
    began = time.process_time()
    assert len(quantities_of(text)) > 0
    assert time.process_time() - began < 3


@pytest.mark.parametrize("mark", [",", ".", " ", "'"])
def test_a_number_may_have_many_groups_of_digits(mark):
    assert whole_number("1" + f"{mark}000" * 60).value == 10**180
