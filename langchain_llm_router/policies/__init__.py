"""Whom to ask? Pure functions from what is known to what to do next."""

from langchain_llm_router.policies.automix import AutoMix
from langchain_llm_router.policies.budgeted import BudgetedRouting
from langchain_llm_router.policies.cascade_routing import CascadeRouting
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.fitted import FittedPolicy
from langchain_llm_router.policies.frugal import FrugalCascade
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.one_shot import Threshold, Utility, win_rate
from langchain_llm_router.policies.policy import Always, OneShot, Policy, RandomMix
from langchain_llm_router.policies.pomdp import Pomdp
from langchain_llm_router.policies.safe_arm import SafeArm

__all__ = [
    "Always",
    "AutoMix",
    "BudgetedRouting",
    "CascadeRouting",
    "ConfidenceThreshold",
    "FittedPolicy",
    "FrugalCascade",
    "Knob",
    "OneShot",
    "Policy",
    "Pomdp",
    "RandomMix",
    "SafeArm",
    "Threshold",
    "Utility",
    "win_rate",
]
