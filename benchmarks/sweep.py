"""A sweep by `sdc bench` against the same scripts by hand: `python -m benchmarks.sweep --data ARCHIVE [--json]`.

The matrix is dc and dm at three weights and three seeds, on all 50,000 images of CIFAR-10, ipc 1, ConvNetW32. By hand
the patched scripts run one after another, each with as many threads as it likes, read torchvision's own files and
evaluate by their own means; `sdc bench` gets the same settings, the archive and an empty folder of runs. Both train as
many networks on each set, once, when it is distilled, for 300 epochs (of which DC's script lets nobody choose others),
and test each on all test images. By hand an `--eval_mode` that no script knows sees to "once": the default would
evaluate the first images, too, and at so few iterations not the last.

The archive is prepared for `sdc bench`, and torchvision's files are made, before either begins; the seconds that the
first takes are told. No seed can be given to a script: by hand each is a repetition. `benchmarks.by_hand` says what
little help the scripts get.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import batches
from sdc.adapters.registry import ADAPTERS
from sdc.data import store
from sdc.ground import paths
from sdc.ground.cores import cores
from sdc.ground.watch import Quiet
from sdc.patching import apply, clones
from sdc.plan.request import Request, plan

METHODS = ("dc", "dm")
EPOCHS = 300
FOUND = re.compile(r"Run 1 experiments, .* mean  = ([0-9.]+)%")
SPEC = """\
methods = {methods}
datasets = ["cifar10"]
weights = {weights}
seeds = {seeds}
[data]
cifar10 = "{data}"
[set]
{settings}
[evaluate]
floor = false
"""


def main() -> None:
    """Time both ways, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="an archive of CIFAR-10's images")
    parser.add_argument("--weights", default="0,0.5,2", help="joined by commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--iterations", type=int, default=30, help="of each distillation")
    parser.add_argument("--networks", type=int, default=2, help="trained on each set")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    weights, seeds = [float(weight) for weight in asked.weights.split(",")], list(range(asked.seeds))
    settings = {
        "model": "ConvNetW32",
        "limit_per_class": 0,
        "batch_real": 64,
        "Iteration": asked.iterations,
        "networks": asked.networks,
        "epochs": EPOCHS,
    }
    for method in METHODS:
        apply.apply(ADAPTERS[method])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["SDC_CACHE"] = str(work / "cache")
        began = time.monotonic()
        dataset = store.load("cifar10", asked.data)
        prepared = time.monotonic() - began
        batches.write(dataset, work)
        hand = _by_hand(weights, seeds, settings, asked.data, work)
        bench = _by_bench(weights, seeds, settings, asked.data, work)
    outcome = {
        "runs": len(METHODS) * len(weights) * len(seeds),
        "settings": settings,
        "seconds": {"by hand": hand["seconds"], "bench": bench["seconds"], "preparing the archive": round(prepared, 1)},
        "share": bench["seconds"] / hand["seconds"],
        "accuracy": {"by hand": hand["accuracy"], "bench": bench["accuracy"]},
        "device": f"{platform.machine()}, {cores()} cores" + (", a GPU" if torch.cuda.is_available() else ""),
        "torch": torch.__version__,
    }
    print(json.dumps(outcome) if asked.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))


def _by_hand(
    weights: list[float], seeds: list[int], settings: dict[str, Any], data: Path, work: Path
) -> dict[str, Any]:
    """Every run one after another; the seconds of all, and the mean accuracy in % by method."""
    total, reached = 0.0, defaultdict[str, list[float]](list)
    changes = tuple(f"{name}={value}" for name, value in settings.items())
    for method, weight, seed in itertools.product(METHODS, weights, seeds):
        planned = plan(Request(method, weight, "cifar10", data, changes=changes), Quiet())
        saved = work / f"{method}-{weight}-{seed}"
        own = {
            "num_eval": settings["networks"],
            "eval_mode": "at the end",
            "epoch_eval_train": EPOCHS,
            "data_path": work,
            "save_path": saved,
            "sdc_lambda": weight,
        }
        more = [word for name, value in own.items() for word in (f"--{name}", str(value))]
        script = clones.script_path(planned.adapter)
        began = time.monotonic()
        words = [str(script), str(work), *planned.adapter.argv(planned.job), *more]
        said = _said(["benchmarks.by_hand", *words], script.parent)
        total += time.monotonic() - began
        found = FOUND.search(said)
        assert found, said
        reached[method].append(float(found[1]))
        print(f"by hand: {method} {weight:g} {seed}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return {"seconds": round(total, 1), "accuracy": {name: statistics.fmean(each) for name, each in reached.items()}}


def _by_bench(
    weights: list[float], seeds: list[int], settings: dict[str, Any], data: Path, work: Path
) -> dict[str, Any]:
    """The same matrix by one command."""
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    lists = {"methods": json.dumps(METHODS), "weights": weights, "seeds": seeds}
    spec = work / "sweep.toml"
    spec.write_text(SPEC.format(**lists, data=data.resolve(), settings=lines))
    began = time.monotonic()
    found = json.loads(_said(["sdc", "bench", str(spec), "--runs", str(work / "runs"), "--json"], paths.ROOT))
    seconds = time.monotonic() - began
    count = len(METHODS) * len(weights) * len(seeds)
    assert found["states"] == {"done": count}, found
    reached = defaultdict[str, list[float]](list)
    for file in (work / "runs").glob("*/result.json"):
        result = json.loads(file.read_text())
        assert result["n"] == settings["networks"], result
        reached[result["method"]].append(100 * result["mean"])
    return {"seconds": round(seconds, 1), "accuracy": {m: statistics.fmean(reached[m]) for m in METHODS}}


def _said(words: list[str], folder: Path) -> str:
    """What a Python module prints, with as many threads as it likes."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in limits}
    environment |= {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "ignore", "-m", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment).stdout


if __name__ == "__main__":
    main()
