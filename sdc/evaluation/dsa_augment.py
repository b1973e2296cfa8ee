"""The changes of differentiable augmentation, one drawn for a batch: the numbers that each takes, and what it does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sdc.evaluation.pixels import Numbers, Ranges, integers, uniforms, window

Draw = Callable[[torch.Size, torch.Generator, Ranges], Numbers]  # for images of this shape


def _uniforms(count: int) -> Draw:
    return lambda shape, generator, _: uniforms(shape[0], count, generator)


def _broad(numbers: Numbers, images: Tensor) -> Numbers:
    """As [N,1,1,1], of the images' type."""
    return tuple(part.to(images.dtype).view(-1, 1, 1, 1) for part in numbers)


# kornia.enhance takes pixel values in [0,1], clips to them and saturates in HSV: no fit for normalised images.
def _color(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    brightness, saturation, contrast = _broad(numbers, images)
    images = images + (brightness - 0.5) * ranges.brightness
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (saturation * ranges.saturation)
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * (contrast + ranges.contrast)


def _shifts(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Numbers:
    return tuple(integers(shape[0], 0, 2 * most + 1, generator) for most in _reach(shape, ranges))


def _reach(shape: torch.Size, ranges: Ranges) -> list[int]:
    return [int(side * ranges.crop + 0.5) for side in shape[2:]]


# kornia.geometry.translate would interpolate what is a move by whole pixels.
def _crop(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    (reach_down, reach_right), (down, right) = _reach(images.shape, ranges), numbers
    padded = F.pad(images, (reach_right, reach_right, reach_down, reach_down))
    return window(padded, down, right, images.shape[2], images.shape[3])


def _starts(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Numbers:
    """Where the stretch to cut starts on each side: its centre lies anywhere on it, so its ends may lie outside."""
    # A stretch of even length has its centre between two pixels: one place more.
    lengths = [(side, int(side * ranges.cutout + 0.5)) for side in shape[2:]]
    drawn = (integers(shape[0], 0, side + 1 - length % 2, generator) - length // 2 for side, length in lengths)
    return tuple(drawn)


def _cutout(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    rows, columns = (_band(start, side, ranges) for start, side in zip(numbers, images.shape[2:], strict=True))
    return images * ~(rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _band(start: Tensor, side: int, ranges: Ranges) -> Tensor:
    """[N,side], true on the stretch to cut."""
    places = torch.arange(side, device=start.device)
    return (places >= start) & (places < start + int(side * ranges.cutout + 0.5))


def _flip(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    return torch.where(_broad(numbers, images)[0] < ranges.flip, images.flip(-1), images)


def _rotate(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    degrees = (2 * numbers[0].to(images.dtype).flatten() - 1) * ranges.rotate
    if images.device.type != "cpu":
        return sampled(images, turn(degrees, images.shape[2], images.shape[3]))
    from kornia.geometry import transform as warp  # half a second: what turns no images does not wait for it

    rotated: Tensor = warp.rotate(images, degrees)
    return rotated


def _scale(images: Tensor, numbers: Numbers, ranges: Ranges) -> Tensor:
    least = 1 / ranges.scale
    # Uniform is the size of the region that fills the image, so the magnification is its inverse, each axis its own.
    region = torch.cat(numbers, 1).to(images.dtype) * (ranges.scale - least) + least
    if images.device.type != "cpu":
        return sampled(images, stretch(region))
    from kornia.geometry import transform as warp

    scaled: Tensor = warp.scale(images, 1 / region)
    return scaled


# On a GPU, kornia takes some fifty kernels to make its matrices, and in some releases waits to hear whether they could
# be inverted. These give what it gives, up to rounding: the place in an image, both sides from -1 to 1, that each place
# of the outcome shows.
def turn(degrees: Tensor, height: int, width: int) -> Tensor:
    """[N,2,3] of angles [N], against the clock as one sees it."""
    angles = degrees * (math.pi / 180)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    tall = (height - 1) / max(width - 1, 1)
    across, down = [cos, -tall * sin, zero], [sin / max(tall, 1e-9), cos, zero]
    return torch.stack([*across, *down], 1).view(-1, 2, 3)


def stretch(region: Tensor) -> Tensor:
    """[N,2,3] of the share [N,2] of each side, width before height, that fills the image."""
    return F.pad(torch.diag_embed(region), (0, 1))


def sampled(images: Tensor, places: Tensor) -> Tensor:
    """Images at places [N,2,3], between pixels bilinear, zero outside. No gradient reaches the places.

    The backward for the images has no repeatable kernel on a GPU. In an evaluation images are constants: none is run.
    """
    grid = F.affine_grid(places, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


DRAWS: dict[str, Draw] = {
    "color": _uniforms(3),
    "crop": _shifts,
    "cutout": _starts,
    "flip": _uniforms(1),
    "rotate": _uniforms(1),
    "scale": _uniforms(2),
}
CHANGES: dict[str, Callable[[Tensor, Numbers, Ranges], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "rotate": _rotate,
    "scale": _scale,
}
