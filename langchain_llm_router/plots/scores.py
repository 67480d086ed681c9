"""Figures of the observation model of a verifier's scores, a fitted `KernelDensity`.

In order, they show the scores as Gaussians, the scores as dots, how kernels add up to a density,
their sum and its normalisation, the densities of good and poor answers, P(good), the total density,
and the effect of λ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.plots.canvas import (
    GOOD,
    INK,
    MUTED,
    POOR,
    SCORES,
    WIDE,
    Axes,
    Figure,
    axes,
    gradient,
    gradient_key,
    new,
    readable,
)
from langchain_llm_router.policies.observation import KernelDensity, normal_density
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = [
    "bell_sum",
    "density_buildup",
    "evaluation_gaussians",
    "lambda_gradient",
    "p_good_curve",
    "score_densities",
    "score_swarm",
    "total_density",
]


_SCORE = "verifier's score"


def evaluation_gaussians(
    model: KernelDensity, *, title: str = "Every evaluation, a Gaussian"
) -> Figure:
    """Draw each training score as its Gaussian, good answers above and poor answers below."""
    figure = new(8, 4.4)
    ax = _scores(figure, title, "good answers above the line, poor ones below", y="")
    for scores, sign, color in _sides(model):
        width = model.kernel_width(scores)
        shown = np.sort(scores)[:: max(1, len(scores) // 60)]
        for score in shown:
            bell = sign * normal_density(SCORES, score, width) / normal_density(0.0, 0.0, width)
            ax.fill_between(SCORES, bell, color=color, alpha=1.2 / max(len(shown), 3), linewidth=0)
            seen = np.abs(bell) > 0.005
            ax.plot(SCORES[seen], bell[seen], color=color, alpha=0.45, linewidth=0.7)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_ylim(-1.25, 1.25)
    ax.set_yticks([])
    _side_names(ax, model)
    return figure


def score_swarm(model: KernelDensity, *, title: str = "What the verifier said") -> Figure:
    """Draw every training score as a dot, good answers above and poor answers below."""
    figure = new(8, 3.8)
    ax = _scores(figure, title, "one dot per answer", y="")
    for scores, sign, color in _sides(model):
        shown = scores[:: max(1, len(scores) // 400)]
        x, y = _swarm(shown)
        ax.scatter(x, sign + y, s=16, color=color, alpha=0.75, linewidth=0)
    ax.set_ylim(-2, 2)
    ax.set_yticks([])
    _side_names(ax, model)
    return figure


def density_buildup(
    model: KernelDensity,
    *,
    counts: Sequence[int] = (1, 4, 16),
    title: str = "How kernels add up to a density",
) -> Figure:
    """Draw the density of the scores of good answers after one, a few and all scores.

    If there are no good answers, the scores of poor answers are used.
    """
    scores = model.scores_good_ if len(model.scores_good_) > 0 else model.scores_poor_
    steps = [n for n in counts if n < len(scores)] + [len(scores)]
    figure = new(10, 3.6)
    note = "thin: one bell per evaluation (not to scale); thick: their mean"
    # The order spreads evenly over the scores, so a few scores resemble all.
    shuffled = scores[np.argsort(np.argsort(scores) * 0.6180339887 % 1)]
    room = 0.95 / len(steps)
    for i, n in enumerate(steps):
        box = (0.03 + i * room, 0.17, room - 0.03, 0.55)
        ax = axes(
            figure, box, title=title if i == 0 else "", subtitle=note if i == 0 else "", x=_SCORE
        )
        width = model.kernel_width(shuffled[:n])
        bells = np.array([normal_density(SCORES, score, width) for score in shuffled[:n]])
        density = bells.mean(axis=0)
        ax.set_ylim(0, 1.3 * float(density.max(initial=1e-9)))
        scale = 0.3 * float(density.max(initial=0)) * width * math.sqrt(2 * math.pi)
        for bell in bells[:: max(1, n // 60)]:
            ax.plot(SCORES, scale * bell, color=GOOD, alpha=0.5, linewidth=0.7)
        ax.plot(SCORES, density, color=INK, linewidth=2)
        text = "1 evaluation" if n == 1 else f"{n} evaluations"
        ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", color=INK, fontsize=10)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_yticks([])
    return figure


def bell_sum(model: KernelDensity, *, title: str = "From the sum of bells to a density") -> Figure:
    """Draw the sum of one Gaussian per good answer, and the same divided by its area.

    The left height grows with the number of answers; the right one has area 1, and can be compared
    between sets of different size. The scores are drawn as dots below. If there are no good
    answers, the scores of poor answers are used.
    """
    has_good = len(model.scores_good_) > 0
    scores, color = (model.scores_good_, GOOD) if has_good else (model.scores_poor_, POOR)
    width = model.kernel_width(scores)
    total = np.sum([normal_density(SCORES, score, width) for score in scores], axis=0)
    area = float(np.trapezoid(total, SCORES))
    figure = new(10, 4.4)
    note = f"{len(scores)} {'good' if has_good else 'poor'} answers, bells of width {width:.3f}"
    sides = [
        (0.07, total, title, f"{note}; their sum has area {area:.1f}", "sum of the bells"),
        (0.56, total / area, "", "divided by its area: area 1", "density"),
    ]
    dots, rows = _swarm(scores[:: max(1, len(scores) // 400)])
    for left, curve, heading, below, name in sides:
        ax = axes(figure, (left, 0.36, 0.42, 0.46), title=heading, subtitle=below, y=name)
        ax.fill_between(SCORES, curve, color=color, alpha=0.25, linewidth=0)
        ax.plot(SCORES, curve, color=color, linewidth=2)
        ax.set_ylim(0, None)
        ax.tick_params(labelbottom=False)
        swarm = axes(figure, (left, 0.14, 0.42, 0.18), x=_SCORE)
        swarm.scatter(dots, rows, s=10, color=color, alpha=0.75, linewidth=0)
        swarm.set_ylim(-1, 1)
        swarm.set_yticks([])
        for each in (ax, swarm):
            each.set_xlim(-0.01, 1.01)
    return figure


def score_densities(
    model: KernelDensity, *, title: str = "Scores of good and of poor answers"
) -> Figure:
    """Draw both densities, with area 1 or, if the model uses base rates, their class shares."""
    figure = new(8, 4.4)
    shares = (model.base_rate_, 1 - model.base_rate_) if model.base_rate else (1.0, 1.0)
    note = "each weighted by its share of answers" if model.base_rate else "each of area 1"
    ax = _scores(figure, title, note, y="density")
    for (scores, _, color), density, share, name in zip(
        _sides(model),
        (model.density_good_, model.density_poor_),
        shares,
        _names(model),
        strict=True,
    ):
        ax.fill_between(SCORES, share * density, color=color, alpha=0.25, linewidth=0)
        ax.plot(SCORES, share * density, color=color, linewidth=2)
        if len(scores) > 0:
            peak = int(density.argmax())
            _label_peak(ax, SCORES[peak], share * density[peak], name, color)
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
    return figure


def p_good_curve(
    model: KernelDensity,
    *,
    prior: float | None = None,
    score: float | None = None,
    title: str = "P(good | score)",
) -> Figure:
    """Draw P(good) by score, with the regions that the density gate does not trust in grey.

    Args:
        model: The fitted observation model.
        prior: P(good) before the score. If None, the base rate.
        score: An observed score to mark, in [0, 1].
        title: Title of the figure.
    """
    figure = new(8, 4.4)
    ungated = replace(model, gate=0.0, hard_gate=0.0)
    labels = np.repeat([True, False], [len(model.scores_good_), len(model.scores_poor_)])
    ungated.fit(np.concatenate([model.scores_good_, model.scores_poor_]), labels)
    p = np.array([model.p_good(float(s), prior=prior) for s in SCORES])
    free = np.array([ungated.p_good(float(s), prior=prior) for s in SCORES])
    trust = np.array([model.trust(float(s)) for s in SCORES])
    gated = float(np.abs(p - free).max()) > 0.005
    note = "grey: scores too rare to be trusted; " if bool((trust < 0.5).any()) else ""
    note += "dashed: without this density gate" if gated else "the density gate changes nothing"
    ax = _scores(figure, title, note, y="P(answer good)")
    ax.fill_between(
        SCORES, 0, 1, where=trust < 0.5, color="#eceff3", linewidth=0, step="mid", zorder=0
    )
    if gated:
        ax.plot(SCORES, free, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.plot(SCORES, p, color=GOOD, linewidth=2.4)
    ax.set_ylim(0, 1.03)
    observed = None if score is None else model.p_good(score, prior=prior)
    if score is not None and observed is not None:
        _mark_score(ax, score, observed)
    # Away from the label of the observed score.
    _name_gap(ax, trust, 0.5 if observed is None or abs(observed - 0.5) > 0.2 else 0.22)
    return figure


def total_density(model: KernelDensity, *, title: str = "Where scores have been seen") -> Figure:
    """Draw the density of all training scores, and the gate below which trust falls."""
    figure = new(8, 4.0)
    ax = _scores(figure, title, f"{_count(model)} evaluations", y="density")
    total = model.density_total_
    ax.fill_between(SCORES, total, color=MUTED, alpha=0.25, linewidth=0)
    ax.plot(SCORES, total, color=INK, linewidth=2)
    highest = float(total.max())
    gates = [
        (model.gate * highest, "gate: below it, trust falls"),
        (model.hard_gate * highest, "hard gate: below it, no trust"),
    ]
    for floor, text in gates:
        if floor <= 0:
            continue
        ax.axhline(floor, color=POOR, linewidth=1.2, linestyle=(0, (4, 3)))
        # Where the density is lowest, so that the label stands beside the curve's own line.
        left = float(total[: len(total) // 3].mean()) < float(total[-len(total) // 3 :].mean())
        ax.annotate(text, (0.02 if left else 0.98, floor), xytext=(0, 5),
                    textcoords="offset points", color=POOR, fontsize=9, va="bottom",
                    ha="left" if left else "right",
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 1, "alpha": 0.75},
                    )  # fmt: skip
    ax.set_ylim(0, None)
    return figure


def lambda_gradient(
    model: KernelDensity,
    cost_usd: float,
    *,
    prior: float | None = None,
    next_quality: float = 1.0,
    kept_from: ArrayLike | None = None,
    title: str = "From which λ an answer is kept",
) -> Figure:
    """Draw P(good) and the total density, colored by the λ from which an answer is kept.

    λ is in quality per USD, the higher the cheaper: an answer is kept where what the next candidate
    would add, `next_quality` - P(good), is not worth λ·cost of that candidate.

    Args:
        model: The fitted observation model.
        cost_usd: Cost of a call to the next candidate in USD.
        prior: P(good) before the score. If None, the base rate.
        next_quality: Expected quality of the next candidate's answer; 1 is the most that it can be.
        kept_from: The λ from which a policy keeps an answer, at scores evenly spaced from 0 to 1.
            If None, by the rule above.
        title: Title of the figure.
    """
    if not cost_usd > 0:
        msg = f"`cost_usd` of the next candidate must be > 0, got {cost_usd!r}."
        raise ValueError(msg)
    figure = new(8.4, 5.6)
    p = np.array([model.p_good(float(s), prior=prior) for s in SCORES])
    if kept_from is None:
        lambdas, top = np.maximum(next_quality - p, 0.0) / cost_usd, next_quality / cost_usd
    else:
        known = np.asarray(kept_from, dtype=np.float64)
        lambdas = np.interp(SCORES, np.linspace(0, 1, len(known)), known)
        top = max(float(known.max()), 1e-12)
    note = f"the next candidate costs {format_usd(1000 * cost_usd)} per 1,000 queries"
    upper = axes(figure, (0.09, 0.5, 0.73, 0.36), title=title, subtitle=note, y="P(answer good)")
    lower = axes(figure, (0.09, 0.11, 0.73, 0.3), x=_SCORE, y="total density")
    for ax, curve in ((upper, p), (lower, model.density_total_)):
        gradient(ax, SCORES, curve, 1 - lambdas / top)
        ax.plot(SCORES, curve, color=INK, linewidth=1.6)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.05 * max(float(curve.max()), 0.1))
    upper.tick_params(labelbottom=False)
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    ticks = [(share, readable((1 - share) * top)) for share in shares]
    gradient_key(figure, (0.84, 0.11, 0.02, 0.75), ticks, "kept from λ (quality per USD)")
    return figure


def _scores(figure: Figure, title: str, subtitle: str, *, y: str) -> Axes:
    ax = axes(figure, WIDE, title=title, subtitle=subtitle, x=_SCORE, y=y)
    ax.set_xlim(-0.01, 1.01)
    return ax


def _sides(model: KernelDensity) -> list[tuple[Floats, int, str]]:
    return [(model.scores_good_, 1, GOOD), (model.scores_poor_, -1, POOR)]


def _names(model: KernelDensity) -> tuple[str, str]:
    return f"{len(model.scores_good_)} good", f"{len(model.scores_poor_)} poor"


def _count(model: KernelDensity) -> int:
    return len(model.scores_good_) + len(model.scores_poor_)


def _mark_score(ax: Axes, score: float, p_good: float) -> None:
    """Mark an observed score and its P(good)."""
    ax.plot([score, score], [0, p_good], color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
    ax.plot([score], [p_good], "D", color=INK, markeredgecolor="white", markersize=9, zorder=6)
    # P(good) mostly rises with the score: it is free above on the left, and below on the right.
    below = score < 0.6 and p_good > 0.12
    ax.annotate(f"observed {format_score(score)}: P(good) {format_score(p_good)}", (score, p_good),
                xytext=(10 if score < 0.6 else -10, -8 if below else 8),
                textcoords="offset points", ha="left" if score < 0.6 else "right",
                va="top" if below else "bottom", color=INK, fontsize=10,
                fontweight="bold")  # fmt: skip


def _side_names(ax: Axes, model: KernelDensity) -> None:
    for name, y, va, color in zip(
        _names(model), (0.97, 0.03), ("top", "bottom"), (GOOD, POOR), strict=True
    ):
        ax.text(
            0.012, y, name, transform=ax.transAxes, va=va, color=color, fontsize=11,
            fontweight="bold",
        )  # fmt: skip


def _label_peak(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    side, ha = (8, "left") if x < 0.85 else (-8, "right")
    ax.annotate(
        text, (x, y), xytext=(side, 4), textcoords="offset points", ha=ha, color=color,
        fontsize=11, fontweight="bold",
        bbox={"facecolor": "white", "linewidth": 0, "pad": 1, "alpha": 0.8},
    )  # fmt: skip


def _name_gap(ax: Axes, trust: Floats, height: float) -> None:
    """Label the widest region without trust at this height."""
    closed = np.flatnonzero(trust < 0.5)
    if len(closed) == 0:
        return
    runs = np.split(closed, np.flatnonzero(np.diff(closed) > 1) + 1)
    widest = max(runs, key=len)
    if len(widest) > 150:
        middle = float(SCORES[widest].mean())
        ax.text(middle, height, "too few scores\nin this region", color=MUTED, ha="center",
                va="center", fontsize=10)  # fmt: skip


def _swarm(scores: Floats) -> tuple[Floats, Floats]:
    """Place dots of equal or close scores in different rows around 0."""
    x = np.sort(scores)
    y = np.zeros(len(x))
    apart, rise = 0.012, 0.13
    for i in range(len(x)):
        near = y[:i][x[i] - x[:i] < apart]
        level = 0
        while np.any(np.abs(near - _level(level, rise)) < rise * 0.9):
            level += 1
        y[i] = _level(level, rise)
    top = float(np.abs(y).max(initial=0.0))
    return x, y * min(1.0, 0.85 / top) if top > 0 else y


def _level(level: int, rise: float) -> float:
    return rise * float((level + 1) // 2) * (1.0 if level % 2 else -1.0)
