"""How good a distilled set is: train fresh networks on it alone, and test each once on real images.

The recipe is the one that every upstream shares. Nothing in here knows which method made the images.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner.augment import Augment, make
from runner.errors import FatalError
from runner.networks import build, known
from runner.protocol import Protocol

RATE_DROP = 0.1  # the rate's factor, once, after epoch E // 2 + 1 (counted from 0)
TEST_BATCH = {"cuda": 512, "cpu": 16}
"""Images tested at a time: no network mixes them, so it is a matter of memory alone, and of time, which a CPU spends on
fresh pages where a layer's output is large."""

Progress = Callable[[int, int], None]  # (epochs done, epochs in all)


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
) -> list[Score]:
    """Score as many networks as asked for (the protocol's number if None), each independent of the others.

    Images are float [N,C,S,S] in one view; labels int64 [N] or, to be learned softly, float logits [N,K].
    Networks whose score is in `scored` are not trained again; `on_score` is told of each other when it is tested.
    """
    _check(images, labels, test_images, test_labels)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels, test_images, test_labels = (
        t.detach().to(where) for t in (images, labels, test_images, test_labels)
    )
    classes = labels.shape[1] if labels.ndim == 2 else 1 + int(max(labels.max(), test_labels.max()))
    count = protocol.networks if networks is None else networks

    scores = []
    for number in range(count):
        start = time.perf_counter()
        own = network_seed(seed, model, number)
        if found := next((score for score in scored if (score.model, score.seed) == (model, own)), None):
            scores.append(found)
            continue
        network = build(known(model), images.shape[1], classes, images.shape[2], own).to(where)
        # On the CPU whatever the device, so that every device sees the same order and the same augmentation.
        generator = torch.Generator().manual_seed(_hash(own, "training"))
        order = shuffled(len(images), protocol, generator)
        if on_progress:
            order = _reported(order, number, count, protocol, on_progress)
        train(network, images, labels, protocol, order, make(protocol.augment, generator))
        accuracy = tested(network, test_images, test_labels)
        scores.append(Score(model, own, accuracy, time.perf_counter() - start))
        if on_score:
            on_score(scores[-1])
    return scores


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    protocol: Protocol,
    order: Iterable[Sequence[Tensor]],
    augment: Augment,
) -> None:
    """Train `network` in place; `order` holds, for each epoch, the indices [B] of its batches."""
    targets = labels.softmax(1) if labels.is_floating_point() else labels
    network.train()
    optimizer = _sgd(network, protocol, protocol.lr)
    for epoch, batches in enumerate(order):
        for index in batches:
            chosen = index.to(images.device)
            loss = F.cross_entropy(network(augment(images[chosen])), targets[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        if epoch == protocol.epochs // 2 + 1:
            # Built anew, as in the field's code: the momentum, too, starts from zero.
            optimizer = _sgd(network, protocol, protocol.lr * RATE_DROP)


@torch.no_grad()
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


def _sgd(network: nn.Module, protocol: Protocol, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr, protocol.momentum, weight_decay=protocol.weight_decay)


def _hash(*parts: object) -> int:
    """48 bits: few enough to survive any JSON reader's floating point."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def _reported(
    order: Iterable[tuple[Tensor, ...]], number: int, count: int, protocol: Protocol, on_progress: Progress
) -> Iterator[tuple[Tensor, ...]]:
    per_network = protocol.epochs + 1
    for epoch, batches in enumerate(order, start=1):
        yield batches
        on_progress(number * per_network + epoch, count * per_network)


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
