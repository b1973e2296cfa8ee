"""Per-sample gradient norms: side by side (sdc.analysis.difficulty.gradn) against one sample at a time.

`python -m benchmarks.gradn [--models ConvNetW32,ConvNet] [--samples N] [--chunks 1,4,8,16,32] [--rounds N] [--json]`.
Random 32x32 images on freshly initialised networks; all ways in turn, medians of the rounds, with one thread and with
two. On a GPU, if there is one, the images lie there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.analysis.difficulty.gradn import sample_norms
from sdc.analysis.difficulty.judges import fresh

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Time every way, and print milliseconds a sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="ConvNetW32,ConvNet")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--chunks", default="1,4,8,16,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    chunks = [int(chunk) for chunk in asked.chunks.split(",")]
    rows = [
        {"model": model, "threads": threads, **_measured(model, threads, asked.samples, chunks, asked.rounds)}
        for model in asked.models.split(",")
        for threads in (1, 2)
    ]
    version = torch.__version__
    about = f"{torch.cuda.get_device_name() if DEVICE == 'cuda' else platform.machine()}, {os.cpu_count()} cores"
    if asked.json:
        print(json.dumps({"rows": rows, "device": about, "torch": version}))
        return
    print(f"milliseconds a sample (median of {asked.rounds} rounds of {asked.samples}); {about}, torch {version}")
    for row in rows:
        side = ", ".join(f"{chunk}: {value:.3f}" for chunk, value in row["side_by_side"].items())
        print(
            f"{row['model']}, {row['threads']} threads: one at a time {row['one_at_a_time']:.3f}; in chunks of {side}",
            end="; ",
        )
        print(f"{row['times']:.2f} times as fast")


def _measured(model: str, threads: int, samples: int, chunks: list[int], rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    network = fresh(model, 3, 10, 32, count=1, seed=0)[0].to(DEVICE)
    images, labels = torch.randn(samples, 3, 32, 32, device=DEVICE), torch.arange(samples, device=DEVICE) % 10
    ways: dict[int, Callable[[], Tensor]] = {0: partial(one_at_a_time, network, images, labels)}
    ways |= {chunk: partial(sample_norms, network, images, labels, chunk) for chunk in chunks}
    found = {chunk: way() for chunk, way in ways.items()}  # warms up, and they agree
    for norms in found.values():
        torch.testing.assert_close(norms, found[0], rtol=1e-3, atol=1e-3)
    seconds: dict[int, list[float]] = {chunk: [] for chunk in ways}
    for _ in range(rounds):
        for chunk, way in ways.items():
            seconds[chunk].append(_seconds(way))
    each = {chunk: 1000 * statistics.median(measured) / samples for chunk, measured in seconds.items()}
    alone = each.pop(0)
    return {"one_at_a_time": alone, "side_by_side": each, "times": alone / min(each.values())}


def one_at_a_time(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The definition, by plain autograd."""
    parameters, norms = list(network.parameters()), []
    for image, label in zip(images, labels, strict=True):
        gradient = torch.autograd.grad(F.cross_entropy(network(image[None]), label[None]), parameters)
        norms.append(torch.stack([part.square().sum() for part in gradient]).sum().sqrt())
    return torch.stack(norms)


def _seconds(way: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    way().sum().item()  # waits for a GPU
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
