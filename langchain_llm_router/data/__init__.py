"""Tables in and out, what is saved, and the small real tables that ship with the package.

`Outcomes` says how good every candidate's answer to every query was, `Battles` which of two answers
was preferred, `SelfEvaluations` what verifiers said about the answers. In these bulk arrays an
unknown number is NaN (an ndarray has no None); sums over it stay unknown.

JSONL holds one row a line: `{"query": ..., "group": ..., "quality": {"small": 1.0}, "cost_usd":
{"small": 1e-4}}`. Parquet holds the same with columns named `quality.small`.

`LocalModels` and `ZeroEval` are recorded answers of real models, `RecordedChatModel` replays them;
`benchmarks` reads public benchmarks from files that you have.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.data.battles import Battles
    from langchain_llm_router.data.embeddings import LexicalEmbeddings
    from langchain_llm_router.data.local_models import LocalModels
    from langchain_llm_router.data.outcomes import Outcomes
    from langchain_llm_router.data.recorded_model import RecordedChatModel
    from langchain_llm_router.data.self_evaluations import SelfEvaluations
    from langchain_llm_router.data.splits import split_indices
    from langchain_llm_router.data.zeroeval import ZeroEval
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".battles": "Battles",
            ".outcomes": "Outcomes",
            ".self_evaluations": "SelfEvaluations",
            ".splits": "split_indices",
            ".local_models": "LocalModels",
            ".recorded_model": "RecordedChatModel",
            ".zeroeval": "ZeroEval",
            ".embeddings": "LexicalEmbeddings",
        },
    )

__all__ = [
    "Battles",
    "LexicalEmbeddings",
    "LocalModels",
    "Outcomes",
    "RecordedChatModel",
    "SelfEvaluations",
    "ZeroEval",
    "split_indices",
]
