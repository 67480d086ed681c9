"""Pictures of what a router does and what it saves (extra `plot`).

Every function returns a standalone matplotlib `Figure`: no pyplot, no global state, no window;
`save` writes it. What routing costs and scores is in `cost_quality`, how a verifier's score is read
in `scores`, which scores tell good from poor in `verifiers`, how far numbers can be believed in
`reliability`, one query's path in `paths`, why it was taken in `explained_decision`, which
estimator or policy won in `contests`, and all that apply to a saved router in `routers`.
"""

from langchain_llm_router.plots.canvas import save
from langchain_llm_router.plots.contests import answer_shares, contest_chart, worth_curve
from langchain_llm_router.plots.cost_quality import (
    StrategyPoint,
    cost_quality_curve,
    oracle_point,
    replay_point,
    single_points,
    sweep_points,
)
from langchain_llm_router.plots.explained_decision import explanation
from langchain_llm_router.plots.paths import decision_path
from langchain_llm_router.plots.reliability import reliability_curve, separability
from langchain_llm_router.plots.routers import router_figures
from langchain_llm_router.plots.scores import (
    density_buildup,
    evaluation_gaussians,
    lambda_gradient,
    p_good_curve,
    score_densities,
    score_swarm,
    total_density,
)
from langchain_llm_router.plots.verifiers import verifier_grid

__all__ = [
    "StrategyPoint",
    "answer_shares",
    "contest_chart",
    "cost_quality_curve",
    "decision_path",
    "density_buildup",
    "evaluation_gaussians",
    "explanation",
    "lambda_gradient",
    "oracle_point",
    "p_good_curve",
    "reliability_curve",
    "replay_point",
    "router_figures",
    "save",
    "score_densities",
    "score_swarm",
    "separability",
    "single_points",
    "sweep_points",
    "total_density",
    "verifier_grid",
    "worth_curve",
]
