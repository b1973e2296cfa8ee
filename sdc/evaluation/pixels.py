"""What the families of augmentations share: how far each change goes, numbers for images, pixels picked of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Numbers = tuple[Tensor, ...]  # what a change takes, a row for each image


@dataclass(frozen=True)
class Ranges:
    """How far each change goes: DSA's published values, and those of the DC code under `dc_`."""

    brightness: float = 1.0  # width of the uniform shift
    saturation: float = 2.0  # upper end of the uniform factor
    contrast: float = 0.5  # lower end of the uniform factor, whose width is 1
    crop: float = 0.125  # largest shift, as a share of the side
    cutout: float = 0.5  # side of the square, as a share of the image's
    flip: float = 0.5  # probability
    rotate: float = 15.0  # degrees either way
    scale: float = 1.2  # largest factor; the smallest is its inverse
    dc_crop: int = 4  # pixels of padding
    dc_noise: float = 0.001
    dc_rotate: int = 45  # whole degrees either way, the upper end left out
    dc_scale: float = 0.2  # largest share added to or taken from a side


PUBLISHED = Ranges()


def uniforms(images: int, count: int, generator: torch.Generator) -> Numbers:
    """`count` numbers in [0,1) for each image, as [N,1] each."""
    return tuple(torch.rand(images, 1, generator=generator) for _ in range(count))


def integers(images: int, low: int, high: int, generator: torch.Generator) -> Tensor:
    """An integer in [low,high) for each image, as [N,1]."""
    return torch.randint(low, high, (images, 1), generator=generator)


def window(padded: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Of each image [C,H',W'] the height x width pixels from its own (top, left), both [N,1]."""
    rows = top + torch.arange(height, device=padded.device)
    columns = left + torch.arange(width, device=padded.device)
    return picked(padded, rows, columns)


def picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image the rows [N,h] and columns [N,w] asked for, as [N,C,h,w]."""
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[image, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()
