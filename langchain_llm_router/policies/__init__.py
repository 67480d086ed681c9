"""Policies: pure functions from a situation to the next step."""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.policies.answer_pool import AnswerPool
    from langchain_llm_router.policies.automix import AutoMix
    from langchain_llm_router.policies.budgeted import BudgetedRouting
    from langchain_llm_router.policies.cascade_routing import CascadeRouting
    from langchain_llm_router.policies.confidence import ConfidenceThreshold
    from langchain_llm_router.policies.fitted_policy import FittedPolicy
    from langchain_llm_router.policies.frugal import FrugalCascade
    from langchain_llm_router.policies.knob import Knob
    from langchain_llm_router.policies.observation import (
        BetaBinomial,
        KernelDensity,
        ObservationModel,
    )
    from langchain_llm_router.policies.one_shot import Threshold, Utility, win_rate
    from langchain_llm_router.policies.policy import Always, OneShot, Policy, RandomMix
    from langchain_llm_router.policies.pomdp import Pomdp
    from langchain_llm_router.policies.pool_choice import choose_pool
    from langchain_llm_router.policies.safe_arm import SafeArm
    from langchain_llm_router.policies.unsure import Unsure
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".answer_pool": "AnswerPool",
            ".automix": "AutoMix",
            ".budgeted": "BudgetedRouting",
            ".cascade_routing": "CascadeRouting",
            ".confidence": "ConfidenceThreshold",
            ".fitted_policy": "FittedPolicy",
            ".frugal": "FrugalCascade",
            ".knob": "Knob",
            ".one_shot": "Threshold Utility win_rate",
            ".policy": "Always OneShot Policy RandomMix",
            ".pomdp": "Pomdp",
            ".pool_choice": "choose_pool",
            ".safe_arm": "SafeArm",
            ".unsure": "Unsure",
            ".observation": "BetaBinomial KernelDensity ObservationModel",
        },
    )

__all__ = [
    "Always",
    "AnswerPool",
    "AutoMix",
    "BetaBinomial",
    "BudgetedRouting",
    "CascadeRouting",
    "ConfidenceThreshold",
    "FittedPolicy",
    "FrugalCascade",
    "KernelDensity",
    "Knob",
    "ObservationModel",
    "OneShot",
    "Policy",
    "Pomdp",
    "RandomMix",
    "SafeArm",
    "Threshold",
    "Unsure",
    "Utility",
    "choose_pool",
    "win_rate",
]
