"""Our networks, training, augmentation and scores against the true evaluator, which runs in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor

from sdc.evaluation.augment import Ranges, make
from sdc.evaluation.learning import train
from sdc.evaluation.networks import NAMES, build
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.training import evaluate
from sdc.evaluation.view import View, normalised
from tests.upstreams.evaluate_upstream import digest

pytestmark = pytest.mark.upstream

Ask = Callable[..., dict[str, Tensor]]
DSA = "color_crop_cutout_flip_scale_rotate"
DC = "crop_scale_rotate"
DIGITS = View("digits", tuple("0123456789"), channels=3, size=32, mean=(0.3,) * 3, std=(0.37,) * 3)


@pytest.fixture
def ask(upstream_tree: Callable[[str], Path], tmp_path: Path) -> Ask:
    """Put a question to the true evaluator: tensors in, tensors out."""

    def asked(question: str, tensors: dict[str, Tensor], *, method: str = "dc", **told: Any) -> dict[str, Tensor]:
        source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
        save_file(tensors, source, {"told": json.dumps(told)})
        script = Path(__file__).with_name("evaluate_upstream.py")
        command = [sys.executable, str(script), str(upstream_tree(method)), question, str(source), str(target)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        child = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert child.returncode == 0, child.stderr
        return load_file(target)

    return asked


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits of scikit-learn, as the networks see them at 3x32x32: with one channel, the true code's networks refuse DSA's images on a CPU."""
    stored = load_digits()
    pixels = torch.from_numpy(stored.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    return normalised(pixels, DIGITS), torch.from_numpy(stored.target).long()


@pytest.mark.parametrize("shape", [(1, 28), (3, 32)], ids=["1x28x28", "3x32x32"])
def test_one_seed_draws_the_same_weights_and_gives_the_same_logits(ask: Ask, shape: tuple[int, int]) -> None:
    channels, size = shape
    ours_alone = {"ConvNetD5", "ConvNetD6", "ConvNetD7", "ConvNetD8"}
    models = sorted(set(NAMES) - ours_alone)
    images = noise(4, channels, size, size)
    theirs = ask("build", {"images": images}, models=models, seed=7)

    for model in models:
        network = build(model, channels, 10, size, seed=7)
        assert digest(network).equal(theirs[f"{model} weights"]), model
        with torch.no_grad():
            torch.testing.assert_close(network(images), theirs[f"{model} logits"], msg=lambda m, n=model: f"{n}: {m}")
            torch.testing.assert_close(network.eval()(images), theirs[f"{model} logits when tested"])


@pytest.mark.parametrize(("model", "count", "epochs"), [("ConvNetW32", 25, 6), ("ConvNet", 10, 19)])
def test_the_same_batches_lead_to_the_same_weights(ask: Ask, model: str, count: int, epochs: int) -> None:
    """At least 20 steps, across the drop of the rate, where the momentum starts from zero."""
    protocol = Protocol(lr=0.01, epochs=epochs, batch=10)
    images, labels = noise(count, 3, 32, 32), torch.arange(count) % 10
    told = {"model": model, "seed": 3, "lr": protocol.lr, "epochs": epochs, "batch": protocol.batch}
    theirs = ask("steps", {"images": images, "labels": labels}, **told)

    order = [epoch.split(protocol.batch) for epoch in theirs.pop("order").split(count)]
    assert sum(len(batches) for batches in order) >= 20
    network = build(model, 3, 10, 32, seed=3)
    before = [tensor.clone() for tensor in network.state_dict().values()]
    train(network, images, labels, protocol, order, lambda shown: shown)

    after = list(network.state_dict().values())
    assert max((a - b).abs().max() for a, b in zip(after, before, strict=True)) > 1e-2
    for own, other in zip(after, theirs.values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["mtt", "ftd", "tesla", "datm"])
def test_methods_that_learn_the_rate_train_as_their_own_evaluator_does(method: str, ask: Ask) -> None:
    """DATM by the softmax of its logits; all at the learned rate that the protocol is given."""
    count, epochs = 25, 6
    model = "ConvNetD1" if method == "tesla" else "ConvNetW32"
    protocol = Protocol(lr=0.0173, epochs=epochs, batch=10)
    images, hard = noise(count, 3, 32, 32), torch.arange(count) % 10
    labels = 3 * noise(count, 10) if method == "datm" else hard
    told = {"model": model, "seed": 3, "lr": protocol.lr, "epochs": epochs, "batch": protocol.batch}
    theirs = ask("steps", {"images": images, "labels": labels}, method=method, **told)

    order = [epoch.split(protocol.batch) for epoch in theirs.pop("order").split(count)]
    assert len(order) == epochs + 1
    network = build(model, 3, 10, 32, seed=3)
    before = [tensor.clone() for tensor in network.state_dict().values()]
    train(network, images, labels, protocol, order, lambda shown: shown)

    after = list(network.state_dict().values())
    assert max((a - b).abs().max() for a, b in zip(after, before, strict=True)) > 1e-2
    for own, other in zip(after, theirs.values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5)


def test_ten_networks_score_as_ten_of_the_true_evaluator(ask: Ask) -> None:
    images, labels = digits()
    first = torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])
    told = {"model": "ConvNetW32", "seed": 100, "lr": 0.01, "epochs": 25, "batch": 256, "networks": 10}
    given = {
        "images": images[first],
        "labels": labels[first],
        "test_images": images[-300:].contiguous(),
        "test_labels": labels[-300:].contiguous(),
    }
    theirs = ask("scores", given, **told, protocols={"": {}, f"dsa:{DSA}": {"dsa": DSA}, f"dc:{DC}": {"dc": DC}})

    for augment, accuracies in theirs.items():
        protocol = Protocol(lr=0.01, epochs=25, augment=augment, networks=10)
        scores = evaluate(**given, model="ConvNetW32", protocol=protocol, seed=0, device="cpu")
        own = torch.tensor([score.accuracy for score in scores], dtype=torch.float64)
        error = (own.var() / 10 + accuracies.var() / 10).sqrt()
        assert abs(own.mean() - accuracies.mean()) < 2 * error, augment
        assert error < 0.03  # so that agreement says something


SINGLE = [f"dsa:{name}" for name in DSA.split("_")] + ["dc:crop", "dc:noise", "dc:rotate", "dc:scale"]
SPECS = [*SINGLE, f"dsa:{DSA}", f"dc:{DC}"]
COPIES, TIMES = 40, 100


def test_augmentation_is_distributed_as_the_true_one(ask: Ask) -> None:
    """Every moment in `moments`, over 4,000 changed copies of one image in batches of 40, within 5 standard errors."""
    images = (noise(1, 3, 16, 16) * 0.5 + 0.3).expand(COPIES, -1, -1, -1).contiguous()
    theirs = ask("augment", {"images": images}, specs=SPECS, times=TIMES, seed=1, lr=1, epochs=1, batch=1)

    distances = {spec: distance(images, ours(spec, images, Ranges()), theirs[spec]) for spec in SPECS}
    assert {spec: far for spec, far in distances.items() if far > 5} == {}

    # The same comparison sees each of these wrong ranges, and a strategy drawn for each image instead of each batch.
    wrong = {
        "dsa:color": [Ranges(brightness=1.2), Ranges(saturation=1.8), Ranges(contrast=0.6)],
        "dsa:crop": [Ranges(crop=0.0625), Ranges(crop=0.1875)],
        "dsa:cutout": [Ranges(cutout=0.4375)],
        "dsa:flip": [Ranges(flip=0.4)],
        "dsa:rotate": [Ranges(rotate=30), Ranges(rotate=13)],
        "dsa:scale": [Ranges(scale=1.25)],
        "dc:crop": [Ranges(dc_crop=3), Ranges(dc_crop=5)],
        "dc:noise": [Ranges(dc_noise=0.0012)],
        "dc:rotate": [Ranges(dc_rotate=35)],
        "dc:scale": [Ranges(dc_scale=0.25)],
    }
    cases = [(spec, ranges) for spec, listed in wrong.items() for ranges in listed]
    assert [case for case in cases if distance(images, ours(case[0], images, case[1]), theirs[case[0]]) < 5] == []
    true = theirs[f"dsa:{DSA}"]
    mixed = true.transpose(0, 1).reshape(true.shape)  # images of many batches in each
    assert distance(images, mixed, true) > 5


def ours(spec: str, images: Tensor, ranges: Ranges) -> Tensor:
    change = make(spec, torch.Generator().manual_seed(2), ranges)
    return torch.stack([change(images) for _ in range(TIMES)])


def distance(images: Tensor, one: Tensor, other: Tensor) -> float:
    """The largest difference of two samples [times,N,C,H,W] in any moment, in standard errors; batches are independent."""
    first, second = moments(one - images), moments(other - images)
    error = (first.var(0) / len(first) + second.var(0) / len(second)).sqrt()
    return float(((first.mean(0) - second.mean(0)).abs() / error.clamp_min(1e-12)).max())


def moments(change: Tensor) -> Tensor:
    """Of each batch [times,...]: first and second moments of each pixel, and of an image's level, roughness and energy
    (what its pixels do together); and the spread of these within the batch (whether its images share a strategy).
    """
    change = change.double()
    rough = change.diff(dim=3).square().mean((2, 3, 4)) + change.diff(dim=4).square().mean((2, 3, 4))
    energy = change.square().mean((2, 3, 4))
    each = torch.stack([change.mean((2, 3, 4)), rough, energy, (energy + 0.01).log()], 2)
    alone = [part.flatten(2).mean(1) for part in (change, change.square(), each, each.square())]
    return torch.cat([*alone, each.var(1)], 1)
