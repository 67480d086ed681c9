"""Small real labelled data that ships with the package, and chat models that replay it."""

from langchain_llm_router.datasets.local_models import LocalModels
from langchain_llm_router.datasets.recorded import RecordedChatModel
from langchain_llm_router.datasets.zeroeval import ZeroEval

__all__ = ["LocalModels", "RecordedChatModel", "ZeroEval"]
