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
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdc.evaluation import cpu, stacked
from sdc.evaluation.augment import Augment, make, side_by_side
from sdc.evaluation.networks import build, known
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.sgd import Descent
from sdc.ground import hardware
from sdc.ground.errors import FatalError

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


@dataclass(frozen=True)
class Trial:
    """A distilled set on trial: what networks learn from, what they are tested on, by which protocol and seed.

    Images are float [N,C,S,S] in one view; labels int64 [N] or, to be learned softly, float logits [N,K].
    Networks whose score is in `scored` are not trained again; `on_score` is told of each other when it is tested.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    protocol: Protocol
    seed: int
    scored: Sequence[Score] = ()
    on_score: Callable[[Score], None] | None = None


class _Student(NamedTuple):
    """A network of one trial, by the trial's number and the network's own seed."""

    trial: int
    own: int


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
    """Score one set, as `Trial` describes it, by as many networks as asked for (the protocol's number if None)."""
    protocol = protocol if networks is None else replace(protocol, networks=networks)
    trial = Trial(images, labels, test_images, test_labels, protocol, seed, scored, on_score)
    return evaluate_all([trial], model, on_progress, device, stack)[0]


def evaluate_all(
    trials: Sequence[Trial],
    model: str,
    on_progress: Progress | None = None,
    device: str | None = None,
    stack: bool | None = None,
) -> list[list[Score]]:
    """Score several sets by networks of one model, each network independent of all others; a list a set.

    `stack`: train networks side by side, where they can be; None: where it pays. Those of all sets of one kind then
    share stacks; sets of another kind have their turn.
    """
    for trial in trials:
        _check(trial.images, trial.labels, trial.test_images, trial.test_labels)
    where = torch.device(device or hardware.device())
    trials = _placed(trials, where)
    seeds = [[network_seed(trial.seed, model, n) for n in range(trial.protocol.networks)] for trial in trials]
    found = {
        _Student(number, score.seed): score
        for number, trial in enumerate(trials)
        for score in trial.scored
        if score.model == model and score.seed in seeds[number]
    }
    waiting: dict[object, list[_Student]] = {}
    for number, trial in enumerate(trials):
        students = [_Student(number, own) for own in seeds[number]]
        waiting.setdefault(kind(trial), []).extend(student for student in students if student not in found)

    def epochs(students: Iterable[_Student]) -> int:
        return sum(trials[student.trial].protocol.epochs + 1 for student in students)

    count = epochs(_Student(number, own) for number, of_trial in enumerate(seeds) for own in of_trial)

    def tell(done: int) -> None:
        if on_progress:
            on_progress(epochs(found) + done, count)

    with cpu.kept_pages() if where.type == "cpu" else nullcontext():
        for students in filter(None, waiting.values()):
            for student, score in _scores(trials, students, model, stack, tell):
                found[student] = score
                if on_score := trials[student.trial].on_score:
                    on_score(score)
    return [[found[_Student(number, own)] for own in of_trial] for number, of_trial in enumerate(seeds)]


def kind(trial: Trial) -> tuple[object, ...]:
    """What trials share whose networks can be trained side by side: shapes, classes, the protocol but for its rate."""
    shapes = [(tuple(each.shape), each.dtype) for each in (trial.images, trial.labels)]
    return (*shapes, _classes(trial), replace(trial.protocol, lr=1.0, networks=1))


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


def _scores(
    trials: Sequence[Trial], waiting: Sequence[_Student], model: str, stack: bool | None, tell: Tell
) -> Iterator[tuple[_Student, Score]]:
    """The score of each student that waits, all of one kind; `tell` hears of the epochs since the last one."""
    like = trials[waiting[0].trial]
    classes = _classes(like)

    def fresh(own: int) -> nn.Module:
        return build(known(model), like.images.shape[1], classes, like.images.shape[2], own).to(like.images.device)

    size = _side_by_side(fresh(waiting[0].own), model, like.images, len(waiting), like.protocol, stack)
    while waiting:
        start, chunk = time.perf_counter(), waiting[:size]
        made = [fresh(student.own) for student in chunk]
        learned = [trials[student.trial] for student in chunk]
        try:
            _trained(made, learned, [student.own for student in chunk], tell)
        except torch.OutOfMemoryError:
            if len(chunk) == 1:
                raise
            size = len(chunk) // 2
            log.warning("%d %s side by side take more memory than there is: going on with %d", len(chunk), model, size)
            continue
        accuracies = [
            tested(network, trial.test_images, trial.test_labels) for network, trial in zip(made, learned, strict=True)
        ]
        seconds = (time.perf_counter() - start) / len(chunk)
        for student, accuracy in zip(chunk, accuracies, strict=True):
            yield student, Score(model, student.own, accuracy, seconds)
        waiting = waiting[len(chunk) :]


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


def _trained(networks: Sequence[nn.Module], trials: Sequence[Trial], seeds: Sequence[int], tell: Tell) -> None:
    """Train networks in place, each on its trial, by the shuffles and the augmentation of its own seed."""
    like, count = trials[0], len(networks)
    # On the CPU whatever the device, so that every device sees the same order and the same augmentation.
    generators = [torch.Generator().manual_seed(_hash(own, "training")) for own in seeds]
    first, *others = [shuffled(len(like.images), like.protocol, generator) for generator in generators]
    orders = [_told(first, lambda epoch: tell(count * epoch)), *others]
    if count == 1:
        network = cpu.quick_pools(networks[0]) if like.images.device.type == "cpu" else networks[0]
        augment = make(like.protocol.augment, generators[0])
        train(network, like.images, like.labels, like.protocol, orders[0], augment)
        return
    targets = {id(trial): targets_of(trial.labels) for trial in trials}
    members = [
        stacked.Member(network, trial.images, targets[id(trial)], trial.protocol.lr, order)
        for network, trial, order in zip(networks, trials, orders, strict=True)
    ]
    stacked.train(members, like.protocol, side_by_side(like.protocol.augment, generators))


def targets_of(labels: Tensor) -> Tensor:
    """What the loss compares with: labels int64 [N] as they are, of logits [N,K] their softmax."""
    return labels.softmax(1) if labels.is_floating_point() else labels


def _hash(*parts: object) -> int:
    """48 bits: few enough to survive any JSON reader's floating point."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def _classes(trial: Trial) -> int:
    soft = trial.labels.ndim == 2
    return trial.labels.shape[1] if soft else 1 + int(max(trial.labels.max(), trial.test_labels.max()))


def _placed(trials: Sequence[Trial], where: torch.device) -> list[Trial]:
    """The trials with their tensors on a device, there once however many share them."""
    there: dict[int, Tensor] = {}

    def placed(tensor: Tensor) -> Tensor:
        if id(tensor) not in there:
            there[id(tensor)] = tensor.detach().to(where)
        return there[id(tensor)]

    return [
        replace(
            trial,
            images=placed(trial.images),
            labels=placed(trial.labels),
            test_images=placed(trial.test_images),
            test_labels=placed(trial.test_labels),
        )
        for trial in trials
    ]


def _told(order: Iterable[tuple[Tensor, ...]], tell: Tell) -> Iterator[tuple[Tensor, ...]]:
    for epoch, batches in enumerate(order, start=1):
        yield batches
        tell(epoch)


def _check(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> None:
    for name, shown, told in (("distilled", images, labels), ("test", test_images, test_labels)):
        if not shown.is_floating_point() or shown.ndim != 4 or shown.shape[2] != shown.shape[3]:
            raise FatalError(
                f"{name} images are {shown.dtype} of shape {list(shown.shape)}: give float [N,C,S,S], "
                "made from uint8 by sdc.evaluation.view.normalised"
            )
        if len(shown) == 0 or len(shown) != len(told):
            raise FatalError(f"{len(shown)} {name} images come with {len(told)} labels: give as many, and at least one")
    if images.shape[1:] != test_images.shape[1:]:
        raise FatalError(
            f"distilled images are {list(images.shape[1:])}, test images {list(test_images.shape[1:])}: "
            "show both in one view, by sdc.evaluation.view.normalised"
        )
    if labels.is_floating_point() != (labels.ndim == 2) or test_labels.is_floating_point() or test_labels.ndim != 1:
        raise FatalError(
            f"labels are {labels.dtype} {list(labels.shape)} and {test_labels.dtype} {list(test_labels.shape)}: "
            "give int64 [N], or float logits [N,K] for the distilled images alone"
        )
