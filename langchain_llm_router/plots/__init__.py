"""Pictures of what a router does and what it saves (extra `plot`).

Every function returns a matplotlib `Figure` that belongs to nobody: no pyplot, no global state, no
window. `save` writes it. What it costs is in `economics`, how to read a verifier in `cascades`.
"""

from langchain_llm_router.plots.canvas import save
from langchain_llm_router.plots.economics import (
    StrategyPoint,
    cost_quality_curve,
    oracle_point,
    replay_point,
    single_points,
    sweep_points,
)

__all__ = [
    "StrategyPoint",
    "cost_quality_curve",
    "oracle_point",
    "replay_point",
    "save",
    "single_points",
    "sweep_points",
]
