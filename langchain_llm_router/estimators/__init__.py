"""How good would each candidate's answer be? One file per kind of estimator."""

from langchain_llm_router.estimators.estimator import Constant, QualityEstimator, Random
from langchain_llm_router.estimators.neighbors import NearestNeighbors

__all__ = ["Constant", "NearestNeighbors", "QualityEstimator", "Random"]
