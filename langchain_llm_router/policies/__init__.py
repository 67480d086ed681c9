"""Whom to ask? Pure functions from what is known to what to do next."""

from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.one_shot import Threshold, Utility, win_rate
from langchain_llm_router.policies.policy import Always, OneShot, Policy, RandomMix

__all__ = [
    "Always",
    "ConfidenceThreshold",
    "OneShot",
    "Policy",
    "RandomMix",
    "Threshold",
    "Utility",
    "win_rate",
]
