"""Distilled sets as the upstream scripts save them: torch files that hold images and labels, and little else.

They say nothing of how the images were shown to the network, so that is assumed, and said. No object but tensors and
numbers is read: a file that holds another is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc.data.sets import Dataset
from sdc.evaluation.assumptions import Each, apart, together
from sdc.evaluation.distilled import DistilledSet, checked
from sdc.evaluation.foreign_labels import Labels, understood
from sdc.evaluation.tensor_files import LAYOUTS, solid, stored
from sdc.evaluation.view import View, Whitening, resized
from sdc.ground.errors import FatalError


@dataclass(frozen=True)
class Stated:
    """What a user says of a file that does not say it; an empty field takes what is assumed."""

    labels: str | None = None
    """hard, probabilities or logits."""
    experiment: str = "all"
    """The number of one, counted from 0 as in the file, or all."""
    zca: bool = False
    """The images are whitened by the transform that the training images of the dataset give."""


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
    content = _content(path)
    numbers = _chosen(content, stated.experiment)
    try:
        return [_found(content, number, dataset, name, stated) for number in numbers]
    except ValueError as error:
        raise FatalError(f"{path} is no distilled set of {dataset.name}: {error}") from error


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
    return path.with_name(path.name.replace("images", what))


def _found(content: _Content, number: int, dataset: Dataset, name: str, stated: Stated) -> Found:
    """One experiment of a file. Raises ValueError where its tensors are no set of the dataset."""
    images, told = content.experiments[number]
    if images.ndim != 4:
        raise ValueError(f"its images are of shape {list(images.shape)}, not [N, C, H, W]")
    labels = understood(told, len(images), dataset.name, len(dataset.classes), stated.labels)
    how = (
        apart(images, labels.held, content.lr) if content.apart else together(content.path.name, name, images.shape[-1])
    )
    mean, std = (None, None) if stated.zca else (how.mean, how.std)
    view = _view(images, dataset, mean, std, zca=stated.zca)
    made = checked(DistilledSet(images.detach().float().cpu(), labels.held, view, how.protocol, content.lr))
    return Found(made, how.model, number, _said(made, labels, content, stated), _record(made, labels, content, number))


def _view(images: Tensor, dataset: Dataset, mean: Each, std: Each, *, zca: bool) -> View:
    channels, size = images.shape[1], images.shape[-1]
    whitening = None
    if zca:
        import kornia  # takes seconds to import

        real = resized(dataset.train.images, channels, size).float() / 255
        fitted = kornia.enhance.ZCAWhitening(eps=0.1).fit(real)
        whitening = Whitening(fitted.mean_vector.flatten(), fitted.transform_matrix)
    return View(
        dataset=dataset.name,
        classes=dataset.classes,
        channels=channels,
        size=size,
        mean=mean or (0.0,) * channels,
        std=std or (1.0,) * channels,
        whitening=whitening,
    )


def _said(made: DistilledSet, labels: Labels, content: _Content, stated: Stated) -> str:
    view = made.view
    shown = "whitened (ZCA, fitted on the training images)" if view.whitening else f"mean {view.mean}, std {view.std}"
    rate = "as stored" if made.lr is not None else "assumed; change it by --set lr=..."
    return (
        f"{content.path.name}: {_of_experiments(len(content.experiments), stated.experiment)}"
        f"assumed images of {view.channels}x{view.size}x{view.size}, {shown}; "
        f"labels {labels.words}; {_order(view.classes)}; "
        f"learning rate {made.protocol.lr:g} ({rate}); {made.protocol.epochs} epochs, batch {made.protocol.batch}, "
        f"augmentation {made.protocol.augment or 'none'}"
    )


def _of_experiments(count: int, asked: str) -> str:
    if count == 1:
        return ""
    if asked == "all":
        return f"{count} experiments, all of them evaluated (one alone: --experiment K, 0..{count - 1}); "
    return f"experiment {asked} of 0..{count - 1}; "


def _order(classes: tuple[str, ...]) -> str:
    first = ", ".join(f"{'label ' if number == 0 else ''}{number} = {name}" for number, name in enumerate(classes[:3]))
    return f"{first}{', ...' if len(classes) > 3 else ''} ({len(classes)} classes)"


def _record(made: DistilledSet, labels: Labels, content: _Content, number: int) -> dict[str, Any]:
    return {
        "labels": {"kind": labels.kind, "words": labels.words, "order": list(made.view.classes)},
        "experiment": {"number": number, "of": len(content.experiments)},
    }
