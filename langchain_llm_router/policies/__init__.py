"""Whom to ask? Pure functions from what is known to what to do next."""

from langchain_llm_router.policies.budgeted import BudgetedRouting
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.one_shot import Threshold, Utility, win_rate
from langchain_llm_router.policies.policy import Always, OneShot, Policy, RandomMix
from langchain_llm_router.policies.pomdp import Pomdp

__all__ = [
    "Always",
    "BudgetedRouting",
    "ConfidenceThreshold",
    "OneShot",
    "Policy",
    "Pomdp",
    "RandomMix",
    "Threshold",
    "Utility",
    "win_rate",
]
