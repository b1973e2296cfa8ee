"""The steps of a training, what is random about them drawn ahead: on a GPU it arrives in large parts.

A copy to the device at each step would take the time of a launch or more, and each has the next step wait for the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor

from sdc.evaluation.augment import Augment, Augmentation, Drawn

BYTES, STEPS = 16 * 2**20, 256
"""How much is drawn ahead at most, but for one step's: more would save nothing, and progress would be told early."""


class Step(NamedTuple):
    """One step: its epoch, whether it is the epoch's last, which images it takes, what was drawn to change them."""

    epoch: int
    last: bool
    chosen: Tensor  # [B], or [M,B] for M networks
    drawn: Drawn


def steps(order: Iterable[Sequence[Tensor]], augment: Augment, images: Tensor) -> Iterator[Step]:
    """The steps that `order`, for each epoch the indices of its batches, comes to; their tensors lie beside the images.

    Every shuffle and every augmentation is drawn in the order of the steps, wherever they are carried out.
    """
    drawn = _drawn(order, augment, images.shape[1:])
    if images.device.type == "cpu":
        return drawn
    return chain.from_iterable(_sent(block, images.device) for block in _blocks(drawn))


def changed(augment: Augment, images: Tensor, drawn: Drawn) -> Tensor:
    """The images of one step, changed as was drawn for it."""
    return augment.change(images, drawn) if isinstance(augment, Augmentation) else augment(images)


def _drawn(order: Iterable[Sequence[Tensor]], augment: Augment, shape: torch.Size) -> Iterator[Step]:
    for epoch, batches in enumerate(order):
        for number, chosen in enumerate(batches, start=1):
            batch = torch.Size([chosen.shape[-1], *shape])
            drawn = augment.draw(batch) if isinstance(augment, Augmentation) else Drawn()
            yield Step(epoch, number == len(batches), chosen, drawn)


def _blocks(drawn: Iterable[Step]) -> Iterator[list[Step]]:
    block: list[Step] = []
    size = 0
    for step in drawn:
        block.append(step)
        size += sum(tensor.nbytes for tensor in _tensors(step))
        if size >= BYTES or len(block) == STEPS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _tensors(step: Step) -> tuple[Tensor, ...]:
    return (step.chosen, *step.drawn.tensors)


def _sent(block: Sequence[Step], device: torch.device) -> Iterator[Step]:
    there = iter(_placed([tensor for step in block for tensor in _tensors(step)], device))
    for step in block:
        chosen, *drawn = islice(there, len(_tensors(step)))
        yield step._replace(chosen=chosen, drawn=replace(step.drawn, tensors=tuple(drawn)))


def _placed(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on the device, by one copy for each type; on a GPU nothing waits for it."""
    there: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        whole = torch.cat([tensor.flatten() for tensor in same])
        whole = (whole.pin_memory() if device.type == "cuda" else whole).to(device, non_blocking=True)
        parts = torch.split(whole, [tensor.numel() for tensor in same])
        there |= {id(tensor): part.view(tensor.shape) for tensor, part in zip(same, parts, strict=True)}
    return [there[id(tensor)] for tensor in tensors]
