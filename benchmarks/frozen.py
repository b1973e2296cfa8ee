"""DM's term, whose gradient the script does not hold: the plugin's way beside others that are as exact.

`python -m benchmarks.frozen [--models ConvNetW32,ConvNet] [--ipc 1,10] [--rounds 7] [--compile] [--json]`. The term
of ten classes on one random network, and its gradient in the images:

`graph`     a backward pass through the norm's own graph, which takes gradients of the parameters along
`plugin`    the gradient for the images alone, class by class (plugins/sdc.py)
`together`  all classes in one call, by torch.func
`compiled`  class by class by `torch.compile`, its first call aside; only with --compile
`forward`   the forward passes alone, which is what could be shared with the script's own

Milliseconds, medians of the rounds, all ways in turn; on a CPU of one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation.networks import build
from sdc.plugins import sdc

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLASSES = 10


def main() -> None:
    """Time every way for each network and ipc, and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="ConvNetW32,ConvNet")
    parser.add_argument("--ipc", default="1,10")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if DEVICE == "cpu":
        torch.set_num_threads(1)
    rows = [
        {"model": model, "ipc": ipc, **_measured(model, ipc, asked.rounds, compiled=asked.compile)}
        for model in asked.models.split(",")
        for ipc in map(int, asked.ipc.split(","))
    ]
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()}, one thread"
    about = f"{machine}, torch {torch.__version__}"
    if asked.json:
        print(json.dumps({"rows": rows, "about": about}))
        return
    print(f"milliseconds for the term of {CLASSES} classes; {about}")
    for row in rows:
        print(", ".join(f"{name} {value:.4g}" if name != "model" else value for name, value in row.items()))


def _measured(model: str, ipc: int, rounds: int, *, compiled: bool) -> dict[str, float]:
    """Milliseconds of every way; all must give the gradient that `graph` gives."""
    network = build(model, 3, CLASSES, 32, 0).to(DEVICE).requires_grad_(False)
    images = torch.randn(CLASSES, ipc, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    ways: dict[str, Callable[[], Tensor]] = {
        "graph": partial(_backward, lambda *given: sdc.gradient_norm(sdc.class_gradient(*given)), network, images),
        "plugin": partial(_backward, sdc.class_norm, network, images),
        "together": partial(_together, network, images),
    }
    found: dict[str, float] = {}
    if compiled:
        ways["compiled"] = _compiled(network, images)
        began = time.perf_counter()
        ways["compiled"]()
        found["seconds to compile"] = time.perf_counter() - began
    expected = ways["graph"]()
    for way in ways.values():
        assert (way() - expected).norm() < 1e-2 * expected.norm()  # one ReLU may fall to its other side by rounding
    ways["forward"] = lambda: torch.stack([network(of_class) for of_class in images])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(_seconds(way))
    return {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()} | found


def _backward(norm: Callable[[nn.Module, Tensor, int], Tensor], network: nn.Module, images: Tensor) -> Tensor:
    """As DM's script goes: the classes' terms in one sum, and one backward pass behind it."""
    given = images.clone().requires_grad_()
    torch.stack([norm(network, of_class, label) for label, of_class in enumerate(given)]).sum().backward()  # type: ignore[no-untyped-call]
    assert given.grad is not None
    return given.grad


def _slope(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The gradient of a class's term by torch.func, of images [n,C,S,S] and labels [n]."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(own: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(network, own, (images,)), labels)

    def norm(images: Tensor, labels: Tensor) -> Tensor:
        return sdc.gradient_norm(torch.func.grad(loss)(parameters, images, labels).values())

    slope: Callable[[Tensor, Tensor], Tensor] = torch.func.grad(norm)
    return slope


def _labels(images: Tensor) -> Tensor:
    return torch.arange(CLASSES, device=images.device)[:, None].expand(images.shape[:2])


def _together(network: nn.Module, images: Tensor) -> Tensor:
    every: Callable[[Tensor, Tensor], Tensor] = torch.func.vmap(_slope(network))
    return every(images, _labels(images))


def _compiled(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    slope: Any = torch.compile(_slope(network))
    return lambda: torch.stack([slope(*given) for given in zip(images, _labels(images), strict=True)])


def _seconds(way: Callable[[], Tensor]) -> float:
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    began = clock()
    way().sum().item()  # waits for a GPU
    return clock() - began


if __name__ == "__main__":
    main()
