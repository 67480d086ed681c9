"""Figures of routers, verifiers and decisions (extra `plot`).

Every function returns a matplotlib `Figure` without pyplot or global state; `save` writes it. The
modules are `cost_quality` (cost and quality of strategies), `single_answers` (Gaussians of single
answers), `scores` (the observation model of a verifier's scores), `cascade_scores` (the models of a
cascade and what was observed), `verifiers` (scores of several verifiers and models), `reliability`
(calibration and separability), `paths` (the steps of one query), `explained_decision` (an
explanation), `contests` (the results of `fit_router`) and `routers` (all figures of a saved
router).
"""

from langchain_llm_router.plots.canvas import save
from langchain_llm_router.plots.cascade_scores import cascade_scores
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
from langchain_llm_router.plots.reliability import (
    closeness_histograms,
    reliability_curve,
    separability,
)
from langchain_llm_router.plots.routers import router_figures
from langchain_llm_router.plots.scores import (
    bell_sum,
    density_buildup,
    evaluation_gaussians,
    lambda_gradient,
    p_good_curve,
    score_densities,
    score_swarm,
    total_density,
)
from langchain_llm_router.plots.single_answers import answer_gaussian, answer_gaussians
from langchain_llm_router.plots.verifiers import verifier_grid

__all__ = [
    "StrategyPoint",
    "answer_gaussian",
    "answer_gaussians",
    "answer_shares",
    "bell_sum",
    "cascade_scores",
    "closeness_histograms",
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
