"""A journal of `collect` made from tables, for tests that need one without asking anybody."""

import json
from pathlib import Path

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations


def write_journal(
    path: Path, outcomes: Outcomes, evaluations: SelfEvaluations | None = None
) -> Path:
    """Write the lines that `collect` would have written; the verifier is called `self`."""
    settings = {"candidates": list(outcomes.candidates), "preamble": None, "grader": "ExactMatch"}
    lines = [{"kind": "run", "version": 1, "settings": settings}]
    for i, query in enumerate(outcomes.queries):
        lines.append({"kind": "question", "id": f"q{i}", "query": query, "reference": "x"})
        for j, name in enumerate(outcomes.candidates):
            where = {"id": f"q{i}", "candidate": name}
            cost = float(outcomes.cost_usd[i, j])
            lines.append({"kind": "answer", **where, "text": f"{name} says", "cost_usd": cost})
            lines.append({"kind": "grade", **where, "quality": float(outcomes.quality[i, j])})
            if evaluations is not None:
                score = float(evaluations.confidence[i, j])
                lines.append(
                    {
                        "kind": "evaluation",
                        **where,
                        "verifier": "self",
                        "confidence": None if np.isnan(score) else score,
                        "cost_usd": float(evaluations.cost_usd[i, j]),
                    }
                )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
