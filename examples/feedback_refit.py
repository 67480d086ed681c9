"""Log decisions, score the answers as users do, and refit the router on what they said.

A new kind of question arrives, on which the strong model is hardly needed, and feedback tells.
Offline recorded answers of real models are replayed. With your own data, change the line marked
below; on the command line it is `llm-router refit router --log decisions.jsonl --out router2`.
"""

import tempfile
from pathlib import Path

import numpy as np

from langchain_llm_router import ChatLLMRouter, route_of
from langchain_llm_router.data import ZeroEval
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.history import DecisionLog, read_log, refit, scored_rows
from langchain_llm_router.policies import RandomMix, Utility

NAMES, NEW, LAMBDA = ("gpt-4o-mini", "claude-3.5-sonnet"), "gsm", 20.0

# With your own data: outcomes, candidates = Outcomes.load("my.parquet"), [Candidate(...), ...]
outcomes, candidates = ZeroEval.load().outcomes.select(NAMES), ZeroEval.load().candidates(NAMES)


def main() -> None:
    is_new = np.array([group == NEW for group in outcomes.groups or ()])
    rng = np.random.default_rng(0)
    known = outcomes.take(rng.permutation(np.flatnonzero(~is_new))[:300])
    new = rng.permutation(np.flatnonzero(is_new))
    asked, test = outcomes.take(new[:200]), outcomes.take(new[200:])
    estimator = NearestNeighbors(n_neighbors=20).fit(known)
    with tempfile.TemporaryDirectory() as folder:
        log = DecisionLog(Path(folder) / "decisions.jsonl")
        # At random for a while: otherwise only what the router already likes would be scored.
        policy = RandomMix(dict.fromkeys(NAMES, 0.5))
        router = ChatLLMRouter(candidates=candidates, policy=policy, log=log)
        for i, question in enumerate(asked.queries):
            record = route_of(router.invoke(question)) or {}
            # Here the recorded grade; in your application a thumb, a test, or a judge.
            score = asked.quality[i, NAMES.index(record["candidate"])]
            log.feedback(record["decision_id"], float(score), key="thumb")
        log.flush()
        rows = scored_rows(read_log(log.path), NAMES, key="thumb")
    for name, one in (("before", estimator), ("after", refit(estimator, rows))):
        policy, costs = Utility(cost=LAMBDA), known.mean_cost_usd
        done = replay(policy, one.predict(test.queries), test, expected_cost_usd=costs)
        quality, cost = done.mean_quality, done.mean_cost_usd or 0.0
        print(f"{name:7s} quality {quality:.3f}, {1000 * cost:.2f} USD per 1000 questions, "
              f"quality - λ·cost {quality - LAMBDA * cost:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
