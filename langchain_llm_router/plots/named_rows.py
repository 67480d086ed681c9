"""Rows of a panel with a name on the left of each."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_llm_router.plots.canvas import INK, MUTED, Axes

__all__ = ["cut", "name_rows"]


def name_rows(ax: Axes, rows: Sequence[tuple[str, bool, str]]) -> None:
    """Name the rows of a panel.

    Args:
        ax: The panel.
        rows: The name of each row, whether it is bold, and a note below it or "".
    """
    ax.set_yticks(range(len(rows)), [""] * len(rows))
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    for row, (name, chosen, note) in enumerate(rows):
        lift = 6 if note else 0
        ax.annotate(cut(name, 19), (0, row), xycoords=("axes fraction", "data"),
                    xytext=(-8, lift), textcoords="offset points", ha="right", va="center",
                    color=INK, fontsize=10, fontweight="bold" if chosen else "normal")  # fmt: skip
        ax.annotate(note, (0, row), xycoords=("axes fraction", "data"), xytext=(-8, -7),
                    textcoords="offset points", ha="right", va="center", color=MUTED,
                    fontsize=8)  # fmt: skip


def cut(text: str, n: int) -> str:
    """Return a text of at most `n` characters, which ends with … if it was longer."""
    return text if len(text) <= n else text[: max(n - 1, 1)] + "…"
