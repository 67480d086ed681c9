"""The style of all figures, and the placement of labels.

Only this file imports matplotlib. It uses `Figure` and the Agg canvas instead of pyplot, because
figures must be independent of global state in threads and servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.files import private_opener

__all__ = [
    "COLORS",
    "GOOD",
    "INK",
    "MUTED",
    "POOR",
    "SCORES",
    "WIDE",
    "Axes",
    "Figure",
    "Labels",
    "axes",
    "gradient",
    "gradient_key",
    "new",
    "number_axis",
    "readable",
    "save",
]

Figure = Any
Axes = Any

INK, MUTED, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
GOOD, POOR = "#0072b2", "#d55e00"
COLORS = (GOOD, POOR, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
"""Okabe and Ito's palette, which color-blind readers can distinguish."""

_DPI = 144

SCORES = np.linspace(0, 1, 1001)
"""Scores at which curves are drawn; a `KernelDensity` is tabulated at the same."""

WIDE = (0.09, 0.15, 0.88, 0.68)
"""Box of the axes of a wide figure with a title, a subtitle and names at both axes."""


def new(width: float = 8.0, height: float = 5.0) -> Figure:
    """Create an empty figure, with its size in inches, on an Agg canvas."""
    figure = import_extra("matplotlib.figure", "plot").Figure((width, height), dpi=_DPI)
    import_extra("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    return figure


def axes(
    figure: Figure,
    box: tuple[float, float, float, float] = (0.1, 0.13, 0.86, 0.73),
    *,
    title: str = "",
    subtitle: str = "",
    x: str = "",
    y: str = "",
) -> Axes:
    """Add styled axes in a box of the figure: left, bottom, width and height in [0, 1]."""
    ax = figure.add_axes(box)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=INK, labelsize=10, length=3)
    ax.grid(visible=True, color=_GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(x, color=INK, fontsize=11)
    ax.set_ylabel(y, color=INK, fontsize=11)
    rise = 22 if subtitle else 9
    ax.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold", pad=rise)
    if subtitle:
        ax.annotate(
            subtitle,
            (0, 1),
            xytext=(0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            color=MUTED,
            fontsize=10,
        )
    return ax


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of the suffix (`.png`, `.svg`, `.pdf`)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.removeprefix(".") or None
    # It may show a prompt.
    with open(path, "wb", opener=private_opener) as file:
        figure.savefig(file, dpi=_DPI, facecolor="white", format=kind)
    return path


def number_axis(ax: Axes, tell: Callable[[float], str] | None = None) -> None:
    """Write the numbers of the x axis without exponents; a logarithmic one at 1, 2 and 5."""
    if ax.get_xscale() == "log":
        ticker = import_extra("matplotlib.ticker", "plot")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    tell = readable if tell is None else tell
    ax.xaxis.set_major_formatter(lambda value, _: tell(value))


def readable(value: float) -> str:
    """Format a number with three digits and without an exponent, e.g. as 1,160 or 0.0325."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return str(np.format_float_positional(value, precision=3, fractional=False, trim="-"))


@dataclass
class _Label:
    text: str
    anchors: Floats
    color: str
    size: float
    bold: bool
    required: bool
    gaps: tuple[int, ...]


@dataclass
class Labels:
    """Labels of points and lines, placed without covering each other.

    Add all labels, and call `place` when the limits of the axes are final. Each label is placed at
    the best position around its anchors. A label that is not required is left out if there is no
    space.
    """

    ax: Axes
    _labels: list[_Label] = field(default_factory=list)
    _obstacles: list[tuple[Floats, float]] = field(default_factory=list)

    def avoid(self, x: ArrayLike, y: ArrayLike, *, line: bool = False, radius: float = 0.0) -> None:
        """Keep labels away from these points, or from the line through them.

        Args:
            x: Where they are.
            y: The same.
            line: Whether they are points of a line.
            radius: Radius of the markers in points (1/72 inch), if they are larger than usual.
        """
        points = np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]).astype(np.float64)
        if len(points) > 0:
            along = _points_on_line(self.ax, points) if line else points
            self._obstacles.append((along, radius))

    def add(
        self,
        text: str,
        x: ArrayLike,
        y: ArrayLike,
        *,
        color: str = INK,
        size: float = 10,
        bold: bool = False,
        required: bool = True,
        near: bool = False,
    ) -> None:
        """Add a label of a point, or of a line with several possible anchors.

        A label that is `near` stands directly at its anchor, because elsewhere it would be taken
        for that of another line.
        """
        gaps = (9, 20, 36, 56) if required and not near else (9,)
        anchors = np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]).astype(np.float64)
        self._labels.append(_Label(text, anchors, color, size, bold, required, gaps))

    def place(self) -> None:
        """Place each label, required labels first."""
        renderer = self.ax.figure.canvas.get_renderer()
        frame = self.ax.get_window_extent(renderer)
        dots = [
            self.ax.transData.transform(points) + offset
            for points, radius in self._obstacles
            for offset in radius
            * self.ax.figure.dpi
            / 72
            * (_AROUND if radius > 0 else _AROUND[:1])
        ]
        obstacles = np.concatenate(dots) if dots else np.empty((0, 2))
        placed: list[tuple[float, float, float, float]] = []
        for label in sorted(self._labels, key=lambda each: not each.required):
            text = self._text(label)
            extent = text.get_window_extent(renderer)
            size = (extent.width, extent.height)
            tries = (
                (
                    _penalty(box, placed, obstacles, frame)
                    + 12 * _n_inside(_leader(box, anchor), placed)
                    + distance,
                    box,
                    anchor,
                )
                for anchor, box, distance in _positions(
                    self.ax.transData.transform(label.anchors), size, label.gaps
                )
            )
            penalty, box, anchor = min(tries, key=lambda each: each[0])
            if penalty >= _CROWDED and not label.required:
                text.remove()
                continue
            text.set_position(self.ax.transData.inverted().transform(box[:2]))
            placed.append(box)
            leader = _leader(box, anchor)
            if len(leader) > 0:
                obstacles = np.concatenate([obstacles, leader])
                ends = self.ax.transData.inverted().transform(leader[[0, -1]])
                self.ax.plot(*ends.T, color=label.color, linewidth=0.6, alpha=0.6, zorder=2)

    def _text(self, label: _Label) -> Any:
        return self.ax.text(
            *label.anchors[0],
            label.text,
            color=label.color,
            fontsize=label.size,
            fontweight="bold" if label.bold else "normal",
            ha="left",
            va="bottom",
            zorder=10,
        )


_CROWDED = 10.0
_LINE_STEP = 5.0
"""Pixels between two points of a line that labels keep away from."""

_FAR = 22.0
"""Pixels from an anchor beyond which a label has a thin line to it."""

_AROUND = np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)], dtype=np.float64)
"""The middle of a marker and four points of its edge, in radii."""

_Box = tuple[float, float, float, float]


def _points_on_line(ax: Axes, points: Floats) -> Floats:
    """Interpolate points on the line, a few pixels from each other in the drawing."""
    drawn = ax.transData.transform(points)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(drawn, axis=0).T))])
    along = np.linspace(0, length[-1], max(2, int(length[-1] / _LINE_STEP)))
    dense = np.column_stack([np.interp(along, length, drawn[:, k]) for k in (0, 1)])
    return np.asarray(ax.transData.inverted().transform(dense), dtype=np.float64)


def _positions(
    anchors: Floats, size: tuple[float, float], gaps: Sequence[float]
) -> Iterator[tuple[Floats, _Box, float]]:
    """Yield boxes around each anchor, nearest first, with a small penalty for the distance."""
    width, height = size
    sides = [(1, 0), (1, 1), (-1, 1), (0, 1), (0, -1), (1, -1), (-1, -1), (-1, 0)]
    for anchor, gap, (k, (dx, dy)) in product(anchors, gaps, enumerate(sides)):
        left = anchor[0] + (gap if dx > 0 else -gap - width if dx < 0 else -width / 2)
        low = (
            anchor[1]
            + (dy * gap if dy >= 0 else -gap)
            - (height / 2 if dy == 0 else height if dy < 0 else 0)
        )
        yield anchor, (left, low, left + width, low + height), gap / 9 + 0.1 * k


def _leader(box: _Box, anchor: Floats) -> Floats:
    """Return points on the thin line from a label to its anchor; none if they are near."""
    nearest = np.clip(anchor, box[:2], box[2:])
    length = float(np.hypot(*(anchor - nearest)))
    if length <= _FAR:
        return np.empty((0, 2))
    return np.asarray(np.linspace(nearest, anchor, int(length / _LINE_STEP) + 1), dtype=np.float64)


def _n_inside(points: Floats, boxes: Sequence[_Box]) -> int:
    """Count the points that are in one of the boxes."""
    x, y = points[:, 0], points[:, 1]
    return sum(int(((x > b[0]) & (x < b[2]) & (y > b[1]) & (y < b[3])).sum()) for b in boxes)


def _penalty(box: _Box, placed: Sequence[_Box], obstacles: Floats, frame: Any) -> float:
    left, low, right, high = box
    outside = max(frame.x0 - left, right - frame.x1, frame.y0 - low, high - frame.y1, 0.0)
    overlap = sum(
        max(0.0, min(right, b[2]) - max(left, b[0]) + 6)
        * max(0.0, min(high, b[3]) - max(low, b[1]) + 3)
        for b in placed
        if min(right, b[2]) - max(left, b[0]) > -6 and min(high, b[3]) - max(low, b[1]) > -3
    )
    inside = (
        (obstacles[:, 0] > left - 3)
        & (obstacles[:, 0] < right + 3)
        & (obstacles[:, 1] > low - 3)
        & (obstacles[:, 1] < high + 3)
    )
    return float(50 * (outside > 0) + outside + overlap / 2 + 12 * inside.sum())


def gradient(ax: Axes, x: Floats, height: Floats, value: Floats) -> None:
    """Fill the area under a curve with colors for a value in [0, 1], from poor to good."""
    area = ax.fill_between(x, height, color="none", linewidth=0)
    image = ax.imshow(
        value[None, :],
        extent=(float(x[0]), float(x[-1]), 0, max(float(height.max()), 1e-9)),
        origin="lower",
        aspect="auto",
        cmap=_poor_to_good(),
        vmin=0,
        vmax=1,
        zorder=1,
    )
    image.set_clip_path(area.get_paths()[0], transform=ax.transData)


def gradient_key(
    figure: Figure,
    box: tuple[float, float, float, float],
    ticks: Sequence[tuple[float, str]],
    label: str,
) -> None:
    """Draw the color bar of `gradient` in a box of the figure."""
    ax = figure.add_axes(box)
    ax.imshow(
        np.linspace(0, 1, 256)[:, None],
        extent=(0, 1, 0, 1),
        origin="lower",
        aspect="auto",
        cmap=_poor_to_good(),
    )
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=9, color=INK)
    ax.set_ylabel(label, color=INK, fontsize=10)
    ax.tick_params(length=2)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _poor_to_good() -> Any:
    colors = import_extra("matplotlib.colors", "plot")
    return colors.LinearSegmentedColormap.from_list("poor_to_good", [POOR, "#f7f0e6", GOOD])
