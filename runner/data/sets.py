"""What a dataset is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from runner.errors import FatalError

Progress = Callable[[int, int | None], None]
"""Called with (images done, images in all); the total is None while images are still being counted."""


@dataclass(frozen=True)
class Split:
    """Images uint8 [N,C,H,W] with their labels int64 [N]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Content:
    """The images of a source; label k is `classes[k]`."""

    classes: tuple[str, ...]
    train: Split
    test: Split


@dataclass(frozen=True)
class Dataset:
    """A content with its name and hash.

    `file` is the safetensors file it was read from, for child processes: tensors train_images, train_labels,
    test_images and test_labels as in `Split`; metadata format, name, classes (a JSON list) and sha256. A limited
    dataset keeps the file of the whole one, while its sha256 is its own.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    sha256: str
    file: Path
    whole: bool = True


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


def limited(dataset: Dataset, per_class: int) -> Dataset:
    """The same with at most the first `per_class` training images of each class, in stored order; the test set stays.

    Raises FatalError if `per_class` is below 1.
    """
    if per_class < 1:
        raise FatalError(f"the limit of training images per class must be at least 1, got {per_class}")
    of_class = [(dataset.train.labels == label).nonzero()[:per_class, 0] for label in range(len(dataset.classes))]
    kept = torch.cat(of_class).sort().values
    small = replace(dataset, train=Split(dataset.train.images[kept], dataset.train.labels[kept]), whole=False)
    return replace(small, sha256=content_hash(small))
