"""`make demo`: DM on digits, with and without SDC, in a few minutes on two CPU cores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sdc import cli
from sdc.cli import show
from sdc.distillation.run import run
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet, pixels
from sdc.evaluation.scoring import Result
from sdc.ground.files import replacing
from sdc.ground.watch import Watch
from sdc.plan.request import Request, plan

WEIGHTS = (0.0, 2.0)
FOLDER = Path("demo").resolve()


def main() -> int:
    """Apply SDC to DM, distil digits at both weights with the same seed, print one table, write one picture."""
    if code := cli.call(["apply", "dm"]):
        return code
    return cli.guarded(_compare)


def _compare() -> None:
    with show.bars() as watch:
        results = [_distil(weight, watch) for weight in WEIGHTS]
    numbers = ("weight", "mean %", "std %", "n", "seconds")
    rows = [
        [f"{r['weight']:g}", show.percent(r["mean"]), show.percent(r["std"]), str(r["n"]), _seconds(r)] for r in results
    ]
    show.table("DM on digits, 1 image per class, seed 0", numbers, rows, right=numbers)
    picture = FOLDER / "digits.png"
    titles = [f"weight {r['weight']:g}" for r in results]
    sets = [distilled.load(Path(r["run"])) for r in results]
    _side_by_side(list(zip(titles, sets, strict=True)), picture)
    show.OUT.print(f"picture: {picture}", soft_wrap=True)


def _distil(weight: float, watch: Watch) -> Result:
    request = Request("dm", weight, dataset="digits", changes=("Iteration=150",))
    return run(plan(request, watch), FOLDER / "runs", watch, again=True)


def _seconds(result: Result) -> str:
    return f"{sum(stage['seconds'] for stage in result['stages'].values()):.0f}"


def _side_by_side(rows: Sequence[tuple[str, DistilledSet]], path: Path) -> None:
    """Write a PNG with the first image of each class: a row a set under its title, a column a class."""
    classes = rows[0][1].view.classes
    figure = Figure(figsize=(1.0 * len(classes), 1.25 * len(rows)), layout="constrained", dpi=150)
    axes = figure.subplots(len(rows), len(classes), squeeze=False)
    for line, (title, found) in zip(axes, rows, strict=True):
        shown = pixels(found)
        for number, (axis, name) in enumerate(zip(line, classes, strict=True)):
            image = shown[number * (len(shown) // len(classes))].permute(1, 2, 0).numpy()
            axis.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            axis.set_title(name, fontsize=8)
        line[0].text(-0.12, 0.5, title, fontsize=9, rotation=90, ha="right", va="center", transform=line[0].transAxes)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


if __name__ == "__main__":
    sys.exit(main())
