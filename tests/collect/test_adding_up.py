"""Several journals add up: rows are known by their questions, and nothing is dropped unsaid."""

import json

import pytest

from langchain_llm_router.collect import collect, load_journal
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.verification import YesNo
from tests.support.fakes import SamplingModel


def run(path, *questions, grader="number", reference="5", **said):
    rows = [{"query": query, "reference": reference} for query in questions]
    pool = [
        Candidate(name, ScriptedChatModel(*[text] * len(rows), model=name), Price(1, 2))
        for name, text in said.items()
    ]
    return collect(rows, pool, journal=path, grader=grader)


def test_two_files_whose_rows_have_the_same_numbers_add_up(tmp_path):
    run(tmp_path / "a.jsonl", "a?", "b?", small="4", large="5")
    run(tmp_path / "b.jsonl", "c?", "d?", small="5", large="5")
    done = load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert done.outcomes.queries == ("a?", "b?", "c?", "d?")
    assert done.outcomes.quality.tolist() == [[0, 1], [0, 1], [1, 1], [1, 1]]
    assert done.ids == ("0", "1", "0 (2)", "1 (2)")
    assert done.answers[2] == {"small": "5", "large": "5"}
    assert (done.left_out, done.repeated, done.left_out_sentence) == ({}, 0, "")


def test_a_question_that_was_measured_twice_has_the_means(tmp_path):
    run(tmp_path / "a.jsonl", "a?", "b?", small="4", large="5")
    run(tmp_path / "b.jsonl", "b?", "c?", small="5", large="5")
    done = load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert done.outcomes.queries == ("a?", "b?", "c?")
    assert done.outcomes.quality.tolist() == [[0, 1], [0.5, 1], [1, 1]]
    assert done.repeated == 1
    assert done.left_out_sentence == (
        "1 repeated measurement of a question is averaged with the first."
    )


def test_verdicts_of_a_repeated_question_keep_the_mean_of_its_scores(tmp_path):
    for name, verdicts in (("a", ("Yes", "Yes")), ("b", ("Yes", "No"))):
        collect(
            [{"query": "a?", "reference": "5"}],
            [Candidate("small", SamplingModel("5", *verdicts, model="small"), Price(1, 2))],
            journal=tmp_path / f"{name}.jsonl",
            grader="number",
            verifiers={"self": YesNo(2)},
        )
    scores = load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl").evaluations["self"]
    assert scores.confidence.tolist() == [[0.75]]
    assert scores.verdicts.mean() == 0.75


def test_other_candidates_over_the_same_questions_are_columns_and_no_repetition(tmp_path):
    run(tmp_path / "a.jsonl", "a?", "b?", small="4")
    run(tmp_path / "b.jsonl", "b?", "a?", large="5")
    done = load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert done.outcomes.candidates == ("small", "large")
    assert done.outcomes.quality.tolist() == [[0, 1], [0, 1]]
    assert done.repeated == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"reference": "6"}, "different values of `reference`, '5' and '6'"),
        ({"grader": "exact"}, "different values of `grader`, 'NumberMatch' and 'ExactMatch'"),
    ],
)
def test_one_question_with_two_truths_is_refused_with_both_lines(tmp_path, changed, words):
    run(tmp_path / "a.jsonl", "a?", small="4")
    run(tmp_path / "b.jsonl", "z?", "a?", small="4", **changed)
    with pytest.raises(ValueError, match=words) as caught:
        load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert "a.jsonl line 2 and b.jsonl line 3 have the same question, 'a?'" in str(caught.value)


def test_what_is_left_out_is_counted_by_what_it_lacks(tmp_path):
    run(tmp_path / "a.jsonl", "a?", "b?", small="4", large="5")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    kept = [line for line in lines if (line["kind"], line.get("id")) != ("grade", "0")]
    kept = [line for line in kept if line.get("candidate") != "large" or line["id"] != "0"]
    more = [{"kind": "question", "id": "9", "query": "z?", "reference": "5", "group": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*kept, *more]))
    done = load_journal(tmp_path / "a.jsonl")
    assert done.left_out == {
        "without a readable grade of 'small'": 1,
        "without an answer of 'small'": 1,
    }
    assert done.left_out_sentence == (
        "2 of 3 questions are left out: 1 without a readable grade of 'small', 1 without an "
        "answer of 'small'."
    )


def test_journals_that_were_joined_into_one_file_do_not_lose_rows_in_silence(tmp_path):
    run(tmp_path / "a.jsonl", "a?", small="4")
    run(tmp_path / "b.jsonl", "b?", small="4")
    joined = (tmp_path / "a.jsonl").read_bytes() + (tmp_path / "b.jsonl").read_bytes()
    (tmp_path / "c.jsonl").write_bytes(joined)
    words = r"line 6: the question '0' is 'b\?' here and 'a\?' in c\.jsonl line 2"
    with pytest.raises(ValueError, match=words):
        load_journal(tmp_path / "c.jsonl")
