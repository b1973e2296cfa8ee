"""Distilled sets as the upstream scripts save them: torch files that hold images and labels, and little else.

They say nothing of how the images were shown to the network, so that is assumed, and said. No object but tensors and
numbers is read: a file that holds another is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc.data.sets import Dataset
from sdc.evaluation import label_order
from sdc.evaluation.assumptions import Assumed, Each, apart, together
from sdc.evaluation.distilled import DistilledSet, checked
from sdc.evaluation.foreign_images import as_seen, is_copy, upright, whitened
from sdc.evaluation.foreign_labels import Labels, understood
from sdc.evaluation.label_order import Order
from sdc.evaluation.protocol import to_dict
from sdc.evaluation.tensor_files import LAYOUTS, solid, stored
from sdc.evaluation.view import View, fitted
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


@dataclass(frozen=True)
class _Content:
    """Images and labels of each experiment of a file; the rate, and whether they lie in files of their own."""

    path: Path
    experiments: list[tuple[Tensor, Tensor]]
    lr: float | None
    apart: bool


def load(path: Path, dataset: Dataset, name: str, stated: Stated) -> list[Found]:
    """The sets in `path`, one an experiment. `name` is the dataset's, for its constants."""
    stated = replace(stated, zca=whitened(path, stated.zca))
    if stated.zca and (stated.mean or stated.std):
        raise FatalError(f"{path}: whitened images are not normalised as well: leave out --zca, or --set mean and std")
    content = _content(path)
    numbers = _chosen(content, stated.experiment)
    try:
        return [_found(content, number, dataset, name, stated) for number in numbers]
    except ValueError as error:
        raise FatalError(f"{path} is no distilled set of {dataset.name}: {error}") from error


def side(path: Path) -> int:
    """How many pixels high the images in a file are; 0 if it cannot be read, of which `load` tells why."""
    try:
        images = _content(path).experiments[0][0]
    except FatalError:
        return 0
    return images.shape[2] if images.ndim == 4 else 0


def _content(path: Path) -> _Content:
    content = stored(path)
    if isinstance(content, dict) and isinstance(content.get("data"), list) and content["data"]:
        return _Content(path, [_pair(each, path) for each in content["data"]], None, apart=False)
    if isinstance(content, Tensor) and "images" in path.name:
        beside, rate = _beside(path, "labels"), _beside(path, "lr")
        images, labels = solid(content, path), solid(stored(beside), beside)
        lr = float(solid(stored(rate), rate)) if rate.is_file() else None
        return _Content(path, [(images, labels)], lr, apart=True)
    raise FatalError(f"{path} is no distilled set of a layout known here. {LAYOUTS}")


def _pair(value: Any, path: Path) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - whatever the file holds
    images, labels = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    return solid(images, path), solid(labels, path)


def _chosen(content: _Content, asked: str) -> list[int]:
    """The numbers of the experiments that are asked for."""
    count = len(content.experiments)
    if asked == "all":
        return list(range(count))
    if not (asked.isascii() and asked.isdigit() and int(asked) < count):
        known = f"experiments 0..{count - 1}" if count > 1 else "one experiment, 0"
        raise FatalError(f"{content.path} holds {known}, not {asked!r}: give --experiment K or --experiment all")
    return [int(asked)]


def _beside(path: Path, what: str) -> Path:
    """The file of the same step that holds the labels, or the rate."""
    return path.with_name(path.name.replace("images_zca_", "images_").replace("images", what))


def _found(content: _Content, number: int, dataset: Dataset, name: str, stated: Stated) -> Found:
    """One experiment of a file. Raises ValueError where its tensors are no set of the dataset."""
    stored_images, told = content.experiments[number]
    images, changes = upright(stored_images)
    labels = understood(told, len(images), dataset.name, len(dataset.classes), stated.labels)
    order = label_order.find(content.path, dataset, name, stated.order, apart=content.apart)
    how = _assumed(content, images, labels, name)
    view = _view(images, dataset, how, stated)
    shown, values = as_seen(images, view, stated.range)
    made = checked(DistilledSet(shown, order.mapped(labels.held), view, how.protocol, content.lr))
    told_of = _Told(made, labels, order, how.model, "; ".join([*changes, f"values {values}"]), content, stated)
    return Found(made, how.model, number, _said(told_of), _record(told_of))


def _assumed(content: _Content, images: Tensor, labels: Labels, name: str) -> Assumed:
    if not content.apart:
        return together(content.path.name, name, images.shape[-1])
    how = apart(images, labels.held, content.lr)
    return replace(how, mean=None, std=None) if is_copy(content.path) else how


def _view(images: Tensor, dataset: Dataset, how: Assumed, stated: Stated) -> View:
    channels, size = images.shape[1], images.shape[-1]
    mean, std = (None, None) if stated.zca else (how.mean, how.std)
    return View(
        dataset=dataset.name,
        classes=dataset.classes,
        channels=channels,
        size=size,
        mean=_each(stated.mean, channels) or mean or (0.0,) * channels,
        std=_each(stated.std, channels) or std or (1.0,) * channels,
        whitening=fitted(dataset.train.images, channels, size) if stated.zca else None,
    )


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
    content: _Content
    stated: Stated


def _said(of: _Told) -> str:
    made, view, protocol = of.made, of.made.view, of.made.protocol
    shown = "whitened (ZCA, fitted on the training images)" if view.whitening else f"mean {view.mean}, std {view.std}"
    rate = "as stored" if made.lr is not None else "assumed; change it by --set lr=..."
    return (
        f"{of.content.path.name}: {_of_experiments(len(of.content.experiments), of.stated.experiment)}"
        f"assumed images of {view.channels}x{view.size}x{view.size}, {shown}; {of.values}; "
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
        "stated": [name for name, value in asdict(of.stated).items() if value not in (None, False, "all")],
    }
