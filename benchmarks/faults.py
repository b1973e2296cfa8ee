"""What kill -9 at random moments does to runs: `python -m benchmarks.faults [--runs N] [--method M] [--json]`.

With `--of patching` it is what a limit on the size of files, a full disk and kill -9 do to apply and revert
(benchmarks/cut_short.py): every script is to be left pristine or patched.

A small distillation of digits is run N times. Each time the command, the script that it started, or both are killed at
a moment drawn from the time that an undisturbed run takes, then the same command is given until it ends by itself.
Counted at the end: runs that completed; results lost (none, or not the bits and accuracies of the undisturbed run);
half-made files found, looked for after every kill; upstream trees left other than patched.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from benchmarks import cut_short
from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from sdc.patching import apply, clones

SETTINGS = (
    *("model=ConvNetW32", "limit_per_class=16", "batch_real=16", "Iteration=60"),
    *("networks=3", "epochs=60", "snapshot_every=5"),
)
PATIENCE = 5
"""Commands that may end by themselves without a result before a run counts as lost."""


@dataclass
class Tally:
    """What became of one run."""

    completed: bool = False
    lost: bool = True
    kills: int = 0
    half: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)


def main() -> int:
    """Run the campaign and print its counts; the exit code is 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default="runs", choices=("runs", "patching"))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--method", default="dm", choices=("dc", "dsa", "dm"))
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    adapter = ADAPTERS[asked.method]
    if asked.of == "patching":
        return cut_short.campaign(adapter, asked.runs, asked.seed, as_json=asked.json)
    apply.apply(adapter)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(asked.at_once) as pool:
        folder = Path(name)
        reference, usual = _undisturbed(asked.method, folder / "reference")
        numbers = range(asked.runs)
        tallies = list(
            pool.map(
                lambda n: _disturbed(
                    asked.method, folder / str(n), reference, usual, random.Random(f"{asked.seed}/{n}")
                ),
                numbers,
            )
        )
    outcome = {
        "method": asked.method,
        "runs": asked.runs,
        "completed": sum(tally.completed for tally in tallies),
        "results lost": sum(tally.lost for tally in tallies),
        "half files": sum(len(tally.half) for tally in tallies),
        "upstream trees dirty": int(clones.status(adapter).state != "patched"),
        "kills": sum(tally.kills for tally in tallies),
        "resumed in": dict(Counter(stage for tally in tallies for stage in tally.resumed)),
        "seconds": round(time.monotonic() - began),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    print(json.dumps(outcome) if asked.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))
    for tally in tallies:
        for text in tally.half:
            print(f"half-made: {text}", file=sys.stderr)
    bad = [outcome["results lost"], outcome["half files"], outcome["upstream trees dirty"]]
    return int(outcome["completed"] != asked.runs or any(bad))


def _command(method: str, runs: Path) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["run", method, "--weight", "0.1", *settings, "--runs", str(runs), "--json"]
    return [sys.executable, "-c", "from sdc.cli import main; main()", *words]


def _start(command: list[str]) -> subprocess.Popen[str]:
    ours = {"PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=os.environ | ours, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _undisturbed(method: str, runs: Path) -> tuple[dict[str, Any], float]:
    """The result of a run that nobody kills, and the seconds that it takes once its data are there."""
    for again in (False, True):
        began = time.monotonic()
        out, _ = _start([*_command(method, runs), *(["--again"] if again else [])]).communicate()
        taken = time.monotonic() - began
    result: dict[str, Any] = json.loads(out)
    return result, taken


def _disturbed(method: str, runs: Path, reference: dict[str, Any], usual: float, draw: random.Random) -> Tally:
    """One run: killed once or twice, then left alone until it is done."""
    tally, command = Tally(), _command(method, runs)
    for _ in range(draw.choice((1, 1, 2))):
        child = _start(command)
        moment, victims = draw.uniform(0, usual), draw.choice(("command", "script", "both"))
        try:
            child.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            tally.kills += _kill(child, victims)
        child.communicate()
        tally.half += _half_made(runs)
    for _ in range(PATIENCE):
        child = _start(command)
        out, _ = child.communicate()
        if child.returncode == 0:
            result = json.loads(out)
            tally.completed = result["state"] == "complete"
            tally.resumed = [entry["stage"] for entry in result["resumed"]]
            tally.lost = not _equal(result, reference)
            break
    tally.half += [*_half_made(runs), *(str(path) for path in runs.rglob("*.partial"))]
    return tally


def _kill(child: subprocess.Popen[str], victims: str) -> int:
    """Kill the command, its script (if there is one by now), or both; the number killed."""
    found = subprocess.run(["pgrep", "-P", str(child.pid)], check=False, capture_output=True, text=True)
    scripts = [int(pid) for pid in found.stdout.split()]
    chosen = {"command": [child.pid], "script": scripts, "both": [child.pid, *scripts]}[victims]
    for pid in chosen or [child.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return 1


def _half_made(runs: Path) -> list[str]:
    """Files under their final names that cannot be read as what they are."""
    found = []
    for path in runs.glob("*/*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
        except FileNotFoundError:
            continue  # an orphaned script put a newer one in its place
        except (ValueError, SafetensorError, OSError) as error:
            found.append(f"{path}: {error}")
    return found


def _equal(result: dict[str, Any], reference: dict[str, Any]) -> bool:
    """Whether a run came to the same accuracies and the same bits as the undisturbed one."""
    images, others = ((Path(each["run"]) / "distilled.safetensors").read_bytes() for each in (result, reference))
    return images == others and result["accuracy"] == reference["accuracy"]


if __name__ == "__main__":
    sys.exit(main())
