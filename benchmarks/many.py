"""How long a benchmark of 2,000 cells takes to plan, and the report over its 2,000 run folders.

`python -m benchmarks.many [--cells N] [--keep DIR] [--json]`. The run folders are made up (tests/runs.py), in their
real formats; the spec names data of few images. Each command is timed in a process of its own, from start to end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sdc.adapters.registry import ADAPTERS
from sdc.ground.paths import ROOT
from tests import runs as made_up

METHODS = tuple(method for method in ADAPTERS if method != "dsac")
DATASETS, IPC, SEEDS = ("digits", "mnist"), (1, 10), 8
WEIGHTS = (0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
STEPS = 200
COMMAND = "from sdc.cli import main; main()"


def main() -> None:
    """Make the folders and the spec, time both commands, print seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="make everything in this folder, and leave it there")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = asked.keep or Path(name)
        made = _runs(work / "runs", asked.cells)
        spec = _spec(work)
        report = _timed("report", str(work / "runs"))
        plan = _timed("bench", str(spec), "--runs", str(work / "planned"), "--dry-run", "--json")
        page = (work / "runs" / "report" / "index.html").stat().st_size
    outcome = {
        "runs": made,
        "report": report,
        "plan": plan,
        "page_mb": round(page / 1e6, 1),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    if asked.json:
        print(json.dumps(outcome))
    else:
        words = [f"{each['seconds']:.1f} s ({each['cpu_seconds']:.1f} s of all cores)" for each in (report, plan)]
        print(
            f"{made} run folders: report {words[0]}, page {outcome['page_mb']} MB; spec of 2,016 cells: plan {words[1]}"
        )


def _runs(folder: Path, cells: int) -> int:
    """Made-up folders of so many cells; some of weight 0 lack their floor, every hundredth cell failed."""
    drawn = random.Random(0)
    asked = itertools.product(METHODS, DATASETS, IPC, range(SEEDS), WEIGHTS)
    for number, (method, dataset, ipc, seed, weight) in enumerate(itertools.islice(asked, cells)):
        level = 0.4 + 0.03 * METHODS.index(method) + 0.01 * seed
        made = made_up.Made(
            method,
            dataset,
            [level + drawn.gauss(0, 0.01) for _ in range(5)],
            ipc=ipc,
            weight=weight,
            seed=seed,
            floor=[0.3 + drawn.gauss(0, 0.01) for _ in range(5)] if not weight and number % 10 else (),
            steps=STEPS,
            seconds=20 + drawn.random(),
        )
        if number % 100 == 99:
            made_up.fail(folder, made, "the loss is not finite at step 12\nLower --set lr_img=...")
        else:
            run = made_up.make(folder, made)
            steps = list(range(0, STEPS + 1, 20))
            made_up.difficulty(run, steps, [16 - (0.01 + weight / 1000) * step + drawn.gauss(0, 0.1) for step in steps])
    return min(cells, len(METHODS) * len(DATASETS) * len(IPC) * SEEDS * len(WEIGHTS))


def _spec(work: Path) -> Path:
    """The spec of these cells; digits stand in for mnist, which may not be here."""
    spec = work / "many.toml"
    lists = {"methods": METHODS, "datasets": ("digits",), "ipc": IPC, "weights": WEIGHTS, "seeds": range(2 * SEEDS)}
    spec.write_text("".join(f"{name} = {json.dumps(list(values))}\n" for name, values in lists.items()))
    return spec


def _timed(*arguments: str) -> dict[str, float]:
    """Seconds on the clock, and of all cores together, which other work on the machine changes less."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, *arguments], check=True, capture_output=True, env=environment)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(spent, 2)}


if __name__ == "__main__":
    main()
