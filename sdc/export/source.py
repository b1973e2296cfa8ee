"""What is exported: a distilled set, and what there is to tell of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor

from sdc.data.class_names import folder_names
from sdc.evaluation import distilled, protocol
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.set_files import cell_of

ROUNDED = (
    "The PNG images are un-normalised, clipped to [0, 1] and rounded to 8 bit: shown to a network as "
    "(pixel / 255 - mean) / std, they are not quite what was distilled."
)
WHITENED = "The images that the network saw are whitened; the transform is beside them, in {}."


@dataclass(frozen=True)
class Source:
    """A set, the file it was read from, and cell.json of the run it lies in (empty if it lies in none)."""

    file: Path
    found: DistilledSet
    cell: Mapping[str, Any]


@dataclass(frozen=True)
class Export:
    """Where an export is, how many images it holds, what it could not take along, and how it is read."""

    to: str
    path: str
    images: int
    lost: Sequence[str]
    read: str


def opened(path: Path) -> Source:
    """The set of a run's folder, or of a distilled.safetensors file. Raises FatalError if there is none."""
    file = path / "distilled.safetensors" if path.is_dir() else path
    return Source(file, distilled.load(path), cell_of(path))


def facts(source: Source) -> dict[str, Any]:
    """What is needed to train on the images, as JSON takes it."""
    found, view = source.found, source.found.view
    of_run = ("method", "fork", "key", "data_sha256")
    about = {name: text for name, text in (found.about or {}).items() if name in of_run}
    model = {"model": source.cell["model"]} if "model" in source.cell else {}
    validation = source.cell.get("settings", {}).get("validation")
    tested = {"data": source.cell.get("data"), "validation": validation}
    return {
        **about,
        **model,
        **{name: value for name, value in tested.items() if value},
        "dataset": view.dataset,
        "classes": list(view.classes),
        "shape": list(found.images.shape),
        "mean": list(view.mean),
        "std": list(view.std),
        "whitened": view.whitening is not None,
        "labels": "logits" if found.labels.is_floating_point() else "hard",
        "lr": found.lr,
        "protocol": protocol.to_dict(found.protocol),
        "clipped": clipped(found),
    }


def save_whitening(found: DistilledSet, file: Path) -> None:
    """Write the transform of whitened images to `file`, as sdc/evaluation/own_exports.py reads it."""
    if transform := found.view.whitening:
        tensors = {"zca_mean": transform.mean.contiguous(), "zca_matrix": transform.matrix.contiguous()}
        file.write_bytes(tensors_as_bytes(tensors))


def labels(found: DistilledSet) -> list[int]:
    """The class of each image: its label, or what its logits put first."""
    hard: Tensor = found.labels.argmax(1) if found.labels.is_floating_point() else found.labels
    return [int(label) for label in hard]


def paths(found: DistilledSet) -> list[str]:
    """A path for each image below the export's top: `<class>/0000.png`, counted in each class."""
    folders, numbers = folder_names(found.view.classes), [0] * len(found.view.classes)
    made = []
    for label in labels(found):
        made.append(f"{folders[label]}/{numbers[label]:04d}.png")
        numbers[label] += 1
    return made


def pngs(found: DistilledSet) -> list[bytes]:
    """Each image as an 8-bit PNG, grey if it has one channel."""
    levels = (distilled.pixels(found) * 255).round().byte().permute(0, 2, 3, 1).squeeze(3).numpy()
    return [_png(Image.fromarray(image)) for image in levels]


def clipped(found: DistilledSet) -> float:
    """The share of un-normalised pixel values outside [0, 1], which no PNG can hold."""
    shown = distilled.unclipped(found)
    return round(float(((shown < 0) | (shown > 1)).float().mean()), 6)


def _png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, format="PNG")
    return held.getvalue()
