"""Which class each label of a set made elsewhere means, and those labels in the order of the data's classes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc.data import canonical
from sdc.data.imagenet_subsets import SUBSETS
from sdc.data.sets import Dataset
from sdc.data.tiny_classes import WNIDS
from sdc.evaluation import class_folders, held
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.held import Held
from sdc.ground.errors import FatalError

WORDS = ("wnids", "sorted", "data")
"""What can be said instead of a file: as wnids.txt, sorted as ImageFolder sorts folders, or as the data have them."""
_TINY = "tinyimagenet"
_WNID = re.compile(r"n\d{8}\b")


@dataclass(frozen=True)
class Order:
    """The data's class names by the label that a file gives them, and why it is thought to."""

    classes: tuple[str, ...]
    labels: tuple[int, ...]
    """The data's own label of each."""
    why: str

    @property
    def moved(self) -> bool:
        """Whether it is another order than the data's."""
        return list(self.labels) != list(range(len(self.labels)))

    @property
    def said(self) -> str:
        """The first classes by label, and why, in words."""
        return f"{canonical.told(self.classes)} ({self.why}{'; mapped to the order of the data' if self.moved else ''})"

    def mapped(self, labels: Tensor) -> Tensor:
        """Labels int64 [N], or rows [N,K] over the classes, of the file as those of the data."""
        places = torch.tensor(self.labels)
        return labels[:, places.argsort()] if labels.ndim == 2 else places[labels]


@dataclass(frozen=True)
class _Classes:
    """The data's classes, and what is known of them by name."""

    data: Dataset
    known: str
    """The dataset or subset known by name whose classes they are, or empty."""
    labels: tuple[int, ...]
    """The label that each has there."""

    def order(self, labels: Sequence[int], why: str) -> Order:
        return Order(tuple(self.data.classes[label] for label in labels), tuple(labels), why)

    def own(self, why: str = "the order of the classes of the data") -> Order:
        return self.order(range(len(self.data.classes)), why)

    def by_name(self, why: str) -> Order:
        """As ImageFolder numbers folders; those of Tiny ImageNet are called by their wnids."""
        names = [WNIDS[label] for label in self.labels] if self.known == _TINY else self.data.classes
        return self.order(sorted(range(len(names)), key=names.__getitem__), why)

    def published(self, why: str) -> Order:
        """In the order of the dataset known by name that they are."""
        return self.order(sorted(range(len(self.labels)), key=self.labels.__getitem__), why)

    def named(self, names: Sequence[str], why: str) -> Order | None:
        """In the order of these names; None unless they are its classes, each once, in any spelling."""
        labels = [self._label(name) for name in names]
        found = [label for label in labels if label is not None]
        return self.order(found, why) if len(found) == len(names) and self._all(found) else None

    def unlike(self, names: Sequence[str]) -> str:
        """Why these names are not its classes."""
        labels = [self._label(name) for name in names]
        strange = [name for name, label in zip(names, labels, strict=True) if label is None]
        twice = [name for name, label in zip(names, labels, strict=True) if labels.count(label) > 1]
        missing = [name for label, name in enumerate(self.data.classes) if label not in labels]
        parts = {"not a class of the data": strange, "named twice": [] if strange else twice, "missing": missing}
        return "; ".join(f"{word}: {', '.join(map(repr, some[:3]))}" for word, some in parts.items() if some)

    def _all(self, labels: Sequence[int]) -> bool:
        return sorted(labels) == list(range(len(self.data.classes)))

    def _label(self, name: str) -> int | None:
        if name in self.data.classes:
            return self.data.classes.index(name)
        alike = [label for label, own in enumerate(self.data.classes) if canonical.plain(own) == canonical.plain(name)]
        if len(alike) == 1:
            return alike[0]
        there = canonical.label(self.known, name) if self.known else None
        return None if there is None else self.labels.index(there)


def find(content: Held, data: Dataset, name: str, asked: str | None) -> Order:
    """The order in which a set made elsewhere numbers the classes of `data`, which the user calls `name`.

    `asked` is one of `WORDS`, or a file of class names or wnids. Else it is as an export, or the run around it, tells,
    else as scripts that use this layout number the dataset. Raises FatalError where what is asked is no order of these
    classes.
    """
    classes = _known(data, name)
    if content.folders and not class_folders.are_numbers(content.folders, data, name):
        if asked:
            raise FatalError(
                f"{content.path}: the names of its folders say which class each is: leave out --label-order"
            )
        return classes.own("by the names of the folders")
    if asked:
        return _asked(classes, asked)
    if content.told:
        return classes.named(content.told.classes, "as the export says") or classes.own()
    return _told(content.path, classes) or _of_scripts(classes, content.layout)


def of_set(made: DistilledSet, data: Dataset, name: str) -> tuple[DistilledSet, str]:
    """A set that names its classes, with its labels in the order of the data's, and what was done for it in words.

    The set itself, and no words, where the orders are the same; so, too, where the classes have other names, as those
    of another dataset of as many classes.
    """
    order = _known(data, name).named(made.view.classes, "as the set itself says")
    if order is None or not order.moved:
        return made, ""
    view = replace(made.view, classes=data.classes)
    return replace(made, labels=order.mapped(made.labels), view=view), order.said


def _known(data: Dataset, name: str) -> _Classes:
    for known in dict.fromkeys((name, data.name, _TINY)):
        if labels := canonical.labels(known, data.classes, numbers=known == name):
            return _Classes(data, known, tuple(labels))
    return _Classes(data, "", ())


def _asked(classes: _Classes, asked: str) -> Order:
    why = f"by --label-order {asked}"
    if asked == "data":
        return classes.own(why)
    if asked == "sorted":
        return classes.by_name(why)
    if asked == "wnids":
        if classes.known == _TINY:
            return classes.published(why)
        raise FatalError(
            f"--label-order wnids is for the 200 classes of Tiny ImageNet, and {classes.data.name} has others: "
            f"{', '.join(classes.data.classes[:3])}, ...\nGive --label-order FILE, one class a line."
        )
    return _in_file(classes, Path(asked).expanduser(), why)


def _in_file(classes: _Classes, file: Path, why: str) -> Order:
    if not file.is_file():
        raise FatalError(
            f"--label-order {file}: there is no such file\nGive {', '.join(WORDS)}, or a file of one class name or "
            "wnid a line, that of label 0 first."
        )
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FatalError(
            f"--label-order {file} cannot be read: {error}\nGive a file of text, a class a line."
        ) from error
    names = [wnid[0] if (wnid := _WNID.match(line)) else line for line in lines]
    if found := classes.named(names, why):
        return found
    raise FatalError(
        f"--label-order {file} names {len(names)} classes, which are not the {len(classes.data.classes)} of "
        f"{classes.data.name} ({classes.unlike(names)})\nName each class of the data once, that of label 0 first."
    )


def _told(path: Path, classes: _Classes) -> Order | None:
    """As what lies around the file tells."""
    beside = _json(path.with_name("metadata.json")).get("classes")
    if isinstance(beside, list) and all(isinstance(each, str) for each in beside):
        return classes.named(beside, "as metadata.json beside it says")
    for folder in path.resolve().parents:
        if cell := _json(folder / "cell.json"):
            why = f"as in the run that it lies in, {folder.name}"
            in_order = classes.known and cell.get("dataset") == classes.known
            return classes.published(why) if in_order else classes.own(why)
    return None


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_scripts(classes: _Classes, layout: str) -> Order:
    """Of all datasets known by name, scripts number the classes of Tiny ImageNet alone in several ways."""
    if classes.known != _TINY:
        return (_of_subset(classes) if layout == held.APART else None) or classes.own()
    if layout == held.APART:
        return classes.by_name("wnids sorted, as MTT, TESLA, FTD and DATM number Tiny ImageNet; else: --label-order")
    if layout != held.TOGETHER:
        return classes.by_name("assumed to be wnids sorted, as ImageFolder numbers Tiny ImageNet; else: --label-order")
    if classes.data.numbered:
        return classes.named(classes.data.numbered, "as the tinyimagenet.pt given numbers them") or classes.own()
    return classes.by_name(
        "assumed to be wnids sorted: DC's tinyimagenet.pt has an order of its own, which --data tinyimagenet.pt or "
        "--label-order tells"
    )


def _of_subset(classes: _Classes) -> Order | None:
    """As the scripts that distil a subset of ImageNet number its classes, which is not by wnid."""
    for subset, known in SUBSETS.items():
        if labels := canonical.places(known, classes.data.classes):
            why = f"as MTT and its successors number {subset}; else: --label-order"
            return _Classes(classes.data, subset, tuple(labels)).published(why)
    return None
