"""Rotation by cubic splines as scipy.ndimage.rotate does it, without leaving the device: nothing waits for it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F


def turned(images: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
    """Images [N,C,S,S], each turned by its own degrees [N], under 90 either way, about its centre; `fill` [N] is seen
    where the image does not reach.

    The middle of what `scipy.ndimage.rotate(image, angle, axes=(-2, -1), cval=fill)` gives, up to rounding.
    """
    places = _places(degrees, images.shape[-1])
    inside = places.clamp(0, images.shape[-1] - 1)
    shown = _interpolated(_coefficients(images), inside)
    shown = torch.where((inside == places).all(0).unsqueeze(1), shown, fill.double().view(-1, 1, 1))
    return shown.view(images.shape).to(images.dtype)


def _places(degrees: Tensor, side: int) -> Tensor:
    """The row and the column of the image that each pixel shows, [2,N,S*S]."""
    angles = degrees.double().deg2rad().view(-1, 1)
    cos, sin = angles.cos(), angles.sin()
    # The canvas grows until it holds the image; of what it has more, the half that is rounded down is cut before it.
    more = ((cos + sin.abs()) * side + 0.5).floor() - side
    first, pixel = (1 - side - more.remainder(2)) / 2, torch.arange(side * side, device=degrees.device)
    down, right = first + pixel // side, first + pixel % side
    return torch.stack([cos * down + sin * right, cos * right - sin * down]) + (side - 1) / 2


def _coefficients(images: Tensor) -> Tensor:
    """Of the spline through the pixels, with one more before each side and two more after it."""
    through = _through(images.shape[-1], images.device)
    coefficients: Tensor = through @ images.double() @ through.T
    return F.pad(coefficients, (1, 2, 1, 2), "reflect")


def _interpolated(coefficients: Tensor, places: Tensor) -> Tensor:
    """[N,C,P] at places [2,N,P]."""
    count, channels, _, width = coefficients.shape
    flat, before = coefficients.flatten(2), places.floor()
    down, right = (places - before).unsqueeze(3).pow(torch.arange(4, device=flat.device)) @ _blend(flat.device)
    first = (before[0] * width + before[1]).long().unsqueeze(2) + torch.arange(4, device=flat.device)
    made = torch.zeros(count, channels, places.shape[2], dtype=flat.dtype, device=flat.device)
    for row in range(4):  # four rows of four: all sixteen at once would take much memory
        place = (first + row * width).flatten(1).unsqueeze(1).expand(-1, channels, -1)
        near = flat.gather(2, place).view(count, channels, -1, 4)
        made += (near * (down[..., row : row + 1] * right).unsqueeze(1)).sum(3)
    return made


@functools.cache
def _through(side: int, device: torch.device) -> Tensor:
    """[S,S]: turns values on a line, mirrored at both ends, into the coefficients of the spline through them."""
    values = torch.diag(torch.full((side,), 4 / 6, dtype=torch.float64))
    inner = torch.arange(side)
    for beside in (-1, 1):
        mirrored = side - 1 - (side - 1 - (inner + beside).abs()).abs()
        values[inner, mirrored] += 1 / 6
    inverse: Tensor = torch.linalg.inv(values)
    return inverse.to(device)


@functools.cache
def _blend(device: torch.device) -> Tensor:
    """[4,4]: turns powers of how far a place lies beyond a pixel into weights: of the one before, it, and two after."""
    rows = [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]
    return (torch.tensor(rows, dtype=torch.float64) / 6).to(device)
