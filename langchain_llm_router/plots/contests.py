"""Figures of a contest: the ranking, the shares of the models, and the gain against λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from langchain_llm_router.evaluation.intervals import Interval
from langchain_llm_router.plots.canvas import (
    COLORS,
    GOOD,
    INK,
    MUTED,
    Axes,
    Figure,
    axes,
    new,
    number_axis,
)

__all__ = ["answer_shares", "contest_chart", "worth_curve"]

_ROW = 0.38
"""Inches per row."""

_LONGEST = 66
"""Maximum number of characters of the detail at the left of a row."""


def contest_chart(
    entries: Sequence[tuple[str, float]],
    *,
    x: str = "quality - λ·cost",
    title: str = "Who wins",
    subtitle: str = "",
) -> Figure:
    """Draw a row per contender, with the best in color.

    Args:
        entries: Name and score of each contender, the best first.
        x: Label of the score.
        title: Title of the figure.
        subtitle: Description of the rows.
    """
    if len(entries) == 0:
        msg = "`entries` must have at least one contender, got none."
        raise ValueError(msg)
    figure, ax = _rows(len(entries), title, subtitle, x)
    scores = np.array([score for _, score in entries])
    span = max(float(scores.max() - scores.min()), 1e-12)
    left = float(scores.min()) - 0.06 * span
    for i, (name, score) in enumerate(entries):
        color = GOOD if i == 0 else MUTED
        ax.plot([left, score], [i, i], color=color, linewidth=1.4, alpha=0.5)
        ax.scatter([score], [i], s=46, color=color, zorder=3)
        _name_row(ax, i, name, bold=i == 0)
    ax.set_xlim(left, float(scores.max()) + 0.08 * span)
    return figure


def answer_shares(
    shares: Mapping[str, Mapping[str, float]],
    *,
    title: str = "Whose answer it is",
    subtitle: str = "",
) -> Figure:
    """Draw a stacked bar per group of queries, with the share of each candidate's answers.

    Args:
        shares: Share of the group's queries by group and candidate; all groups have the same
            candidates.
        title: Title of the figure.
        subtitle: Description of the rows.
    """
    if len(shares) == 0:
        msg = "`shares` must have at least one group, got none."
        raise ValueError(msg)
    figure, ax = _rows(len(shares), title, subtitle, "share of queries (%)")
    names = list(next(iter(shares.values())))
    for i, (group, share_of) in enumerate(shares.items()):
        left = 0.0
        for j, name in enumerate(names):
            width = 100 * share_of[name]
            ax.barh(i, width, left=left, height=0.62, color=_shade(j, len(names)))
            if width >= 9:
                dark = j >= len(names) / 2
                ax.text(left + width / 2, i, f"{width:.0f}", ha="center", va="center",
                        color="white" if dark else INK, fontsize=9)  # fmt: skip
            left += width
        _name_row(ax, i, group)
    ax.set_xlim(0, 100)
    ax.grid(visible=False)
    patch = [ax.barh(0, 0, color=_shade(j, len(names))) for j in range(len(names))]
    ax.legend(patch, names, loc="upper left", bbox_to_anchor=(0, -0.55 / _height(len(shares))),
              ncols=min(len(names), 3), frameon=False, fontsize=9.5, labelcolor=INK,
              borderaxespad=0)  # fmt: skip
    return figure


def worth_curve(
    margins: Sequence[tuple[float, Interval]],
    *,
    chosen: float | None = None,
    title: str = "When routing is worth it, and when not",
    subtitle: str = "",
) -> Figure:
    """Draw the gain over the best single model against λ, with its interval.

    Args:
        margins: Pairs of λ in quality per dollar and the mean gain in quality - λ·cost per query.
        chosen: Value of λ to mark.
        title: Title of the figure.
        subtitle: Description of the rows.
    """
    if len(margins) < 2:
        msg = f"`margins` must have at least two values of λ, got {len(margins)}."
        raise ValueError(msg)
    figure = new(8.6, 4.6)
    ax = axes(
        figure,
        (0.095, 0.2, 0.875, 0.63),
        title=title,
        subtitle=subtitle,
        x="λ (quality per USD)",
        y="gain over one model (points)",
    )
    knobs = np.array([knob for knob, _ in margins])
    low, value, high = (
        100 * np.array([getattr(it, name) for _, it in margins])
        for name in ("low", "value", "high")
    )
    ax.set_xscale("log")
    ax.fill_between(knobs, low, high, color=GOOD, alpha=0.18, linewidth=0)
    ax.plot(knobs, value, color=GOOD, linewidth=2.2)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_xlim(knobs[0], knobs[-1])
    pad = 0.12 * max(float(high.max() - low.min()), 1.0)
    ax.set_ylim(min(float(low.min()), 0) - pad, max(float(high.max()), 0) + 2 * pad)
    number_axis(ax)
    _name_regions(ax, knobs, low)
    for at, ha, text in (
        (0.0, "left", "← better answers: only quality counts"),
        (1.0, "right", "cheaper answers: only cost counts →"),
    ):
        ax.text(at, -0.235, text, transform=ax.transAxes, ha=ha, color=MUTED, fontsize=9.5)
    if chosen is not None and knobs[0] <= chosen <= knobs[-1]:
        ax.axvline(chosen, color=COLORS[1], linewidth=1.4, linestyle=(0, (4, 3)))
        ax.annotate(
            "this router's λ", (chosen, 0), xycoords=("data", "axes fraction"), xytext=(5, 6),
            textcoords="offset points", color=COLORS[1], fontsize=9.5,
        )  # fmt: skip
    return figure


def _name_regions(ax: Axes, knobs: np.ndarray, low: np.ndarray) -> None:
    """Shade the regions whose interval is not above 0, and label one region of each kind."""
    proven = low > 0
    top = ax.get_ylim()[1]
    edges = np.sqrt(knobs[1:] * knobs[:-1])
    edges = np.concatenate([[knobs[0]], edges, [knobs[-1]]])
    starts = np.flatnonzero(np.diff(np.concatenate([[not proven[0]], proven]).astype(int)) != 0)
    stops = [*starts[1:], len(knobs)]
    named: set[bool] = set()
    runs = sorted(zip(starts, stops, strict=True), key=lambda run: run[0] - run[1])
    for start, stop in runs:
        worth = bool(proven[start])
        if not worth:
            ax.axvspan(edges[start], edges[stop], color="#eceff3", zorder=0, linewidth=0)
        if worth in named:
            continue
        named.add(worth)
        middle = float(np.sqrt(edges[start] * edges[stop]))
        text = "worth routing" if worth else "not proven worth it:\nuse one model"
        ax.text(middle, top, text, ha="center", va="top", color=GOOD if worth else MUTED,
                fontsize=10, fontweight="bold", linespacing=1.3, zorder=4,
                bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5, "alpha": 0.8})  # fmt: skip


def _name_row(ax: Axes, i: int, name: str, *, bold: bool = False) -> None:
    """Write a name at the left of its row, with the part after a colon below it."""
    name, _, detail = name.partition(": ")
    if len(detail) > _LONGEST:
        detail = f"{detail[: _LONGEST - 1]}…"
    place = {"transform": ax.get_yaxis_transform(), "ha": "right"}
    weight = "bold" if bold else "normal"
    ax.text(-0.01, i - (0.17 if detail else 0), name, va="center", color=INK, fontsize=9.5,
            fontweight=weight, **place)  # fmt: skip
    ax.text(-0.01, i + 0.21, detail, va="center", color=MUTED, fontsize=8, **place)


def _height(n: int) -> float:
    return max(n, 1) * _ROW + 0.1


def _rows(n: int, title: str, subtitle: str, x: str) -> tuple[Figure, Axes]:
    """Create axes with one row per entry, the first on top, and space for names on the left."""
    below, above = 0.95, 0.75
    height = below + _height(n) + above
    figure = new(9.2, height)
    box = (0.42, below / height, 0.55, _height(n) / height)
    ax = axes(figure, box, title="", subtitle="", x=x)
    figure.text(0.012, 1 - 0.28 / height, title, color=INK, fontsize=13, fontweight="bold",
                va="center")  # fmt: skip
    figure.text(0.012, 1 - 0.54 / height, subtitle, color=MUTED, fontsize=10, va="center")
    ax.set_ylim(n - 0.4, -0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    return figure, ax


def _shade(j: int, n: int) -> str:
    """Return the color of candidate `j` of `n`, from light for cheap to dark for expensive."""
    low, high = np.array([0xC6, 0xDB, 0xEA]), np.array([0x06, 0x3A, 0x66])
    at = j / max(n - 1, 1)
    return "#" + "".join(f"{round(v):02x}" for v in low + at * (high - low))
