"""Two notations of one result are the same answer, and two results are not."""

import time

import pytest

from langchain_llm_router.verification import same_answer

SAME = {
    "fractions": [
        ("1/2", "0.5"), ("\\frac12", "1/2"), ("$\\dfrac{1}{2}$", "0.5"), ("-\\frac{3}{4}", "-0.75"),
        ("1 1/2", "1.5"), ("½", "\\frac{1}{2}"),
    ],
    "units": [
        ("5 km", "5 kilometers"), ("5", "5 km"), ("5 dollars", "$5"), ("48g", "48 grams"),
        ("50 m/s", "50 meters per second"), ("-10°F", "-10"), ("68 square feet", "68 ft^2"),
        ("7 pounds of butter", "7 lbs"), ("9 books", "9"), ("3,000 feet", "3000 ft"),
        ("90^\\circ", "90°"),
        ("6 pizzas (3 cheese)", "6"), ("60 mph", "60 miles per hour"),
        ("12 books in total", "12 books"),
    ],
    "sentences": [
        ("Sally has 9 books.", "9"), ("The total trip took 6 hours.", "6 hours"),
        ("It is 4.", "The result is 4"), ("It is 4.", "4"), ("So we get 4.", "It is 4"),
        ("= 4", "4"), ("=4", "The result is 4."), ("4 is the answer", "It is 4"),
        ("That makes 4", "4"), ("equals 4 apples", "It is 4 apples."), ("So 4.", "It’s 4"),
        ("equals 4 apples", "That makes 4"), ("We get x = 4", "It is 4."), ("I get 4", "Result: 4"),
        ("There are 4 apples.", "It is 4"), ("It is 1/2", "The result is 0.5"),
        ("It is \\frac{1}{2}.", "0.5"), ("The result is (1, 2)", "(1,2)"),
        ("The total is 1,200.", "It is 1200"), ("The sum is 4", "4 in total"),
        ("It is **4**.", "The value is $4$."), ("It is -4", "= -4"), ("It comes to 4", "4"),
        ("4 is correct", "It's 4"),
        ("Hence it must be 4.", "This gives 4."), ("It is 2x + 1", "The result is 2x+1."),
    ],
    "sets and solutions": [
        ("{1, 2}", "{2, 1}"), ("\\{1,2\\}", "{2, 1}"), ("x = 1 or 2", "x=2 or x=1"),
        ("1 and 2", "2, 1"),
        ("x = -4", "-4"), ("\\pm 3", "3 or -3"), ("x = 1, \\frac12", "0.5, 1"),
        ("(1,2), (3,4)", "(3, 4), (1, 2)"),
        ("{1, 2}", "x = 1 or 2"), ("1, 2", "2 or 1"), ("{2, 1}", "1, 2"), ("{1, 1, 2}", "{1, 2}"),
        ("{0.1, 0.7}", "0.1 and 0.7"), ("{0.1, 0.7}", "{1/10, 7/10}"),
        ("1 and 2", "2 and 1"), ("x=2, y=1", "y = 1, x = 2"), ("x = 1 and y = 2", "y=2, x=1"),
        ("1,2", "1, 2"), ("2,1", "{1, 2}"), ("1,2", "1 or 2"), ("-1,234", "-1, 234"),
        ("$1,2,3$", "1, 2, 3"), ("1,2", "1.2"),
    ],
    "number words": [
        ("two", "2"), ("Two.", "2.0"), ("zero", "0"), ("twenty", "20"), ("minus two", "-2"),
        ("twenty-one", "21"), ("Ninety nine", "99"), ("It is twelve.", "12"), ("**ten**", "10"),
        ("seven is the answer", "7"), ("'two'", "two"),
    ],
    "tuples, lists and intervals": [
        ("(1, 2)", "(1,2)"), ("\\left( \\frac12, 3 \\right)", "(0.5,3)"), ("[0, 1)", "[0,1)"),
        ("[0.1, 0.7]", "[1/10, 7/10]"), ("(-\\infty, 3]", "(-∞, 3]"), ("(\\sqrt{2}, 1)", "(√2,1)"),
    ],
    "algebra": [
        ("x^{2} + 1", "x^2+1"), ("2*x - 1", "2x - 1"), ("3\\sqrt{5}", "3√5"),
        ("3*sqrt(5)", "3\\\\sqrt{5}"),
        ("p - 2", "p-2"), ("y = 2x + 1", "2x+1"), ("\\frac{x+1}{2}", "(x+1)/2"), ("x²", "x^2"),
        ("\\dfrac{\\pi}{4}", "π/4"), ("x \\le 3", "x ≤ 3"), ("x**2", "x^2"),
    ],
    "code output": [
        ("'a'", '"a"'), ("[1, 2]", "[1,2]"), ("{'a': 1}", '{"a": 1}'), ("True", "true"),
        ("''", '""'),
        ("'AbB'", "AbB"), ("[1, 2.0]", "[1.0, 2]"), ("('a', None)", '("a",None)'),
        ("`[1, 2]`", "[1,2]"),
        ("```python\n[1, 2]\n```", "[1, 2]"), ("'a\\nb'", "a\\nb"),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"),
        ("The answer is 'AbB'.", "AbB"), ("'5'", "5"), ("['(', 1]", '["(",1]'),
    ],
    "words": [
        ("Paris", "paris."), ("New  York", "new york"), ("Paris, France", "paris,france"),
        ("It’s", "it's"),
    ],
}  # fmt: skip

DIFFERENT = {
    "fractions": [("1/2", "2"), ("\\frac12", "12")],
    "units": [
        ("5 km", "5 miles"), ("5 hours", "5 minutes"), ("9 books", "9 cards"), ("5x", "5"),
        ("5 km", "6 km"),
        ("50 m/s", "50 m"), ("12d", "12"), ("68 square feet", "68 feet"), ("$5", "5 cents"),
    ],
    "sentences": [
        ("Sally has 9 of the 12 books.", "9"), ("assert f('a') == 4", "4"),
        ("It is 4.", "The result is 5"), ("It is 4 km", "The result is 4 miles"),
        ("It is 4.", "It is -4"), ("It is not 4", "It is 4"), ("It is never 4", "4"),
        ("It isn't 4 at all", "4"), ("It is 4 less than 6", "It is 4"), ("= 4", "== 4"),
        ("'It is 4'", "4"), ("It is 4%", "It is 4"), ("It is between 4 and 5", "4"),
        ("It is 4 or 5", "4"), ("It is x + 4", "4"), ("It is 4:30", "4"),
        ("The number is 4 more than it was", "4"), ("That makes 4 of them wrong", "4"),
        ("It is Monday", "It is Tuesday"), ("It is", "is"), ("So", "4"),
    ],
    "sets and solutions": [("{1, 2}", "{1, 3}"), ("1 or 2", "1"), ("{1, 2}", "(1, 2)"),
        ("3 or 4", "3 and 4"), ("x = 1, y = 2", "x = 2, y = 1"), ("a=1, b=2", "a=2, b=1"),
        ("\\boxed{x=1, y=2}", "\\boxed{x=2, y=1}"), ("$x=1$ and $y=2$", "$x=2$ and $y=1$"),
        ("1, 1, 2", "1, 2"), ("{1, 2}", "1, 1, 2"), ("1, 2, 3", "3, 2, 1"),
        ("1,2", "2, 1"), ("1,2", "1, 3"), ("1,2", "12"), ("1,200", "1, 2, 0"), ("1,2", "x=1, y=2"),
        ("The answer is 1, 2, 3.", "3, 2, 1"), ("1, 2, 3 and 1", "1, 2, 3"),
        ("x = 1", "x = 2")],
    "tuples, lists and intervals": [
        ("(1, 2)", "(2, 1)"), ("[0, 1)", "[0, 1]"), ("[1, 2]", "[2, 1]"), ("(1, 2)", "[1, 2]"),
        # Graded as different in 424 of 466 pairs of ZeroEval's answers.
        ("[1, 2]", "1, 2"), ("[1, 2]", "1,2"), ("(1, 2)", "1,2"),
    ],
    "number words": [
        ("two", "3"), ("'two'", "2"), ("one or two", "1"), ("two thirds", "2"), ("twenty", "12"),
        ("two km", "2 miles"), ("someone", "1"), ("One Direction", "1"), ("minus two", "2"),
        ("ten", "tens"), ("['two']", "[2]"), ("one hundred", "1"),
    ],
    "algebra": [
        ("x^2", "x^3"), ("x + 1", "X + 1"), ("32 - 16√6", "32"), ("-1 + 2i", "-1 + i"), ("2x", "x"),
        ("1 2", "12"),
    ],
    "code output": [
        ("'AbB'", "'ABb'"), ("'a b'", "'ab'"), ("'a '", "'a'"), ("['a']", "['A']"), ("'05'", "5"),
        ("[True]", "[1]"), ("[1]", "['1']"), ("mJklbn", "mjklbn"), ("iq!!!!", "iq!!!"),
    ],
    "words": [("Paris", "Rome"), ("new york", "york")],
}  # fmt: skip


def pairs(table):
    return [pytest.param(a, b, id=f"{kind}: {a} | {b}") for kind in table for a, b in table[kind]]


@pytest.mark.parametrize(("a", "b"), pairs(SAME))
def test_two_notations_of_one_result_are_the_same(a, b):
    assert same_answer(a, b)
    assert same_answer(b, a)
    assert same_answer(f"Let me see.\nThe answer is: {a}", a) or "\n" in a


@pytest.mark.parametrize(("a", "b"), pairs(DIFFERENT))
def test_two_results_are_not_the_same(a, b):
    assert not same_answer(a, b)
    assert not same_answer(b, a)
    assert same_answer(a, a)


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000, "{" * 1_900, "(" * 300 + ")" * 300, "-" * 1_900, "'\\q'", "1" * 1_999, "[1e999]",
     "{[]: 1}", "1," * 900, "\\frac{" * 300, "{" * 900 + "}" * 900, "f'{x}'", "b'a'", "1j",
     "'\\N{NOTHING}'", "(1,)" * 400, "[1, 2" + "\0]", "\ud800", "x=" * 900, "²" * 1_000, "٣ or ٤"],
)  # fmt: skip
def test_no_text_is_too_strange_or_too_deep_to_be_compared(text):
    began = time.process_time()
    assert same_answer(text, text)
    assert not same_answer(text, "something else")
    assert time.process_time() - began < 0.5


def test_a_comparison_takes_less_than_a_millisecond():
    answers = [a for table in (SAME, DIFFERENT) for kind in table.values() for a, _ in kind]
    began = time.process_time()
    for a in answers:
        for b in answers:
            same_answer(a, b)
    assert (time.process_time() - began) / len(answers) ** 2 < 0.001
