"""The main job on real labelled data, as `llm-router demo` shows it."""

from langchain_llm_router.apps.demo.demo import (
    Demo,
    FittedCascade,
    FittedRoute,
    Strategy,
)

__all__ = [
    "Demo",
    "FittedCascade",
    "FittedRoute",
    "Strategy",
]
