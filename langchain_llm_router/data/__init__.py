"""Tables of data, saved artifacts, embeddings, and small recorded tables.

`Outcomes` has the quality and cost of every candidate's answer to every query, `Battles` which of
two answers was preferred, and `SelfEvaluations` the verifiers' scores of the answers. In their
arrays an unknown number is NaN, because an ndarray has no None; a sum with it is NaN.

A JSONL file has one row per line: `{"query": ..., "group": ..., "quality": {"small": 1.0},
"cost_usd": {"small": 1e-4}}`. A Parquet file has the same values in columns such as
`quality.small`.

`LocalModels` and `ZeroEval` are recorded answers of real models, which `RecordedChatModel`
replays; `OpenHandsIndex` has recorded runs of agents with their costs. `benchmarks` reads public
benchmarks from local files, `load_arena` and `load_rankings` recorded preferences.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.data.battles import Battles
    from langchain_llm_router.data.embeddings import LexicalEmbeddings
    from langchain_llm_router.data.local_models import LocalModels
    from langchain_llm_router.data.named_numbers import NamedNumbers
    from langchain_llm_router.data.openhands_index import OpenHandsIndex
    from langchain_llm_router.data.outcomes import Outcomes
    from langchain_llm_router.data.preference_files import clean_text, load_arena, load_rankings
    from langchain_llm_router.data.recorded_model import RecordedChatModel
    from langchain_llm_router.data.self_evaluations import SelfEvaluations
    from langchain_llm_router.data.splits import split_indices
    from langchain_llm_router.data.zeroeval import ZeroEval
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".battles": "Battles",
            ".named_numbers": "NamedNumbers",
            ".preference_files": "clean_text load_arena load_rankings",
            ".outcomes": "Outcomes",
            ".self_evaluations": "SelfEvaluations",
            ".splits": "split_indices",
            ".local_models": "LocalModels",
            ".openhands_index": "OpenHandsIndex",
            ".recorded_model": "RecordedChatModel",
            ".zeroeval": "ZeroEval",
            ".embeddings": "LexicalEmbeddings",
        },
    )

__all__ = [
    "Battles",
    "LexicalEmbeddings",
    "LocalModels",
    "NamedNumbers",
    "OpenHandsIndex",
    "Outcomes",
    "RecordedChatModel",
    "SelfEvaluations",
    "ZeroEval",
    "clean_text",
    "load_arena",
    "load_rankings",
    "split_indices",
]
