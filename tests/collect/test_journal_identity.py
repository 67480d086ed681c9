"""A journal knows which model was asked, and runs of one process share an event loop."""

import asyncio
import json

import pytest

from langchain_llm_router.collect import collect, load_journal
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Candidate, Price


def run(path, *, n=1, said="5", **settings):
    rows = [{"id": str(i), "query": f"q{i}", "reference": "5"} for i in range(n)]
    model = ScriptedChatModel(*[said] * n, **settings)
    return collect(rows, [Candidate("small", model, Price(1, 2))], journal=path, grader="number")


@pytest.mark.parametrize("other", [{"model": "two"}, {"model": "one", "temperature": 0.5}])
def test_another_model_under_an_old_name_is_refused_with_both_named(tmp_path, other):
    run(tmp_path / "a.jsonl", model="one")
    with pytest.raises(ValueError, match=r"'small' was 'one' in a\.jsonl, got"):
        run(tmp_path / "a.jsonl", n=2, **other)
    run(tmp_path / "b.jsonl", **other)
    with pytest.raises(ValueError, match="give one of them another name"):
        load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")


def test_a_journal_of_an_earlier_version_stays_readable_and_can_be_resumed(tmp_path):
    path = tmp_path / "a.jsonl"
    run(path, model="one")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("models", "prompts"):
        lines[0]["settings"].pop(name)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert load_journal(path).ids == ("0",)
    assert run(path, n=2, model="one").ids == ("0", "1")


async def test_collect_works_where_a_loop_is_running_as_in_a_notebook(tmp_path):
    assert asyncio.get_running_loop().is_running()
    for k in range(2):
        assert run(tmp_path / f"{k}.jsonl", n=3).ids == ("0", "1", "2")


def test_an_answer_that_cannot_be_read_has_no_grade_and_says_why(tmp_path):
    with pytest.raises(ValueError, match="NumberMatch cannot read the answer 'no idea'"):
        run(tmp_path / "a.jsonl", said="no idea")
