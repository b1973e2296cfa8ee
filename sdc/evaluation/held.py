"""What a file or folder of a distilled set holds, before anything is assumed of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import Whitening

TOGETHER, APART, PAIR, PICTURES = "together", "apart", "pair", "pictures"
"""res_*.pt; images_*.pt beside labels_*.pt; images and labels of any script in one file; a folder of images a class."""


@dataclass(frozen=True)
class Told:
    """What an export of ours says beside its images and labels: all that is assumed of others."""

    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    protocol: Protocol
    labels: str
    """hard or logits."""
    whitening: Whitening | None = None
    model: str = ""
    data: Path | None = None
    """Where its dataset is, if that is not one known by name."""
    validation: int = 0
    """The percentage of the training images that stands in for the test images."""


@dataclass(frozen=True)
class Held:
    """Images and labels of each experiment at `path`; labels are None where the file has none.

    `notes` say how they were read. Labels of pictures number `folders`, the names of their folders.
    """

    path: Path
    layout: str
    experiments: list[tuple[Tensor, Tensor | None]]
    lr: float | None = None
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    range: str | None = None
    """What the values of this layout are, if that is known (`foreign_images.RANGES`)."""
    told: Told | None = None


Facts = dict[str, Any]
"""What an export's metadata say, as JSON takes it."""


def beside(path: Path, what: str) -> Path:
    """The file of the same step as images at `path` that holds the labels, or the rate (`lr`)."""
    return path.with_name(path.name.replace("images_zca_", "images_").replace("images", what))
