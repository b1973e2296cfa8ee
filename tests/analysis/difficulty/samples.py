"""Samples, and the definition of their gradient norms, for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 3


def samples(count: int, channels: int = 3, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=noise), torch.arange(count) % CLASSES


def one_at_a_time(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The definition, by plain autograd."""
    norms = []
    for image, target in zip(images, targets, strict=True):
        gradient = torch.autograd.grad(F.cross_entropy(network(image[None]), target[None]), list(network.parameters()))
        norms.append(torch.cat([part.flatten() for part in gradient]).norm())
    return torch.stack(norms)
