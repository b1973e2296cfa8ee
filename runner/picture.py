"""Pictures of distilled sets, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from runner.distilled import DistilledSet, pixels
from runner.files import replacing


def side_by_side(rows: Sequence[tuple[str, DistilledSet]], path: Path) -> None:
    """Write a PNG with the first image of each class: a row a set under its title, a column a class."""
    classes = rows[0][1].view.classes
    figure = Figure(figsize=(1.0 * len(classes), 1.25 * len(rows)), layout="constrained", dpi=150)
    axes = figure.subplots(len(rows), len(classes), squeeze=False)
    for line, (title, distilled) in zip(axes, rows, strict=True):
        shown = pixels(distilled)
        for number, (axis, name) in enumerate(zip(line, classes, strict=True)):
            image = shown[number * (len(shown) // len(classes))].permute(1, 2, 0).numpy()
            axis.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            axis.set_title(name, fontsize=8)
        line[0].text(-0.12, 0.5, title, fontsize=9, rotation=90, ha="right", va="center", transform=line[0].transAxes)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
