"""Many networks of one shape trained side by side: their parameters in one stack, each step taken by all at once.

Every network sees its own shuffles and its own augmentation, and moves at its own rate: it becomes what it would become
alone, up to rounding. They may learn from one set of images, or each from its own, as long as all have one shape.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from sdc.evaluation import ahead
from sdc.evaluation.augment import Augment
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.sgd import Descent

SHARE = 0.5
"""Of a device's memory, what a stack is planned to take: its need is an estimate, and others may use the device."""


@dataclass(frozen=True)
class Member:
    """A network and what it learns from: images [N,C,S,S], targets int64 [N] or probabilities [N,K], all on one device.

    `order` holds, for each epoch, the indices [B] of its batches.
    """

    network: nn.Module
    images: Tensor
    targets: Tensor
    lr: float
    order: Iterable[Sequence[Tensor]]


def train(
    members: Sequence[Member], protocol: Protocol, augment: Augment, on_epoch: Callable[[int], None] | None = None
) -> None:
    """Train the members' networks in place; `augment` changes the batches [M,B,C,S,S] of all.

    The protocol's rate is not used. Networks for which `hindrance` has a reason cannot be trained so. `on_epoch` is
    told of each epoch that has ended, the first being 0.
    """
    networks = [member.network for member in members]
    shape = copy.deepcopy(networks[0]).to("meta").train()
    stack, _ = stack_module_state(networks)
    images, targets, first = _pooled(members)

    def loss(own: dict[str, Tensor], shown: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(shape, own, (shown,)), wanted)

    parameters = list(stack.values())
    rates = torch.tensor([member.lr for member in members], dtype=parameters[0].dtype, device=images.device)
    descent = Descent(parameters, rates, protocol)
    for step in ahead.steps(_together([member.order for member in members], first), augment, images):
        shown = ahead.changed(augment, images[step.chosen], step.drawn)
        losses = vmap(loss)(stack, shown, targets[step.chosen])
        descent.step(torch.autograd.grad(losses.sum(), parameters))
        if step.last:
            descent.end(step.epoch)
            if on_epoch:
                on_epoch(step.epoch)
    _handed_back(stack, networks)


def hindrance(network: nn.Module) -> str:
    """Why networks like this one cannot be trained side by side; "" if they can."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return "batch norm keeps statistics of the batches that it has seen, which a stack has no place for"
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p:
            return "dropout draws from one generator for all, so a network would depend on those beside it"
    if names := [name for name, _ in network.named_buffers()]:
        return f"it keeps state that is no parameter ({', '.join(names)}), which a stack has no place for"
    return ""


def drawback(device: torch.device) -> str:
    """Why networks are better not trained side by side on this device; "" if they are."""
    if device.type == "cpu":
        # Measured (benchmarks/RESULTS.md): the grouped convolutions that a stack becomes are slower, and what a stack
        # saves elsewhere is small beside them. And alone, a network's bits cannot depend on how many are trained.
        return "the convolutions of a stack are slower on a CPU, whose cores are better used by processes"
    return ""


def fitting(network: nn.Module, images: Tensor, batch: int) -> int:
    """How many networks like this one, with batches of the images' shape, the memory of their device is planned for.

    All of its memory, in use or not: the same command is to make the same stacks, and so to round alike.
    """
    return max(1, int(SHARE * _total(images.device) / _need(network, images[:1], min(batch, len(images)))))


def _together(orders: Sequence[Iterable[Sequence[Tensor]]], first: Tensor) -> Iterator[list[Tensor]]:
    """For each epoch the indices [M,B] of the batches of all, among the images of all."""
    for epoch in zip(*orders, strict=True):
        yield [torch.stack(batches) + first for batches in zip(*epoch, strict=True)]


def _pooled(members: Sequence[Member]) -> tuple[Tensor, Tensor, Tensor]:
    """Images and targets of all, each set once, and where each member's begin [M,1]."""
    sets = {(id(member.images), id(member.targets)): member for member in members}
    images = torch.cat([member.images for member in sets.values()])
    targets = torch.cat([member.targets for member in sets.values()])
    count, places = len(members[0].images), {key: place for place, key in enumerate(sets)}
    first = [places[id(member.images), id(member.targets)] * count for member in members]
    return images, targets, torch.tensor(first).unsqueeze(1)


@torch.no_grad()
def _handed_back(stack: dict[str, Tensor], networks: Sequence[nn.Module]) -> None:
    for number, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            parameter.copy_(stack[name][number])


def _need(network: nn.Module, image: Tensor, batch: int) -> int:
    """An estimate, in bytes, of what one network takes in a stack."""
    made = 0

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        nonlocal made
        made += output.numel() * output.element_size()

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    own = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    # Outputs, their gradients, as much again at work; the network, its copy in the stack, two gradients, a velocity.
    return 3 * batch * made + 5 * own


def _total(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
