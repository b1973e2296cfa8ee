"""Evaluation: ours against the upstream's `evaluate_synset`, seconds a network.

`python -m benchmarks.evaluate [--model ConvNet] [--ipc 1,10,50] [--networks 20] [--share 0.01]
[--ways ours,side,upstream] [--parity] [--json]`. Random real digits at 3x32x32 stand for a distilled set. The protocol
is the full one (1,000 epochs, batches of 256, DSA's augmentation, 10,000 test images), of whose epochs and test images
alike a --share is taken. `ours` goes the way that the device asks for, `side` trains networks side by side whatever the
device. On a CPU: one thread, and the seconds of that thread; on a GPU: seconds.

`--wall` instead: wall time of all networks on a CPU, ours in as many processes as there are cores, the upstream's with
the threads that it takes by itself, in turn; and what more cores would give, simulated from the time of one network
with one thread and of the start of a process.

`--parity` instead: 50 epochs, each network side by side and alone (same predictions?), beside the same of two networks
alone that start a rounding error apart; and the mean of all against the mean of the upstream's.
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
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sdc.adapters.registry import ADAPTERS
from sdc.data import store
from sdc.data.sets import drawn
from sdc.evaluation import stacked
from sdc.evaluation.augment import make, side_by_side
from sdc.evaluation.distilled import hard_labels
from sdc.evaluation.learning import shuffled, train
from sdc.evaluation.networks import build
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.training import evaluate
from sdc.evaluation.view import View, normalised
from sdc.ground import cores, paths
from sdc.patching import apply, clones

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TESTED = 10_000
CORES = (1, 2, 4, 8, 16, 32, 64)
UPSTREAM = paths.ROOT / "tests" / "upstreams" / "evaluate_upstream.py"
Tensors = dict[str, Tensor]


def main() -> None:
    """Time, or compare, and print a row for each number of images a class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ConvNet")
    parser.add_argument("--ipc", default="1,10,50")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--ways", default="ours,upstream")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if DEVICE == "cpu" and not asked.wall:
        torch.set_num_threads(1)
    measure = _parity if asked.parity else _wall if asked.wall else _times
    rows = [{"ipc": ipc, **measure(ipc, asked)} for ipc in map(int, asked.ipc.split(","))]
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    about = f"{asked.networks} {asked.model}; {machine}, torch {torch.__version__}"
    if asked.json:
        print(json.dumps({"rows": rows, "about": about}))
        return
    print(about)
    for row in rows:
        print(", ".join(f"{name} {_shown(value)}" for name, value in row.items()))


def _times(ipc: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds a network of each way, and how many times as fast as the upstream's ours is."""
    protocol = override(UNIFORM, {"epochs": max(1, round(UNIFORM.epochs * asked.share)), "networks": asked.networks})
    given = _images(ipc, max(1, round(TESTED * asked.share)))
    seconds = {way: _seconds(way, given, asked.model, protocol) for way in asked.ways.split(",")}
    times = {"times": seconds["upstream"] / seconds["ours"]} if {"ours", "upstream"} <= set(seconds) else {}
    return {"epochs": protocol.epochs, "tested": len(given["test_images"]), **seconds, **times}


def _wall(ipc: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Wall time of all networks, ours and the upstream's, and of ours with more cores as simulated."""
    protocol = override(UNIFORM, {"epochs": max(1, round(UNIFORM.epochs * asked.share)), "networks": asked.networks})
    given = _images(ipc, max(1, round(TESTED * asked.share)))
    shown = given["images"], given["labels"], given["test_images"], given["test_labels"]
    began = time.perf_counter()
    scores = evaluate(*shown, asked.model, protocol, seed=0, device="cpu")
    ours = time.perf_counter() - began
    upstream = float(_upstream(given, asked.model, protocol, wall=True)["seconds"].sum())
    began = time.perf_counter()
    with mock.patch.dict(os.environ, {cores.THREADS: "1"}):  # as each network has beside others
        evaluate(*shown, asked.model, protocol, seed=0, networks=1, device="cpu")
    alone = time.perf_counter() - began
    start = _start()
    return {
        "epochs": protocol.epochs,
        "cores": cores.cores(),
        "ours": ours,
        "upstream": upstream,
        "times": upstream / ours,
        "sum": sum(score.seconds for score in scores),
        "alone": alone,
        "start": start,
        "simulated": {
            str(count): _simulated(alone, start, asked.networks, count) for count in (1, 2, 4, 8, 16, 32, 64)
        },
    }


def _start() -> float:
    """Seconds until a process that helps can begin: Python, torch and what else it imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import sdc.evaluation.training"], check=True)
    return time.perf_counter() - began


def _simulated(alone: float, start: float, networks: int, count: int) -> float:
    """Wall time of networks on so many cores, each of which takes the next as soon as it is free."""
    free = [0.0, *[start] * (count - 1)]
    for _ in range(networks):
        first = free.index(min(free))
        free[first] += alone
    return max(each for each in free if each > start or each == free[0])


def _seconds(way: str, given: Tensors, model: str, protocol: Protocol) -> float:
    if way == "upstream":
        return float(_upstream(given, model, protocol)["seconds"].mean())
    stack = {"ours": None, "side": True}[way]
    clock = time.process_time if DEVICE == "cpu" else time.perf_counter
    began = clock()
    shown = given["images"], given["labels"], given["test_images"], given["test_labels"]
    evaluate(*shown, model, protocol, seed=0, device=DEVICE, stack=stack)
    return (clock() - began) / protocol.networks


def _parity(ipc: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Of each network, how many test images are put into the same class; and the two means with their errors."""
    protocol = override(UNIFORM, {"epochs": 49, "networks": asked.networks})
    given = _images(ipc, 0)
    alone = [_alone(number, given, asked.model, protocol) for number in range(asked.networks)]
    near = [_alone(number, given, asked.model, protocol, nudge=True) for number in range(asked.networks)]
    side = _side_by_side(given, asked.model, protocol)
    truth = given["test_labels"].to(DEVICE)
    means = {
        "alone": [float((p == truth).double().mean()) for p in alone],
        "side": [float((p == truth).double().mean()) for p in side],
        "upstream": _upstream(given, asked.model, protocol)["accuracy"].tolist(),
    }
    return {
        "tested": len(truth),
        "same": _same(alone, side),
        "same_if_nudged": _same(alone, near),
        **{name: statistics.fmean(found) for name, found in means.items()},
        "errors_apart": _errors_apart(means["side"], means["upstream"]),
    }


def _same(some: list[Tensor], others: list[Tensor]) -> dict[str, float]:
    """The share of equal predictions: mean, and least, over the networks."""
    shares = [float((one == other).double().mean()) for one, other in zip(some, others, strict=True)]
    return {"mean": statistics.fmean(shares), "least": min(shares)}


def _errors_apart(some: list[float], others: list[float]) -> float:
    """By how many standard errors two means differ."""
    error = (statistics.variance(some) / len(some) + statistics.variance(others) / len(others)) ** 0.5
    return float(abs(statistics.fmean(some) - statistics.fmean(others)) / error)


def _alone(number: int, given: Tensors, model: str, protocol: Protocol, *, nudge: bool = False) -> Tensor:
    network, generator = _fresh(number, given, model), torch.Generator().manual_seed(number)
    if nudge:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 + 2**-23)
    images, labels = given["images"].to(DEVICE), given["labels"].to(DEVICE)
    order = shuffled(len(images), protocol, generator)
    train(network, images, labels, protocol, order, make(protocol.augment, generator))
    return _predicted(network, given)


def _side_by_side(given: Tensors, model: str, protocol: Protocol) -> list[Tensor]:
    networks = [_fresh(number, given, model) for number in range(protocol.networks)]
    generators = [torch.Generator().manual_seed(number) for number in range(protocol.networks)]
    images, labels = given["images"].to(DEVICE), given["labels"].to(DEVICE)
    members = [
        stacked.Member(network, images, labels, protocol.lr, shuffled(len(images), protocol, generator))
        for network, generator in zip(networks, generators, strict=True)
    ]
    stacked.train(members, protocol, side_by_side(protocol.augment, generators))
    return [_predicted(network, given) for network in networks]


def _fresh(number: int, given: Tensors, model: str) -> nn.Module:
    return build(model, given["images"].shape[1], 10, given["images"].shape[2], number).to(DEVICE)


@torch.inference_mode()
def _predicted(network: nn.Module, given: Tensors) -> Tensor:
    batches = torch.split(given["test_images"].to(DEVICE), 64)
    return torch.cat([network.eval()(batch).argmax(1) for batch in batches])


def _images(ipc: int, tested: int) -> Tensors:
    """So many training images of each digit, and test images: each once, or `tested`, some of them again."""
    data = store.load("digits", None)
    view = View("digits", data.classes, channels=3, size=32, mean=(0.3,) * 3, std=(0.37,) * 3)
    chosen = torch.arange(tested) % len(data.test.labels) if tested else torch.arange(len(data.test.labels))
    return {
        "images": normalised(data.train.images[drawn(data, ipc, "benchmark")], view),
        "labels": hard_labels(len(data.classes), ipc),
        "test_images": normalised(data.test.images[chosen], view),
        "test_labels": data.test.labels[chosen],
    }


def _upstream(given: Tensors, model: str, protocol: Protocol, *, wall: bool = False) -> Tensors:
    """Accuracy and seconds of each network of the true evaluator, in a process of its own.

    Seconds are of its one thread, or by the wall with the threads that torch takes by itself.
    """
    apply.apply(ADAPTERS["dc"])  # clones it; what evaluates lies in a file that no patch touches
    told = {
        "model": model,
        "seed": 100,
        "lr": protocol.lr,
        "epochs": protocol.epochs,
        "batch": protocol.batch,
        "networks": protocol.networks,
        "dsa": protocol.augment.removeprefix("dsa:"),
        "device": DEVICE,
        "wall": wall,
    }
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in.safetensors"), Path(name, "out.safetensors")
        save_file(given, source, {"told": json.dumps(told)})
        command = [
            sys.executable,
            str(UPSTREAM),
            str(clones.clone_path(ADAPTERS["dc"])),
            "timed",
            str(source),
            str(target),
        ]
        plain = {name: value for name, value in os.environ.items() if name not in (cores.THREADS, "OMP_WAIT_POLICY")}
        threads = plain if wall else plain | {cores.THREADS: "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=threads)
        return load_file(target)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_shown(part)}" for name, part in value.items()) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
