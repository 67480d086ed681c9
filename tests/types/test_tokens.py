"""The estimated number of tokens, in every script."""

import pytest

from langchain_llm_router.types.tokens import estimate_tokens


# Tokens as OpenAI's o200k_base counts them, about.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("人工智能正在改变我们的生活方式和工作方式。", 15),
        ("これは日本語の文章です。とても簡単です。", 13),
        ("인공지능이 우리의 생활을 바꾸고 있습니다.", 14),
        ("Искусственный интеллект меняет нашу жизнь.", 12),
        ("", 0),
    ],
)
def test_the_estimate_is_within_a_factor_of_two_in_every_script(text, tokens):
    assert tokens / 2 <= estimate_tokens(text) <= tokens * 2


def test_latin_text_with_accents_counts_like_english():
    assert estimate_tokens("Élève à l'école") == pytest.approx(15 / 4)
