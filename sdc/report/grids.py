"""Distilled images, without and with the term side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sdc.ground import drawing
from sdc.ground.drawing import Drawn
from sdc.report import curves, tables
from sdc.report.compare import Row, Side
from sdc.report.load import Choice
from sdc.report.places import PANELS, PICKED, Place, picked

_CLASSES, _IMAGES = 10, 5  # of a set's picture, at most
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def images(place: Place, choices: Sequence[Choice]) -> Drawn | str:
    """Distilled images of one seed, without and with the term side by side, a row a class."""
    shown = []
    for label, rows in place.groups:
        row = picked(rows, choices)
        sides = (("weight 0", row.base), (f"+SDC {tables.arm(row)}", row.sdc))
        pair = [(f"{label}\n{name}", array) for name, side in sides if (array := _picture(side, row)) is not None]
        shown += [(row, pair)] if pair else []
    if not shown:
        return "no run there has its picture"
    figure = _side_by_side([strip for _, pair in shown[:PANELS] for strip in pair])
    seeds = ", ".join(map(str, sorted({_seed(row) for row, _ in shown[:PANELS]})))
    caption = (
        f"A row a class, at most {_CLASSES} classes and {_IMAGES} images of each, of seed {seeds}. "
        f"{PICKED}{place.left_out()}"
    )
    return drawing.finish(figure, place.name("images"), f"Distilled images: {place.title()}", caption)


def _side_by_side(strips: Sequence[tuple[str, Pixels]]) -> Figure:
    """Pictures under their titles, in lines that fit a page, as one picture: that is drawn faster than many axes."""
    height, width = (max(array.shape[axis] for _, array in strips) for axis in (0, 1))
    across, down = max(width, height * 0.24) + 0.06 * height, height * 1.22
    columns = min(len(strips), max(2, 2 * int(4.2 * height / (2 * across))))
    lines = -(-len(strips) // columns)
    figure = Figure(figsize=(2.4 * columns * across / height, 2.4 * lines * down / height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    for number, (title, array) in enumerate(strips):
        left, top = number % columns * across + 0.03 * height, number // columns * down + 0.2 * height
        middle, shown = left + (across - 0.06 * height) / 2, array.shape
        extent = (middle - shown[1] / 2, middle + shown[1] / 2, top + shown[0], top)
        axis.imshow(array, interpolation="nearest", extent=extent)
        axis.text(middle, top - 0.03 * height, title, fontsize=7, ha="center", va="bottom")
    axis.set_xlim(0, columns * across)
    axis.set_ylim(lines * down, 0)
    return figure


def _picture(side: Side | None, row: Row) -> Pixels | None:
    """The upper left part of a set's picture; None where there is none."""
    run = next((run for run in side.runs if run.seed == _seed(row)), None) if side else None
    path = curves.picture(run) if run else None
    return _cropped(path, row.group.ipc) if path else None


def _seed(row: Row) -> int:
    """The first seed that both sides have, or else that one has."""
    return min(
        row.difference.seeds if row.difference else [seed for s in (row.base, row.sdc) if s for seed in s.by_seed]
    )


def _cropped(path: Path, ipc: int) -> Pixels | None:
    """At most so many classes and images; each image has a border of two pixels."""
    try:
        with Image.open(path) as picture:
            step = (picture.width - 2) // ipc
            box = (0, 0, min(picture.width, _IMAGES * step + 2), min(picture.height, _CLASSES * step + 2))
            return np.asarray(picture.crop(box).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
