"""The figure of a cascade's models side by side, with what was observed of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from langchain_llm_router.plots.canvas import (
    GOOD,
    INK,
    MUTED,
    POOR,
    SCORES,
    Axes,
    Figure,
    axes,
    new,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types.figures import format_score

__all__ = ["cascade_scores"]

_LEFT, _WIDE, _HIGH, _GAP, _ABOVE, _BELOW = 0.6, 3.0, 2.3, 0.45, 1.15, 1.4
"""Inches: left margin, width and height of a panel, gap, heading, text below."""


@dataclass(frozen=True)
class _Step:
    """What happens at one model of the cascade."""

    score: float | None
    p_good: float | None
    """None where the model is not asked, or is the last and has no score."""

    reward: str
    decision: str
    keeps: bool | None
    """None if the model is not asked."""


def cascade_scores(
    models: Mapping[str, KernelDensity],
    scores: Mapping[str, float],
    *,
    lambda_: float,
    cost_usd: Mapping[str, float],
    raises_bar: bool = False,
    title: str = "What each model's score says, and what is done",
) -> Figure:
    """Draw the densities of each model with its observed score, P(good), reward and decision.

    The models are asked in order until an answer is kept. The reward of keeping an answer is
    λ·cost of the next model - (1 - P(good)), and it is kept from 0 on, as by `ConfidenceThreshold`.

    Args:
        models: The fitted observation model of each candidate, in the order of the cascade.
        scores: The verifier's score in [0, 1] of each answer; that of the last model, which is kept
            in any case, may be missing.
        lambda_: λ in quality per USD.
        cost_usd: Cost of a call to each candidate in USD.
        raises_bar: Whether the reward is P(good) - λ·cost of the next model, kept above 0: the
            seed article's, by which a higher λ is dearer.
        title: Title of the figure.

    Raises:
        ValueError: If there is no model, a model that is asked has no score, or one that may be
            asked next has no cost.
    """
    if len(models) == 0:
        msg = "`models` must have at least one observation model, got none."
        raise ValueError(msg)
    steps = _steps(models, scores, lambda_, cost_usd, raises_bar=raises_bar)
    width = _LEFT + len(models) * (_WIDE + _GAP)
    height = _ABOVE + _HIGH + _BELOW
    figure = new(width, height)
    figure.text(0.25 / width, 1 - 0.34 / height, title, color=INK, fontsize=13,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(0.25 / width, 1 - 0.62 / height, "densities of the scores of", color=MUTED,
                fontsize=10, va="center")  # fmt: skip
    for text, color, place in (("good answers", GOOD, 2.05), ("and of poor answers", POOR, 3.2)):
        figure.text(place / width, 1 - 0.62 / height, text, color=color, fontsize=10,
                    fontweight="bold", va="center")  # fmt: skip
    top = max(float(max(m.density_good_.max(), m.density_poor_.max())) for m in models.values())
    for i, (name, model) in enumerate(models.items()):
        box = ((_LEFT + i * (_WIDE + _GAP)) / width, _BELOW / height, _WIDE / width, _HIGH / height)
        ax = axes(figure, box, x="verifier's score", y="density" if i == 0 else "")
        ax.set_title(name, loc="left", color=INK, fontsize=11, fontweight="bold", pad=7)
        ax.set_xlim(-0.01, 1.01)
        ax.set_ylim(0, 1.1 * top)
        _panel(ax, model, steps[name])
    return figure


def _steps(
    models: Mapping[str, KernelDensity],
    scores: Mapping[str, float],
    lambda_: float,
    cost_usd: Mapping[str, float],
    *,
    raises_bar: bool,
) -> dict[str, _Step]:
    names, steps, kept = list(models), {}, False
    for name, following in zip(names, [*names[1:], None], strict=True):
        score = scores.get(name)
        if kept:
            steps[name] = _Step(None, None, "", "not asked", None)
            continue
        if following is None:
            p = None if score is None else models[name].p_good(score)
            steps[name] = _Step(score, p, "the last model", f"keep {name}'s answer", keeps=True)
            continue
        if score is None or following not in cost_usd:
            missing = f"`scores` of {name!r}" if score is None else f"`cost_usd` of {following!r}"
            msg = f"{missing} is missing: a model that is asked needs a score, the next a cost."
            raise ValueError(msg)
        p, price = models[name].p_good(score), lambda_ * cost_usd[following]
        reward = p - price if raises_bar else price - (1 - p)
        good, paid = format_score(p), format_score(price)
        parts = f"{good} - {paid}" if raises_bar else f"{paid} - (1 - {good})"
        kept = reward > 0 if raises_bar else reward >= 0
        decision = f"keep {name}'s answer" if kept else f"escalate to {following}"
        steps[name] = _Step(score, p, f"reward {parts} = {reward:+.3f}", decision, kept)
    return steps


def _panel(ax: Axes, model: KernelDensity, step: _Step) -> None:
    asked = step.keeps is not None
    sides = [(model.density_good_, GOOD), (model.density_poor_, POOR)]
    for density, color in sides:
        ax.fill_between(SCORES, density, color=color, alpha=0.22 if asked else 0.08, linewidth=0)
        ax.plot(SCORES, density, color=color, linewidth=2, alpha=1 if asked else 0.35)
    lines = []
    if step.score is not None:
        heights = model.likelihoods(step.score)
        ax.axvline(step.score, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
        for height, (_, color) in zip(heights, sides, strict=True):
            ax.plot([step.score], [height], "o", color=color, markeredgecolor=INK, markersize=7,
                    zorder=6, clip_on=False)  # fmt: skip
        assert step.p_good is not None, "it has a score"
        said = "no trust here: " if model.trust(step.score) == 0 else ""
        lines.append(f"score {format_score(step.score)}: {said}P(good) {format_score(step.p_good)}")
    if step.reward:
        lines.append(step.reward)
    color = MUTED if not asked else GOOD if step.keeps else POOR
    for k, (text, shade, weight) in enumerate(
        [(line, INK, "normal") for line in lines] + [(step.decision, color, "bold")]
    ):
        ax.annotate(text, (0, 0), xytext=(0, -52 - 17 * k), xycoords="axes fraction",
                    textcoords="offset points", color=shade, fontsize=10,
                    fontweight=weight)  # fmt: skip
