"""How long a script takes to load all training images: by its own means, and through the data bridge.

`python -m benchmarks.load --data cifar10.tar.xz [--rounds N] [--json]`. The true DC script reads CIFAR-10 both times,
once from the files that torchvision keeps (made here of the same images), once from the prepared file. Timed from the
script's start to the first line that it prints about the loaded images; the script is then stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import batches
from sdc.adapters.registry import ADAPTERS
from sdc.data import store
from sdc.data.sets import Dataset
from sdc.ground import paths
from sdc.launcher import serving
from sdc.launcher.job import Job
from sdc.patching import apply, clones

LOADED = "real images channel 0"
CHILD = "import sys; from pathlib import Path; from benchmarks.load import child; child(sys.argv[1], Path(sys.argv[2]))"
OPTIONS = ("--method", "DC", "--dataset", "CIFAR10", "--ipc", "1", "--num_eval", "0", "--num_exp", "1")


def main() -> None:
    """Time both ways in turn, print the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    apply.apply(ADAPTERS["dc"])
    dataset = store.load("cifar10", asked.data)
    seconds: dict[str, list[float]] = {"own": [], "bridge": []}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        batches.write(dataset, work)
        _job(dataset, work).write(work / "job.json")
        for _ in range(asked.rounds):
            for way, measured in seconds.items():
                measured.append(_seconds(way, work))
    medians = {way: statistics.median(measured) for way, measured in seconds.items()}
    outcome = {
        "images": len(dataset.train.labels),
        "seconds": seconds,
        "share": medians["bridge"] / medians["own"],
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    if asked.json:
        print(json.dumps(outcome))
    else:
        print(f"{outcome['images']} images: own {medians['own']:.2f} s, bridge {medians['bridge']:.2f} s", end="; ")
        print(f"the bridge takes {outcome['share']:.3f} of the script's own time (median of {asked.rounds})")


def _seconds(way: str, work: Path) -> float:
    """Seconds from the script's start to `LOADED`, in a process of its own."""
    command = [sys.executable, "-u", "-c", CHILD, way, str(work)]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=work, env=environment) as child:
        assert child.stdout is not None
        begun = 0.0
        for line in child.stdout:
            if line.startswith("begun"):
                begun = time.perf_counter()
            if line.startswith(LOADED):
                child.kill()
                return time.perf_counter() - begun
    raise RuntimeError(f"the script ended before it had loaded its images (exit code {child.returncode})")


def child(way: str, work: Path) -> None:
    """Be the script's process: install one of the two ways, then run the script."""
    script = clones.script_path(ADAPTERS["dc"])
    if way == "bridge":
        serving.install(Job.read(work / "job.json"))
    else:
        batches.trust(work)
    sys.argv = [str(script), *OPTIONS, "--data_path", str(work), "--save_path", str(work / "result")]
    sys.path.insert(0, str(script.parent))
    print("begun")
    runpy.run_path(str(script), run_name="__main__")


def _job(dataset: Dataset, work: Path) -> Job:
    unused: dict[str, Any] = dict.fromkeys(("script", "output", "snapshot", "metrics", "tree"), "") | {"argv": ()}
    view = str(work / "view.json")
    return Job(
        **unused,
        seed=0,
        device="cpu",
        slot="CIFAR10",
        data=str(dataset.file),
        classes=dataset.classes,
        view=view,
        snapshot_every=1,
    )


if __name__ == "__main__":
    main()
