"""What is assumed of a distilled set whose file does not say how its images were shown and how they are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from sdc.evaluation.networks import NAMES
from sdc.evaluation.protocol import UNIFORM, Protocol

Each = tuple[float, ...] | None
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


_BY_SIZE = {64: "ConvNetD4", 128: "ConvNetD5"}
"""Networks that the field judges larger images by; all others by ConvNet."""


@dataclass(frozen=True)
class Assumed:
    """How the images of a file were shown, how they are trained on, and which network they are for."""

    mean: Each
    std: Each
    protocol: Protocol
    model: str = "ConvNet"


def together(file: str, dataset: str, size: int = 32) -> Assumed:
    """What is assumed of one file with images of this size and labels: what its script does on this dataset itself.

    DC trains plainly for 300 epochs, except on MNIST, where its script augments for 1000 (as adapters/dc.py says);
    its successors do as everybody does.
    """
    mean, std = _BY_DATASET.get(dataset, (None, None))
    return Assumed(mean, std, _of_dc(dataset) if file.startswith("res_DC_") else UNIFORM, _named(file, size))


def _of_dc(dataset: str) -> Protocol:
    if dataset == "mnist":
        return replace(UNIFORM, epochs=1000, augment="dc:crop_scale_rotate")
    return replace(UNIFORM, epochs=300, augment="")


def apart(images: Tensor, labels: Tensor, lr: float | None) -> Assumed:
    """What is assumed of images [N,C,H,W] and labels in two files, and of the rate if there is a third.

    Images of 64 pixels and more are parts of ImageNet, and normalised by its constants.
    """
    batch = 128 if labels.is_floating_point() else UNIFORM.batch
    size = images.shape[-1]
    mean, std = (_IMAGENET if size >= 64 else _CIFAR) if images.shape[1] == 3 else (None, None)
    protocol = replace(UNIFORM, batch=batch, lr=UNIFORM.lr if lr is None else lr)
    return Assumed(mean, std, protocol, _BY_SIZE.get(size, "ConvNet"))


def unnamed(images: Tensor, labels: Tensor, lr: float | None, dataset: str) -> Assumed:
    """What is assumed of images [N,C,H,W] that come from no script known here, as pictures and pairs do.

    Of a dataset known by name its own constants; else ImageNet's from 64 pixels on, and CIFAR's below; none if grey.
    """
    how = apart(images, labels, lr)
    mean, std = _BY_DATASET.get(dataset, (how.mean, how.std))
    channels = images.shape[1]
    if mean and std and len(mean) != channels:
        mean, std = (mean * channels, std * channels) if len(mean) == 1 else (None, None)
    return replace(how, mean=mean, std=std)


def dataset_in(file: str) -> str:
    """The dataset that a file's own name tells, as res_DC_CIFAR10_ConvNet_1ipc.pt; empty if it tells none."""
    told = _part(file, 2).lower()
    return told if told in _BY_DATASET else ""


def _named(file: str, size: int) -> str:
    """The network that a file's own name tells, or the one for images of this size."""
    told = _part(file, 3)
    return told if told in NAMES else _BY_SIZE.get(size, "ConvNet")


def _part(file: str, number: int) -> str:
    parts = file.split("_") if file.startswith("res_") else []
    return parts[number] if number < len(parts) - 1 else ""
