"""Random changes to a batch of training images, as two families of distillation code draw them.

`dsa`: differentiable augmentation (Zhao and Bilen, ICML 2021, arXiv 2102.08259), one strategy drawn for each batch and
its parameters for each image. `dc`: one strategy drawn for each image (the code of Zhao, Mopuri and Bilen, ICLR 2021),
for MNIST and networks with batch norm. Images are normalised float [N,C,H,W]; every draw is the given generator's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sdc.evaluation.protocol import strategies

Augment = Callable[[Tensor], Tensor]
Drawn = tuple[Tensor, ...]  # the numbers that a change takes, [N,1] each
Draw = Callable[[torch.Size, torch.Generator, "Ranges"], Drawn]  # of images of this shape
Change = Callable[[Tensor, Drawn, "Ranges"], Tensor]  # of each image by its own numbers alone


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


def make(spec: str, generator: torch.Generator, ranges: Ranges = Ranges()) -> Augment:
    """The augmentation that a protocol's `augment` names; the identity for ""."""
    family, names = strategies(spec)
    if family == "dsa":
        return lambda images: _dsa(images, names, generator, ranges)
    if family == "dc":
        return lambda images: _dc(images, names, generator, ranges)
    return lambda images: images


def side_by_side(spec: str, generators: Sequence[torch.Generator], ranges: Ranges = Ranges()) -> Augment:
    """The same for batches [M,N,C,H,W]: the m-th is changed as `make(spec, generators[m])` would change it."""
    family, names = strategies(spec)
    if family == "dsa":
        return lambda batches: _dsa_side_by_side(batches, names, generators, ranges)
    alone = [make(spec, generator, ranges) for generator in generators]
    return lambda batches: torch.stack([change(images) for change, images in zip(alone, batches, strict=True)])


def _dsa(images: Tensor, names: tuple[str, ...], generator: torch.Generator, ranges: Ranges) -> Tensor:
    name, drawn = _drawn(images.shape, names, generator, ranges)
    return _DSA[name][1](images, tuple(part.to(images.device) for part in drawn), ranges)


def _dsa_side_by_side(
    batches: Tensor, names: tuple[str, ...], generators: Sequence[torch.Generator], ranges: Ranges
) -> Tensor:
    """Batches for which the same strategy is drawn are changed in one go."""
    drawn = [_drawn(batches.shape[1:], names, generator, ranges) for generator in generators]
    changed = torch.empty_like(batches)
    for name in names:
        if numbers := [number for number, (chosen, _) in enumerate(drawn) if chosen == name]:
            which = torch.tensor(numbers, device=batches.device)
            each = zip(*(drawn[number][1] for number in numbers), strict=True)
            parts = tuple(torch.cat(part).to(batches.device) for part in each)
            images = _DSA[name][1](batches[which].flatten(0, 1), parts, ranges)
            changed[which] = images.view(len(numbers), *batches.shape[1:])
    return changed


def _drawn(shape: torch.Size, names: tuple[str, ...], generator: torch.Generator, ranges: Ranges) -> tuple[str, Drawn]:
    """The strategy for a batch of images of this shape, and its numbers."""
    name = names[int(torch.randint(len(names), (), generator=generator, device=generator.device))]
    return name, _DSA[name][0](shape, generator, ranges)


def _uniforms(count: int) -> Draw:
    """`count` numbers in [0,1) for each image."""

    def draw(shape: torch.Size, generator: torch.Generator, _: Ranges) -> Drawn:
        return tuple(torch.rand(shape[0], 1, generator=generator, device=generator.device) for _ in range(count))

    return draw


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """A number in [0,1) for each image, as [N,1] beside the images."""
    return torch.rand(len(images), 1, generator=generator, device=generator.device).to(images.device, images.dtype)


def _broad(drawn: Drawn, images: Tensor) -> Drawn:
    """As [N,1,1,1], of the images' type."""
    return tuple(part.to(images.dtype).view(-1, 1, 1, 1) for part in drawn)


def _integers(shape: torch.Size, low: int, high: int, generator: torch.Generator) -> Tensor:
    """An integer in [low,high) for each image, as [N,1]."""
    return torch.randint(low, high, (shape[0], 1), generator=generator, device=generator.device)


def _whole(images: Tensor, low: int, high: int, generator: torch.Generator) -> Tensor:
    """The same, beside the images."""
    return _integers(images.shape, low, high, generator).to(images.device)


# kornia.enhance takes pixel values in [0,1], clips to them and saturates in HSV: no fit for normalised images.
def _color(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    brightness, saturation, contrast = _broad(drawn, images)
    images = images + (brightness - 0.5) * ranges.brightness
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (saturation * ranges.saturation)
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * (contrast + ranges.contrast)


def _shifts(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Drawn:
    return tuple(_integers(shape, 0, 2 * most + 1, generator) for most in _reach(shape, ranges))


def _reach(shape: torch.Size, ranges: Ranges) -> list[int]:
    return [int(side * ranges.crop + 0.5) for side in shape[2:]]


# kornia.geometry.translate would interpolate what is a move by whole pixels.
def _crop(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    (reach_down, reach_right), (down, right) = _reach(images.shape, ranges), drawn
    padded = F.pad(images, (reach_right, reach_right, reach_down, reach_down))
    return _window(padded, down, right, images.shape[2], images.shape[3])


def _window(padded: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Of each image [C,H',W'] the height x width pixels from its own (top, left), both [N,1]."""
    rows = top + torch.arange(height, device=padded.device)
    columns = left + torch.arange(width, device=padded.device)
    return _picked(padded, rows, columns)


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image the rows [N,h] and columns [N,w] asked for, as [N,C,h,w]."""
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[image, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()


def _starts(shape: torch.Size, generator: torch.Generator, ranges: Ranges) -> Drawn:
    """Where the stretch to cut starts on each side: its centre lies anywhere on it, so its ends may lie outside."""
    # A stretch of even length has its centre between two pixels: one place more.
    lengths = [(side, int(side * ranges.cutout + 0.5)) for side in shape[2:]]
    drawn = (_integers(shape, 0, side + 1 - length % 2, generator) - length // 2 for side, length in lengths)
    return tuple(drawn)


def _cutout(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    rows, columns = (_band(start, side, ranges) for start, side in zip(drawn, images.shape[2:], strict=True))
    return images * ~(rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def _band(start: Tensor, side: int, ranges: Ranges) -> Tensor:
    """[N,side], true on the stretch to cut."""
    places = torch.arange(side, device=start.device)
    return (places >= start) & (places < start + int(side * ranges.cutout + 0.5))


def _flip(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    from kornia.geometry import transform as warp  # half a second: what turns no images does not wait for it

    return torch.where(_broad(drawn, images)[0] < ranges.flip, warp.hflip(images), images)


def _rotate(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    from kornia.geometry import transform as warp

    degrees = (2 * drawn[0].to(images.dtype).flatten() - 1) * ranges.rotate
    rotated: Tensor = warp.rotate(images, degrees)
    return rotated


def _scale(images: Tensor, drawn: Drawn, ranges: Ranges) -> Tensor:
    from kornia.geometry import transform as warp

    least = 1 / ranges.scale
    # Uniform is the size of the region that fills the image, so the magnification is its inverse, each axis its own.
    region = torch.cat(drawn, 1).to(images.dtype) * (ranges.scale - least) + least
    scaled: Tensor = warp.scale(images, 1 / region)
    return scaled


_DSA: dict[str, tuple[Draw, Change]] = {
    "color": (_uniforms(3), _color),
    "crop": (_shifts, _crop),
    "cutout": (_starts, _cutout),
    "flip": (_uniforms(1), _flip),
    "rotate": (_uniforms(1), _rotate),
    "scale": (_uniforms(2), _scale),
}


def _dc(images: Tensor, names: tuple[str, ...], generator: torch.Generator, ranges: Ranges) -> Tensor:
    """Each image changed in one way. Background is the whole batch's mean, so it is taken before any change."""
    chosen = _whole(images, 0, len(names), generator).flatten()
    background = images.mean((0, 2, 3))
    changed = images.clone()
    for number, name in enumerate(names):
        picked = (chosen == number).nonzero().flatten()
        if len(picked):
            changed[picked] = _DC[name](images[picked], background, generator, ranges)
    return changed


def _dc_crop(images: Tensor, background: Tensor, generator: torch.Generator, ranges: Ranges) -> Tensor:
    pad = ranges.dc_crop
    level = background.view(1, -1, 1, 1)
    padded = F.pad(images - level, (pad, pad, pad, pad)) + level
    # The window starts on one of 2 * pad places, not 2 * pad + 1: the code leaves the last one out.
    top, left = (_whole(images, 0, 2 * pad, generator) for _ in range(2))
    return _window(padded, top, left, images.shape[2], images.shape[3])


def _dc_noise(images: Tensor, _: Tensor, generator: torch.Generator, ranges: Ranges) -> Tensor:
    drawn = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + ranges.dc_noise * drawn.to(images.device, images.dtype)


def _dc_rotate(images: Tensor, background: Tensor, generator: torch.Generator, ranges: Ranges) -> Tensor:
    """Rotation by cubic splines, of detached values: no gradient flows back, as none does in the DC code."""
    from scipy import ndimage

    fill = float(background.mean())
    degrees = _whole(images, -ranges.dc_rotate, ranges.dc_rotate, generator).flatten().tolist()
    # kornia has no spline of order 3, whose overshoot at the edges of a stroke shows in the statistics.
    turned = [
        _middle(ndimage.rotate(image, angle, axes=(-2, -1), cval=fill), images.shape[2], images.shape[3])
        for image, angle in zip(images.detach().cpu().numpy(), degrees, strict=True)
    ]
    return torch.stack(turned).to(images)


def _middle(image: object, height: int, width: int) -> Tensor:
    whole = torch.as_tensor(image)
    top, left = (whole.shape[-2] - height) // 2, (whole.shape[-1] - width) // 2
    return whole[:, top : top + height, left : left + width]


def _dc_scale(images: Tensor, _: Tensor, generator: torch.Generator, ranges: Ranges) -> Tensor:
    """Each side stretched by its own factor, by nearest neighbours; zero, not the mean, surrounds what shrank."""
    height, width = images.shape[2:]
    sides = [((1 + ranges.dc_scale * (2 * _uniform(images, generator) - 1)) * height).long() for _ in range(2)]
    canvas = torch.maximum(torch.maximum(*sides), torch.tensor(max(height, width), device=images.device))
    (rows, in_rows), (columns, in_columns) = (
        _nearest(side, canvas, length) for side, length in zip(sides, (height, width), strict=True)
    )
    return _picked(images, rows, columns) * (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


def _nearest(side: Tensor, canvas: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """For each of the `length` middle pixels of a canvas that holds, in its own middle, an image resized to `side`
    pixels: which pixel of the original it shows [N,length], and whether it shows any.
    """
    place = torch.arange(length, device=side.device) + (canvas - length) // 2 - (canvas - side) // 2
    # In float32 like torch's own nearest-neighbour resizing, whose rounding decides ties.
    source = (place * (length / side.float())).floor().long().clamp(0, length - 1)
    return source, (place >= 0) & (place < side)


_DC: dict[str, Callable[[Tensor, Tensor, torch.Generator, Ranges], Tensor]] = {
    "crop": _dc_crop,
    "noise": _dc_noise,
    "rotate": _dc_rotate,
    "scale": _dc_scale,
}
