"""How good would each candidate's answer be? One file per kind of estimator."""

from langchain_llm_router.estimators.bradley_terry import BradleyTerry
from langchain_llm_router.estimators.estimator import Constant, QualityEstimator, Random
from langchain_llm_router.estimators.matrix_factorization import MatrixFactorization
from langchain_llm_router.estimators.memory import ApproximateMemory, ExactMemory
from langchain_llm_router.estimators.memory_store import StoreMemory
from langchain_llm_router.estimators.neighbors import NearestNeighbors

__all__ = [
    "ApproximateMemory",
    "BradleyTerry",
    "Constant",
    "ExactMemory",
    "MatrixFactorization",
    "NearestNeighbors",
    "QualityEstimator",
    "Random",
    "StoreMemory",
]
