"""What a dataset is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sdc.data.originals import Original
from sdc.ground.errors import FatalError

Progress = Callable[[int, int | None], None]
"""Called with (images done, images in all); the total is None while images are still being counted."""


@dataclass(frozen=True)
class Split:
    """Images uint8 [N,C,H,W] with their labels int64 [N]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Content:
    """The images of a source; label k is `classes[k]`. `notes` are for people: how the source was read.

    `numbered`: the class names by label as the source itself numbers them, where that is another order, which scripts
    that read it go by.
    `original` is what the images were before; None: nothing else, the source holds them so.
    """

    classes: tuple[str, ...]
    train: Split
    test: Split
    notes: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()
    original: Original | None = None


@dataclass(frozen=True)
class Dataset:
    """A content with its name and hash.

    `notes` and `numbered` are its content's. `file` is the safetensors file it was read from, for child processes:
    tensors train_images, train_labels, test_images and test_labels as in `Split`; metadata format, name, sha256,
    original (JSON), and as JSON lists classes, notes and numbered. A limited dataset keeps the file of the whole one,
    while its sha256 is its own. `original` is what the images were in its source; None: they were prepared before that
    was kept.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    sha256: str
    file: Path
    whole: bool = True
    notes: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()
    original: Original | None = None


def tensors(content: Content | Dataset) -> dict[str, Tensor]:
    """The four tensors of a dataset under the names they have in its file."""
    return {
        "train_images": content.train.images,
        "train_labels": content.train.labels,
        "test_images": content.test.images,
        "test_labels": content.test.labels,
    }


def content_hash(content: Content | Dataset) -> str:
    """SHA-256 over class names, shapes and the bytes of all four tensors, as hex."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors(content).items()}
    digest = hashlib.sha256(json.dumps([content.classes, shapes]).encode())
    for tensor in tensors(content).values():
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def side(dataset: Dataset) -> int:
    """How many pixels wide and high its images are."""
    return dataset.test.images.shape[-1]


def limited(dataset: Dataset, per_class: int) -> Dataset:
    """The same with at most the first `per_class` training images of each class, in stored order; the test set stays.

    Raises FatalError if `per_class` is below 1.
    """
    if per_class < 1:
        raise FatalError(f"the limit of training images per class must be at least 1, got {per_class}")
    return _changed(dataset, train=_part(dataset.train, first(dataset, per_class)), test=dataset.test)


def first(dataset: Dataset, per_class: int) -> Tensor:
    """The places of the first `per_class` training images of each class, in stored order, int64 [n]."""
    return torch.cat([of_class[:per_class] for of_class in by_class(dataset)]).sort().values


def held_out(dataset: Dataset, percent: int) -> Dataset:
    """The same with `percent` of the training images of each class as its test set, the others as its training set.

    Which is drawn once and for all. Raises FatalError unless each class keeps an image on both sides.
    """
    drawn = torch.Generator().manual_seed(0)
    shuffled = [of_class[torch.randperm(len(of_class), generator=drawn)] for of_class in by_class(dataset)]
    counts = [len(of_class) * percent // 100 for of_class in shuffled]
    if any(not 0 < count < len(of_class) for count, of_class in zip(counts, shuffled, strict=True)):
        raise FatalError(
            f"--set validation={percent}: holding out {percent} % of each class of {dataset.name} leaves a class with "
            "no image to train or to test on. Take another percentage, for example 20"
        )
    pairs = list(zip(counts, shuffled, strict=True))
    tested = torch.cat([of_class[:count] for count, of_class in pairs]).sort().values
    trained = torch.cat([of_class[count:] for count, of_class in pairs]).sort().values
    return _changed(dataset, train=_part(dataset.train, trained), test=_part(dataset.train, tested))


def without(dataset: Dataset, images: Tensor) -> Dataset:
    """The same without the training images that are among `images`, uint8 [N,C,H,W], byte for byte."""
    known = {image.numpy().tobytes() for image in images}
    kept = [number for number, image in enumerate(dataset.train.images) if image.numpy().tobytes() not in known]
    return _changed(dataset, train=_part(dataset.train, torch.tensor(kept, dtype=torch.long)), test=dataset.test)


def drawn(dataset: Dataset, count: int, word: str) -> Tensor:
    """Indices of `count` training images of each class, class by class, drawn by `word` alone: int64 [classes * count].

    Of a class with fewer, all are.
    """
    random = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(word.encode()).digest()[:7]))
    return torch.cat(
        [of_class[torch.randperm(len(of_class), generator=random)[:count]] for of_class in by_class(dataset)]
    )


def by_class(dataset: Dataset) -> list[Tensor]:
    """The indices of each class's training images, int64 [n], in stored order."""
    return [(dataset.train.labels == label).nonzero()[:, 0] for label in range(len(dataset.classes))]


def _part(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _changed(dataset: Dataset, train: Split, test: Split) -> Dataset:
    changed = replace(dataset, train=train, test=test, whole=False)
    return replace(changed, sha256=content_hash(changed))
