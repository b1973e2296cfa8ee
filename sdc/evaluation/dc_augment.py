"""The changes of the DC code, one drawn for each image: the numbers that each takes, and what it does.

The first of a change's numbers is each image's background, the mean [C] of its whole batch before any change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sdc.evaluation import spline
from sdc.evaluation.pixels import Numbers, Ranges, integers, picked, uniforms, window


def background(batches: Tensor) -> Tensor:
    """Of batches [...,N,C,H,W], the mean [C] of each, once for each of its images."""
    # One after another: the mean of several at once may add in another order, and so round otherwise.
    means = torch.stack([images.mean((0, 2, 3)) for images in batches.view(-1, *batches.shape[-4:])])
    return means.unsqueeze(1).expand(-1, batches.shape[-4], -1).flatten(0, 1)


def _crops(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Numbers:
    # The window starts on one of 2 * pad places, not 2 * pad + 1: the code leaves the last one out.
    return tuple(integers(shape[0], 0, 2 * ranges.dc_crop, generator) for _ in range(2))


def _crop(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    means, top, left = numbers
    pad, level = ranges.dc_crop, means.view(*means.shape, 1, 1)
    padded = F.pad(images - level, (pad, pad, pad, pad)) + level
    return window(padded, top, left, images.shape[2], images.shape[3])


def _noises(shape: torch.Size, generator: torch.Generator, _: Ranges) -> Numbers:
    return (torch.randn(shape, generator=generator),)


def _noise(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    return images + ranges.dc_noise * numbers[1].to(images.dtype)


def _angles(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Numbers:
    return (integers(shape[0], -ranges.dc_rotate, ranges.dc_rotate, generator),)


def _rotate(images: Tensor, numbers: Numbers, _: Ranges) -> Tensor:
    """Rotation by cubic splines, of detached values: no gradient flows back, as none does in the DC code."""
    means, degrees = numbers
    if images.device.type != "cpu":
        return spline.turned(images.detach(), degrees.flatten(), means.mean(1))
    from scipy import ndimage

    # kornia has no spline of order 3, whose overshoot at the edges of a stroke shows in the statistics.
    whole = [
        torch.as_tensor(ndimage.rotate(image, angle, axes=(-2, -1), cval=float(mean.mean())))
        for image, angle, mean in zip(images.detach().numpy(), degrees.flatten().tolist(), means, strict=True)
    ]
    return torch.stack([_middle(image, images.shape[2], images.shape[3]) for image in whole]).to(images)


def _middle(whole: Tensor, height: int, width: int) -> Tensor:
    top, left = (whole.shape[-2] - height) // 2, (whole.shape[-1] - width) // 2
    return whole[:, top : top + height, left : left + width]


def _stretches(shape: torch.Size, generator: torch.Generator, _: Ranges) -> Numbers:
    return uniforms(shape[0], 2, generator)


def _scale(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    """Each side stretched by its own factor, by nearest neighbours; zero, not the mean, surrounds what shrank."""
    height, width = images.shape[2:]
    drawn = [part.to(images.dtype) for part in numbers[1:]]
    sides = [((1 + ranges.dc_scale * (2 * part - 1)) * height).long() for part in drawn]
    canvas = torch.maximum(*sides).clamp_min(max(height, width))
    (rows, in_rows), (columns, in_columns) = (
        _nearest(side, canvas, length) for side, length in zip(sides, (height, width), strict=True)
    )
    return picked(images, rows, columns) * (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


def _nearest(side: Tensor, canvas: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """For each of the `length` middle pixels of a canvas that holds, in its own middle, an image resized to `side`
    pixels: which pixel of the original it shows [N,length], and whether it shows any.
    """
    place = torch.arange(length, device=side.device) + (canvas - length) // 2 - (canvas - side) // 2
    # In float32 like torch's own nearest-neighbour resizing, whose rounding decides ties.
    source = (place * (length / side.float())).floor().long().clamp(0, length - 1)
    return source, (place >= 0) & (place < side)


DRAWS: dict[str, Callable[[torch.Size, torch.Generator, Ranges], Numbers]] = {
    "crop": _crops,
    "noise": _noises,
    "rotate": _angles,
    "scale": _stretches,
}
CHANGES: dict[str, Callable[[Tensor, Numbers, Ranges], Tensor]] = {
    "crop": _crop,
    "noise": _noise,
    "rotate": _rotate,
    "scale": _scale,
}
