"""A confidence in the same call is recorded beside the answer, which is graded without it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from langchain_core.messages import AIMessage

from langchain_llm_router import Candidate, Outcomes, Price
from langchain_llm_router.collect import Limits, Question, collect, load_journal
from langchain_llm_router.training import fit_router
from langchain_llm_router.verification import SelfReported
from langchain_llm_router.verification.description import build_verifier
from tests.support.fakes import ScriptedModel

PRICE = Price(1, 1)
QUESTIONS = [Question(f"q{i}", f"How much is {i} + {i}?", str(2 * i)) for i in range(4)]
SAID = ["0\n\nConfidence: 90%", "2\nConfidence: 0.8", "5\n**Confidence:** 10 %", "6"]


def pool():
    return [
        Candidate("small", ScriptedModel(*SAID), PRICE),
        Candidate("large", ScriptedModel("0", "2", "4", "6"), PRICE),
    ]


def run(journal, candidates=None, **kwargs):
    asked = {"verifiers": {"self_reported": SelfReported()}, **kwargs}
    return collect(QUESTIONS, candidates or pool(), journal=journal, grader="exact", **asked)


def test_the_journal_holds_the_answer_without_its_last_line(tmp_path):
    candidates = pool()
    done = run(tmp_path / "run.jsonl", candidates)
    assert [row["small"] for row in done.answers] == ["0", "2", "5", "6"]
    assert done.outcomes.quality[:, 0].tolist() == [1, 1, 0, 1]
    scores = done.evaluations["self_reported"].confidence
    np.testing.assert_allclose(scores[:, 0], [0.9, 0.8, 0.1, np.nan])
    assert np.isnan(scores[:, 1]).all(), "the last candidate is not asked"
    small, large = (candidate.model.seen[0][-1].text for candidate in candidates)
    assert small.endswith(SelfReported().report_of("small").instruction)
    assert large == QUESTIONS[0].query
    written = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    texts = [line["text"] for line in written if line["kind"] == "answer"]
    assert sorted(texts) == sorted(["0", "2", "5", "6", "0", "2", "4", "6"])


def test_a_verdict_is_read_again_from_the_journal_alone(tmp_path):
    journal = tmp_path / "run.jsonl"
    run(journal)
    kept = [line for line in journal.read_text().splitlines() if '"evaluation"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    again = run(journal)
    np.testing.assert_allclose(
        again.evaluations["self_reported"].confidence[:, 0], [0.9, 0.8, 0.1, np.nan]
    )


@pytest.mark.parametrize("first", [{"verifiers": None}, {}])
def test_answers_to_another_prompt_are_not_added_to_a_journal(tmp_path, first):
    journal = tmp_path / "run.jsonl"
    run(journal, **first)
    second = {} if first else {"verifiers": None}
    with pytest.raises(ValueError, match=r"begun with report .* another journal"):
        run(journal, **second)
    options = {"verifiers": {"self_reported": SelfReported(("0", "2"))}}
    with pytest.raises(ValueError, match="another journal"):
        run(journal, **options)


def test_two_different_confidences_in_one_answer_are_refused(tmp_path):
    both = {"a": SelfReported(), "b": SelfReported(("0", "2"))}
    with pytest.raises(ValueError, match="journals of their own"):
        run(tmp_path / "run.jsonl", verifiers=both)


def test_the_description_builds_the_same_verifier(tmp_path):
    done = run(tmp_path / "run.jsonl", verifiers={"s": SelfReported(("0", "2"))})
    described = done.evaluations["s"].verifier
    assert described["prompt"] is not None
    assert build_verifier(json.loads(json.dumps(described)), {}) == SelfReported(("0", "2"))


def test_fit_lets_it_compete_with_log_probabilities(tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    right = rng.random(n) < 0.6
    sure = np.where(right, rng.integers(70, 100, n), rng.integers(5, 60, n))
    said = [
        AIMessage(
            f"{'yes' if r else 'no'}\nConfidence: {s}%",
            response_metadata={"logprobs": {"content": [{"token": "yes", "logprob": -s / 100}]}},
        )
        for r, s in zip(right, sure, strict=True)
    ]
    candidates = [
        Candidate("small", ScriptedModel(*said), Price(0.1, 0.1), expected_cost_usd=1e-6),
        Candidate("large", ScriptedModel("yes"), Price(10, 10), expected_cost_usd=1e-4),
    ]
    journal = tmp_path / "run.jsonl"
    collect(
        [Question(f"q{i}", f"Question {i}?", "yes") for i in range(n)],
        candidates,
        journal=journal,
        grader="exact",
        limits=Limits(concurrency=1),
        verifiers={"self_reported": SelfReported()},
    )
    table = load_journal(journal)
    cost = np.tile([1e-6, 1e-4], (n, 1))
    outcomes = Outcomes(
        table.outcomes.queries, table.outcomes.candidates, table.outcomes.quality, cost
    )
    priced = replace(table, outcomes=outcomes)
    fitted = fit_router(priced, estimators={}, lambda_=10.0)
    names = " ".join(standing.name for standing in fitted.standings)
    assert "on self_reported" in names
    assert "on answer_logprob" in names
