"""The datasets known by name. Torchvision holds the addresses, the MD5s and the readers of its five."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from sdc.data import originals, tiny
from sdc.data.canonical import DIGITS
from sdc.data.download import Published, fetch
from sdc.data.originals import Original
from sdc.data.sets import Content, Progress, Split

_DIGIT = (8, 8)
"""The sides of scikit-learn's digits."""
Torchvision = Any
"""A dataset class of torchvision, which has no types."""


@dataclass(frozen=True)
class Source:
    """The published files of a dataset, and how they are read from the folder that holds them."""

    files: tuple[Published, ...]
    read: Callable[[Path, Progress | None], Content]


def obtain(source: Source, folder: Path, on_progress: Progress | None = None) -> Content:
    """Download into `folder` what is not there yet, check it and read it. Raises FatalError if that cannot be."""
    for published in source.files:
        fetch(published, folder)
    return source.read(folder, on_progress)


def mnist_like(kind: Torchvision, classes: tuple[str, ...] | None = None) -> Source:
    """The source of torchvision's MNIST or a class made like it; `classes` takes the place of its class names."""
    files = tuple(Published(name, tuple(mirror + name for mirror in kind.mirrors), md5) for name, md5 in kind.resources)

    def read(folder: Path, _: Progress | None) -> Content:
        with _staged(files, folder, f"{kind.__name__}/raw") as root:
            train, test = (kind(root, train=train, download=True) for train in (True, False))
        splits = [_split(part.data.unsqueeze(1), part.targets) for part in (train, test)]
        return Content(classes or tuple(kind.classes), splits[0], splits[1])

    return Source(files, read)


def cifar_like(kind: Torchvision) -> Source:
    """The source of torchvision's CIFAR10 or a class made like it."""
    files = (Published(kind.filename, (kind.url,), kind.tgz_md5),)

    def read(folder: Path, _: Progress | None) -> Content:
        with _staged(files, folder, ".") as root:
            train, test = (kind(root, train=train, download=True) for train in (True, False))
        splits = [_split(part.data.transpose(0, 3, 1, 2), part.targets) for part in (train, test)]
        return Content(tuple(train.classes), splits[0], splits[1])

    return Source(files, read)


def svhn_like(kind: Torchvision) -> Source:
    """The source of torchvision's SVHN or a class made like it, without its extra images."""
    files = tuple(
        Published(name, (url,), md5) for url, name, md5 in (kind.split_list[split] for split in ("train", "test"))
    )

    def read(folder: Path, _: Progress | None) -> Content:
        train, test = (kind(folder, split=split, download=False) for split in ("train", "test"))
        return Content(DIGITS, _split(train.data, train.labels), _split(test.data, test.labels))

    return Source(files, read)


def tiny_like(published: Published) -> Source:
    """The source of Tiny ImageNet, from a zip laid out like it."""
    return Source((published,), lambda folder, on_progress: tiny.read(folder / published.name, on_progress))


def digits(_folder: Path, _: Progress | None) -> Content:
    """Scikit-learn's 8x8 handwritten digits, 0..16 stretched to 0..255, at 32x32; a fifth of each class is to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    images = np.stack([_enlarged(image) for image in small.reshape(-1, 8, 8)])[:, None]
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    splits = [_split(images[part], labels[part]) for part in (train, test)]
    return Content(DIGITS, splits[0], splits[1], original=originally("digits", splits[0].images, splits[1].images))


def originally(name: str, *images: torch.Tensor) -> Original:
    """What these prepared images of a dataset known by name were: only digits are resized."""
    found = originals.stored(*images)
    return replace(found, width=_DIGIT, height=_DIGIT, side=_DIGIT) if name == "digits" else found


def _enlarged(image: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    bytes_ = (image * 255 / 16).round().astype(np.uint8)
    return np.asarray(Image.fromarray(bytes_).resize((32, 32), Image.Resampling.BILINEAR))


def _split(images: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor) -> Split:
    return Split(
        torch.as_tensor(np.ascontiguousarray(images), dtype=torch.uint8),
        torch.as_tensor(np.asarray(labels), dtype=torch.int64),
    )


@contextlib.contextmanager
def _staged(files: tuple[Published, ...], folder: Path, where: str) -> Iterator[Path]:
    """A passing folder with links to the files, for torchvision to unpack them there.

    Torchvision takes what MNIST's archives unpack to for good if it exists: one cut short would stay.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as root:
        raw = Path(root) / where
        raw.mkdir(parents=True, exist_ok=True)
        for published in files:
            (raw / published.name).symlink_to((folder / published.name).resolve())
        yield Path(root)


def _torchvision(kind: str) -> Torchvision:
    import torchvision.datasets  # here, because it takes a second that a prepared dataset does not need

    return getattr(torchvision.datasets, kind)


SOURCES: dict[str, Callable[[], Source]] = {
    "cifar10": lambda: cifar_like(_torchvision("CIFAR10")),
    "cifar100": lambda: cifar_like(_torchvision("CIFAR100")),
    "digits": lambda: Source((), digits),
    "fashionmnist": lambda: mnist_like(_torchvision("FashionMNIST")),
    "mnist": lambda: mnist_like(_torchvision("MNIST"), DIGITS),
    "svhn": lambda: svhn_like(_torchvision("SVHN")),
    "tinyimagenet": lambda: tiny_like(tiny.ZIP),
}
