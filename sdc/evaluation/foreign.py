"""Distilled sets made elsewhere: files and folders that hold images and labels, and little else.

They say nothing of how the images were shown to the network, so that is assumed, and said; exports of ours tell it. No
object but tensors and numbers is read: a file that holds another is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc.data.sets import Dataset
from sdc.evaluation import held, label_order, set_layouts
from sdc.evaluation.assumptions import Assumed, Each, apart, together, unnamed
from sdc.evaluation.class_folders import numbered
from sdc.evaluation.distilled import DistilledSet, checked
from sdc.evaluation.foreign_images import as_seen, is_copy, parted, upright, whitened
from sdc.evaluation.foreign_labels import Labels, in_order, understood
from sdc.evaluation.held import Held, beside
from sdc.evaluation.label_order import Order
from sdc.evaluation.protocol import to_dict
from sdc.evaluation.view import View, Whitening, fitted
from sdc.ground.errors import FatalError


@dataclass(frozen=True)
class Stated:
    """What a user says of a file that does not say it; an empty field takes what is assumed."""

    labels: str | None = None
    """hard, probabilities or logits."""
    experiment: str = "all"
    """The number of one, counted from 0 as in the file, or all."""
    zca: bool | None = None
    """Whether the images are whitened by the transform that the training images of the dataset give."""
    mean: Each = None
    std: Each = None
    range: str | None = None
    """What the values are: normalised, as the network saw them; 1 or 255: pixels up to that."""
    order: str | None = None
    """Which class each label means: wnids, sorted, data, or a file (sdc.evaluation.label_order)."""
    factor: int = 1
    """Each image holds factor x factor images, as IDC's do."""


@dataclass(frozen=True)
class Found:
    """A set of a file, the network it is for, the number of its experiment, and what was assumed of it.

    `said` in words, `assumptions` as JSON takes it.
    """

    made: DistilledSet
    model: str
    experiment: int
    said: str
    assumptions: dict[str, Any]


def load(path: Path, dataset: Dataset, name: str, stated: Stated) -> list[Found]:
    """The sets in `path`, one an experiment. `name` is the dataset's, for its constants."""
    return read(set_layouts.held(path), dataset, name, stated)


def read(content: Held, dataset: Dataset, name: str, stated: Stated) -> list[Found]:
    """The same of what `set_layouts.held` found."""
    path, told = content.path, content.told
    if told is None:
        stated = replace(stated, zca=whitened(path, stated.zca))
    elif stated.zca and not told.whitening:
        raise FatalError(f"{path} says itself that its images are not whitened: leave out --zca")
    if stated.zca and (stated.mean or stated.std):
        raise FatalError(f"{path}: whitened images are not normalised as well: leave out --zca, or --set mean and std")
    numbers = _chosen(content, stated.experiment)
    try:
        return [_found(content, number, dataset, name, stated) for number in numbers]
    except ValueError as error:
        raise FatalError(f"{path} is no distilled set of {dataset.name}: {error}") from error


def side(content: Held) -> int:
    """How many pixels high its images are; 0 if they are none, of which `read` tells."""
    images = content.experiments[0][0]
    return images.shape[2] if images.ndim == 4 else 0


def _chosen(content: Held, asked: str) -> list[int]:
    """The numbers of the experiments that are asked for."""
    count = len(content.experiments)
    if asked == "all":
        return list(range(count))
    if not (asked.isascii() and asked.isdigit() and int(asked) < count):
        known = f"experiments 0..{count - 1}" if count > 1 else "one experiment, 0"
        raise FatalError(f"{content.path} holds {known}, not {asked!r}: give --experiment K or --experiment all")
    return [int(asked)]


def _found(content: Held, number: int, dataset: Dataset, name: str, stated: Stated) -> Found:
    """One experiment of a file. Raises ValueError where its tensors are no set of the dataset."""
    stored_images, stored_labels = content.experiments[number]
    images, changes = upright(stored_images)
    labels = _labels(content, stored_labels, len(images), dataset, name, stated)
    order = label_order.find(content, dataset, name, stated.order)
    if stated.factor > 1:
        images = parted(images.float() if images.is_floating_point() else images.float() / 255, stated.factor)
        content = content if stored_images.is_floating_point() else replace(content, range="1")
        labels = replace(labels, held=labels.held.repeat(stated.factor**2, *[1] * (labels.held.ndim - 1)))
        changes.append(f"{stated.factor} x {stated.factor} images in each, enlarged")
    how = _assumed(content, images, labels, name)
    view = _view(images, dataset, content, how, stated)
    shown, values = _shown(content, images, view, stated)
    made = checked(DistilledSet(shown, order.mapped(labels.held), view, how.protocol, content.lr))
    words = "; ".join([*content.notes, *changes, f"values {values}"])
    told_of = _Told(made, labels, order, how.model, words, content, stated)
    return Found(made, how.model, number, _said(told_of), _record(told_of))


def _labels(content: Held, stored: Tensor | None, images: int, dataset: Dataset, name: str, stated: Stated) -> Labels:
    classes = len(dataset.classes)
    if stored is None:
        lacking = f"{beside(content.path, 'labels').name} does not exist" if content.layout == held.APART else ""
        return in_order(images, dataset.name, classes, lacking or "it holds no labels", stated.labels)
    if told := content.told:
        of_told = understood(stored, images, dataset.name, len(told.classes), stated.labels or told.labels)
        return of_told if stated.labels else replace(of_told, words=of_told.kind)
    if content.folders:
        places, words = numbered(content.folders, dataset, name, str(content.path))
        of_folders = understood(places[stored], images, dataset.name, classes, stated.labels)
        return replace(of_folders, words=f"{of_folders.words}, {words}")
    return understood(stored, images, dataset.name, classes, stated.labels)


def _assumed(content: Held, images: Tensor, labels: Labels, name: str) -> Assumed:
    if told := content.told:
        return Assumed(told.mean, told.std, told.protocol, told.model or "ConvNet")
    if content.layout == held.TOGETHER:
        return together(content.path.name, name, images.shape[-1])
    if content.layout != held.APART:
        return unnamed(images, labels.held, content.lr, name)
    how = apart(images, labels.held, content.lr)
    return replace(how, mean=None, std=None) if is_copy(content.path) else how


def _shown(content: Held, images: Tensor, view: View, stated: Stated) -> tuple[Tensor, str]:
    """Images as networks saw them, and what their values were taken for."""
    of_told = "normalised" if content.told and images.is_floating_point() else None
    shown, values = as_seen(images, view, stated.range or content.range or of_told)
    return shown, values if stated.range else values.replace(" as stated", "")


def _view(images: Tensor, dataset: Dataset, content: Held, how: Assumed, stated: Stated) -> View:
    channels, size = images.shape[1], images.shape[-1]
    whitening = _whitening(dataset, content, channels, size, stated)
    keep = content.told is not None or not whitening
    mean, std = (how.mean, how.std) if keep else (None, None)
    return View(
        dataset=content.told.dataset if content.told else dataset.name,
        classes=dataset.classes,
        channels=channels,
        size=size,
        mean=_each(stated.mean, channels) or mean or (0.0,) * channels,
        std=_each(stated.std, channels) or std or (1.0,) * channels,
        whitening=whitening,
    )


def _whitening(dataset: Dataset, content: Held, channels: int, size: int, stated: Stated) -> Whitening | None:
    if stated.zca is False or stated.mean or stated.std:
        return None
    if content.told and content.told.whitening:
        return content.told.whitening
    return fitted(dataset.train.images, channels, size) if stated.zca else None


def _each(stated: Each, channels: int) -> Each:
    """What is stated a channel; one number is meant for all of them."""
    if stated and len(stated) not in (1, channels):
        raise ValueError(f"{len(stated)} numbers are given for {channels} channels: give one a channel, or one for all")
    return stated * channels if stated and len(stated) == 1 else stated


@dataclass(frozen=True)
class _Told:
    """What there is to say of one experiment's set."""

    made: DistilledSet
    labels: Labels
    order: Order
    model: str
    values: str
    content: Held
    stated: Stated


def _said(of: _Told) -> str:
    made, view, protocol = of.made, of.made.view, of.made.protocol
    fit = "as exported" if of.content.told else "fitted on the training images"
    shown = f"whitened (ZCA, {fit})" if view.whitening else f"mean {view.mean}, std {view.std}"
    own = "as exported" if of.content.told else "assumed; change it by --set lr=..."
    rate = "as stored" if made.lr is not None else own
    return (
        f"{of.content.path.name}: {_of_experiments(len(of.content.experiments), of.stated.experiment)}"
        f"{'' if of.content.told else 'assumed '}images of {view.channels}x{view.size}x{view.size}, {shown}; "
        f"{of.values}; "
        f"labels {of.labels.words}; {of.order.said}; "
        f"learning rate {protocol.lr:g} ({rate}); {protocol.epochs} epochs, batch {protocol.batch}, "
        f"augmentation {protocol.augment or 'none'}; network {of.model}"
    )


def _of_experiments(count: int, asked: str) -> str:
    if count == 1:
        return ""
    if asked == "all":
        return f"{count} experiments, all of them evaluated (one alone: --experiment K, 0..{count - 1}); "
    return f"experiment {asked} of 0..{count - 1}; "


def _record(of: _Told) -> dict[str, Any]:
    made, view = of.made, of.made.view
    return {
        "labels": {
            "kind": of.labels.kind,
            "words": of.labels.words,
            "order": list(of.order.classes),
            "order_words": of.order.why,
            "mapped": of.order.moved,
        },
        "experiment": {"asked": of.stated.experiment, "of": len(of.content.experiments)},
        "range": of.values,
        "whitening": "zca" if view.whitening else "none",
        "mean": list(view.mean),
        "std": list(view.std),
        "channels": view.channels,
        "size": view.size,
        "network": of.model,
        "protocol": to_dict(made.protocol),
        "rate": {"value": made.protocol.lr, "learned": made.lr is not None},
        "stated": [name for name, value in asdict(of.stated).items() if value not in (getattr(Stated, name), False)],
    }
