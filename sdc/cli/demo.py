"""`make demo`: DM on digits, with and without SDC: two commands of `sdc run` side by side, told in one table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc import cli
from sdc.bench import live
from sdc.cli import progress, show
from sdc.ground import cores, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import made, replacing

if TYPE_CHECKING:
    from sdc.evaluation.distilled import DistilledSet

WEIGHTS = (0.0, 2.0)
FOLDER = Path("demo").resolve()
STEPS, NETWORKS = 80, 5
_NEXT = {
    "verify dm --behaviour": "what the patch changes, and that it changes nothing else",
    "report demo/runs": "tables, figures and a page on these two runs",
    "run dm --dataset digits --weight 2 --seed 1": "another seed; run --help tells what else there is",
    "bench examples/quick.toml": "seven methods with and without the term, three seeds",
}
_EVERY = 0.2
"""Seconds between looks at the runs."""


def main() -> int:
    """Apply SDC to DM, distil digits at both weights with the same seed, print one table, write one picture."""
    cores.wait_quietly()
    show.ERR.print("About 40 seconds on two idle cores, longer beside other work.")
    if code := cli.call(["apply", "dm"]):
        return code
    with storage.chosen(lambda: [storage.Place(FOLDER, "the same command in another folder")]):
        return cli.guarded(_compare)


def _compare() -> None:
    made(FOLDER)
    runs = [_Run(weight) for weight in WEIGHTS]
    _carry_out(runs, cores.workers(1))
    results = [run.result() for run in runs]
    numbers = ("weight", "mean %", "std %", "n", "seconds")
    rows = [
        [f"{r['weight']:g}", show.percent(r["mean"]), show.percent(r["std"]), str(r["n"]), _seconds(r)] for r in results
    ]
    show.table("DM on digits, 1 image per class, seed 0", numbers, rows, right=numbers)
    picture = FOLDER / "digits.png"
    _draw([(f"weight {r['weight']:g}", Path(r["run"])) for r in results], picture)
    show.OUT.print(f"picture: {picture}", soft_wrap=True)
    show.OUT.print("What to do next:")
    sdc = Path(sys.executable).with_name("sdc")
    shown = sdc.relative_to(Path.cwd()) if sdc.is_relative_to(Path.cwd()) else sdc
    for arguments, what in _NEXT.items():
        show.OUT.print(f"  {shown} {arguments:<48} {what}", soft_wrap=True, markup=False)


@dataclass
class _Run:
    """One `sdc run`, and what it has said."""

    weight: float
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin it, in a group of its own: Ctrl-C is for this process, which then stops it."""
        settings = [f"Iteration={STEPS}", f"networks={NETWORKS}", "history=0"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sdc", "run", "dm", "--dataset", "digits", "--json", "--again"),
                *("--weight", f"{self.weight:g}", "--runs", str(FOLDER / "runs")),
                *(word for setting in settings for word in ("--set", setting)),
            ],
            stdout=subprocess.PIPE,
            stderr=(FOLDER / f"weight-{self.weight:g}.log").open("wb"),
            start_new_session=True,
        )

    def has_ended(self) -> bool:
        """Whether it has."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def now(self) -> tuple[str, int, int]:
        """Its stage, how much of it is done, and of how much."""
        name = f"weight {self.weight:g}"
        for file in (FOLDER / "runs").glob("dm-*/cell.json"):
            if json.loads(file.read_text())["weight"] == self.weight and (found := live.running(name, file.parent)):
                return f"{name} {found.stage}", found.done, NETWORKS if found.stage == "evaluates" else STEPS + 1
        return f"{name} begins", 0, STEPS + 1

    def result(self) -> dict[str, Any]:
        """What it came to. Raises FatalError with its reason if it failed."""
        if self.process is None or self.process.stdout is None:
            raise ValueError("it was not started")
        said = self.process.stdout.read()
        found: dict[str, Any] = json.loads(said or b"{}")
        if self.process.returncode != 0:
            log = FOLDER / f"weight-{self.weight:g}.log"
            raise FatalError(found.get("error") or f"the run ended with {self.process.returncode}. What it said: {log}")
        return found


def _carry_out(runs: Sequence[_Run], at_once: int) -> None:
    """Do them, so many at once; whatever happens, none of them is left."""
    waiting = list(runs)
    try:
        with progress.bars_of([f"weight {run.weight:g}" for run in runs]) as bars:
            while not all(run.has_ended() for run in runs):
                if waiting and sum(not run.has_ended() for run in runs if run.process) < at_once:
                    waiting.pop(0).start()
                for run, bar in zip(runs, bars, strict=True):
                    if run.process and not run.has_ended():
                        bar(*run.now())
                time.sleep(_EVERY)
    finally:
        for run in runs:
            run.stop()


def _seconds(result: dict[str, Any]) -> str:
    return f"{sum(stage['seconds'] for stage in result['stages'].values()):.0f}"


def _draw(runs: Sequence[tuple[str, Path]], path: Path) -> None:
    from sdc.evaluation import distilled  # imports torch, which may wait until the runs are done

    _side_by_side([(title, distilled.load(run)) for title, run in runs], path)


def _side_by_side(rows: Sequence[tuple[str, DistilledSet]], path: Path) -> None:
    """Write a PNG with the first image of each class: a row a set under its title, a column a class."""
    from matplotlib.figure import Figure

    from sdc.evaluation.distilled import pixels

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
