"""The figure of the steps of one query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_llm_router.plots.canvas import (
    COLORS,
    GOOD,
    INK,
    MUTED,
    POOR,
    Axes,
    Figure,
    new,
)
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = ["decision_path"]

_FILL = {"ask": "#e8f1f8", "verify": "#f4f5f7", "accept": "#e3f4ec", "abstain": "#fbeee6"}
_EDGE = {"ask": GOOD, "verify": MUTED, "accept": COLORS[2], "abstain": POOR}
_VERB = {"ask": "ask", "verify": "verify", "accept": "keep", "abstain": "abstain"}


def decision_path(record: Mapping[str, Any], *, title: str = "", query: str = "") -> Figure:
    """Draw the steps of one query from its decision record.

    Each decision is a box with its candidate and its reason, with the score and the cost of the
    attempt below.

    Args:
        record: A decision record, as from `route_of(message)`.
        title: Title of the figure. If empty, the candidate that answered and its cost.
        query: Text of the query, which is shortened.
    """
    steps = list(record["steps"])
    attempts = {attempt["candidate"]: attempt for attempt in record["attempts"]}
    if not steps or steps[-1]["action"] not in ("accept", "abstain"):
        # A final answer is accepted without verification and without a recorded decision.
        steps.append(
            {"action": "accept", "candidate": record["candidate"], "reason": "without verification"}
        )
    per_row = min(len(steps), 5)
    n_rows = -(-len(steps) // per_row)
    figure = new(max(2.35 * per_row, 6.4) + 0.3, 2.1 * n_rows + 0.75)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    wide, high = figure.get_size_inches()
    ax.set_xlim(0, wide)
    ax.set_ylim(0, high)
    spent = record.get("cost_usd")
    cost = "unknown cost" if spent is None else f"{format_usd(1000 * spent)} per 1,000 such queries"
    ax.text(0.25, high - 0.38, title or f"{record['candidate']} answered, at {cost}", color=INK,
            fontsize=13, fontweight="bold")  # fmt: skip
    if query:
        short = query if len(query) <= 90 else query[:87] + "…"
        ax.text(0.25, high - 0.66, short.replace("\n", " "), color=MUTED, fontsize=10)
    for i, step in enumerate(steps):
        x, y = 0.25 + 2.35 * (i % per_row), high - 2.3 - 2.1 * (i // per_row)
        _box(ax, x, y, step)
        _outcome(ax, x, y, step, attempts.get(step["candidate"], {}))
        if i + 1 < len(steps) and (i + 1) % per_row > 0:
            _arrow(ax, x + 2.04, y + 0.65)
    return figure


def _arrow(ax: Axes, x: float, y: float) -> None:
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.3}
    ax.annotate("", (x + 0.29, y), xytext=(x, y), arrowprops=style)


def _box(ax: Axes, x: float, y: float, step: Mapping[str, Any]) -> None:
    action = step["action"]
    ax.fill_between([x, x + 2.0], y, y + 1.3, color=_FILL[action], linewidth=0)
    ax.plot(
        [x, x + 2, x + 2, x, x], [y, y, y + 1.3, y + 1.3, y], color=_EDGE[action], linewidth=1.2
    )
    ax.text(x + 0.1, y + 1.15, _VERB[action], color=_EDGE[action], fontsize=9, va="top",
            fontweight="bold")  # fmt: skip
    ax.text(x + 0.1, y + 0.95, _cut(step["candidate"], 19), color=INK, fontsize=11, va="top",
            fontweight="bold")  # fmt: skip
    ax.text(x + 0.1, y + 0.66, _wrap(step["reason"]), color=INK, fontsize=8, va="top")


def _outcome(
    ax: Axes, x: float, y: float, step: Mapping[str, Any], attempt: Mapping[str, Any]
) -> None:
    """Write the result of a step: an error, a score, a cost."""
    lines: list[tuple[str, str]] = []
    if step["action"] == "ask":
        error = attempt.get("error")
        if error is not None:
            lines.append((_cut(str(error), 30), POOR))
        lines.append((_price(attempt.get("cost_usd")), MUTED))
    elif step["action"] == "verify":
        score = attempt.get("confidence")
        lines.append(("no verdict" if score is None else f"score {format_score(score)}", INK))
        lines.append((_price(attempt.get("verification_cost_usd")), MUTED))
    for i, (text, color) in enumerate(lines):
        ax.text(x + 0.1, y - 0.1 - 0.2 * i, text, color=color, fontsize=9, va="top")


def _price(cost_usd: float | None) -> str:
    return "cost unknown" if cost_usd is None else format_usd(cost_usd)


def _cut(text: str, n: int) -> str:
    return text if len(text) <= n else text[: n - 1] + "…"


def _wrap(text: str, width: int = 33, n_lines: int = 4) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    if len(lines) > n_lines:
        lines = [*lines[: n_lines - 1], _cut(lines[n_lines - 1] + " …", width)]
    return "\n".join(lines)
