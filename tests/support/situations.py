"""Situations of two candidates."""

from langchain_llm_router.types import Arm, RoutingOptions, Situation


def two(q_weak=0.4, q_strong=0.9, query="q", attempts=(), **options) -> Situation:
    arms = (Arm("weak", q_weak, 0.001), Arm("strong", q_strong, 0.1))
    return Situation(query, arms, attempts, RoutingOptions.parse(options))
