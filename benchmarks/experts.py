"""How long experts take: `sdc experts train` on all cores, against the upstream's own script.

`python -m benchmarks.experts [--method mtt] [--experts 4] [--recipe quick] [--set KEY=VALUE]... [--data cifar10.tar.xz]
[--rounds N] [--json]`. Digits as 3x32x32 images unless --data names others of ten classes. Wall time, from the start of
Python to the end, of as many experts of as many epochs on as many images, the ways in turn; none is told how many
threads to take.

`untouched`: the buffer script at the pin, run as benchmarks/untouched.py says: it reads the files that torchvision
keeps (made here of the same images), and tests each network on the whole test set after every epoch, as it does.
`one`: `sdc experts train` with SDC_WORKERS=1, one process after the other's way. `ours`: the same as it comes, experts
side by side. Both are shown ten test images, and put their experts into files as a distillation wants them.

Everything but the clone and the prepared images lies in a folder that goes when it is done.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import batches
from sdc.adapters.base import Experts
from sdc.adapters.registry import ADAPTERS
from sdc.data.sets import Dataset, Split
from sdc.evaluation.view import resized
from sdc.ground import cores, paths
from sdc.ground.watch import Quiet
from sdc.patching import clones
from sdc.plan.request import Plan, Request, plan

OURS: Mapping[str, Mapping[str, str]] = {"one": {cores.WORKERS: "1"}, "ours": {}}
UNSET = ("OMP_NUM_THREADS", cores.WORKERS, "SDC_CACHE")


def main() -> None:
    """Time the ways in turn, print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="mtt", choices=[name for name, each in ADAPTERS.items() if each.experts])
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    changes = (*asked.changes, f"num_experts={asked.experts}")
    data = asked.data and asked.data.resolve()
    request = Request(asked.method, 0.0, None if data else "digits", data, recipe=asked.recipe, changes=changes)
    planned = plan(request, Quiet())
    with tempfile.TemporaryDirectory() as name:
        seconds = _measured(planned, request, Path(name), asked.rounds)
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    about = {
        "method": asked.method,
        "experts": planned.job.experts,
        "images": len(planned.dataset.train.labels),
        "tested": len(planned.dataset.test.labels),
        "model": planned.settings.model,
        "cores": cores.cores(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "torch": torch.__version__,
    }
    ratios = {way: medians["untouched"] / medians[way] for way in OURS} | {
        "side by side": medians["one"] / medians["ours"]
    }
    if asked.json:
        print(json.dumps({"seconds": seconds, "times faster": ratios, **about}))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()), f"(medians of {asked.rounds})")
    print(", ".join(f"{way} {taken:.1f} s" for way, taken in medians.items()))
    print(
        f"faster than the untouched script: {ratios['ours']:.2f} times, by one process {ratios['one']:.2f} times; "
        f"side by side against one process: {ratios['side by side']:.2f} times"
    )


def _measured(planned: Plan, request: Request, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    trained = planned.adapter.experts
    if trained is None:
        raise ValueError(f"{request.method} matches no experts")
    owner = ADAPTERS[trained.method]
    clones.present(owner)
    tree = clones.clone_path(owner)
    batches.write(_as_shown(planned), scratch / "data")
    seconds: dict[str, list[float]] = {"untouched": [], **{way: [] for way in OURS}}
    for number in range(rounds):
        seconds["untouched"].append(_untouched(trained, tree, planned, scratch / f"untouched{number}"))
        for way, environment in OURS.items():
            seconds[way].append(_ours(request, environment, scratch / f"{way}{number}"))
    return seconds


def _as_shown(planned: Plan) -> Dataset:
    """The images in the shape that the script knows."""

    def shown(part: Split) -> Split:
        return replace(part, images=resized(part.images, planned.slot.channels, planned.slot.size))

    return replace(planned.dataset, train=shown(planned.dataset.train), test=shown(planned.dataset.test))


def _untouched(trained: Experts, tree: Path, planned: Plan, work: Path) -> float:
    work.mkdir()
    (work / "data").symlink_to(work.parent / "data")
    options = trained.argv(planned.job)
    module = ["benchmarks.untouched", str(tree / trained.script), str(tree), "updated"]
    taken = _timed([*module, *options], {}, work)
    made = len(list(work.rglob("replay_buffer_*.pt")))
    if made != int(planned.job.experts["num_experts"]):
        raise RuntimeError(f"{trained.script} made {made} experts:\n{(work / 'log.txt').read_text()[-3000:]}")
    return taken


def _ours(request: Request, environment: Mapping[str, str], work: Path) -> float:
    """The whole command, with a cache that holds the prepared images alone."""
    (work / "cache").mkdir(parents=True)
    (work / "cache" / "data").symlink_to(paths.data())
    source = ["--data", str(request.data)] if request.data else ["--dataset", str(request.dataset)]
    settings = [word for change in request.changes for word in ("--set", change)]
    command = ["sdc", "experts", "train", request.method, *source, "--recipe", str(request.recipe), *settings]
    return _timed(command, {"SDC_CACHE": str(work / "cache"), **environment}, work)


def _timed(module: Sequence[str], more: Mapping[str, str], work: Path) -> float:
    """Seconds that a module takes in a process of its own. Raises RuntimeError with what it said if it fails."""
    ours = {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1", "SDC_UPSTREAM": str(paths.upstream())}
    environment = {name: value for name, value in os.environ.items() if name not in UNSET} | ours | dict(more)
    log = work / "log.txt"
    with log.open("wb") as output:
        began = time.monotonic()
        command = [sys.executable, "-m", *module]
        code = subprocess.run(command, cwd=work, env=environment, stdout=output, stderr=output, check=False).returncode
        taken = time.monotonic() - began
    if code:
        raise RuntimeError(log.read_text(errors="replace")[-3000:])
    return taken


if __name__ == "__main__":
    main()
