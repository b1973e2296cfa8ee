"""The images of a set made elsewhere, as networks saw them; what cannot have been seen is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdc.evaluation.view import View, normalised, seen
from sdc.ground.errors import FatalError, unknown

RANGES = ("normalised", "1", "255")
"""What values can be stated to be: as the network saw them; pixels in [0, 1]; pixels in [0, 255]."""


def whitened(path: Path, zca: bool | None) -> bool:
    """Whether the images are whitened. Raises FatalError where nobody says so and the files beside it do.

    The scripts that whiten save images_N.pt as networks see them, and images_zca_N.pt with the whitening undone, of
    some steps alone; so any copy in their folder tells it of all.
    """
    if is_copy(path) and zca is not False:
        raise FatalError(
            f"{path} is the un-whitened copy of a whitened set, which no network learned from: {_instead(path)} "
            "(or --no-zca to take this file for pixels that were never whitened)"
        )
    if zca is None and not is_copy(path) and (copy := _copy_beside(path)):
        raise FatalError(
            f"{copy.name} beside {path} means that the set is whitened: give --zca (or --no-zca if it is not)"
        )
    return bool(zca)


def _instead(copy: Path) -> str:
    """What to give in place of an un-whitened copy; that of FTD's averages lacks the ema_ of their names."""
    own = copy.name.replace("images_zca_", "images_", 1)
    named = [copy.with_name(name) for name in (own, f"ema_{own}")]
    if there := [path for path in named if path.is_file()]:
        return f"give {' or '.join(map(str, there))} and --zca instead"
    return f"give {own}, which its script saved with it and which is not beside it, and --zca instead"


def _copy_beside(path: Path) -> Path | None:
    """An un-whitened copy in the folder of images_*.pt, that of the same step if there is one."""
    if "images_" not in path.name:
        return None
    copies = sorted(other for other in path.parent.iterdir() if is_copy(other) and other.is_file())
    step = path.stem.rpartition("images_")[2]
    return next((copy for copy in copies if copy.stem.endswith(f"images_zca_{step}")), next(iter(copies), None))


def is_copy(path: Path) -> bool:
    """Whether a file's name says that it holds whitened images with the whitening undone."""
    return "images_zca_" in path.name


def upright(stored: Tensor) -> tuple[Tensor, list[str]]:
    """Images as finite float32, or as uint8 pixels, [N,C,S,S]; and what was done to have them so.

    Raises ValueError for what cannot be shown to a network here.
    """
    if stored.ndim != 4:
        raise ValueError(f"its images are of shape {list(stored.shape)}, not [N, C, H, W]")
    images, words = stored.detach().cpu(), []
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2).contiguous()
        words.append("channels last, so permuted to [N, C, H, W]")
    channels, height, width = images.shape[1:]
    if channels not in (1, 3):
        raise ValueError(f"its images are of shape {list(stored.shape)}, which has 1 or 3 channels neither way")
    if height != width:
        raise ValueError(f"its images are {height}x{width}, and networks here take square ones: crop or pad them")
    return _numbers(images), words


def _numbers(images: Tensor) -> Tensor:
    if images.is_floating_point():
        _refuse_unfinite(images)
        return images.float()
    if images.is_complex() or images.dtype == torch.bool:
        raise ValueError(f"its images are of type {images.dtype}, neither floating-point numbers nor pixels")
    if images.numel() and (int(images.min()) < 0 or int(images.max()) > 255):
        raise ValueError(f"its images are whole numbers from {images.min()} to {images.max()}, not pixels 0..255")
    return images.to(torch.uint8)


def _refuse_unfinite(images: Tensor) -> None:
    odd = ~images.isfinite()
    if not odd.any():
        return
    image, channel, row, column = (int(place) for place in odd.nonzero()[0])
    raise ValueError(
        f"image {image} has {images[image, channel, row, column].item()} in channel {channel}, row {row}, "
        f"column {column}, and {int(odd.sum())} values in all are not finite"
    )


def parted(images: Tensor, factor: int) -> Tensor:
    """Each image [N,C,S,S] as factor x factor of them, enlarged to its size: those at one place after another.

    So IDC stores them (its `multi-formation`, the uniform one): what does not divide is filled up with 0.5.
    """
    more = -images.shape[-1] % factor
    filled = torch.nn.functional.pad(images, (0, more, 0, more), value=0.5)
    parts = [part for row in filled.chunk(factor, 2) for part in row.chunk(factor, 3)]
    return torch.nn.functional.interpolate(torch.cat(parts), size=images.shape[-2:], mode="bilinear")


def as_seen(images: Tensor, view: View, asked: str | None) -> tuple[Tensor, str]:
    """Images of `upright` as the network saw them, and what their values were taken for.

    Raises ValueError where the values speak against what is assumed, unless `asked`, one of RANGES, states it.
    """
    if asked and asked not in RANGES:
        raise unknown("range", asked, list(RANGES))
    after = "whitened" if view.whitening else "normalised"
    if images.dtype == torch.uint8:
        if asked in ("1", "normalised"):
            raise ValueError(f"its images are whole pixels 0..255, so they cannot be of range {asked}")
        return normalised(images, view), f"pixels 0..255, scaled to [0, 1] and {after}"
    if asked in ("1", "255"):
        shown = images.div(255) if asked == "255" else images.clone()
        return seen(shown, view), f"pixels in [0, {asked}] as stated, {after}"
    if not asked:
        _refuse_unlikely(images, view)
    return images, f"as the network sees them{' as stated' if asked else _doubt(images, view)}"


def _refuse_unlikely(images: Tensor, view: View) -> None:
    low, high = _bounds(images)
    if low < 0 or low == high:
        return
    assumed = "whitened" if view.whitening else f"normalised with mean {view.mean}, std {view.std}"
    if high > 16:
        reads, scale = "pixels in [0, 255]", "255"
    elif high <= 1 and (view.whitening or any(view.mean)):
        reads, scale = "pixels in [0, 1]", "1"
    else:
        return
    plain = "" if scale == "1" else " --set range=255"
    raise ValueError(
        f"its values go from {low:g} to {high:g}, as {reads} do, not as images {assumed} do. Give --set range={scale} "
        f"if they are yet to be {'whitened' if view.whitening else 'normalised'}; --set mean=0 --set std=1{plain} "
        f"{'without --zca ' if view.whitening else ''}if networks saw them in [0, 1]; or --set range=normalised if "
        "networks saw these very values"
    )


def _doubt(images: Tensor, view: View) -> str:
    """What speaks against images in [0, 1], where that is assumed."""
    low, high = _bounds(images)
    plain = not view.whitening and not any(view.mean) and set(view.std) == {1.0}
    if not plain or (low >= -0.5 and high <= 1.5):
        return ""
    return (
        f" (from {low:.3g} to {high:.3g}, far beyond [0, 1]: if they were normalised, give --set mean=... and "
        "--set std=...)"
    )


def _bounds(images: Tensor) -> tuple[float, float]:
    return (float(images.min()), float(images.max())) if images.numel() else (0.0, 0.0)
