"""The demo on real labelled data, as shown by `llm-router demo`."""

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
