"""Half an answer is asked for again, and never graded as a whole one without a word."""

import json

import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, Price
from langchain_llm_router.collect import Limits, collect
from langchain_llm_router.types.errors import CollectionError
from tests.support.fakes import ScriptedModel

OPENAI = {"model_provider": "openai"}
CUT = AIMessage("ha", response_metadata=OPENAI)
FAILED = AIMessage("ha", response_metadata={**OPENAI, "finish_reason": "error"})
WHOLE = AIMessage("4", response_metadata={**OPENAI, "finish_reason": "stop"})


def answers(tmp_path, *script):
    """Return the answers in the journal and the number of calls."""
    model, journal = ScriptedModel(*script), tmp_path / "run.jsonl"
    pool, limits = [Candidate("a", model, Price(1, 1))], Limits(attempts=3, backoff_s=0.001)
    try:
        collect([{"query": "q?", "reference": "4"}], pool, journal=journal, limits=limits)
    finally:
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "answer"], len(model.seen)


@pytest.mark.parametrize("half", [CUT, FAILED])
def test_half_an_answer_is_asked_for_again(tmp_path, half):
    found, n_calls = answers(tmp_path, half, WHOLE)
    assert [line["text"] for line in found] == ["4"]
    assert "flaw" not in found[0]
    assert n_calls == 2


def test_a_server_that_never_sends_a_finish_reason_is_believed_and_the_journal_says_so(tmp_path):
    found, n_calls = answers(tmp_path, CUT)
    assert [line["text"] for line in found] == ["ha"]
    assert found[0]["flaw"].startswith("no finish reason")
    assert n_calls == 3


def test_a_provider_that_always_fails_within_its_answer_ends_the_run(tmp_path):
    with pytest.raises(CollectionError, match="half an answer: provider error"):
        answers(tmp_path, FAILED)


@pytest.mark.parametrize(
    ("reason", "flaw"), [("length", "cut off"), ("content_filter", "content filter")]
)
def test_an_answer_that_would_end_so_again_is_kept_with_its_flaw(tmp_path, reason, flaw):
    found, n_calls = answers(tmp_path, AIMessage("ha", response_metadata={"finish_reason": reason}))
    assert (found[0]["text"], n_calls) == ("ha", 1)
    assert flaw in found[0]["flaw"]
