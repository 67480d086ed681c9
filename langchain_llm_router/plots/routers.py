"""The figures of a saved router on recorded rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from langchain_llm_router.evaluation import Exam
from langchain_llm_router.evaluation.flips import spans
from langchain_llm_router.evaluation.sweeps import Sweep, utility_sweep
from langchain_llm_router.plots import cost_quality, reliability
from langchain_llm_router.plots import scores as score_plots
from langchain_llm_router.plots.canvas import Figure
from langchain_llm_router.policies import Policy
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types import Arm, Attempt, Situation

__all__ = ["router_figures"]

_Draw = Callable[[], Figure]

_MAX_POINTS = 25
_N_SCORES = 17


def router_figures(exam: Exam) -> dict[str, _Draw]:
    """Return functions that draw the figures of a router, by the name of the figure.

    There is `cost_quality` if all costs are known, and `reliability` with an estimator. With a
    verifier, there are `separability` and the figures of `scores` for each candidate except the
    last.
    """
    figures: dict[str, _Draw] = {}
    costs = exam.outcomes.cost_usd
    if costs is not None and not np.isnan(costs).any():
        figures["cost_quality"] = partial(_cost_quality, exam)
    if exam.quality is not None:
        figures["reliability"] = partial(
            reliability.reliability_curve, exam.quality, exam.own.quality
        )
    if exam.evaluations is not None:
        for j, name in enumerate(exam.own.candidates[:-1]):
            figures.update(_score_figures(exam, j, name))
    return figures


def _cost_quality(exam: Exam) -> Figure:
    sweep = _sweep(exam)
    done = exam.replay()
    chosen = cost_quality.replay_point("this router", done)
    return cost_quality.cost_quality_curve(
        [] if sweep is None else cost_quality.sweep_points("this router", sweep),
        singles=cost_quality.single_points(exam.outcomes),
        oracle=cost_quality.oracle_point(exam.outcomes),
        chosen=chosen,
        subtitle=f"{len(exam.own):,} recorded questions, 95 % intervals; ◆ as it is set",
    )


def _sweep(exam: Exam) -> Sweep | None:
    """Replay the router at every setting of its knob.

    The result is None without a knob, or if the knob is λ and all candidates cost the same.
    """
    policy, costs = exam.saved.policy, exam.own.mean_cost_usd
    assert costs is not None, "the curve is drawn where costs are known"
    knob = policy.knob
    if knob is None or (knob.name == "lambda" and len(np.unique(costs)) < 2):
        return None
    if policy.maximizes_utility and exam.quality is not None:
        return utility_sweep(
            exam.quality, exam.own, expected_cost_usd=exam.saved.expected_costs, n_points=60
        )
    knobs = np.array(policy.knob_values(costs, exam.quality))
    knobs = knobs[np.unique(np.linspace(0, len(knobs) - 1, _MAX_POINTS).astype(int))]
    done = [exam.replay(policy.with_knob(float(knob))) for knob in knobs]
    return Sweep(
        knobs,
        np.array([each.quality for each in done]),
        np.array([each.cost_usd for each in done]),
    )


def _score_figures(exam: Exam, j: int, name: str) -> Mapping[str, _Draw]:
    assert exam.evaluations is not None, "only called with evaluations"
    scores, good = exam.evaluations.confidence[:, j], exam.own.quality[:, j] >= 0.5
    if np.isnan(scores).all():
        return {}
    model = exam.saved.policy.observation_model(name)
    if not isinstance(model, KernelDensity):
        model = KernelDensity().fit(scores, good)
    drawn: dict[str, _Draw] = {
        "separability": partial(reliability.separability, scores, good),
        "evaluation_gaussians": partial(score_plots.evaluation_gaussians, model),
        "score_swarm": partial(score_plots.score_swarm, model),
        "density_buildup": partial(score_plots.density_buildup, model),
        "score_densities": partial(score_plots.score_densities, model),
        "p_good_curve": partial(score_plots.p_good_curve, model),
        "total_density": partial(score_plots.total_density, model),
    }
    costs = exam.saved.expected_costs
    if costs is not None and costs[j + 1] > 0:
        drawn["lambda_gradient"] = partial(_lambda_gradient, exam, model, j)
    return {f"{kind}_{_slug(name)}": draw for kind, draw in drawn.items()}


def _lambda_gradient(exam: Exam, model: KernelDensity, j: int) -> Figure:
    """Draw the λ from which the router's own policy keeps an answer, if its knob is λ."""
    costs = exam.saved.expected_costs
    assert costs is not None, "checked before"
    knob = exam.saved.policy.knob
    if knob is None or knob.name != "lambda":
        others = float(exam.own.quality[:, j + 1].mean())
        return score_plots.lambda_gradient(model, costs[j + 1], next_quality=others)
    predicted = None if exam.quality is None else exam.quality.mean(axis=0)
    arms = tuple(
        Arm(name, quality=None if predicted is None else float(predicted[k]), cost_usd=costs[k])
        for k, name in enumerate(exam.own.candidates)
    )
    kept = [_kept_from(exam.saved.policy, arms, j, s) for s in np.linspace(0, 1, _N_SCORES)]
    return score_plots.lambda_gradient(model, costs[j + 1], kept_from=kept)


def _kept_from(policy: Policy, arms: tuple[Arm, ...], j: int, score: float) -> float:
    """Return the lowest λ from which the policy keeps the answer of arm `j` with this score."""
    name = arms[j].candidate
    scored = Attempt(candidate=name, verified=True, confidence=float(score))
    *_, last = spans(policy, Situation("", arms, attempts=(scored,)))
    if last.choice == ("accept", name):
        return last.low
    following = arms[j + 1].cost_usd
    assert following is not None, "checked before"
    return 1 / following


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
