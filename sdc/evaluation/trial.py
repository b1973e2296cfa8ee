"""What an evaluation is given, and what it gives: trials and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdc.evaluation.beside import Known
from sdc.evaluation.protocol import Protocol, from_dict, to_dict
from sdc.ground.errors import FatalError


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


_TENSORS = ("images", "labels", "test_images", "test_labels")


def known_of(trials: Sequence[Trial]) -> Known:
    """What other processes have to know of trials: each tensor once, however many share it."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    facts = []
    for trial in trials:
        for tensor in (getattr(trial, field) for field in _TENSORS):
            tensors[names.setdefault(id(tensor), str(len(names)))] = tensor
        own = {field: names[id(getattr(trial, field))] for field in _TENSORS}
        facts.append({"tensors": own, "protocol": to_dict(trial.protocol), "seed": trial.seed})
    return Known(tensors, facts)


def trial_of(known: Known, number: int) -> Trial:
    """The trial of this number."""
    facts = known.facts[number]
    images, labels, test_images, test_labels = (known.tensors[facts["tensors"][field]] for field in _TENSORS)
    return Trial(images, labels, test_images, test_labels, from_dict(facts["protocol"]), facts["seed"])


def kind(trial: Trial) -> tuple[object, ...]:
    """What trials share whose networks can be trained side by side: shapes, classes, the protocol but for its rate."""
    shapes = [(tuple(each.shape), each.dtype) for each in (trial.images, trial.labels)]
    return (*shapes, classes(trial), replace(trial.protocol, lr=1.0, networks=1))


def classes(trial: Trial) -> int:
    """How many classes a trial's networks tell apart."""
    soft = trial.labels.ndim == 2
    return trial.labels.shape[1] if soft else 1 + int(max(trial.labels.max(), trial.test_labels.max()))


def placed(trials: Sequence[Trial], where: torch.device) -> list[Trial]:
    """The trials with their tensors on a device, there once however many share them."""
    there: dict[int, Tensor] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in there:
            there[id(tensor)] = tensor.detach().to(where)
        return there[id(tensor)]

    return [
        replace(
            trial,
            images=moved(trial.images),
            labels=moved(trial.labels),
            test_images=moved(trial.test_images),
            test_labels=moved(trial.test_labels),
        )
        for trial in trials
    ]


def check(trial: Trial) -> None:
    """Raise FatalError for tensors that do not belong together."""
    images, labels, test_images, test_labels = trial.images, trial.labels, trial.test_images, trial.test_labels
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
