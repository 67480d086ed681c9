"""What a cascade costs in time is the sum of what it waits for, and unknown where that is."""

import numpy as np
import pytest

from langchain_llm_router.collect import collect
from langchain_llm_router.evaluation import latency_cost, replay
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.verification import SelfEvaluator
from tests.support.fakes import make_evaluations, make_outcomes

TABLE = make_outcomes(n=60, candidates=("small", "large"))
SAID = make_evaluations(TABLE)
RNG = np.random.default_rng(0)
TTFT = RNG.uniform(0.1, 0.5, (60, 2))
WHOLE = TTFT + RNG.uniform(0.5, 2.0, (60, 2))
CHECK = RNG.uniform(0.05, 0.2, (60, 2))
NAMES = ("small", "large")


def test_a_cascade_waits_for_its_draft_and_its_verdict_before_the_first_token():
    done = replay(ConfidenceThreshold(threshold=0.5), None, TABLE, evaluations=SAID)
    assert 0 < done.accepted.sum() < 60
    begin, end = [], []
    for i, column in enumerate(done.accepted):
        judged = WHOLE[i, 0] + CHECK[i, 0]
        begin.append(judged if column == 0 else judged + TTFT[i, 1])
        end.append(judged if column == 0 else judged + WHOLE[i, 1])
    cost = latency_cost(done, "large", NAMES, WHOLE, TTFT, CHECK)
    assert cost.n_rows == 60
    assert cost.first_token.median_s == pytest.approx(np.median(begin))
    assert cost.first_token.p95_s == pytest.approx(np.quantile(begin, 0.95))
    assert cost.whole.median_s == pytest.approx(np.median(end))
    assert cost.first_token_alone.median_s == pytest.approx(np.median(TTFT[:, 1]))
    assert "alone after" in cost.text()


def test_one_model_alone_costs_no_time_and_needs_no_verdicts():
    done = replay(Always("large"), None, TABLE)
    cost = latency_cost(done, "large", NAMES, WHOLE, TTFT)
    assert cost.first_token == cost.first_token_alone
    assert cost.whole == cost.whole_alone


def test_a_router_of_some_of_the_candidates_is_found_in_wider_tables():
    wide = [np.column_stack([table[:, 1], table[:, 0]]) for table in (WHOLE, TTFT, CHECK)]
    done = replay(ConfidenceThreshold(threshold=0.5), None, TABLE, evaluations=SAID)
    same = latency_cost(done, "small", NAMES, WHOLE, TTFT, CHECK)
    assert latency_cost(done, "small", ("large", "small"), *wide) == same
    with pytest.raises(ValueError, match=r"must include \['small'\]"):
        latency_cost(done, "large", ("large", "other"), *wide)
    with pytest.raises(ValueError, match=r"`ttft_s` must have shape \(60, 2\)"):
        latency_cost(done, "large", NAMES, WHOLE, TTFT[:5])


def test_unknown_latencies_are_unknown_and_never_zero():
    done = replay(ConfidenceThreshold(threshold=0.5), None, TABLE, evaluations=SAID)
    assert latency_cost(done, "large", NAMES, None, None) is None
    assert latency_cost(done, "large", NAMES, WHOLE, TTFT) is None
    some = CHECK.copy()
    some[10:] = np.nan
    assert latency_cost(done, "large", NAMES, WHOLE, TTFT, some).n_rows == 10


def test_collect_records_what_the_estimate_needs(tmp_path):
    rows = [{"query": f"{i}?", "reference": "5"} for i in range(3)]
    pool = [
        Candidate(name, ScriptedChatModel("5", verdicts=["correct"]), Price(1, 2)) for name in NAMES
    ]
    done = collect(rows, pool, journal=tmp_path / "run.jsonl", verifiers={"self": SelfEvaluator(2)})
    said = done.evaluations["self"]
    assert said.latency_s.shape == (3, 2)
    assert (said.select(["small"]).take([0]).latency_s > 0).all()
    replayed = replay(ConfidenceThreshold(), None, done.outcomes, evaluations=said)
    cost = latency_cost(replayed, "large", NAMES, done.latency_s, done.ttft_s, said.latency_s)
    assert cost.n_rows == 3
