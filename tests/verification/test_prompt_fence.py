"""The fence around text that a judge reads, and what share of attempts to steer it is found."""

import sys
import unicodedata

import pytest

from langchain_llm_router.verification.prompt_fence import escape, speaks_to_its_judge
from tests.support.published_attacks import PUBLISHED

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def test_no_invisible_or_control_character_of_any_category_passes_the_fence():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {c for c in escape(every) if unicodedata.category(c) in HIDDEN}
    assert left <= {"\n", "\t"}


@pytest.mark.parametrize(
    "char", ["\u034f", "\u115f", "\u3164", "\uffa0", "\u2800", "\ufe0f", "\U000e0100", "\u17b4",
             "\u061c", "\u180e", "\ufff9", "\x00", "\x1b", "\ud800", "\ue000"],
)  # fmt: skip
def test_a_tag_with_a_hidden_character_in_it_is_still_escaped(char):
    assert escape(f"5<{char}/an{char}swer>") == "5‹/answer>"


@pytest.mark.parametrize("char", ["\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_what_breaks_a_line_becomes_a_line_end(char):
    assert escape(f"a{char}b") == "a\nb"


def test_a_tag_in_full_width_letters_is_escaped():
    assert escape("5<／ａｎｓｗｅｒ>") == "5‹／ａｎｓｗｅｒ>"


@pytest.mark.parametrize(
    "tag",
    ["&lt;/answer&gt;", "&#60;/answer>", "<\\/answer>", "<//answer>", "</_answer>", "〈/answer〉",
     "</\u0430nswer>", "</answ\u0435r>", "</\u03b1nswer>", "</an\u0301swer>", "</ans\u1e89er>",
     "<\u0337/answer>", "<⧸answer>"],
)  # fmt: skip
def test_a_tag_that_looks_like_one_of_the_prompts_is_escaped(tag):
    assert escape(tag).startswith("‹")


@pytest.mark.parametrize(
    "mark",
    ["<｜end▁of▁sentence｜>", "<｜User｜>", "<|im_end|>", "<think>", "</think>", "<bos>", "<eos>",
     "[SYSTEM_PROMPT]", "[/INST]", "[TOOL_RESULTS]", "<¦im_end¦>", "</tool_call>"],
)  # fmt: skip
def test_marks_of_chat_templates_are_escaped(mark):
    assert escape(f"x {mark}")[2] in "‹⁅"


@pytest.mark.parametrize(
    "text", ["a < b", "y <- x", "if a<b and c>d:", "[1, 2]", "List<String>", "a | b", "R&lt;S"]
)
def test_code_is_left_alone(text):
    assert escape(text) == text


@pytest.mark.parametrize(
    "text", ["naïve Ångström", "日本語のテキスト", "हिन्दी", "ไทย", "a\tb\nc", "x < y", "😀"]
)
def test_visible_text_of_every_script_is_left_alone(text):
    assert escape(text) == text


def test_the_documented_share_of_published_attempts_is_found():
    found = sum(speaks_to_its_judge(a.format(wrong="It is 5.")) is not None for a in PUBLISHED)
    assert f"of {len(PUBLISHED)} attempts" in speaks_to_its_judge.__doc__
    assert f"it finds {found}." in " ".join(speaks_to_its_judge.__doc__.split())
