"""A journal of `collect` made from tables, for tests that need one without asking anybody."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations


def write_journal(
    path: Path, outcomes: Outcomes, evaluations: SelfEvaluations | None = None
) -> Path:
    """Write the lines that `collect` would have written; the verifier is called `self`.

    Where latencies are known, the first token comes after half of the time.
    """
    settings = {"candidates": list(outcomes.candidates), "preamble": None, "grader": "ExactMatch"}
    lines = [{"kind": "run", "version": 1, "settings": settings}]
    for i, query in enumerate(outcomes.queries):
        lines.append({"kind": "question", "id": f"q{i}", "query": query, "reference": "x"})
        for j, name in enumerate(outcomes.candidates):
            where = {"id": f"q{i}", "candidate": name}
            cost = float(outcomes.cost_usd[i, j])
            times = {}
            if outcomes.latency_s is not None:
                seconds = float(outcomes.latency_s[i, j])
                times = {"latency_s": seconds, "ttft_s": seconds / 2}
            text = f"{name} says"
            lines.append({"kind": "answer", **where, "text": text, "cost_usd": cost, **times})
            lines.append({"kind": "grade", **where, "quality": float(outcomes.quality[i, j])})
            if evaluations is not None:
                score = float(evaluations.confidence[i, j])
                took = evaluations.latency_s
                lines.append(
                    {
                        "kind": "evaluation",
                        **where,
                        "verifier": "self",
                        "confidence": None if np.isnan(score) else score,
                        "cost_usd": float(evaluations.cost_usd[i, j]),
                        "latency_s": None if took is None else float(took[i, j]),
                    }
                )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def timed(
    outcomes: Outcomes, evaluations: SelfEvaluations, seconds: float = 1.0
) -> tuple[Outcomes, SelfEvaluations]:
    """The same tables where every answer and every verification takes so many seconds."""
    each = np.full(outcomes.quality.shape, seconds)
    return replace(outcomes, latency_s=each), replace(evaluations, latency_s=each)
