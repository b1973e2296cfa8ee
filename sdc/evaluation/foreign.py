"""Distilled sets as the upstream scripts save them: torch files that hold images and labels, and little else.

They say nothing of how the images were shown to the network, so that is assumed, and said. No object but tensors and
numbers is read: a file that holds another is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdc.data.sets import Dataset
from sdc.evaluation.distilled import DistilledSet, checked
from sdc.evaluation.protocol import UNIFORM, Protocol
from sdc.evaluation.view import View, Whitening, resized
from sdc.ground.errors import FatalError

_Each = tuple[float, ...] | None
"""A number a channel; None: nothing was subtracted, or divided by."""
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BY_DATASET = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashionmnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": _CIFAR,
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tinyimagenet": _IMAGENET,
}
"""Means and deviations that the scripts of DC, DSA and DM normalise each dataset with."""
_LAYOUTS = (
    "Known: one file with images and labels under `data` (res_*.pt of DC, DSA, DM); images_*.pt beside labels_*.pt, "
    "with lr_*.pt if there is one (MTT, FTD, TESLA, DATM; FTD's averages begin with ema_)"
)


@dataclass(frozen=True)
class Assumed:
    """How the images of a file were shown, and how they are trained on."""

    mean: _Each
    std: _Each
    protocol: Protocol


def together(file: str, dataset: str) -> Assumed:
    """What is assumed of one file with images and labels.

    DC trains for 300 epochs without augmentation, its successors as everybody does.
    """
    mean, std = _BY_DATASET.get(dataset, (None, None))
    plain = replace(UNIFORM, epochs=300, augment="")
    return Assumed(mean, std, plain if file.startswith("res_DC_") else UNIFORM)


def apart(images: Tensor, labels: Tensor, lr: float | None) -> Assumed:
    """What is assumed of images [N,C,H,W] and labels in two files, and of the rate if there is a third."""
    batch = 128 if labels.is_floating_point() else UNIFORM.batch
    shown = _IMAGENET if images.shape[-1] == 64 else _CIFAR
    mean, std = shown if images.shape[1] == 3 else (None, None)
    return Assumed(mean, std, replace(UNIFORM, batch=batch, lr=UNIFORM.lr if lr is None else lr))


def load(path: Path, dataset: Dataset, name: str, *, zca: bool = False) -> tuple[DistilledSet, str]:
    """The set in `path`, and what was assumed of it. `name` is the dataset's, for its constants.

    With `zca` the images are taken to be whitened by the transform that the training images of `dataset` give.
    """
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("data"), list) and content["data"]:
        last = content["data"][-1]  # the last experiment
        images, labels = (_solid(part, path) for part in (last if _is_pair(last) else (None, None)))
        lr, how = None, together(path.name, name)
    elif isinstance(content, Tensor) and "images" in path.name:
        beside = _beside(path, "labels")
        images, labels = _solid(content, path), _solid(_read(beside), beside)
        rate = _beside(path, "lr")
        lr = float(_solid(_read(rate), rate)) if rate.is_file() else None
        how = apart(images, labels, lr)
    else:
        raise FatalError(f"{path} is no distilled set of a layout known here. {_LAYOUTS}")
    if images.ndim != 4:
        raise FatalError(f"{path} holds images of shape {list(images.shape)}, not [N, C, H, W]")
    view = _view(images, dataset, None if zca else how.mean, None if zca else how.std, zca=zca)
    images, labels = images.detach().float().cpu(), labels.detach().cpu()
    labels = labels.float() if labels.is_floating_point() else labels.long()
    try:
        found = checked(DistilledSet(images, labels, view, how.protocol, lr))
    except ValueError as error:
        raise FatalError(f"{path} is no distilled set of {dataset.name}: {error}") from error
    return found, _said(found, path)


def _read(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A torch file of tensors, numbers and containers; numpy's numbers are taken as such."""
    if not path.is_file():
        raise FatalError(f"{path} does not exist. {_LAYOUTS}")
    _refuse_bombs(path)
    scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
    kinds: list[Callable[..., Any]] = [np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i8")}]
    try:
        with torch.serialization.safe_globals([*kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise FatalError(
            f"{path} is not a torch file of tensors and numbers alone, so it is not read: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def _refuse_bombs(path: Path) -> None:
    """torch.save packs without compression, so what a file claims to hold is never more than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise FatalError(
            f"{path} is not a torch file of tensors and numbers alone, so it is not read: it is no zip archive, as "
            "torch.save has made since torch 1.6"
        ) from error
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise FatalError(f"{path} holds more than its size, which torch.save never does, so it is not read")


def _solid(content: Any, path: Path) -> Tensor:  # noqa: ANN401 - whatever the file holds
    """A tensor of the file that has an element of its own for each of its numbers."""
    if not isinstance(content, Tensor):
        raise FatalError(f"{path} is no distilled set of a layout known here. {_LAYOUTS}")
    if content.layout != torch.strided or content.numel() * content.element_size() > content.untyped_storage().nbytes():
        raise FatalError(
            f"{path} holds a tensor of {list(content.shape)} that repeats a few numbers, so it is not read"
        )
    return content


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list | tuple) and len(value) == 2


def _beside(path: Path, what: str) -> Path:
    """The file of the same step that holds the labels, or the rate."""
    return path.with_name(path.name.replace("images", what))


def _view(images: Tensor, dataset: Dataset, mean: _Each, std: _Each, *, zca: bool) -> View:
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


def _said(found: DistilledSet, path: Path) -> str:
    view = found.view
    shown = "whitened (ZCA, fitted on the training images)" if view.whitening else f"mean {view.mean}, std {view.std}"
    rate = "as stored" if found.lr is not None else "assumed; change it by --set lr=..."
    return (
        f"{path.name}: assumed images of {view.channels}x{view.size}x{view.size}, {shown}; "
        f"learning rate {found.protocol.lr:g} ({rate}); {found.protocol.epochs} epochs, batch {found.protocol.batch}, "
        f"augmentation {found.protocol.augment or 'none'}"
    )
