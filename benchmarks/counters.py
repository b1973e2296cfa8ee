"""What a GPU would have to do for one step: launches, waits, copies either way, counted on an emulated one.

`distil`    one update of the images, each method's own script under the launcher: the difference of two runs' counts
`evaluate`  one step of one network's training, alone and in a stack of ten: likewise, of two numbers of epochs

No time is measured: the emulation (tests/fakecuda) computes on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from tests.fakecuda import reports

NAMES = ("launches", "syncs", "to_device", "to_host")
UPDATES = {"dsac": "outer_loop", **{method: "Iteration" for method in ADAPTERS if method != "dsac"}}
"""The option of each script that says how many iterations there are."""
EVALUATION = """
import sys, torch
from sdc.evaluation.training import evaluate
from sdc.evaluation.protocol import Protocol
augment, epochs, networks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
shown = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
protocol = Protocol(lr=0.01, epochs=epochs, networks=networks, augment=augment)
evaluate(shown, torch.arange(10), shown, torch.arange(10), "ConvNetW32", protocol, 0, stack=networks > 1)
"""
AUGMENTS = {"none": "", "dsa": "dsa:color_crop_cutout_flip_scale_rotate", "dc": "dc:crop_scale_rotate"}


def counted(words: Sequence[object], folder: Path, of: str) -> dict[str, int]:
    """What processes whose program is below `of` did in all, of a command run with an emulated GPU."""
    report = folder / "report.jsonl"
    report.unlink(missing_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(paths.ROOT / "tests" / "site"), str(paths.ROOT)]),
        "SDC_TEST_CUDA": "1",
        "SDC_TEST_CUDA_REPORT": str(report),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    found = [each["counts"] for each in reports(report) if each["argv"][0].startswith(of)]
    return {name: sum(counts[name] for counts in found) for name in NAMES}


def each_of(more: dict[str, int], fewer: dict[str, int], steps: int) -> dict[str, float]:
    """The counts of one of the `steps` by which two commands differ."""
    return {name: (more[name] - fewer[name]) / steps for name in NAMES}


def distil(method: str, folder: Path) -> dict[str, float]:
    """The counts of one update of the images."""
    few = ["--recipe", "trial", "--set", "networks=1", "--set", "epochs=1", "--set", "limit_per_class=12"]
    found, steps = [], []
    for iterations in (2, 4):
        own = ["--set", f"{UPDATES[method]}={iterations}", "--set", "history=0", "--set", "snapshot_every=1000"]
        asked = ["-m", "sdc", "run", method, "--dataset", "digits", "--weight", 0.1, *few, *own, "--json"]
        found.append(counted([*asked, "--runs", folder / str(iterations)], folder, str(paths.upstream())))
        (result,) = (folder / str(iterations)).glob(f"{method}-*/result.json")
        steps.append(json.loads(result.read_text())["stages"]["distil"]["steps"])
    return each_of(found[1], found[0], steps[1] - steps[0])


def evaluate(augment: str, networks: int, folder: Path) -> dict[str, float]:
    """The counts of one step of the training of `networks` networks, side by side if there are several."""
    found = [counted(["-c", EVALUATION, augment, epochs, networks], folder, "-c") for epochs in (5, 25)]
    return each_of(found[1], found[0], 20)


def main() -> None:
    """Count and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", default=",".join(ADAPTERS), help="of `distil`; empty: none")
    asked = parser.parse_args()
    rows: list[tuple[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        rows += [(f"distil {each}", distil(each, Path(name))) for each in filter(None, asked.methods.split(","))]
        for label, augment in AUGMENTS.items():
            rows += [(f"evaluate {n}, {label}", evaluate(augment, n, Path(name))) for n in (1, 10)]
    print(f"| a step of | {' | '.join(NAMES)} |\n| --- |{' --- |' * len(NAMES)}")
    for label, counts in rows:
        print(f"| {label} | {' | '.join(f'{counts[name]:.4g}' for name in NAMES)} |")


if __name__ == "__main__":
    main()
