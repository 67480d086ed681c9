"""The figure of an explained decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from langchain_llm_router.evaluation.explanation import Explanation, StepTaken
from langchain_llm_router.plots.belief_bars import draw_answers, draw_further
from langchain_llm_router.plots.canvas import (
    COLORS,
    GOOD,
    INK,
    MUTED,
    POOR,
    Axes,
    Figure,
    axes,
    new,
    number_axis,
    readable,
)
from langchain_llm_router.plots.named_rows import cut, name_rows
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = ["explanation"]

_WIDTH = 9.0
_PARTS = {"quality": GOOD, "cost": POOR, "latency": COLORS[3], "errors": COLORS[4]}
_HEADINGS = {
    "ask": "{} is asked",
    "verify": "{}'s answer is verified",
    "accept": "{}'s answer is kept",
    "abstain": "no answer is good enough, not that of {} either",
}

_Panel = tuple[float, Callable[[Axes], None], str]


def explanation(explained: Explanation) -> Figure:
    """Draw an explanation from `evaluation.explain` as panels.

    The panels are the utility of every candidate as stacked bars; for a policy that compares
    answers, in their place, the different answers with P(right), and the worth of one more beside
    its price; the choice at every setting of
    the knob; for a cascade, the decision after each possible score of the first answer, with the
    observed one marked, and P(good) after each step; and the training queries that the estimator
    predicts from, with the quality of each candidate.
    """
    shades = _shades(explained)
    panels: list[_Panel] = []
    if explained.weighed:
        height = 0.42 * len(explained.arms) + 0.75
        rate = explained.lambda_
        title = "utility" if rate is None else f"utility at λ = {readable(rate)} per USD"
        panels.append((height, lambda ax: _bars(ax, explained), title))
    if (belief := explained.answers) is not None and belief.answers:
        height = 0.36 * len(belief.answers) + 0.3
        title = "the answers so far: who gave them, and P(right)"
        panels.append((height, lambda ax: draw_answers(ax, belief), title))
    if belief is not None and belief.further:
        height = 0.42 * (len(belief.further) + (belief.keeping is not None))
        title = "worth of asking one more, beside its price"
        panels.append((height, lambda ax: draw_further(ax, belief), title))
    turning = [step for step in explained.steps if len(step.spans) > 1]
    if turning:
        panels.append((0.9, lambda ax: _strip(ax, turning[-1], shades), _strip_title(turning[-1])))
    if explained.outlook:
        panels.append(
            (2.1, lambda ax: _outlook(ax, explained, shades), "decision by the verifier's score")
        )
    if len(explained.steps) > 1:
        height = 0.38 * len(explained.steps) + 0.35
        panels.append((height, lambda ax: _path(ax, explained), "steps and their reasons"))
    if explained.neighbors:
        height = 0.3 * len(explained.neighbors) + 0.45
        title = "the training queries that it is predicted from"
        panels.append((height, lambda ax: _neighbors(ax, explained), title))
    return _stack_panels(explained, panels)


def _stack_panels(explained: Explanation, panels: Sequence[_Panel]) -> Figure:
    gap, top = 0.86, 0.75
    height = top + sum(panel[0] + gap for panel in panels) + 0.1
    figure = new(_WIDTH, height)
    decision = explained.decision
    heading = _HEADINGS[decision.action].format(decision.candidate)
    figure.text(0.3 / _WIDTH, 1 - 0.42 / height, heading, color=INK, fontsize=14,
                fontweight="bold")  # fmt: skip
    query = " ".join(explained.query.split())
    figure.text(0.3 / _WIDTH, 1 - 0.7 / height, cut(query, 105), color=MUTED, fontsize=10)
    y = height - top
    for tall, draw, title in panels:
        y -= tall + gap
        box = (1.75 / _WIDTH, (y + 0.42) / height, (_WIDTH - 2.2) / _WIDTH, tall / height)
        ax = axes(figure, box)
        ax.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold", pad=9,
                     x=-1.45 / (_WIDTH - 2.2))  # fmt: skip
        draw(ax)
    return figure


def _shades(explained: Explanation) -> dict[str, str]:
    return {arm.candidate: COLORS[i % len(COLORS)] for i, arm in enumerate(explained.arms)}


def _bars(ax: Axes, explained: Explanation) -> None:
    """Draw positive terms to the right of 0, negative ones to the left, their sum as a diamond."""
    drawn: dict[str, Any] = {}
    for row, arm in enumerate(explained.arms):
        ends = [0.0, 0.0]
        for name, value in arm.terms.items():
            side = int(value < 0)
            bar = ax.barh(
                row, value, 0.56, left=ends[side], color=_PARTS.get(name, MUTED), alpha=0.85
            )
            drawn.setdefault(name, bar)
            ends[side] += value
        if arm.utility is not None:
            ax.plot(arm.utility, row, "D", color=INK, markeredgecolor="white", markersize=8)
            ax.annotate(format_score(arm.utility), (max(ends[1], ends[0]), row), xytext=(8, 0),
                        textcoords="offset points", va="center", color=INK, fontsize=10,
                        fontweight="bold" if arm.chosen else "normal")  # fmt: skip
        else:
            ax.text(0, row, "  unknown", va="center", color=MUTED, fontsize=9)
    name_rows(ax, [(arm.candidate, arm.chosen, _expected(arm.cost_usd)) for arm in explained.arms])
    ax.axvline(0, color=INK, linewidth=0.9)
    ax.margins(x=0.12)
    ax.set_ylim(len(explained.arms) - 0.5, -0.5)
    ax.set_xlabel("in units of quality (0 to 1)", color=INK, fontsize=10)
    named = [{"cost": "− λ·cost", "latency": "− waiting", "errors": "− errors"}.get(n, n)
             for n in drawn]  # fmt: skip
    ax.legend(drawn.values(), named, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4,
              frameon=False, fontsize=9, borderaxespad=0.2, handlelength=1.2)  # fmt: skip


def _expected(cost_usd: float | None) -> str:
    return "" if cost_usd is None else f"{format_usd(1000 * cost_usd)} per 1,000"


def _strip_title(step: StepTaken) -> str:
    assert step.knob is not None, "spans have a knob"
    if step.knob.name == "lambda":
        return "choice by λ: to the right, cheaper"
    return f"choice by {step.knob.name}"


def _strip(ax: Axes, step: StepTaken, shades: dict[str, str]) -> None:
    """Draw the choice at every setting of the knob, and the current setting."""
    knob = step.knob
    assert knob is not None, "spans have a knob"
    edges = [value for span in step.spans for value in (span.low, span.high) if value]
    low, high = min(edges), max(edges)
    if knob.name == "lambda":
        low, high = min(low, knob.value or low) / 5, max(high, knob.value) * 5
        ax.set_xscale("log")
        ax.set_xlabel("λ (quality per USD)", color=INK, fontsize=10)
        number_axis(ax)
    else:
        low = knob.low
        high = max(high, knob.value) * 1.25 if knob.high is None else knob.high
        ax.set_xlabel(knob.name, color=INK, fontsize=10)
    now = max(knob.value, low)

    def place(value: float) -> float:
        """Return where a value of the knob lies, from 0 on the left to 1 on the right."""
        if knob.name == "lambda":
            return float(np.log(value / low) / np.log(high / low))
        return (value - low) / (high - low)

    verbs = {"ask": "ask ", "verify": "verify ", "accept": "keep ", "abstain": "abstain from "}
    for span in step.spans:
        left, right = max(span.low, low), high if span.high is None else min(span.high, high)
        if right <= left:
            continue
        chosen = span.choice == (step.decision.action, step.decision.candidate)
        ax.fill_betweenx([0, 1], left, right, color=shades.get(span.candidate, MUTED),
                         alpha=0.75 if chosen else 0.28, linewidth=0)  # fmt: skip
        if left < now < right:
            # The line of the current setting would cross the text.
            parts = ((left, now), (now, right))
            left, right = max(parts, key=lambda part: place(part[1]) - place(part[0]))
        room = int((place(right) - place(left)) * 85)
        if room >= 8:
            text = cut(verbs[span.action] + span.candidate, room)
            middle = float(np.sqrt(left * right)) if knob.name == "lambda" else (left + right) / 2
            ax.text(middle, 0.62, text, ha="center", va="center", fontsize=9, color=INK,
                    fontweight="bold" if chosen else "normal")  # fmt: skip
    for span in step.spans[1:]:
        covered = 0 <= place(now) - place(span.low) < 0.07
        ax.annotate(f" {readable(span.low)} ", (span.low, 0), xytext=(-1 if covered else 1, 5),
                    ha="right" if covered else "left", textcoords="offset points", fontsize=8,
                    color=INK)  # fmt: skip
    ax.plot([now, now], [0, 1.12], color=INK, linewidth=2.2, clip_on=False)
    ax.annotate(f"now {readable(knob.value)}", (now, 1.12), xytext=(0, 3), ha="center",
                textcoords="offset points", fontsize=9, color=INK, fontweight="bold",
                annotation_clip=False)  # fmt: skip
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.5)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)


def _outlook(ax: Axes, explained: Explanation, shades: dict[str, str]) -> None:
    """Draw P(good), if it is known, and the next action by score, with the observed score."""
    first = explained.steps[0].decision.candidate
    known = any(it.p_good is not None for it in explained.outlook)
    named = set()
    for it in explained.outlook:
        x = -0.12 if it.score is None else it.score
        keep = it.action == "accept"
        y = it.p_good if it.p_good is not None else 0.0 if known else 1.0
        label = ("keep " if keep else "then ask ") + it.candidate
        if it.action == "abstain":
            label = "abstain"
        ax.bar(x, max(y, 0.012), 0.085, color=shades.get(it.candidate, MUTED),
               alpha=0.85 if keep else 0.35, label=None if label in named else label)  # fmt: skip
        named.add(label)
        if known:
            text = "?" if it.p_good is None else format_score(y)
            ax.text(x, y + 0.03, text, ha="center", fontsize=8, color=INK)
    ticks = [it.score for it in explained.outlook if it.score is not None]
    labels = ["no verdict", *(f"{tick:.3g}" for tick in ticks)]
    ax.set_xticks([-0.12, *ticks], labels, fontsize=9)
    ax.set_xlabel(f"score of {first}'s answer", color=INK, fontsize=10)
    ax.set_ylabel("P(good)" if known else "", color=INK, fontsize=10)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1] if known else [])
    if not known:
        ax.spines["left"].set_visible(False)
    ax.set_ylim(0, 1.3)
    if explained.score is not None:
        at = float(explained.score)
        near = min(
            explained.outlook, key=lambda it: abs((9 if it.score is None else it.score) - at)
        )
        ax.plot([at, at], [(near.p_good or 0.0) + 0.13, 1.3], color=INK, linewidth=1.2,
                linestyle=(0, (1, 2)))  # fmt: skip
        ax.annotate(f"observed {format_score(at)}", (at, 1.3), xytext=(-4 if at > 0.5 else 4, -2),
                    textcoords="offset points", ha="right" if at > 0.5 else "left", va="top",
                    fontsize=9, color=INK, fontweight="bold")  # fmt: skip
    ax.grid(visible=False, axis="x")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4, frameon=False, fontsize=9,
              borderaxespad=0.2, handlelength=1.2)  # fmt: skip


def _path(ax: Axes, explained: Explanation) -> None:
    """Draw a row per step, with P(good) if it is known."""
    verbs = {"ask": "ask", "verify": "verify", "accept": "keep", "abstain": "abstain"}
    rows = []
    for row, step in enumerate(explained.steps):
        it = step.decision
        rows.append((it.candidate, row + 1 == len(explained.steps), verbs[it.action]))
        if it.confidence is not None:
            ax.barh(row, it.confidence, 0.7, color=MUTED, alpha=0.25)
        ax.text(0.01, row, cut(it.reason, 88), va="center", fontsize=9, color=INK)
    name_rows(ax, rows)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("P(good), if it is known", color=INK, fontsize=10)


def _neighbors(ax: Axes, explained: Explanation) -> None:
    """Draw similar queries, with a dot per candidate that is filled according to its quality."""
    names = [arm.candidate for arm in explained.arms]
    step = min(0.075, 0.4 / len(names))
    left = 0.9 - step * (len(names) - 1)
    for row, it in enumerate(explained.neighbors):
        room = int(100 * (left - 0.05))
        ax.text(0.0, row, cut(" ".join(it.query.split()), room), va="center", fontsize=9,
                color=INK)  # fmt: skip
        for k, name in enumerate(names):
            filled = float(np.clip(it.quality.get(name, 0.0), 0, 1))
            ax.scatter(left + k * step, row, s=70, color=GOOD, alpha=filled)
            ax.scatter(left + k * step, row, s=70, facecolor="none", edgecolor=MUTED)
    for k, name in enumerate(names):
        ax.annotate(cut(name, 18), (left + k * step, -0.45), xytext=(-3, 0), rotation=35,
                    textcoords="offset points", ha="left", va="bottom", fontsize=8, color=INK,
                    rotation_mode="anchor", annotation_clip=False)  # fmt: skip
    name_rows(ax, [(format_score(it.similarity), False, "") for it in explained.neighbors])
    ax.set_xlim(0, 1)
    ax.set_ylim(len(explained.neighbors) - 0.5, -0.5)
    ax.set_xticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    note = "cosine similarity on the left; a filled dot: good on that query"
    ax.annotate(note, (0, 0), xycoords="axes fraction", xytext=(0, -12),
                textcoords="offset points", fontsize=8, color=MUTED)  # fmt: skip
