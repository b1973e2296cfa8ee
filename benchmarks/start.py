"""How long a method takes to its first update of the images, against its untouched script.

`python -m benchmarks.start --data cifar10.tar.xz [--methods dc,mtt] [--zca mtt] [--rounds N] [--json]`. CIFAR-10 in
full, else the quick recipe, one image a class, weight 0; both sides with the same options, in turn. Seconds are of the
clock and count from the start of Python, imports included.

`untouched`: the script at the pin, without a patch, run as benchmarks/untouched.py says: it reads the files that
torchvision keeps (made here of the same images) image by image, and whitens by itself.
`ours`: the same script, patched, as `sdc run` starts it, under all bridges: the images come from the prepared file, and
with --zca what whitening takes from an earlier process. `command`: the whole of `sdc run`, from its own start on.
`first`: `ours` with nothing of the whitening there yet, once.

Experts are random networks in files of the right layout: what is in them does not change how long they take to load.
Everything but the clones and the prepared images lies in a folder that goes when it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import batches
from sdc.adapters.registry import ADAPTERS
from sdc.data import store
from sdc.distillation import experts
from sdc.evaluation import networks
from sdc.ground import paths
from sdc.ground.watch import Quiet
from sdc.patching import apply, clones
from sdc.plan.request import Plan, Request, plan

WHOLE = ("limit_per_class=0",)
SHORT = 0.005
"""Seconds between two looks for the first update."""
Seconds = dict[str, list[float]]


def main() -> None:
    """Time both sides in turn, print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="dc,mtt", help="without whitening")
    parser.add_argument("--zca", default="mtt", help="methods with whitening")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cases = [
        (method, zca) for zca, named in enumerate((asked.methods, asked.zca)) for method in named.split(",") if method
    ]
    data = asked.data.resolve()
    with tempfile.TemporaryDirectory() as name, _a_cache_of_its_own(Path(name), data):
        rows = [_measured(method, bool(zca), data, Path(name), asked.rounds) for method, zca in cases]
    about = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if asked.json:
        print(json.dumps({"rows": rows, **about}))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()), f"(medians of {asked.rounds})")
    for row in rows:
        medians = ", ".join(f"{way} {statistics.median(seconds):.2f} s" for way, seconds in row["seconds"].items())
        shares = ", ".join(f"{way} {share:.3f}" for way, share in row["share"].items())
        print(f"{row['method']}{' --zca' if row['zca'] else ''}: {medians}; of the untouched script's time {shares}")


@contextlib.contextmanager
def _a_cache_of_its_own(scratch: Path, archive: Path) -> Iterator[None]:
    """Within, the cache holds the prepared images and nothing else; torchvision's files of them lie in `scratch`."""
    dataset = store.load("cifar10", archive)
    batches.write(dataset, scratch / "data")
    (scratch / "cache").mkdir()
    (scratch / "cache" / "data").symlink_to(paths.data())
    with _environment("SDC_CACHE", scratch / "cache"):
        yield


@contextlib.contextmanager
def _environment(name: str, value: Path) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        del os.environ[name]
        os.environ |= {} if before is None else {name: before}


def _measured(method: str, zca: bool, data: Path, scratch: Path, rounds: int) -> dict[str, Any]:
    changes = (*WHOLE, *([f"zca={int(zca)}"] if zca or "zca" in ADAPTERS[method].options else []))
    planned = plan(Request(method, 0.0, "cifar10", data, changes=changes), Quiet())
    with _environment("SDC_UPSTREAM", scratch / "upstream"):
        clones.present(planned.adapter)
        script, tree = clones.script_path(planned.adapter), clones.clone_path(planned.adapter)
    apply.apply(planned.adapter)
    _make_experts(planned)
    words = [word for change in changes for word in ("--set", change)]
    command = ["sdc", "run", method, "--dataset", "cifar10", "--data", str(data), "--weight", "0", *words]
    seconds: Seconds = {"untouched": [], "ours": [], "command": []}
    if zca:
        seconds["first"] = [_ours(command)[0]]
    for _ in range(rounds):
        seconds["untouched"].append(_untouched(script, tree, planned, scratch))
        ours, whole = _ours(command)
        seconds["ours"].append(ours)
        seconds["command"].append(whole)
    medians = {way: statistics.median(measured) for way, measured in seconds.items()}
    share = {way: medians[way] / medians["untouched"] for way in ("ours", "command")}
    return {"method": method, "zca": zca, "seconds": seconds, "share": share}


def _make_experts(planned: Plan) -> None:
    """Put as many random networks as a plan's experts have states where a run finds its experts."""
    trained, job = planned.adapter.experts, planned.job
    if trained is None or experts.are_ready(experts.folder(planned)):
        return
    where, count = experts.folder(planned), int(job.experts["num_experts"])
    states = int(job.experts["train_epochs"]) + 1
    shapes = [parameter.shape for parameter in _network(planned).parameters()]
    (where / trained.place(job)).mkdir(parents=True)
    for number in range(trained.files(job)):
        trajectories = [
            [[torch.randn(shape) / 10 for shape in shapes] for _ in range(states)]
            for _ in range(count // trained.files(job))
        ]
        torch.save(trajectories, where / trained.place(job) / f"replay_buffer_{number}.pt")
    (where / "experts.json").write_text(json.dumps({"key": planned.cell.experts, "seconds": 0, "peak_memory_mib": 0}))


def _network(planned: Plan) -> torch.nn.Module:
    slot = planned.slot
    return networks.build(planned.job.model, slot.channels, slot.classes, slot.size, seed=0)


def _untouched(script: Path, tree: Path, planned: Plan, scratch: Path) -> float:
    """Seconds from the start of the untouched script's process to its first update."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        work = Path(name)
        (work / "data").symlink_to(scratch / "data")
        for file, text in planned.adapter.files(planned.job).items():
            (work / file).write_text(text)
        if planned.adapter.experts:
            (work / "buffers").symlink_to(experts.folder(planned))
        module = ["benchmarks.untouched", str(script), str(tree), str(work / "updated")]
        options = list(planned.adapter.argv(planned.job))
        if "--data_path" in options:
            options[options.index("--data_path") + 1] = "data"
        with _started([*module, *options], work) as (child, began):
            return _when(child, work, (work / "updated").exists) - began


def _ours(command: list[str]) -> tuple[float, float]:
    """Seconds to the first update, from the start of the script's process and from that of `sdc run`."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)

        def updated() -> bool:
            return any('"kind": "step"' in file.read_text() for file in work.glob("runs/*/metrics.jsonl"))

        with _started([*command, "--runs", "runs"], work) as (child, began):
            seen = _when(child, work, updated)
            (job,) = work.glob("runs/*/.work.*/job.json")  # written right before the script's process starts
            return seen - job.stat().st_mtime, seen - began


@contextlib.contextmanager
def _started(module: list[str], work: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A process of Python's that runs a module in `work`, and when it began; it is interrupted in the end."""
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (work / "log.txt").open("wb") as log:
        began = time.time()
        child = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield child, began
    finally:
        child.send_signal(signal.SIGINT)
        child.wait()


def _when(child: subprocess.Popen[bytes], work: Path, happened: Callable[[], bool]) -> float:
    """The time at which something had happened. Raises RuntimeError with what the child said if it ends before."""
    while not happened():
        if child.poll() is not None:
            raise RuntimeError((work / "log.txt").read_text(errors="replace"))
        time.sleep(SHORT)
    return time.time()


if __name__ == "__main__":
    main()
