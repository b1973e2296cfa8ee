"""A distilled set as a file: what a network is trained on, and all that is needed to do so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor

from sdc.evaluation import protocol as protocols
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, Whitening
from sdc.ground.errors import FatalError
from sdc.ground.files import replacing


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
    """Write the set to `path` (safetensors); equal sets give equal bytes."""
    tensors = {"images": distilled.images.contiguous(), "labels": distilled.labels.contiguous()}
    if distilled.lr is not None:
        tensors["lr"] = torch.tensor(distilled.lr, dtype=torch.float32)
    if whitening := distilled.view.whitening:
        tensors |= {"zca_mean": whitening.mean.contiguous(), "zca_matrix": whitening.matrix.contiguous()}
    facts = {
        "dataset": distilled.view.dataset,
        **{name: json.dumps(getattr(distilled.view, name)) for name in ("classes", "mean", "std")},
        "protocol": json.dumps(protocols.to_dict(distilled.protocol)),
    }
    with replacing(path) as partial:
        partial.write_bytes(_ordered(tensors_as_bytes(tensors, {**(distilled.about or {}), **facts})))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its header sorted: the library writes the metadata in an order that changes."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def is_one(path: Path) -> bool:
    """Whether this is to be read as a set of ours: a run's folder, or a file with our metadata, whatever its name.

    So is what is called so, and holds something else: `load` says what is wrong with it.
    """
    if path.is_dir():
        return any((path / name).exists() for name in ("distilled.safetensors", "cell.json"))
    if not path.is_file():
        return path.suffix in ("", ".safetensors")
    try:
        with safe_open(path, framework="pt") as stored:
            return bool({"classes", "protocol"} & (stored.metadata() or {}).keys())
    except (SafetensorError, OSError):
        return path.suffix == ".safetensors"


def load(path: Path) -> DistilledSet:
    """Read a set from a file, or from a run's folder. Raises FatalError for anything that is not one."""
    file = path / "distilled.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FatalError(f"{file} does not exist. Give a run's folder or a distilled.safetensors file")
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        channels, size = tensors["images"].shape[1:3]
        shown = {name: tuple(json.loads(metadata.pop(name))) for name in ("classes", "mean", "std")}
        return checked(
            DistilledSet(
                images=tensors["images"],
                labels=tensors["labels"],
                view=View(
                    dataset=metadata.pop("dataset"),
                    channels=channels,
                    size=size,
                    whitening=_whitening(tensors, tensors["images"][0].numel()),
                    **shown,
                ),
                protocol=protocols.from_dict(json.loads(metadata.pop("protocol"))),
                lr=float(tensors["lr"]) if "lr" in tensors else None,
                about=metadata,
            )
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FatalError(
            f"{file} is not a distilled set: {type(error).__name__}: {error}\n"
            "It needs the tensors images [N, C, H, W] and labels, and the metadata dataset, classes, mean, std and "
            "protocol (see README)"
        ) from error


def _whitening(tensors: Mapping[str, Tensor], pixels: int) -> Whitening | None:
    if "zca_mean" not in tensors and "zca_matrix" not in tensors:
        return None
    found = Whitening(tensors["zca_mean"], tensors["zca_matrix"])
    if found.mean.shape != (pixels,) or found.matrix.shape != (pixels, pixels):
        raise ValueError(
            f"zca_mean is {list(found.mean.shape)} and zca_matrix {list(found.matrix.shape)}, "
            f"expected [{pixels}] and [{pixels}, {pixels}]"
        )
    return found


def checked(distilled: DistilledSet) -> DistilledSet:
    """The set itself. Raises ValueError where its tensors do not fit each other or its view."""
    images, labels, view = distilled.images, distilled.labels, distilled.view
    classes, expected = len(view.classes), (view.channels, view.size, view.size)
    if images.dtype != torch.float32 or tuple(images.shape[1:]) != expected:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, expected float32 [N, {expected}]")
    if not len(images):
        raise ValueError("it has no images")
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
    return unclipped(distilled).clamp(0, 1)


def unclipped(distilled: DistilledSet) -> Tensor:
    """The images un-normalised, float32 [N, C, H, W]; some of what was learned may lie outside [0, 1]."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (distilled.view.mean, distilled.view.std))
    whitening = distilled.view.whitening
    images = whitening.undone(distilled.images) if whitening else distilled.images
    return images * std + mean


def save_picture(distilled: DistilledSet, path: Path) -> None:
    """Write the images as a PNG, a row a class."""
    from sdc.launcher.light import torchvision  # takes a moment to import, which only a finished run needs

    row = max(1, len(distilled.images) // len(distilled.view.classes))
    with replacing(path) as partial:
        torchvision.utils.save_image(pixels(distilled), partial, nrow=row, padding=2, pad_value=1.0, format="png")
