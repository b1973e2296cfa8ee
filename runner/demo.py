"""`make demo`: DM on digits, with and without SDC, in a few minutes on two CPU cores."""

from __future__ import annotations

import sys
from pathlib import Path

from runner import cli, distilled, show
from runner.paths import ROOT
from runner.picture import side_by_side
from runner.plan import Request, plan
from runner.run import run
from runner.scoring import Result
from runner.watch import Watch

WEIGHTS = (0.0, 2.0)
FOLDER = ROOT / "demo"


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
    side_by_side(list(zip(titles, sets, strict=True)), picture)
    show.OUT.print(f"picture: {picture}", soft_wrap=True)


def _distil(weight: float, watch: Watch) -> Result:
    request = Request("dm", weight, dataset="digits", changes=("Iteration=150",))
    return run(plan(request, watch), FOLDER / "runs", watch, again=True)


def _seconds(result: Result) -> str:
    return f"{sum(stage['seconds'] for stage in result['stages'].values()):.0f}"


if __name__ == "__main__":
    sys.exit(main())
