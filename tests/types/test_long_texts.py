"""Tokens of long texts are estimated as those of short ones, and at once."""

import time

import pytest

from langchain_llm_router.types.tokens import estimate_tokens


@pytest.mark.parametrize("text", ["这是什么？", "Что это?", "naïve", "emoji 😀 \ud83d", "ไทย a"])
def test_a_long_text_has_as_many_tokens_as_its_parts(text):
    assert estimate_tokens(text * 5_000) == pytest.approx(5_000 * estimate_tokens(text))


def test_six_million_characters_take_no_second():
    started = time.process_time()
    estimate_tokens("的一是不了在" * 1_000_000)
    assert time.process_time() - started < 0.5
