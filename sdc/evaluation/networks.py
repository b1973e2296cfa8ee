"""The networks that distilled images are made for and judged by, for images of any channel count and size.

The architectures are those of the dataset-condensation literature (Zhao, Mopuri and Bilen, ICLR 2021), fitted to the
image's size: at 28x28 the first convolution pads the image to 32x32. Modules are created in the order in which that
literature's code creates them, so that one seed draws the same initial weights in both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from sdc.ground.errors import FatalError, unknown

Norm = Callable[[int, int], list[nn.Module]]  # (channels, side of the square) -> the layer, or nothing
Builder = Callable[[int, int, int], "Network"]  # (channels, classes, size) -> a network


class Network(nn.Module):
    """A body that makes features of images, and a linear classifier over them."""

    def __init__(self, body: nn.Sequential, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(features, classes)

    def features(self, images: Tensor) -> Tensor:
        """[N,F] of images [N,C,H,W]: what the classifier sees."""
        made: Tensor = self.body(images)
        return made.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N,K] of images [N,C,H,W]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class Residual(nn.Module):
    """Two 3x3 convolutions added to their input, fitted by a 1x1 one where the shape changes (He et al. 2016)."""

    def __init__(self, incoming: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(incoming, width, 3, stride, padding=1, bias=False),
            *norm(width, 0),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            *norm(width, 0),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or incoming != width:
            self.shortcut.extend([nn.Conv2d(incoming, width, 1, stride, bias=False), *norm(width, 0)])

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,width,H/stride,W/stride]."""
        return torch.relu(self.main(x) + self.shortcut(x))


def _batch(width: int, _: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width)]


def _instance(width: int, _: int) -> list[nn.Module]:
    # A group a channel: instance norm with the learnable scale and shift that the literature gives it.
    return [nn.GroupNorm(width, width)]


def _group(width: int, _: int) -> list[nn.Module]:
    return [nn.GroupNorm(4, width)]


def _layer(width: int, side: int) -> list[nn.Module]:
    return [nn.LayerNorm([width, side, side])]


def _none(_: int, __: int) -> list[nn.Module]:
    return []


def _margin(size: int) -> int:
    """The extra padding that shows a 28x28 image to a network as 32x32."""
    return 2 if size == 28 else 0


def _joined(layers: list[nn.Module], channels: int, classes: int, size: int) -> Network:
    """The network of these layers; one empty image through them tells how many features they make."""
    body = nn.Sequential(*layers).eval()
    with torch.no_grad():
        features = body(torch.zeros(1, channels, size, size)).numel()
    return Network(body, features, classes).train()


def _convnet(
    channels: int, classes: int, size: int, depth: int = 3, width: int = 128, norm: Norm = _instance
) -> Network:
    layers: list[nn.Module] = []
    incoming, side = channels, size + 2 * _margin(size)
    if side >> depth == 0:
        raise FatalError(
            f"a ConvNet of depth {depth} halves images of {size}x{size} pixels to nothing: "
            f"choose ConvNetD{side.bit_length() - 1} or a shallower one"
        )
    for block in range(depth):
        padding = 1 + (_margin(size) if block == 0 else 0)
        layers += [nn.Conv2d(incoming, width, 3, padding=padding), *norm(width, side)]
        layers += [nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        incoming, side = width, side // 2
    return _joined(layers, channels, classes, size)


def _mlp(channels: int, classes: int, size: int) -> Network:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * size * size, 128), nn.ReLU(inplace=True)]
    return _joined([*layers, nn.Linear(128, 128), nn.ReLU(inplace=True)], channels, classes, size)


def _lenet(channels: int, classes: int, size: int) -> Network:
    layers: list[nn.Module] = [nn.Conv2d(channels, 6, 5, padding=_margin(size)), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()]
    side = ((size + 2 * _margin(size) - 4) // 2 - 4) // 2
    layers += [nn.Linear(16 * side * side, 120), nn.ReLU(inplace=True), nn.Linear(120, 84), nn.ReLU(inplace=True)]
    return _joined(layers, channels, classes, size)


def _alexnet(channels: int, classes: int, size: int, norm: Norm = _none) -> Network:
    layers: list[nn.Module] = []
    incoming = channels
    for width, kernel, pooled in ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True)):
        padding = kernel // 2 + (0 if layers else _margin(size))
        layers += [nn.Conv2d(incoming, width, kernel, padding=padding), *norm(width, 0), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if pooled else []
        incoming = width
    return _joined(layers, channels, classes, size)


def _vgg11(channels: int, classes: int, size: int, norm: Norm = _instance) -> Network:
    layers: list[nn.Module] = []
    incoming = channels
    for widths in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for width in widths:
            padding = 1 + (0 if layers else _margin(size))
            layers += [nn.Conv2d(incoming, width, 3, padding=padding), *norm(width, 0), nn.ReLU(inplace=True)]
            incoming = width
        layers.append(nn.MaxPool2d(2))
    return _joined(layers, channels, classes, size)


def _resnet18(channels: int, classes: int, size: int, norm: Norm = _instance) -> Network:
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), *norm(64, 0), nn.ReLU(inplace=True)]
    incoming = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(incoming, width, stride, norm), Residual(width, width, 1, norm)]
        incoming = width
    return _joined([*layers, nn.AvgPool2d(4)], channels, classes, size)


_BUILDERS: dict[str, Builder] = {
    "AlexNet": _alexnet,
    "AlexNetBN": partial(_alexnet, norm=_batch),
    "ConvNet": _convnet,
    "ConvNetBN": partial(_convnet, norm=_batch),
    "ConvNetD1": partial(_convnet, depth=1),
    "ConvNetD2": partial(_convnet, depth=2),
    "ConvNetD3": partial(_convnet, depth=3),
    "ConvNetD4": partial(_convnet, depth=4),
    "ConvNetD5": partial(_convnet, depth=5),
    "ConvNetD6": partial(_convnet, depth=6),
    "ConvNetD7": partial(_convnet, depth=7),
    "ConvNetD8": partial(_convnet, depth=8),
    "ConvNetGN": partial(_convnet, norm=_group),
    "ConvNetIN": partial(_convnet, norm=_instance),
    "ConvNetLN": partial(_convnet, norm=_layer),
    "ConvNetNN": partial(_convnet, norm=_none),
    "ConvNetW128": partial(_convnet, width=128),
    "ConvNetW256": partial(_convnet, width=256),
    "ConvNetW32": partial(_convnet, width=32),
    "ConvNetW64": partial(_convnet, width=64),
    "LeNet": _lenet,
    "MLP": _mlp,
    "ResNet18": _resnet18,
    "ResNet18BN": partial(_resnet18, norm=_batch),
    "VGG11": _vgg11,
    "VGG11BN": partial(_vgg11, norm=_batch),
}
NAMES = tuple(_BUILDERS)
_NO_ROOM = (RuntimeError, ValueError, ZeroDivisionError)
"""What torch raises where layers leave nothing of an image."""


def known(name: str) -> str:
    """`name` itself. Raises FatalError listing the networks there are if it is none of them."""
    if name not in _BUILDERS:
        raise unknown("model", name, list(NAMES))
    return name


def check(name: str, channels: int, classes: int, size: int) -> None:
    """Raise FatalError unless this network takes images of this size."""
    if not takes(known(name), channels, classes, size):
        taking = [other for other in NAMES if takes(other, channels, classes, size)]
        raise FatalError(
            f"images of {size}x{size} pixels are too small for {name}. Models that take them: {', '.join(taking)}"
        )


@cache
def takes(name: str, channels: int, classes: int, size: int) -> bool:
    """Whether this network takes images of this size. Only shapes are followed, nothing is drawn."""
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        try:
            _BUILDERS[name](channels, classes, size)
        except (*_NO_ROOM, FatalError):
            return False
    return True


def build(name: str, channels: int, classes: int, size: int, seed: int) -> Network:
    """A fresh network, on the CPU, for images [N,channels,size,size]; its weights depend on `seed` alone."""
    with _seeded(seed):
        try:
            return _BUILDERS[known(name)](channels, classes, size)
        except _NO_ROOM:
            check(name, channels, classes, size)
            raise


@cache
def multiply_adds(name: str, channels: int, classes: int, size: int) -> int:
    """The multiply-adds of the convolutions and linear layers of this network for one image; nothing is drawn."""
    counted: list[int] = []

    def count(layer: nn.Module, _: object, made: Tensor) -> None:
        weight = cast(Tensor, layer.weight)
        counted.append(made.numel() * weight[0].numel())

    with torch.device("meta"), warnings.catch_warnings(action="ignore"), torch.no_grad():
        network = _BUILDERS[known(name)](channels, classes, size).eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        network(torch.zeros(1, channels, size, size))
    return sum(counted)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Layers initialise themselves from the global CPU generator; torch.manual_seed would reseed every GPU's as well.
    state = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
