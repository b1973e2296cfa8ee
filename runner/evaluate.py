"""How good a distilled set is: train fresh networks on it alone, and test each once on real images.

The recipe is the one that every upstream shares. Nothing in here knows which method made the images.
"""

from __future__ import annotations

import hashlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner import cpu, stacked
from runner.augment import Augment, make, side_by_side
from runner.errors import FatalError
from runner.networks import build, known
from runner.protocol import Protocol
from runner.sgd import Descent

log = logging.getLogger(__name__)
TEST_BATCH = {"cuda": 512, "cpu": 16}
"""Images tested at a time: no network mixes them, so it is a matter of memory and time alone."""

Progress = Callable[[int, int], None]  # (epochs done, epochs in all)
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Score:
    """What one network reached: `accuracy` in [0,1]. `seed` is the network's own, derived by `network_seed`."""

    model: str
    seed: int
    accuracy: float
    seconds: float


def evaluate(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    model: str,
    protocol: Protocol,
    seed: int,
    networks: int | None = None,
    on_progress: Progress | None = None,
    device: str | None = None,
    scored: Sequence[Score] = (),
    on_score: Callable[[Score], None] | None = None,
    stack: bool | None = None,
) -> list[Score]:
    """Score as many networks as asked for (the protocol's number if None), each independent of the others.

    Images are float [N,C,S,S] in one view; labels int64 [N] or, to be learned softly, float logits [N,K].
    Networks whose score is in `scored` are not trained again; `on_score` is told of each other when it is tested.
    `stack`: train networks side by side, where they can be; None: where it pays.
    """
    _check(images, labels, test_images, test_labels)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels, test_images, test_labels = (
        t.detach().to(where) for t in (images, labels, test_images, test_labels)
    )
    classes = labels.shape[1] if labels.ndim == 2 else 1 + int(max(labels.max(), test_labels.max()))
    seeds = [network_seed(seed, model, n) for n in range(protocol.networks if networks is None else networks)]
    found = {score.seed: score for score in scored if score.model == model and score.seed in seeds}
    waiting = [own for own in seeds if own not in found]

    def fresh(own: int) -> nn.Module:
        return build(known(model), images.shape[1], classes, images.shape[2], own).to(where)

    size = _side_by_side(fresh(waiting[0]), model, images, len(waiting), protocol, stack) if waiting else 0
    with cpu.kept_pages() if where.type == "cpu" else nullcontext():
        while waiting:
            start, chunk = time.perf_counter(), waiting[:size]
            tell = _telling(on_progress, protocol, len(found), len(chunk), len(seeds))
            made = [fresh(own) for own in chunk]
            try:
                _trained(made, chunk, images, labels, protocol, tell)
            except torch.OutOfMemoryError:
                if len(chunk) == 1:
                    raise
                size = len(chunk) // 2
                log.warning(
                    "%d %s side by side take more memory than there is: going on with %d", len(chunk), model, size
                )
                continue
            accuracies = [tested(network, test_images, test_labels) for network in made]
            seconds = (time.perf_counter() - start) / len(chunk)
            for own, accuracy in zip(chunk, accuracies, strict=True):
                found[own] = Score(model, own, accuracy, seconds)
                if on_score:
                    on_score(found[own])
            waiting = waiting[len(chunk) :]
    return [found[own] for own in seeds]


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    protocol: Protocol,
    order: Iterable[Sequence[Tensor]],
    augment: Augment,
) -> None:
    """Train `network` in place; `order` holds, for each epoch, the indices [B] of its batches."""
    targets = targets_of(labels)
    network.train()
    parameters = list(network.parameters())
    descent = Descent(parameters, protocol.lr, protocol)
    for epoch, batches in enumerate(order):
        for index in batches:
            chosen = index.to(images.device)
            loss = F.cross_entropy(network(augment(images[chosen])), targets[chosen])
            descent.step(torch.autograd.grad(loss, parameters))
        descent.end(epoch)


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


def network_seed(seed: int, model: str, number: int) -> int:
    """The seed of network `number`: a hash, so that neighbouring seeds share no network."""
    return _hash(seed, model, number)


def summary(scores: Sequence[Score]) -> dict[str, float | int]:
    """Mean, standard deviation and number of the accuracies; as in the field's tables, the population's (ddof = 0)."""
    accuracies = [score.accuracy for score in scores]
    return {"mean": statistics.fmean(accuracies), "std": statistics.pstdev(accuracies), "n": len(accuracies)}


def _side_by_side(
    network: nn.Module, model: str, images: Tensor, count: int, protocol: Protocol, stack: bool | None
) -> int:
    """How many of `count` networks are trained side by side; where it is one at a time, the reason is logged."""
    if count == 1 or stack is False:
        return 1
    if stack is None and (reason := stacked.drawback(images.device)):
        log.info("%s: trained one at a time: %s", model, reason)
        return 1
    if reason := stacked.hindrance(network):
        log.warning("%s: trained one at a time: %s", model, reason)
        return 1
    chunks = math.ceil(count / stacked.fitting(network, images, protocol.batch))
    return math.ceil(count / chunks)


def _trained(
    networks: Sequence[nn.Module], seeds: Sequence[int], images: Tensor, labels: Tensor, protocol: Protocol, tell: Tell
) -> None:
    """Train networks in place, each by the shuffles and the augmentation of its own seed."""
    # On the CPU whatever the device, so that every device sees the same order and the same augmentation.
    generators = [torch.Generator().manual_seed(_hash(own, "training")) for own in seeds]
    first, *others = [shuffled(len(images), protocol, generator) for generator in generators]
    orders = [_told(first, tell), *others]
    if len(networks) == 1:
        network = cpu.quick_pools(networks[0]) if images.device.type == "cpu" else networks[0]
        train(network, images, labels, protocol, orders[0], make(protocol.augment, generators[0]))
        return
    targets = targets_of(labels)
    members = [
        stacked.Member(network, images, targets, protocol.lr, order)
        for network, order in zip(networks, orders, strict=True)
    ]
    stacked.train(members, protocol, side_by_side(protocol.augment, generators))


def targets_of(labels: Tensor) -> Tensor:
    """What the loss compares with: labels int64 [N] as they are, of logits [N,K] their softmax."""
    return labels.softmax(1) if labels.is_floating_point() else labels


def _hash(*parts: object) -> int:
    """48 bits: few enough to survive any JSON reader's floating point."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def _telling(on_progress: Progress | None, protocol: Protocol, done: int, chunk: int, count: int) -> Tell:
    """What tells of the epochs that each network of a chunk has behind it."""
    each = protocol.epochs + 1

    def tell(epoch: int) -> None:
        if on_progress:
            on_progress(done * each + chunk * epoch, count * each)

    return tell


def _told(order: Iterable[tuple[Tensor, ...]], tell: Tell) -> Iterator[tuple[Tensor, ...]]:
    for epoch, batches in enumerate(order, start=1):
        yield batches
        tell(epoch)


def _check(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> None:
    for name, shown, told in (("distilled", images, labels), ("test", test_images, test_labels)):
        if not shown.is_floating_point() or shown.ndim != 4 or shown.shape[2] != shown.shape[3]:
            raise FatalError(
                f"{name} images are {shown.dtype} of shape {list(shown.shape)}: give float [N,C,S,S], "
                "made from uint8 by runner.view.normalised"
            )
        if len(shown) == 0 or len(shown) != len(told):
            raise FatalError(f"{len(shown)} {name} images come with {len(told)} labels: give as many, and at least one")
    if images.shape[1:] != test_images.shape[1:]:
        raise FatalError(
            f"distilled images are {list(images.shape[1:])}, test images {list(test_images.shape[1:])}: "
            "show both in one view, by runner.view.normalised"
        )
    if labels.is_floating_point() != (labels.ndim == 2) or test_labels.is_floating_point() or test_labels.ndim != 1:
        raise FatalError(
            f"labels are {labels.dtype} {list(labels.shape)} and {test_labels.dtype} {list(test_labels.shape)}: "
            "give int64 [N], or float logits [N,K] for the distilled images alone"
        )
