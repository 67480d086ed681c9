"""Collecting, self-evaluation and cascades over real local models, down to the token counts.

Which servers, says `tests/support/local_models/servers.py`. Models this small are wrong as often as
not, so everything here is about structure: what was asked for came back, was read, and adds up.
"""

import json
import math

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.collect import Limits, Question, collect
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import SelfEvaluator, YesNo
from tests.support.fakes import ScriptedModel
from tests.support.local_models.bench import PREAMBLE, VERIFIERS
from tests.support.local_models.servers import served

pytestmark = pytest.mark.local_llm

ASKED = [
    ("Which is a fruit?", "apple", "hammer"),
    ("What is frozen water called?", "steam", "ice"),
    ("What do bees make?", "honey", "iron"),
    ("Where do fish live?", "in water", "in trees"),
    ("Which is the largest?", "a mouse", "a whale"),
    ("What do you read?", "a soup", "a book"),
]
RIGHT = "ABAABB"
QUESTIONS = [
    Question(f"q{i}", f"{text}\nA. {a}\nB. {b}\nAnswer:", RIGHT[i], "facts")
    for i, (text, a, b) in enumerate(ASKED)
]
K = 3


@pytest.fixture
def candidates():
    """Each answers with the letter A or B, and tells its probability."""
    return served(
        max_tokens=4,
        temperature=0,
        logprobs=True,
        top_logprobs=5,
        max_retries=0,
        timeout=300,
        extra_body={"grammar": "root ::= [AB]"},
    )


@pytest.fixture
def judge():
    """The weakest, free to write more than a letter: no server takes a grammar and a schema."""
    # Without the penalty it may repeat itself until it is cut off.
    settings = {"max_tokens": 160, "max_retries": 0, "extra_body": {"repeat_penalty": 1.3}}
    weakest = served(**settings, timeout=300)[0]
    return Candidate("judge", weakest.model, Price(0.1, 0.1))


def test_collecting_from_real_models_grades_and_verifies_every_answer(candidates, tmp_path):
    journal = tmp_path / "run.jsonl"
    done = collect(
        QUESTIONS,
        candidates,
        journal=journal,
        grader="exact",
        verifiers=VERIFIERS,
        preamble=PREAMBLE,
        verify_last=True,
        limits=Limits(concurrency=2, attempts=1),
    )
    shape = (len(QUESTIONS), len(candidates))
    assert done.incomplete == {}
    assert done.ids == tuple(question.id for question in QUESTIONS)
    assert {answer for row in done.answers for answer in row.values()} <= {"A", "B"}
    right = [[row[c.name] == q.reference for c in candidates]
             for row, q in zip(done.answers, QUESTIONS, strict=True)]  # fmt: skip
    np.testing.assert_array_equal(done.outcomes.quality, right)
    # Costs follow from the usage that the servers report.
    tokens = done.input_tokens + done.output_tokens
    np.testing.assert_allclose(done.outcomes.cost_usd, 0.1 * tokens / 1e6)
    assert (done.input_tokens > 20).all()
    assert (done.output_tokens >= 1).all()
    assert (done.latency_s > 0).all()
    # A grammar leaves no verdict unread, and eight samples cost one request.
    verdicts = done.evaluations["self_k8"].verdicts
    assert verdicts.shape == (*shape, 8)
    assert np.isin(verdicts, [0, 1]).all()
    for name in ("self_k8", "token_probability", "answer_logprob"):
        scores = done.evaluations[name].confidence
        assert scores.shape == shape
        assert ((scores >= 0) & (scores <= 1)).all()
    assert (done.evaluations["self_k8"].cost_usd > 0).all()
    # Resuming a complete journal makes no call.
    dead = [Candidate(c.name, ScriptedModel(), c.price) for c in candidates]
    settings = {"verifiers": VERIFIERS, "preamble": PREAMBLE, "verify_last": True}
    again = collect(QUESTIONS, dead, journal=journal, **settings)
    np.testing.assert_array_equal(again.outcomes.quality, done.outcomes.quality)


def test_verdicts_under_a_json_schema_are_read(judge, candidates, tmp_path):
    journal = tmp_path / "run.jsonl"
    done = collect(
        QUESTIONS[:2],
        candidates[:1],
        journal=journal,
        verifiers={"reasoned": SelfEvaluator(K, judge=judge, method="json_schema")},
        preamble=PREAMBLE,
        limits=Limits(concurrency=1, attempts=1),
    )
    found = done.evaluations["reasoned"]
    assert found.verdicts.shape == (2, 1, K)
    assert (found.cost_usd > 0).all()
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    judged = [line for line in lines if line["kind"] == "evaluation"]
    verdicts = [verdict for line in judged for verdict in line["verdicts"]]
    # A schema bounds the form, not the length: what ran into the limit is missing, and says so.
    cut_off = [error for line in judged for error in line.get("errors", ())]
    assert all("length limit" in error for error in cut_off)
    assert verdicts.count(None) == len(cut_off) <= len(verdicts) // 2


@pytest.mark.parametrize("threshold", [0.0, 0.75, 1.0])
def test_a_cascade_over_real_models_keeps_what_passes_and_its_costs_add_up(candidates, threshold):
    pair = candidates[:2]
    if len(pair) < 2:
        pytest.skip("a cascade needs two local models, one is served")
    names = [candidate.name for candidate in pair]
    router = ChatLLMRouter(
        candidates=pair,
        policy=ConfidenceThreshold(threshold=threshold),
        verifier=YesNo(
            4,
            question="Is this answer correct? Yes or No.",
            kwargs={"max_tokens": 1, "extra_body": {"grammar": 'root ::= "Yes" | "No"'}},
        ),
    )
    for question in QUESTIONS[:3]:
        answer = router.invoke([*PREAMBLE, ("human", question.query)])
        record = route_of(answer)
        attempts = record["attempts"]
        assert answer.text in {"A", "B"}
        assert [attempt["candidate"] for attempt in attempts] == names[: len(attempts)]
        first = attempts[0]
        assert len(first["verdicts"]) == 4
        assert None not in first["verdicts"]
        assert first["confidence"] == np.mean(first["verdicts"])
        kept = first["confidence"] >= threshold
        assert record["candidate"] == names[0 if kept else 1]
        assert len(attempts) == (1 if kept else 2)
        for attempt in attempts:
            assert attempt["error"] is None
            assert attempt["input_tokens"] > 20
            used = attempt["input_tokens"] + attempt["output_tokens"]
            assert attempt["cost_usd"] == pytest.approx(0.1 * used / 1e6)
        costs = [a["cost_usd"] + (a.get("verification_cost_usd") or 0.0) for a in attempts]
        assert record["cost_usd"] == pytest.approx(math.fsum(costs))
        assert answer.usage_metadata["output_tokens"] == attempts[-1]["output_tokens"]
