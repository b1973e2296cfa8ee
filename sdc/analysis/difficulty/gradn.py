"""GraDN: the norm of the gradient that a single sample gives a network.

For a sample (x, y) it is the expectation over networks theta of || grad_theta loss(x, y; theta) ||_2, over all
parameters (arXiv 2408.12483 measures difficulty by the gradient norm). Which networks are meant changes the number,
and even which of two sets is the harder one: every figure says over which it was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from sdc.evaluation.learning import targets_of
from sdc.ground.errors import FatalError

_GRADIENTS = 2**28
"""Bytes that the gradients of one chunk take at most, by default."""
_CHUNK = {"cuda": 256, "cpu": 16}
"""Samples at a time at most, by default: a CPU gains nothing by more, as a layer's output no longer fits its cache."""
_PART = 256
"""Samples between two reports of progress."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (population) and number of some values."""

    mean: float
    std: float
    n: int


def spread(values: Tensor) -> Spread:
    """Of values [N], at least one."""
    each = values.double()
    return Spread(float(each.mean()), float(each.std(correction=0)), len(each))


def sample_norms(network: nn.Module, images: Tensor, labels: Tensor, chunk: int = 0) -> Tensor:
    """The gradient norm of each sample by itself, with respect to all parameters of `network`: [N].

    `images` [N,C,H,W]; `labels` int64 [N], or float logits [N,K] whose softmax is learned. `chunk` samples are worked
    on at a time; 0 chooses a number that fits the memory. Raises FatalError for a network that would mix the samples.
    """
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training for layer in network.modules()):
        raise FatalError("batch norm in training mode mixes the samples, so none has a gradient of its own: use eval()")
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    targets = targets_of(labels)

    def loss(theta: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, theta, (image[None],)), target[None])

    def norm(image: Tensor, target: Tensor) -> Tensor:
        parts = [part.square().sum() for part in grad(loss)(parameters, image, target).values()]
        return torch.stack(parts).sum().sqrt()

    at_a_time = chunk or _chunk(parameters.values(), images.device)
    norms: Tensor = vmap(norm, chunk_size=at_a_time)(images, targets)
    return norms


def together(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The norm of the gradient of the mean loss over all these samples, which is what the SDC term penalises."""
    device = next(network.parameters()).device
    loss = F.cross_entropy(network(images.to(device)), targets_of(labels.to(device)))
    parts = torch.autograd.grad(loss, list(network.parameters()))
    return float(torch.stack([part.square().sum() for part in parts]).sum().sqrt())


def by_network(
    images: Tensor, labels: Tensor, networks: Sequence[nn.Module], on_done: Callable[[int], None] = lambda _: None
) -> Tensor:
    """`sample_norms` of each network, [M,N] on the CPU; the samples go to where the networks are, some at a time.

    `on_done` is told of how many norms there are.
    """
    rows = []
    for number, network in enumerate(networks):
        device, parts = next(network.parameters()).device, []
        for at in range(0, len(images), _PART):
            shown, told = (tensor[at : at + _PART].to(device) for tensor in (images, labels))
            parts.append(sample_norms(network, shown, told).cpu())
            on_done(number * len(images) + at + len(shown))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _chunk(parameters: Iterable[Tensor], device: torch.device) -> int:
    """As many samples at a time as the kind of device likes, and as their gradients leave room for."""
    each = sum(part.numel() * part.element_size() for part in parameters)
    return max(1, min(_CHUNK.get(device.type, _CHUNK["cuda"]), _GRADIENTS // each))
