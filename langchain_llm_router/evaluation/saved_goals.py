"""What a saved router is to reach: the goal that it was fitted or calibrated for."""

from __future__ import annotations

from dataclasses import replace

from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.router.saved_router import SavedRouter

__all__ = ["goal_of", "with_goal"]


def with_goal(saved: SavedRouter, goal: Goal) -> SavedRouter:
    """Return the router with the goal that it is to reach."""
    words = None if goal.lambda_ is not None else str(goal)
    settings = {"target": words, "lambda_": goal.lambda_, "confidence": goal.confidence}
    return replace(saved, goal=settings)


def goal_of(
    saved: SavedRouter, *, target: str | None = None, confidence: float | None = None
) -> Goal:
    """Return the goal of a router.

    Args:
        saved: The router.
        target: Another target. If None, the router's own goal, or the default target if it has
            none.
        confidence: Another confidence. If None, the router's own.

    Raises:
        ValueError: If the target or the confidence is invalid.
    """
    own = saved.goal or {}
    level = own.get("confidence", 0.95) if confidence is None else confidence
    if target is not None:
        return Goal.of(target, None, level)
    return Goal.of(own.get("target"), own.get("lambda_"), level)
