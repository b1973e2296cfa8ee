"""How long the training of experts takes here, and how much they take on the disk, told before it starts."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sdc.adapters.base import Slot
from sdc.evaluation import networks
from sdc.ground import hardware
from sdc.plan.request import Plan

_TIMED = 16
"""Images of a batch that are timed on a CPU, at most."""


@dataclass(frozen=True)
class Estimate:
    """What training will take: steps of an optimizer, bytes on the disk, seconds (from a few steps tried here)."""

    steps: int
    bytes: int
    seconds: float


def estimate(plan: Plan, threads: int = 0) -> Estimate:
    """What training a plan's experts takes one after another, with so many threads (0: as now), before it starts."""
    job = plan.job
    count, epochs, batch = (int(job.experts[name]) for name in ("num_experts", "train_epochs", "expert_batch"))
    steps = count * epochs * -(-len(plan.dataset.train.labels) // batch)
    parameters, seconds = _of_network(job.model, job.slot, batch, threads, torch.device(hardware.device()))
    passes = plan.adapter.experts.passes if plan.adapter.experts else 0
    return Estimate(steps, 4 * count * (epochs + 1) * parameters, steps * passes * seconds)


@functools.cache  # methods of one benchmark train the same network, and it is timed once
def _of_network(model: str, slot: Slot, batch: int, threads: int, where: torch.device) -> tuple[int, float]:
    """The numbers that a network has, and the time of a forward and backward pass of a batch here, the quicker of two
    after a first.

    On a CPU, where a part of a batch takes its share of the time, a part is timed.
    """
    network = networks.build(model, slot.channels, slot.classes, slot.size, seed=0)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network = network.to(where)
    timed = min(batch, _TIMED) if where.type == "cpu" else batch
    images = torch.zeros(timed, slot.channels, slot.size, slot.size, device=where)
    labels = torch.zeros(timed, dtype=torch.long, device=where)
    taken, ours = [], torch.get_num_threads()
    torch.set_num_threads(threads or ours)
    for _ in range(3):
        began = time.perf_counter()
        torch.autograd.backward(F.cross_entropy(network(images), labels))
        float(next(network.parameters()).detach().sum())  # waits for the device
        taken.append(time.perf_counter() - began)
    torch.set_num_threads(ours)
    network.cpu()
    del images, labels
    hardware.leave_to_others()
    return parameters, min(taken[1:]) * batch / timed
