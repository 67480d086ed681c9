"""Numbers in words are those in digits, whatever stands around them."""

import pytest

from langchain_llm_router.verification import same_answer
from langchain_llm_router.verification.number_words import number_in_words

WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
]  # fmt: skip
AROUND = [
    "{}", "{}.", "**{}**", " {}\n", "The answer is {}.", "It is {}.", "Answer: {}", "\\boxed{{{}}}",
]  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("case", [str.lower, str.title, str.upper])
def test_each_word_is_its_number_and_no_other(around, case):
    for i, word in enumerate(WORDS):
        said = around.format(case(word))
        assert [j for j in range(len(WORDS)) if same_answer(said, str(j))] == [i], said


def test_all_numbers_below_a_hundred_have_a_word_each():
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    compounds = [
        f"{ten}{joint}{one}" for ten in tens for joint in ("-", " ") for one in WORDS[1:10]
    ]
    named = {number_in_words(word) for word in (*WORDS, *tens, *compounds)}
    assert named == set(range(100))
    assert number_in_words("negative forty-two") == -42


@pytest.mark.parametrize(
    "text",
    ["", "minus", "two books", "twenty-ten", "twenty-zero", "two-three", "tw o", "2", "second"],
)
def test_what_is_more_or_less_than_a_number_names_none(text):
    assert number_in_words(text) is None
