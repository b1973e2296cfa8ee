"""What spares time where networks are trained on a CPU, and changes no bit of what comes out."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # malloc.h
BLOCK = 4 * 2**20
"""Bytes of images pooled in one go: what the passes over them share stays in the cache."""


@contextmanager
def kept_pages() -> Iterator[None]:
    """Within, memory that is freed stays with the process. Each large tensor would else be cut from fresh pages, which
    the kernel has to map and clear: a third of the time, where a layer's output is some ten MiB. It takes about a tenth
    more memory.

    Where the C library is not glibc, all stays as it is.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, 65536)
        # Once set by hand, glibc adapts these no longer: they stay where its own adaptation ends.
        libc.mallopt(MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(TRIM_THRESHOLD, 64 * 2**20)
        libc.malloc_trim(0)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quick_pools(network: nn.Module) -> nn.Module:
    """`network`, its 2x2 average pools replaced, in place, by ones that torch computes faster, to the same bits."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.AvgPool2d) and _halves(layer):
            setattr(network, name, Halved())
        else:
            quick_pools(layer)
    return network


def _halves(layer: nn.AvgPool2d) -> bool:
    plain = not layer.ceil_mode and layer.divisor_override is None
    return plain and (layer.kernel_size, layer.stride, layer.padding) == (2, 2, 0)


class Halved(nn.Module):
    """Each 2x2 square of [N,C,H,W] becomes its mean; a last odd row or column is left out."""

    def forward(self, images: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C,H/2,W/2]."""
        height, width = (side - side % 2 for side in images.shape[2:])
        return cast(Tensor, _Halved.apply(images[:, :, :height, :width]))


class _Halved(torch.autograd.Function):
    # The four are added in the order in which torch.nn.functional.avg_pool2d adds them.

    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:  # noqa: ANN401
        count, channels, height, width = images.shape
        means = images.new_empty(count, channels, height // 2, width // 2)
        size = _size(images[0])
        for image, mean in zip(torch.split(images, size), torch.split(means, size), strict=True):
            torch.add(image[..., ::2, ::2], image[..., ::2, 1::2], out=mean)
            mean.add_(image[..., 1::2, ::2]).add_(image[..., 1::2, 1::2]).mul_(0.25)
        return means

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        (slope,) = gradients
        count, channels, height, width = slope.shape
        spread = slope.new_empty(count, channels, height, 2, 2 * width)
        size = _size(spread[0])
        for part, rows in zip(torch.split(slope, size), torch.split(spread, size), strict=True):
            row = part.mul(0.25).repeat_interleave(2, -1)
            rows[:, :, :, 0] = row
            rows[:, :, :, 1] = row
        return spread.view(count, channels, 2 * height, 2 * width)


def _size(image: Tensor) -> int:
    """How many such images, or what stands for them, make a block."""
    return max(1, BLOCK // (image.numel() * image.element_size()))
