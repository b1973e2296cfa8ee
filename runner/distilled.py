"""A distilled set as a file: what a network is trained on, and all that is needed to do so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.utils import save_image

from runner import protocol as protocols
from runner.errors import FatalError
from runner.files import replacing
from runner.protocol import Protocol
from runner.view import View


@dataclass(frozen=True)
class DistilledSet:
    """`images` float32 [N, C, H, W] as the network sees them; `labels` int64 [N], or float32 [N, K] logits.

    `protocol` is how the method's own code trains on it; `lr` its learned rate, if it learned one; `about` names where
    it comes from (method, cell key) for people, never for the evaluator.
    """

    images: Tensor
    labels: Tensor
    view: View
    protocol: Protocol
    lr: float | None = None
    about: Mapping[str, str] | None = None


def hard_labels(classes: int, ipc: int) -> Tensor:
    """Class-ordered labels, `ipc` of each class: int64 [classes * ipc]."""
    return torch.arange(classes).repeat_interleave(ipc)


def save(distilled: DistilledSet, path: Path) -> None:
    """Write the set to `path` (safetensors)."""
    tensors = {"images": distilled.images.contiguous(), "labels": distilled.labels.contiguous()}
    if distilled.lr is not None:
        tensors["lr"] = torch.tensor(distilled.lr, dtype=torch.float32)
    metadata = {
        "view": json.dumps(asdict(distilled.view), sort_keys=True),
        "protocol": json.dumps(protocols.to_dict(distilled.protocol), sort_keys=True),
        "about": json.dumps(dict(distilled.about or {}), sort_keys=True),
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)


def load(path: Path) -> DistilledSet:
    """Read a set from a file, or from a run's folder. Raises FatalError for anything that is not one."""
    file = path / "distilled.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FatalError(f"{file} does not exist. Give a run's folder or a distilled.safetensors file")
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        view: dict[str, Any] = json.loads(metadata["view"])
        for name in ("classes", "mean", "std"):
            view[name] = tuple(view[name])
        return _checked(
            DistilledSet(
                images=tensors["images"],
                labels=tensors["labels"],
                view=View(**view),
                protocol=protocols.from_dict(json.loads(metadata["protocol"])),
                lr=float(tensors["lr"]) if "lr" in tensors else None,
                about=json.loads(metadata.get("about", "{}")),
            )
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FatalError(
            f"{file} is not a distilled set: {type(error).__name__}: {error}\n"
            "It needs the tensors images [N, C, H, W] and labels, and the metadata view and protocol (see README)"
        ) from error


def _checked(distilled: DistilledSet) -> DistilledSet:
    images, labels, view = distilled.images, distilled.labels, distilled.view
    classes, expected = len(view.classes), (view.channels, view.size, view.size)
    if images.dtype != torch.float32 or tuple(images.shape[1:]) != expected:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, expected float32 [N, {expected}]")
    hard = labels.dtype == torch.int64 and labels.shape == images.shape[:1]
    soft = labels.dtype == torch.float32 and labels.shape == (len(images), classes)
    if not (hard or soft) or (hard and not bool(((labels >= 0) & (labels < classes)).all())):
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}, expected int64 [N] or float32 [N, {classes}]"
        )
    if not bool(torch.isfinite(images).all()):
        raise ValueError("some pixels are not finite")
    return distilled


def pixels(distilled: DistilledSet) -> Tensor:
    """The images un-normalised, in [0, 1]: float32 [N, C, H, W]."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (distilled.view.mean, distilled.view.std))
    return (distilled.images * std + mean).clamp(0, 1)


def save_picture(distilled: DistilledSet, path: Path) -> None:
    """Write the images as a PNG, a row a class."""
    row = max(1, len(distilled.images) // len(distilled.view.classes))
    with replacing(path) as partial:
        save_image(pixels(distilled), partial, nrow=row, padding=2, pad_value=1.0, format="png")
