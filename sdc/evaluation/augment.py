"""Random changes to a batch of training images, as two families of distillation code draw them.

`dsa`: differentiable augmentation (Zhao and Bilen, ICML 2021, arXiv 2102.08259), one strategy drawn for each batch and
its parameters for each image. `dc`: one strategy drawn for each image (the code of Zhao, Mopuri and Bilen, ICLR 2021),
for MNIST and networks with batch norm. Images are normalised float [N,C,H,W]; every draw is the given generator's.

What is drawn never depends on pixels, so it can be drawn on the CPU ahead of the images that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from sdc.evaluation import dc_augment, dsa_augment
from sdc.evaluation.pixels import PUBLISHED, Numbers, Ranges
from sdc.evaluation.protocol import strategies

__all__ = ["Augment", "Augmentation", "Drawn", "Ranges", "make", "side_by_side"]

Augment = Callable[[Tensor], Tensor]
_Change = Callable[[Tensor, Numbers, Ranges], Tensor]  # of each image by its own numbers alone
_CHANGES: dict[str, dict[str, _Change]] = {"dsa": dsa_augment.CHANGES, "dc": dc_augment.CHANGES}


class _Part(NamedTuple):
    """Which images of a network's batch are changed in one way, and the numbers for each."""

    which: Tensor
    numbers: Numbers


@dataclass(frozen=True)
class Drawn:
    """What was drawn for batches: their `changes`, each with how many of the tensors it takes, in their order.

    Where there are several, each one's first tensor says which images it is for, and the last of all where among the
    images changed, laid one after another, each image of the batches is.
    """

    changes: tuple[tuple[str, int], ...] = ()
    tensors: tuple[Tensor, ...] = ()


class Augmentation:
    """The augmentation that `spec` names, of batches [M,N,C,H,W] for M generators, or of [N,C,H,W] for one."""

    def __init__(self, spec: str, generators: Sequence[torch.Generator], ranges: Ranges) -> None:
        self.family, self.names = strategies(spec)
        self.generators, self.ranges = generators, ranges

    def __call__(self, batches: Tensor) -> Tensor:
        """Change batches by numbers drawn for them."""
        drawn = self.draw(batches.shape[-4:])
        return self.change(batches, replace(drawn, tensors=tuple(part.to(batches.device) for part in drawn.tensors)))

    def draw(self, shape: torch.Size) -> Drawn:
        """The numbers for a batch of this shape [N,C,H,W] of each network, on the CPU."""
        if not self.family:
            return Drawn()
        draw = _of_batch if self.family == "dsa" else _of_each
        return _joined([draw(shape, self.names, own, self.ranges) for own in self.generators], self.names, shape[0])

    def change(self, batches: Tensor, drawn: Drawn) -> Tensor:
        """Change batches by numbers drawn for them earlier, which lie beside them now."""
        if not drawn.changes:
            return batches
        images, beside = batches.flatten(0, -4), self._beside(batches)
        if len(drawn.changes) == 1:
            ((name, _),) = drawn.changes
            changed = self._changed(name, images, (*beside, *drawn.tensors))
        else:
            rest, made = iter(drawn.tensors), []
            for name, count in drawn.changes:
                which, *numbers = islice(rest, count)
                made.append(self._changed(name, images[which], (*(own[which] for own in beside), *numbers)))
            # Copied together and picked by a permutation: written in place by index, they would be sorted on a GPU
            # first, where its kernels are to be repeatable.
            changed = torch.cat(made)[next(rest)]
        return changed.view(batches.shape)

    def _changed(self, name: str, images: Tensor, numbers: Numbers) -> Tensor:
        return _CHANGES[self.family][name](images, numbers, self.ranges)

    def _beside(self, batches: Tensor) -> Numbers:
        """What each image's change takes of its whole batch, before any change."""
        return (dc_augment.background(batches),) if self.family == "dc" else ()


def make(spec: str, generator: torch.Generator, ranges: Ranges = PUBLISHED) -> Augmentation:
    """The augmentation that a protocol's `augment` names; the identity for ""."""
    return Augmentation(spec, [generator], ranges)


def side_by_side(spec: str, generators: Sequence[torch.Generator], ranges: Ranges = PUBLISHED) -> Augmentation:
    """The same for batches [M,N,C,H,W]: the m-th is changed as `make(spec, generators[m])` would change it."""
    return Augmentation(spec, generators, ranges)


def _of_batch(
    shape: torch.Size, names: tuple[str, ...], generator: torch.Generator, ranges: Ranges
) -> dict[str, _Part]:
    """One strategy for all images."""
    name = names[int(torch.randint(len(names), (), generator=generator))]
    return {name: _Part(torch.arange(shape[0]), dsa_augment.DRAWS[name](shape, generator, ranges))}


def _of_each(shape: torch.Size, names: tuple[str, ...], generator: torch.Generator, ranges: Ranges) -> dict[str, _Part]:
    """A strategy for each image; then the numbers of all images of one strategy, strategy after strategy."""
    chosen = torch.randint(0, len(names), (shape[0], 1), generator=generator).flatten()
    found: dict[str, _Part] = {}
    for number, name in enumerate(names):
        if len(which := (chosen == number).nonzero().flatten()):
            some = torch.Size([len(which), *shape[1:]])
            found[name] = _Part(which, dc_augment.DRAWS[name](some, generator, ranges))
    return found


def _joined(each: Sequence[dict[str, _Part]], names: tuple[str, ...], count: int) -> Drawn:
    """What was drawn for each network's batch of `count` images, as one: all images with the same change together."""
    found: dict[str, _Part] = {}
    for name in names:
        if parts := [(own[name], m * count) for m, own in enumerate(each) if name in own]:
            which = torch.cat([part.which + first for part, first in parts])
            numbers = zip(*(part.numbers for part, _ in parts), strict=True)
            found[name] = _Part(which, tuple(map(torch.cat, numbers)))
    if len(found) == 1:
        ((name, (_, numbers_of_all)),) = found.items()
        return Drawn(((name, len(numbers_of_all)),), numbers_of_all)
    changes = tuple((name, 1 + len(part.numbers)) for name, part in found.items())
    tensors = [tensor for part in found.values() for tensor in (part.which, *part.numbers)]
    return Drawn(changes, (*tensors, torch.cat([part.which for part in found.values()]).argsort()))
