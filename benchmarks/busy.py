"""What other work on the machine costs: the demo, a step and an evaluation alone and beside busy processes.

`python -m benchmarks.busy [--before COMMIT] [--busy 2] [--what demo,step,evaluation] [--rounds 1] [--json]`. Each is a
command of its own, as a user gives it, with no thread variable set: `make demo`'s own, `sdc run dm` on digits (seconds
a step by its metrics), `sdc evaluate` of random images (8 ConvNetW32). Of each side in turn: this tree, and the one at
COMMIT if it is given. `of its share`: the time beside others over what it would be on a fair share of the cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sdc.data import store
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet, hard_labels
from sdc.evaluation.protocol import UNIFORM
from sdc.evaluation.view import View
from sdc.ground import cores, paths

UNSET = (cores.THREADS, cores.WORKERS, "OMP_WAIT_POLICY", "PYTHONPATH")
STEPS = 60


def main() -> None:
    """Time each command on each side, alone and beside busy processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before")
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--what", default="demo,step,evaluation")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _trees(asked.before, Path(name)) as trees:
        rows = [_row(what, trees, asked, Path(name)) for what in asked.what.split(",")]
    about = f"{asked.busy} busy processes; {platform.machine()}, {cores.cores()} cores, torch {torch.__version__}"
    if asked.json:
        print(json.dumps({"rows": rows, "about": about}))
        return
    print(about)
    for row in rows:
        print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))


@contextmanager
def _trees(before: str | None, folder: Path) -> Iterator[dict[str, Path]]:
    """This tree, and a copy of it as it was at a commit."""
    trees = {"after": paths.ROOT}
    if before:
        trees = {"before": folder / "before", **trees}
        subprocess.run(["git", "clone", "--quiet", str(paths.ROOT), str(folder / "before")], check=True)
        subprocess.run(["git", "-C", str(folder / "before"), "checkout", "--quiet", before], check=True)
    yield trees


def _row(what: str, trees: dict[str, Path], asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of one command by side, alone and beside others, and their ratios."""
    seconds: dict[str, list[float]] = {}
    for _ in range(asked.rounds):
        for side, tree in trees.items():
            seconds.setdefault(f"{side} alone", []).append(_seconds(what, tree, folder))
            with _busy(asked.busy):
                seconds.setdefault(f"{side} beside", []).append(_seconds(what, tree, folder))
    found = {name: statistics.median(times) for name, times in seconds.items()}
    share = max(1.0, (asked.busy + 1) / cores.cores())
    told: dict[str, Any] = {"what": what, **found}
    told["of its share"] = found["after beside"] / (share * found["after alone"])
    return told | ({"times": found["before beside"] / found["after beside"]} if asked.before else {})


@contextmanager
def _busy(count: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


def _seconds(what: str, tree: Path, folder: Path) -> float:
    plain = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment = plain | {"PYTHONPATH": str(tree), "SDC_DEVICE": "cpu"}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        arguments = {"demo": ["sdc.cli.demo"], "step": _step(name), "evaluation": _evaluation(Path(name))}[what]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=name, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[-3000:])
        return _a_step(Path(name)) if what == "step" else seconds


def _step(folder: str) -> list[str]:
    quick = [word for setting in (f"Iteration={STEPS}", "networks=1", "epochs=1") for word in ("--set", setting)]
    return ["sdc", "run", "dm", "--dataset", "digits", "--weight", "2", "--runs", folder, *quick]


def _a_step(runs: Path) -> float:
    """The median time between two steps, the first few left out."""
    (metrics,) = runs.glob("*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    times = [float(line["seconds"]) for line in lines if line["kind"] == "step"][5:]
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def _evaluation(folder: Path) -> list[str]:
    """The command that evaluates ten random images."""
    classes = store.load("digits", None).classes
    view = View("digits", classes, 3, 32, (0.5,) * 3, (0.25,) * 3)
    images = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    distilled.save(DistilledSet(images, hard_labels(10, 1), view, UNIFORM), folder / "set.safetensors")
    return ["sdc", "evaluate", str(folder / "set.safetensors"), "--model", "ConvNetW32", "--networks", "8"]


if __name__ == "__main__":
    main()
