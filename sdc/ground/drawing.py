"""The look of all figures: palette, sizes, and a Figure as the bytes of an SVG and a PNG, equal for equal figures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart; markers and lines differ, too.
PLAIN, SDC, FLOOR, PUBLISHED = "#4d4d4d", "#0072b2", "#009e73", "#d55e00"
STAGES = {"experts": "#999999", "distil": "#0072b2", "evaluate": "#e69f00"}
HATCHES = {"experts": "", "distil": "//", "evaluate": ".."}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sdc",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # a dollar in a name is a dollar
}
_WIDTH, _PANEL = 2.6, 2.05
_DPI = 120


@dataclass(frozen=True)
class Drawn:
    """A finished figure: the name of its files, what it shows, and its bytes."""

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes


@contextmanager
def style() -> Iterator[None]:
    """Figures made in here look alike, whatever the user's own settings of matplotlib are."""
    with rc_context():
        rcdefaults()
        rcParams.update(_STYLE)
        yield


def panels(
    count: int, columns: int = 4, *, sharey: bool = False, size: tuple[float, float] = (_WIDTH, _PANEL)
) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes, row by row, each a small one or of `size` (inches)."""
    width, height = size
    columns = min(count, columns)
    lines = -(-count // columns)
    figure = Figure(figsize=(max(3.6, width * columns), height * lines + 0.45), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=sharey).flat)
    for unused in axes[count:]:
        unused.remove()
    for axis in axes[:count]:
        axis.locator_params(nbins=5)  # labels take longer to draw than all else
    return figure, axes[:count]


def finish(figure: Figure, name: str, title: str, caption: str) -> Drawn:
    """Draw a figure as SVG and PNG, without the date or the program in it.

    By the canvases themselves: `savefig` draws a figure with a layout engine twice, once for the layout alone.
    """
    svg, png = io.BytesIO(), io.BytesIO()
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")  # the PNG is laid out as the SVG was, and not a second time
    figure.set_dpi(_DPI)
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return Drawn(name, title, caption, svg.getvalue(), png.getvalue())


def weight_scale(axis: Axes, weights: Sequence[float]) -> None:
    """Logarithmic above the smallest weight, linear below it down to 0."""
    positive = [weight for weight in weights if weight]
    axis.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
    axis.set_xlim(-0.15 * positive[0], positive[-1] * 1.6)
    every = -(-len(positive) // 4)
    marked = [0.0, *positive[::-1][::every][::-1]]
    axis.set_xticks(marked, [f"{weight:.2g}" for weight in marked])
    axis.set_xticks([], minor=True)
