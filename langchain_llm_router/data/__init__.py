"""The tables everything is learned from and judged on.

`Outcomes` says how good every candidate's answer to every query was, `Battles` which of two answers
was preferred, `SelfEvaluations` what verifiers said about the answers. In these bulk arrays an
unknown number is NaN (an ndarray has no None); sums over it stay unknown.

JSONL holds one row a line: `{"query": ..., "group": ..., "quality": {"small": 1.0}, "cost_usd":
{"small": 1e-4}}`. Parquet holds the same with columns named `quality.small`.
"""

from langchain_llm_router.data.battles import Battles
from langchain_llm_router.data.outcomes import Outcomes
from langchain_llm_router.data.self_evaluations import SelfEvaluations
from langchain_llm_router.data.splitting import split_indices

__all__ = ["Battles", "Outcomes", "SelfEvaluations", "split_indices"]
