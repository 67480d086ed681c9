"""Why was this candidate asked? One decision explained, as text, as data, and for a plot.

    print(explain(router, "prove that pi is irrational").text())

`plots.explanation` draws it. No candidate is asked: a policy is pure, so what it would do at
another λ, or after another verdict, is found by running the policy.
"""

from langchain_llm_router.explaining.explain import explain, recorded_attempts
from langchain_llm_router.explaining.explanation import (
    ArmTerms,
    Explanation,
    Neighbor,
    Outlook,
    StepTaken,
)
from langchain_llm_router.explaining.flipping import Span, knob_of, spans
from langchain_llm_router.policies import Knob

__all__ = [
    "ArmTerms",
    "Explanation",
    "Knob",
    "Neighbor",
    "Outlook",
    "Span",
    "StepTaken",
    "explain",
    "knob_of",
    "recorded_attempts",
    "spans",
]
