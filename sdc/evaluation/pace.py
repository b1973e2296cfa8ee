"""Whether networks are trained faster side by side on a device: measured there, on networks that are thrown away."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from sdc.evaluation.protocol import Protocol
from sdc.evaluation.trial import Trial

log = logging.getLogger(__name__)
STEPS = 10
"""At least so many are timed, after as many to warm up."""
SLOWER = 1.2


def unknown(device: torch.device) -> bool:
    """Whether it is yet to be measured what is faster on this device."""
    return device.type != "cpu"


def brief(protocol: Protocol, images: int) -> Protocol:
    """The protocol with so few epochs over so many images that its training can be measured."""
    return replace(protocol, epochs=2 * math.ceil(STEPS / math.ceil(images / protocol.batch)) - 1)


def seconds(train: Callable[[Callable[[int], None]], None], trial: Trial) -> float:
    """What an epoch takes, on average of the second half of those that `train` tells of, by a brief protocol."""
    half, ended = (trial.protocol.epochs + 1) // 2, list[float]()

    def on_epoch(epoch: int) -> None:
        if (epoch + 1) % half == 0:
            _wait(trial.images.device)
            ended.append(time.perf_counter())

    train(on_epoch)
    return (ended[1] - ended[0]) / half


def pays(model: str, count: int, measure: Callable[[int], float]) -> bool:
    """Whether `count` networks are trained side by side; `measure` gives seconds a network for so many at once.

    They are unless that is clearly slower. Both ways give the same but for rounding, and the same command is to round
    alike, so that a measurement near a tie must not decide.
    """
    alone = measure(1)
    try:
        beside = measure(count)
    except torch.OutOfMemoryError:  # fewer of them will be, and are not measured
        beside = alone
    chosen = beside <= SLOWER * alone
    said = "side by side" if chosen else "one at a time"
    log.info(
        "%s: an epoch takes %.3g ms a network with %d side by side, %.3g ms alone: trained %s",
        *(model, 1000 * beside, count, 1000 * alone, said),
    )
    return chosen


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
