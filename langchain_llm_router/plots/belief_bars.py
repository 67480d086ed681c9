"""Panels of a belief over answers: who gave which, and what one more answer is worth."""

from __future__ import annotations

from langchain_llm_router.evaluation.answer_beliefs import AnswerBelief
from langchain_llm_router.plots.canvas import COLORS, GOOD, INK, MUTED, POOR, Axes
from langchain_llm_router.plots.named_rows import cut, name_rows
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = ["draw_answers", "draw_further"]


def draw_answers(ax: Axes, belief: AnswerBelief) -> None:
    """Draw a bar per different answer, P(right) long, with the candidates that gave it."""
    rows = []
    for row, it in enumerate(belief.answers):
        rows.append((format_score(it.p_right), it.kept, ""))
        color = GOOD if it.kept else COLORS[0] if it.comparable else MUTED
        ax.barh(row, it.p_right, 0.7, color=color, alpha=0.4, linewidth=0)
        note = ", kept" if it.kept else "" if it.comparable else " (cannot be compared)"
        ax.text(0.01, row, cut(", ".join(it.members), 88 - len(note)) + note, va="center",
                fontsize=9, color=INK, fontweight="bold" if it.kept else "normal")  # fmt: skip
    name_rows(ax, rows)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("P(right)", color=INK, fontsize=10)


def draw_further(ax: Axes, belief: AnswerBelief) -> None:
    """Draw the value of asking each candidate, beside its price, and that of keeping an answer."""
    keeping = belief.keeping
    rows = [(it.candidate, it.chosen, it.value, _price(it.cost_usd)) for it in belief.further]
    if keeping is not None:
        kept = not any(it.chosen for it in belief.further)
        rows.append(("keep the best", kept, keeping, "costs nothing more"))
    values = [value for _, _, value, _ in rows]
    pad = 0.2 * max(max(values) - min(values), 0.02)
    low, high = min(values) - pad, max(values) + pad
    start = low if keeping is None else keeping
    for row, (_, chosen, value, _) in enumerate(rows):
        worse = value < start
        ax.plot([start, value], [row, row], color=POOR if worse else GOOD, linewidth=6,
                alpha=0.45, solid_capstyle="butt")  # fmt: skip
        ax.plot(value, row, "D", color=INK, markeredgecolor="white", markersize=8)
        ax.annotate(f"{value:.3f}", (value, row), xytext=(-9 if worse else 9, 0),
                    textcoords="offset points", ha="right" if worse else "left", va="center",
                    color=INK, fontsize=10,
                    fontweight="bold" if chosen else "normal")  # fmt: skip
    name_rows(ax, [(name, chosen, note) for name, chosen, _, note in rows])
    if keeping is not None:
        ax.axvline(keeping, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("P(right) − λ·cost, in units of quality (0 to 1)", color=INK, fontsize=10)


def _price(cost_usd: float | None) -> str:
    return "" if cost_usd is None else f"{format_usd(1000 * cost_usd)} per 1,000"
