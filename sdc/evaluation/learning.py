"""One network: how it learns from images, and how it is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation import ahead
from sdc.evaluation.augment import Augment
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.sgd import Descent

TEST_BATCH = {"cuda": 512, "cpu": 16}
"""Images tested at a time: no network mixes them, so it is a matter of memory and time alone."""


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    protocol: Protocol,
    order: Iterable[Sequence[Tensor]],
    augment: Augment,
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train `network` in place; `order` holds, for each epoch, the indices [B] of its batches.

    `on_epoch` is told of each epoch that has ended, the first being 0. On a GPU, `order` and `augment` are asked for
    some steps ahead.
    """
    targets = targets_of(labels)
    network.train()
    parameters = list(network.parameters())
    descent = Descent(parameters, protocol.lr, protocol)
    for step in ahead.steps(order, augment, images):
        shown = ahead.changed(augment, images[step.chosen], step.drawn)
        loss = F.cross_entropy(network(shown), targets[step.chosen])
        descent.step(torch.autograd.grad(loss, parameters))
        if step.last:
            descent.end(step.epoch)
            if on_epoch:
                on_epoch(step.epoch)


@torch.inference_mode()
def tested(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of images that `network` puts first in their class; NaN logits count as whatever argmax says."""
    network.eval()
    size = TEST_BATCH.get(images.device.type, TEST_BATCH["cuda"])
    batches = zip(torch.split(images, size), torch.split(labels, size), strict=True)
    right = sum((network(shown).argmax(1) == true).sum() for shown, true in batches)
    return float(right) / len(images)


def shuffled(count: int, protocol: Protocol, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """The batches of each of the protocol's E + 1 epochs over `count` images, as indices."""
    for _ in range(protocol.epochs + 1):
        yield torch.split(torch.randperm(count, generator=generator), protocol.batch)


def targets_of(labels: Tensor) -> Tensor:
    """What the loss compares with: labels int64 [N] as they are, of logits [N,K] their softmax."""
    return labels.softmax(1) if labels.is_floating_point() else labels
