"""What is drawn ahead: the same numbers, in the same order; and on a device nothing is copied or waited for in a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdc.evaluation import ahead, dsa_augment, spline, stacked
from sdc.evaluation.augment import Augment, make, side_by_side
from sdc.evaluation.learning import shuffled, train
from sdc.evaluation.networks import build
from sdc.evaluation.protocol import UNIFORM, Protocol

DSA, DC = "dsa:crop_cutout_flip", "dc:crop_noise"
ALL = {"plain": "", "dsa": UNIFORM.augment, "dc": "dc:crop_noise_rotate_scale"}
COUNT = 10


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def protocol(augment: str, epochs: int = 5) -> Protocol:
    return Protocol(lr=0.01, epochs=epochs, batch=4, augment=augment)


def in_blocks(order: Iterable[Sequence[Tensor]], augment: Augment, images: Tensor) -> Iterator[ahead.Step]:
    """As on a GPU."""
    blocks = ahead._blocks(ahead._drawn(order, augment, images.shape[1:]))
    return chain.from_iterable(ahead._sent(block, images.device) for block in blocks)


@pytest.fixture(params=[(2**30, 1000), (2**30, 5), (3000, 1000), (1, 1)], ids=["whole", "steps", "bytes", "single"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    most, steps = request.param
    monkeypatch.setattr(ahead, "BYTES", most)
    monkeypatch.setattr(ahead, "STEPS", steps)
    monkeypatch.setattr(ahead, "steps", in_blocks)


# The same numbers in the same order


def plainly(spec: str, images: Tensor, generator: torch.Generator, epochs: int) -> Iterator[Tensor]:
    """The batches of a training, written out: each drawn when it is needed, each image changed by itself."""
    for _ in range(epochs + 1):
        for index in torch.randperm(len(images), generator=generator).split(4):
            yield _dsa(images[index], generator) if spec == DSA else _dc(images[index], generator)


def _dsa(batch: Tensor, draws: torch.Generator) -> Tensor:
    count, side = len(batch), batch.shape[-1]
    kind = int(torch.randint(3, (), generator=draws))
    if kind == 0:
        down, right = (torch.randint(0, 5, (count, 1), generator=draws) for _ in range(2))
        padded = F.pad(batch, (2, 2, 2, 2))
        parts = zip(padded, down.flatten().tolist(), right.flatten().tolist(), strict=True)
        return torch.stack([image[:, r : r + side, c : c + side] for image, r, c in parts])
    if kind == 1:
        top, left = (torch.randint(0, side + 1, (count, 1), generator=draws) - side // 4 for _ in range(2))
        made = batch.clone()
        for image, r, c in zip(made, top.flatten().tolist(), left.flatten().tolist(), strict=True):
            image[:, max(r, 0) : max(r + side // 2, 0), max(c, 0) : max(c + side // 2, 0)] = 0
        return made
    mirrored = torch.rand(count, 1, generator=draws).flatten().tolist()
    return torch.stack([image.flip(2) if own < 0.5 else image for image, own in zip(batch, mirrored, strict=True)])


def _dc(batch: Tensor, draws: torch.Generator) -> Tensor:
    side, level = batch.shape[-1], batch.mean((0, 2, 3)).view(-1, 1, 1)
    kinds = torch.randint(0, 2, (len(batch), 1), generator=draws).flatten()
    made, (cropped, noisy) = batch.clone(), ((kinds == kind).nonzero().flatten().tolist() for kind in (0, 1))
    if cropped:
        tops, lefts = (torch.randint(0, 8, (len(cropped), 1), generator=draws).tolist() for _ in range(2))
        for number, (r,), (c,) in zip(cropped, tops, lefts, strict=True):
            made[number] = (F.pad(batch[number] - level, (4, 4, 4, 4)) + level)[:, r : r + side, c : c + side]
    if noisy:
        made[noisy] = batch[noisy] + 0.001 * torch.randn(len(noisy), *batch.shape[1:], generator=draws)
    return made


@pytest.mark.parametrize("spec", [DSA, DC])
@pytest.mark.usefixtures("_blocks")
def test_a_training_sees_the_bits_that_it_sees_when_each_is_drawn_when_needed(spec: str) -> None:
    images, draws = noise(COUNT, 3, 16, 16), torch.Generator().manual_seed(3)
    change = make(spec, draws)
    steps = list(ahead.steps(shuffled(COUNT, protocol(spec), draws), change, images))
    shown = [ahead.changed(change, images[step.chosen], step.drawn) for step in steps]
    expected = list(plainly(spec, images, torch.Generator().manual_seed(3), 5))
    assert all(one.equal(other) for one, other in zip(shown, expected, strict=True))
    assert [(step.epoch, step.last) for step in steps] == [(epoch, n == 2) for epoch in range(6) for n in range(3)]


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
@pytest.mark.usefixtures("_blocks")
def test_networks_become_the_same_however_far_ahead_is_drawn(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, beside = trained(spec), trained(spec, 3)
    monkeypatch.undo()
    assert alone.equal(trained(spec))
    assert beside.equal(trained(spec, 3))


def trained(spec: str, count: int = 1, device: str = "cpu", epochs: int = 5, model: str = "ConvNetW32") -> Tensor:
    """The parameters of networks after a training, side by side if there are several."""
    images, labels, how = (
        noise(COUNT, 3, 16, 16).to(device),
        (torch.arange(COUNT) % 3).to(device),
        protocol(spec, epochs),
    )
    networks = [build(model, 3, 3, 16, number).to(device) for number in range(count)]
    generators = [torch.Generator().manual_seed(number) for number in range(count)]
    orders = [shuffled(COUNT, how, generator) for generator in generators]
    if count == 1:
        train(networks[0], images, labels, how, orders[0], make(spec, generators[0]))
    else:
        made = zip(networks, orders, strict=True)
        members = [stacked.Member(network, images, labels, how.lr, order) for network, order in made]
        stacked.train(members, how, side_by_side(spec, generators))
    return torch.cat([parameter.detach().flatten() for network in networks for parameter in network.parameters()])


def test_no_more_is_drawn_ahead_than_its_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "BYTES", 1000)
    steps = ahead._drawn(shuffled(100, protocol("", 9), torch.Generator()), lambda shown: shown, torch.Size([1, 8, 8]))
    sizes = [len(block) for block in ahead._blocks(steps)]
    assert sum(sizes) == 250
    assert sizes[:-1] == [32] * (len(sizes) - 1)  # each takes the indices of four images


# On a device


class Copies(TorchDispatchMode):
    """Counts what is made on a device of something on the CPU. The device is `meta`: who asks for a value is refused."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given, there = ({t.device.type for t in tree_leaves(x) if isinstance(t, Tensor)} for x in (args, made))
        self.count += "cpu" in given and "meta" in there
        return made


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "side by side"])
def test_a_step_on_a_device_copies_nothing_and_waits_for_nothing(spec: str, count: int) -> None:
    def copies(epochs: int) -> int:
        with Copies() as seen:
            trained(spec, count, "meta", epochs, "MLP")
        return seen.count

    copies(2)  # some constants are copied once for all
    assert (
        copies(2) == copies(7) <= 6 + 6 * count
    )  # images, labels, draws of each type, rates; each network's parameters


@pytest.mark.parametrize("side", [15, 16, 28])
def test_images_are_turned_as_scipy_turns_them(side: int) -> None:
    images, fill = noise(90, 2, side, side).double(), noise(90).double()
    wholes = [
        ndimage.rotate(image.numpy(), angle, axes=(-2, -1), cval=float(own))
        for image, angle, own in zip(images, range(-45, 45), fill, strict=True)
    ]
    margins = [(whole.shape[-1] - side) // 2 for whole in wholes]
    parts = zip(wholes, margins, strict=True)
    expected = torch.stack([torch.as_tensor(whole)[:, m : m + side, m : m + side] for whole, m in parts])
    torch.testing.assert_close(spline.turned(images, torch.arange(-45, 45), fill), expected, rtol=0, atol=1e-12)
    single = spline.turned(images.float(), torch.arange(-45, 45), fill.float())
    torch.testing.assert_close(single, expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(15, 15), (16, 16), (20, 14)])
def test_images_are_turned_and_stretched_as_kornia_does_it(size: tuple[int, int]) -> None:
    from kornia.geometry import transform as warp

    images, degrees, share = (
        noise(30, 2, *size).double(),
        10 * noise(30).double(),
        1 + 0.2 * noise(30, 2).double().sin(),
    )
    turned = dsa_augment.sampled(images, dsa_augment.turn(degrees, *size))
    torch.testing.assert_close(turned, warp.rotate(images, degrees), rtol=0, atol=1e-11)
    stretched = dsa_augment.sampled(images, dsa_augment.stretch(share))
    torch.testing.assert_close(stretched, warp.scale(images, 1 / share), rtol=0, atol=1e-11)
