"""The labels of a set made elsewhere, read as what their maker meant by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc.ground.errors import unknown

KINDS = ("hard", "probabilities", "logits")
_NEVER = -1000.0
"""A logit whose softmax is exactly 0, and which is finite, as the logarithm of 0 is not."""

_NEARLY = "nearly probabilities"
_ROUNDED, _OFF = 0.01, 0.1
"""How far a rounded probability may lie beyond 0 and 1, and the sum of a row beside 1."""


@dataclass(frozen=True)
class Labels:
    """Labels as a distilled set holds them: int64 [N], or float32 [N,K] logits; and what they were in their file."""

    held: Tensor
    kind: str
    """hard, probabilities or logits."""
    words: str


def understood(stored: Tensor, images: int, name: str, classes: int, asked: str | None = None) -> Labels:
    """The labels of so many images of the dataset `name`, taken for `asked`, or for what their numbers say they are.

    Raises ValueError with the true reason where they are none.
    """
    if asked and asked not in KINDS:
        raise unknown("kind of labels", asked, list(KINDS))
    told = stored.detach().cpu()
    told = told.flatten() if told.ndim > 1 and told.numel() == images == max(told.shape) else told
    if told.ndim not in (1, 2) or told.is_complex():
        raise ValueError(f"labels are {told.dtype} of shape {list(told.shape)}, neither [N] nor [N, {classes}]")
    if len(told) != images:
        raise ValueError(f"{images} images come with {len(told)} labels")
    return _numbers(told, name, classes, asked) if told.ndim == 1 else _rows(told, name, classes, asked)


def _numbers(told: Tensor, name: str, classes: int, asked: str | None) -> Labels:
    """Labels [N] that number the classes, whatever type their numbers have."""
    if asked in ("probabilities", "logits"):
        raise ValueError(f"labels are one number an image, so they are no {asked}: leave --labels out")
    if told.is_floating_point() and (odd := (told != told.round()) | ~told.isfinite()).any():
        where = int(odd.nonzero()[0])
        raise ValueError(f"image {where} has label {told[where].item():g}, which is no whole number")
    numbers = told.long()
    if (outside := (numbers < 0) | (numbers >= classes)).any():
        where = int(outside.nonzero()[0])
        from_one = numbers.min() == 1 and numbers.max() == classes
        why = ". They seem to count from 1: subtract 1 from each" if from_one else ""
        raise ValueError(f"image {where} has label {numbers[where]}, but {name} has 0..{classes - 1}{why}")
    typed = "" if told.dtype == torch.int64 else f", stored as {str(told.dtype).removeprefix('torch.')}"
    return Labels(numbers, "hard", f"hard{typed}")


def _rows(told: Tensor, name: str, classes: int, asked: str | None) -> Labels:
    """Labels [N,K] that say something of every class."""
    if told.shape[1] != classes:
        raise ValueError(f"labels are rows of {told.shape[1]} numbers, but {name} has {classes} classes")
    rows = told.double()
    if (odd := rows.isnan().any(1) | ~rows.amax(1).isfinite()).any():
        raise ValueError(f"the label of image {int(odd.nonzero()[0])} is not finite")
    kind = asked or _kind(told, rows)
    if kind == _NEARLY:
        where = int(_unlike(told, rows).nonzero()[0])
        raise ValueError(
            f"labels are rows of nearly probabilities: that of image {where} sums to {float(rows[where].sum()):g}, and "
            f"its least number is {float(rows[where].min()):g}. Give --labels probabilities to have each divided by "
            "its sum, or --labels logits"
        )
    because = f", by --labels {kind}" if asked else ""
    if kind == "hard":
        return Labels(rows.argmax(1), kind, f"hard, the largest of each row{because}")
    if kind == "logits":
        return Labels(told.float(), kind, f"logits{because or ' (their rows are no probabilities)'}")
    if _are_nearly(rows) and not _are_probabilities(told, rows):
        whole = rows.clamp_min(0)
        words = f"probabilities{because}, each row divided by its sum"
        return Labels(_logits(whole / whole.sum(1, keepdim=True)), kind, words)
    if not _are_probabilities(told, rows):
        where = int(_unlike(told, rows).nonzero()[0])
        raise ValueError(
            f"the label of image {where} sums to {float(rows[where].sum()):g} and its least number is "
            f"{float(rows[where].min()):g}, so it is no probability: give --labels logits"
        )
    return Labels(_logits(rows), kind, f"probabilities{because or ' (each row is 0 or more and sums to 1)'}")


def in_order(images: int, name: str, classes: int, missing: str, asked: str | None = None) -> Labels:
    """Labels of images that come without, as `missing` says: hard, as many of each class, in the order of the classes.

    Raises ValueError where there are not as many of each.
    """
    if asked in ("probabilities", "logits"):
        raise ValueError(f"{missing}, so its labels are no {asked}")
    if not images or images % classes:
        raise ValueError(f"{missing}, and {images} images are not as many of each of the {classes} classes of {name}")
    of_each = images // classes
    made = torch.arange(classes).repeat_interleave(of_each)
    return Labels(made, "hard", f"hard, in the order of the classes, {of_each} of each: assumed, as {missing}")


def kind_of(told: Tensor) -> str:
    """What rows [N,K] are taken for where nobody says it: one of KINDS, or that they are nearly probabilities."""
    return _kind(told, told.double())


def _kind(told: Tensor, rows: Tensor) -> str:
    if bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all()):
        return "hard"
    if not told.is_floating_point():
        raise ValueError("labels are rows of whole numbers, not all of one 1 and zeros: give --labels logits or hard")
    if _are_probabilities(told, rows):
        return "probabilities"
    return _NEARLY if _are_nearly(rows) else "logits"


def _are_probabilities(told: Tensor, rows: Tensor) -> bool:
    return not bool(_unlike(told, rows).any())


def _are_nearly(rows: Tensor) -> bool:
    """Whether rows may be probabilities that were rounded: to two decimals, or to 8 bit."""
    sums = rows.sum(1)
    return bool(((rows >= -_ROUNDED) & (rows <= 1 + _ROUNDED)).all() and ((sums - 1).abs() <= _OFF).all())


def _unlike(told: Tensor, rows: Tensor) -> Tensor:
    """Which rows are no probabilities, up to what their type of number can tell."""
    near = max(1e-4, torch.finfo(told.dtype).eps) if told.is_floating_point() else 1e-4
    return (rows < 0).any(1) | ((rows.sum(1) - 1).abs() > near)


def _logits(probabilities: Tensor) -> Tensor:
    """Logits whose softmax gives float64 probabilities back: up to rounding where they are positive, and 0 for 0."""
    return probabilities.log().clamp_min(_NEVER).float()
