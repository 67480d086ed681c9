"""JSON objects are the same answer if all of their fields are."""

# ruff: noqa: E501 - a table

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.verification import AnswerGroups, same_answer

PROSE = "It fell because of many slow changes, of which historians name the army first. " * 4
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1, max_size=4)


def turned(value):
    """Return the same JSON value with its keys in another order, and its integers as decimals."""
    if isinstance(value, dict):
        return {key: turned(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [turned(item) for item in value]
    return float(value) if type(value) is int else value


@given(OBJECTS, OBJECTS)
def test_order_spaces_and_the_notation_of_numbers_do_not_matter_and_all_else_does(one, other):
    text = json.dumps(one)
    assert same_answer(text, json.dumps(turned(one), indent=2, ensure_ascii=False))
    assert same_answer(f"```json\n{text}\n```", text)
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert same_answer(text, json.dumps(other)) is is_same


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ('{"answer": "5 km"}', "5 kilometers"), ('{"answer": 42}', "42"), ('{"Final Answer": "B"}', "(b)"),
        ('{"reasoning": "so", "answer": "4"}', '{"answer": "4.0", "reasoning": "thus", "confidence": 0.9}'),
        ('{"answer": "4", "explanation": "as"}', '{"answer": "4", "explanation": "since"}'),
        ('{"rationale": "so", "label": "spam"}', '{"rationale": "thus", "label": "spam"}'),
        ('{"confidence": 0.9, "label": "spam"}', '{"label": "spam", "confidence": 0.8}'),
        ('<think>{"a": 2}</think>{"a": 1}', '{"a": 1}'), ('{"a": true, "b": null}', '{"b": null, "a": true}'),
        ("{'a': 1}", '{"a": 1}'), ('{"reasoning": "so"}', '{"reasoning": "so"}'),
    ],
)  # fmt: skip
def test_what_a_model_says_of_its_answer_is_no_part_of_it(a, b):
    assert same_answer(a, b)
    assert same_answer(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ('{"a": 1}', '{"a": "1"}'), ('{"a": 1}', '{"a": true}'), ('{"a": null}', "{}"),
        ('{"a": "x"}', '{"a": "X"}'), ('{"a": [1, 2]}', '{"a": [2, 1]}'), ('{"a": "1.10"}', '{"a": "1.1"}'),
        ('{"answer": "5", "unit": "km"}', '{"answer": "5", "unit": "m"}'),
        ('{"answer": "5", "unit": "km"}', "5"), ('{"explanation": "so"}', '{"explanation": "thus"}'),
        ('{"reasoning": "so"}', '{"reasoning": "thus"}'), ('{"a": 1}', "1"), ('{"a": NaN}', '{"a": 1}'),
    ],
)  # fmt: skip
def test_another_value_of_a_field_is_another_answer(a, b):
    assert not same_answer(a, b)
    assert not same_answer(b, a)


def test_an_object_with_free_text_has_no_group_and_a_long_one_without_has():
    prose = json.dumps({"title": "Rome", "summary": PROSE})
    long = json.dumps({"names": [f"name {i}" for i in range(99)]})
    told = json.dumps({"reasoning": PROSE, "city": "Rome"})
    assert AnswerGroups().partition([prose, prose, long, long, told]) == [-1, -1, 0, 0, 1]
    assert AnswerGroups(max_chars=1_000).partition([prose, prose]) == [0, 0]


@pytest.mark.parametrize(
    ("answer", "has_group"),
    [
        ('{"answer": "I don\'t know."}', False), ('{"city": "unknown", "zip": null}', False),
        ('{"answer": ""}', False), ('{"reasoning": "hm", "answer": "N/A"}', False),
        ('{"city": "unknown", "zip": "1000"}', True), ('{"zip": null}', True), ("{}", True),
        ('{"answer": 0}', True), ('{"items": []}', True), ('{"known": false}', True),
    ],
)  # fmt: skip
def test_an_object_that_says_that_nothing_is_known_has_no_group(answer, has_group):
    assert AnswerGroups().partition([answer, answer]) == ([0, 0] if has_group else [-1, -1])


@pytest.mark.parametrize(
    "text",
    ['{"a": ' * 400 + "1" + "}" * 400, '{"a": ' * 9_000 + "1" + "}" * 9_000, "{" * 90_000, "}" * 90_000,
     '{"a": ' + "[" * 700 + "]" * 700 + "}", '{"a": ' + "9" * 9_000 + "}", '{"a": 1e999999}',
     '{"a": "\\ud800"}', "```json\n" * 9_000 + "```", '{"answer": ' * 300 + "1" + "}" * 300],
)  # fmt: skip
def test_no_object_is_too_deep_or_too_long_to_be_compared(text):
    began = time.process_time()
    assert same_answer(text, text)
    assert not same_answer(text, '{"b": 2}')
    assert time.process_time() - began < 0.5
