"""Rotation by cubic splines as scipy.ndimage.rotate does it, without leaving the device: nothing waits for it."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F


def turned(images: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
    """Images [N,C,H,W], each turned by its own degrees [N], under 90 either way, about its centre; `fill` [N] is seen
    where the image does not reach.

    The middle of what `scipy.ndimage.rotate(image, angle, axes=(-2, -1), cval=fill)` gives, up to rounding.
    """
    height, width = images.shape[2:]
    rows, columns = _places(degrees, height, width)
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    shown = _interpolated(_coefficients(images), rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    shown = torch.where(inside.unsqueeze(1), shown, fill.double().view(-1, 1, 1))
    return shown.view(images.shape).to(images.dtype)


def _places(degrees: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The row and the column of the image that each pixel shows, both [N,H*W]."""
    angles = (degrees.double() * (math.pi / 180)).view(-1, 1)
    cos, sin = angles.cos(), angles.sin()
    # The canvas grows until it holds the image; of it, the middle is kept.
    tall, broad = ((a * height + b * width + 0.5).floor() for a, b in ((cos, sin.abs()), (sin.abs(), cos)))
    pixel = torch.arange(height * width, device=degrees.device)
    down = pixel // width + ((tall - height) / 2).floor() - (tall - 1) / 2
    right = pixel % width + ((broad - width) / 2).floor() - (broad - 1) / 2
    return cos * down + sin * right + (height - 1) / 2, cos * right - sin * down + (width - 1) / 2


def _coefficients(images: Tensor) -> Tensor:
    """Of the spline through the pixels, with one more before each side and two more after it."""
    down, right = (_inverse(side, images.device) for side in images.shape[2:])
    coefficients: Tensor = down @ images.double() @ right.T
    return F.pad(coefficients, (1, 2, 1, 2), "reflect")


@functools.cache
def _inverse(side: int, device: torch.device) -> Tensor:
    """[side,side]: what turns values on a line, mirrored at both ends, into the coefficients of the spline through."""
    values = torch.diag(torch.full((side,), 4 / 6, dtype=torch.float64))
    inner = torch.arange(side)
    for beside in (-1, 1):
        mirrored = (side - 1 - (side - 1 - (inner + beside).abs()).abs()).abs()
        values[inner, mirrored] += 1 / 6
    inverse: Tensor = torch.linalg.inv(values)
    return inverse.to(device)


def _interpolated(coefficients: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[N,C,P] at rows and columns [N,P]."""
    count, channels, _, width = coefficients.shape
    flat, (top, left) = coefficients.flatten(2), (rows.floor(), columns.floor())
    down, right = _weights(rows - top), _weights(columns - left)
    first = (top.long() * width + left.long()).unsqueeze(2) + torch.arange(4, device=rows.device)
    made = torch.zeros(count, channels, rows.shape[1], dtype=flat.dtype, device=flat.device)
    for row in range(4):  # four rows of four: all sixteen at once would take much memory
        place = (first + row * width).flatten(1).unsqueeze(1).expand(-1, channels, -1)
        near = flat.gather(2, place).view(count, channels, -1, 4)
        made += (near * (down[..., row : row + 1] * right).unsqueeze(1)).sum(3)
    return made


def _weights(beyond: Tensor) -> Tensor:
    """[N,P,4]: of the pixel before, the pixel itself and the two after it, for a place so far beyond the pixel."""
    after = 1 - beyond
    inner = [4 - 6 * far**2 + 3 * far**3 for far in (beyond, after)]
    return torch.stack([after**3, *inner, beyond**3], 2) / 6
