"""What is assumed of a distilled set whose file does not say how its images were shown and how they are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

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


@dataclass(frozen=True)
class Assumed:
    """How the images of a file were shown, and how they are trained on."""

    mean: Each
    std: Each
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
