"""Estimators of the quality of each candidate's answer, one file per kind.

The estimators that fine-tune a transformer need torch (extra `torch`); they are imported on first
use.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.estimators.abstention import Abstaining
    from langchain_llm_router.estimators.added_candidates import AddedCandidates
    from langchain_llm_router.estimators.bradley_terry import BradleyTerry
    from langchain_llm_router.estimators.causal_lm import CausalLMClassifier
    from langchain_llm_router.estimators.contrastive import ContrastiveEncoder
    from langchain_llm_router.estimators.decision_estimator import DecisionModelEstimator
    from langchain_llm_router.estimators.drift import DriftGauge, DriftReading, DriftWatch
    from langchain_llm_router.estimators.encoder import EncoderClassifier, ModelScorer
    from langchain_llm_router.estimators.ensemble import Ensemble
    from langchain_llm_router.estimators.estimator import Constant, QualityEstimator, Random
    from langchain_llm_router.estimators.folds import fold_indices, out_of_fold
    from langchain_llm_router.estimators.heuristics import Heuristics, complexity
    from langchain_llm_router.estimators.linear import Linear
    from langchain_llm_router.estimators.matrix_factorization import MatrixFactorization
    from langchain_llm_router.estimators.memory import ApproximateMemory, ExactMemory
    from langchain_llm_router.estimators.memory_store import StoreMemory
    from langchain_llm_router.estimators.neighbors import Clusters, NearestNeighbors
    from langchain_llm_router.estimators.output_length import OutputLength
    from langchain_llm_router.estimators.training_loop import Training
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".abstention": "Abstaining",
            ".added_candidates": "AddedCandidates",
            ".bradley_terry": "BradleyTerry",
            ".causal_lm": "CausalLMClassifier",
            ".contrastive": "ContrastiveEncoder",
            ".decision_estimator": "DecisionModelEstimator",
            ".drift": "DriftGauge DriftReading DriftWatch",
            ".encoder": "EncoderClassifier ModelScorer",
            ".ensemble": "Ensemble",
            ".estimator": "Constant QualityEstimator Random",
            ".folds": "fold_indices out_of_fold",
            ".heuristics": "Heuristics complexity",
            ".linear": "Linear",
            ".matrix_factorization": "MatrixFactorization",
            ".memory": "ApproximateMemory ExactMemory",
            ".memory_store": "StoreMemory",
            ".neighbors": "Clusters NearestNeighbors",
            ".training_loop": "Training",
            ".output_length": "OutputLength",
        },
    )

__all__ = [
    "Abstaining",
    "AddedCandidates",
    "ApproximateMemory",
    "BradleyTerry",
    "CausalLMClassifier",
    "Clusters",
    "Constant",
    "ContrastiveEncoder",
    "DecisionModelEstimator",
    "DriftGauge",
    "DriftReading",
    "DriftWatch",
    "EncoderClassifier",
    "Ensemble",
    "ExactMemory",
    "Heuristics",
    "Linear",
    "MatrixFactorization",
    "ModelScorer",
    "NearestNeighbors",
    "OutputLength",
    "QualityEstimator",
    "Random",
    "StoreMemory",
    "Training",
    "complexity",
    "fold_indices",
    "out_of_fold",
]
