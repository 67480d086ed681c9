"""Candidates and prices as a command line has them: nothing is merged or dropped."""

import pytest

from langchain_llm_router.collect import parse_candidates

ONE, TWO = "a=openai:x@http://h:1/v1", "a=openai:y@http://h:2/v1"


@pytest.mark.parametrize(
    ("texts", "prices", "said"),
    [
        ([ONE, TWO], [], f"{ONE!r} and {TWO!r} are both 'a'"),
        (["openai:x@http://h:1/v1", "openai:x@http://h:2/v1"], [], "h:2/v1' are both 'x'"),
        ([ONE], ["a=1,2", "a=3,4"], "must have one price, got 'a=1,2' and 'a=3,4'"),
        (["a=openai:"], [], "must name a model behind its provider, got 'a=openai:'"),
        (["a=openai:x@http://h:abc/v1"], [], "a port from 1 to 65535"),
        (["a=openai:x@http://h:99999/v1"], [], "a port from 1 to 65535"),
        (["a=openai:x@http://:80/v1"], [], "must have a host"),
    ],
)
def test_what_would_be_merged_or_cannot_be_asked_is_refused(monkeypatch, texts, prices, said):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with pytest.raises(ValueError, match=r".") as caught:
        parse_candidates(texts, prices)
    assert said in str(caught.value)
