"""What the term costs: a distillation step at a weight above 0 against the untouched script's, time and peak memory.

`python -m benchmarks.step [--methods dc,dsa,...] [--ipc 1] [--recipe quick] [--set KEY=VALUE]... [--schedule constant]
[--steps 20] [--rounds 3] [--data PATH] [--json]`. Both scripts run under the same launcher with the same seed, round by
round in turn: one as it is at the pin, one patched. A step is from one update of the synthetic images to the next; the
first three are left out. On a CPU: one thread, and the seconds of that thread; on a GPU: seconds, each step waited for.
Digits, shown as the script's 32x32 images, unless --data names others.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import behaviour, experts, jobs, process
from sdc.ground import hardware
from sdc.ground.watch import Quiet
from sdc.launcher import __main__ as launcher
from sdc.launcher.job import Job
from sdc.launcher.tap import synthetic
from sdc.patching import apply, clones
from sdc.plan.request import Plan, Request, plan

WEIGHT = 1e-3
"""Small, so that both scripts go about the same way; what the term costs does not depend on it."""
WARM = 3
CHILD = "import sys; from benchmarks.step import child; sys.exit(child(*sys.argv[1:]))"
Side = dict[str, list[float]]


def main() -> None:
    """Measure each method's two scripts in turn and print a row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(ADAPTERS))
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--schedule", default="constant")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = [_row(method, asked) for method in asked.methods.split(",")]
    machine = torch.cuda.get_device_name() if hardware.device() == "cuda" else f"{platform.machine()}, one thread"
    about = f"ipc {asked.ipc}, recipe {asked.recipe}, schedule {asked.schedule}; {machine}, torch {torch.__version__}"
    if asked.json:
        print(json.dumps({"rows": rows, "about": about}))
        return
    print(about)
    for row in rows:
        print(
            f"{row['method']:6} {1e3 * row['seconds']['untouched']:9.1f} ms, with the term "
            f"{1e3 * row['seconds']['patched']:9.1f} ms: {row['time']:.3f} times (rounds {_shown(row['rounds'])}); "
            "peak "
            f"{row['mib']['untouched']:.0f} MiB, {row['mib']['patched']:.0f} MiB: {row['memory']:.3f} times"
        )


def _row(method: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The medians of all rounds, and their ratios; the spread of the ratio of times over the rounds."""
    request = Request(
        method, WEIGHT, "digits" if asked.data is None else None, asked.data, asked.ipc, asked.schedule,
        recipe=asked.recipe, changes=tuple(asked.changes),
    )  # fmt: skip
    planned = plan(request, Quiet())
    apply.apply(planned.adapter)
    trained = experts.ready(planned, Quiet())
    seconds: Side = {"untouched": [], "patched": []}
    mib: Side = {"untouched": [], "patched": []}
    with tempfile.TemporaryDirectory() as name:
        tree = behaviour.Tree(
            clones.clone_path(planned.adapter), clones.pinned_script(planned.adapter), planned.adapter.patch.script
        )
        behaviour.copy_untouched(tree, planned.adapter, Path(name) / "tree")
        for number in range(asked.rounds):
            for side in seconds:
                work = Path(name) / f"{side}{number}"
                work.mkdir()
                if trained:
                    (work / "buffers").symlink_to(trained.folder)
                taken, peak = _measured(_job(planned, side, work, Path(name) / "tree"), work, asked.steps)
                seconds[side].append(taken)
                mib[side].append(peak)
    times, memory = ({side: statistics.median(of) for side, of in found.items()} for found in (seconds, mib))
    return {
        "method": method,
        "seconds": times,
        "time": times["patched"] / times["untouched"],
        "rounds": [one / other for one, other in zip(seconds["patched"], seconds["untouched"], strict=True)],
        "mib": memory,
        "memory": memory["patched"] / memory["untouched"],
    }


def _job(planned: Plan, side: str, work: Path, untouched: Path) -> Job:
    job = jobs.distillation(planned, work, work)
    if side == "patched":
        return job
    adapter = planned.adapter
    argv = tuple(adapter.argv(planned.job))
    return replace(job, script=str(untouched / adapter.patch.script), tree=str(untouched), argv=argv)


def _measured(job: Job, work: Path, steps: int) -> tuple[float, float]:
    """Seconds a step, and the peak memory in MiB, of a process of its own."""
    replace(job, parent=os.getpid()).write(work / "job.json")
    marks = work / "marks.json"
    environment = process.environment(job) | ({"OMP_NUM_THREADS": "1"} if job.device == "cpu" else {})
    command = [sys.executable, "-P", "-c", CHILD, str(work / "job.json"), str(marks), str(steps + WARM)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not marks.is_file():
        raise RuntimeError(f"{job.script} did not make {steps + WARM} steps:\n{done.stdout}{done.stderr}"[-3000:])
    found = json.loads(marks.read_text())
    end = [json.loads(line) for line in Path(job.metrics).read_text().splitlines()][-1]
    return (found[-1] - found[WARM]) / (len(found) - 1 - WARM), float(end["peak_memory_mib"])


def child(job: str, marks: str, count: str) -> int:
    """Be the script's process: note the time of each update of the images, and end behind `count` and one more."""
    gpu = torch.cuda.is_available()
    seen: list[float] = []

    def mark(optimizer: Optimizer, *_: object) -> None:
        if "images" not in synthetic(optimizer):
            return
        if gpu:
            torch.cuda.synchronize()
        seen.append(time.perf_counter() if gpu else time.process_time())
        if len(seen) > int(count):
            Path(marks).write_text(json.dumps(seen))
            raise SystemExit(0)

    register_optimizer_step_post_hook(mark)
    sys.argv = ["sdc.launcher", job]
    return launcher.main()


def _shown(ratios: list[float]) -> str:
    return ", ".join(f"{ratio:.3f}" for ratio in ratios)


if __name__ == "__main__":
    main()
