"""What a network is shown of a stored image: channels, size, and the scale of its values."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from sdc.evaluation import cpu
from sdc.ground.errors import FatalError


@dataclass(frozen=True, eq=False)
class Whitening:
    """A ZCA transform: an image in [0, 1], flattened to d = C*H*W, is shown as (x - mean) @ matrix."""

    mean: Tensor
    """float32 [d]."""
    matrix: Tensor
    """float32 [d, d], symmetric."""

    def applied(self, images: Tensor) -> Tensor:
        """Images [N,C,H,W] in [0, 1], whitened."""
        mean, matrix = self.mean.to(images.device), self.matrix.to(images.device)
        return torch.mm(images.flatten(1) - mean, matrix).view_as(images)

    def undone(self, images: Tensor) -> Tensor:
        """Whitened images [N,C,H,W] as they were."""
        flat = torch.linalg.solve(self.matrix.double(), images.flatten(1).double().T).T
        shown: Tensor = (flat + self.mean).to(images.dtype)
        return shown.view_as(images)


@dataclass(frozen=True)
class View:
    """How images of `dataset` were shown: pixel/255, `channels` x `size` x `size`, less `mean`, by `std`, whitened."""

    dataset: str
    classes: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise FatalError(
                f"view of {self.dataset}: {self.channels} channels need as many means and deviations, "
                f"got {len(self.mean)} and {len(self.std)}"
            )


@functools.lru_cache(maxsize=1)  # by identity, for the several sets of one evaluation: it takes long
def fitted(images: Tensor, channels: int, size: int) -> Whitening:
    """The transform that training images uint8 [N,C,H,W] give, shown so, as the scripts fit it: kornia's, eps 0.1."""
    import kornia  # takes seconds to import

    with cpu.threads(1):  # as the scripts' is, or its last bits would depend on the number
        fit = kornia.enhance.ZCAWhitening(eps=0.1).fit(resized(images, channels, size).float() / 255)
    return Whitening(fit.mean_vector.flatten(), fit.transform_matrix)


def alike(one: View, other: View) -> bool:
    """Whether two views show the same images alike."""
    if (one.channels, one.size, one.mean, one.std) != (other.channels, other.size, other.mean, other.std):
        return False
    if one.whitening is None or other.whitening is None:
        return one.whitening is other.whitening
    pairs = ((one.whitening.mean, other.whitening.mean), (one.whitening.matrix, other.whitening.matrix))
    return all(torch.equal(first, second) for first, second in pairs)


def resized(images: Tensor, channels: int, size: int) -> Tensor:
    """uint8 [N,1 or 3,H,W] as uint8 [N,channels,size,size]: grey is repeated, colour weighted by ITU-R 601.

    Resizes bilinearly with antialiasing, and only where the size differs.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or channels not in (1, 3):
        raise FatalError(
            f"images of shape {list(images.shape)} and type {images.dtype} cannot be shown with {channels} channels: "
            "give uint8 [N,C,H,W] with 1 or 3 channels, and ask for 1 or 3"
        )
    shown: Tensor = images
    if images.shape[1] > channels or images.shape[2:] != (size, size):
        # Here, because it takes seconds that many a command does not need.
        from torchvision.transforms.v2 import functional as images_of

        shown = images_of.rgb_to_grayscale(shown) if images.shape[1] > channels else shown
        shown = images_of.resize(shown, [size, size], antialias=True)
    return shown.expand(-1, channels, -1, -1).contiguous()


def normalised(images: Tensor, view: View) -> Tensor:
    """uint8 images as the float32 [N,C,H,W] of `view`, bit for bit what torchvision's ToTensor and Normalize give.

    Where the view is whitened, that comes last, as kornia does it.
    """
    return seen(resized(images, view.channels, view.size).float().div_(255), view)


def seen(shown: Tensor, view: View) -> Tensor:
    """The same of float32 images in [0, 1] that have the view's channels and size; `shown` itself is changed."""
    mean, std = (torch.tensor(values, device=shown.device).view(1, -1, 1, 1) for values in (view.mean, view.std))
    shown = shown.sub_(mean).div_(std)
    return view.whitening.applied(shown) if view.whitening else shown
