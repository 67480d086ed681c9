"""From data to a router in one call, with a report that says what it is worth."""

from langchain_llm_router.fitting.fitted import Fitted, Standing
from langchain_llm_router.fitting.fitting import fit_router, load_data

__all__ = [
    "Fitted",
    "Standing",
    "fit_router",
    "load_data",
]
