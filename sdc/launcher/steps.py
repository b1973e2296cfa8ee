"""Steps: counts the updates of the networks that a script trains, and notices when one is of no use any more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from sdc.launcher.clock import Clock
from sdc.launcher.job import DivergedError, Job
from sdc.launcher.recorder import Metrics

EVERY = 0.25
"""Seconds between two looks, at least: more would cost time."""


class Steps:
    """Watches one script's networks; the script keeps what it trains itself."""

    def __init__(self, job: Job, metrics: Metrics, clock: Clock) -> None:
        self._job, self._metrics, self._clock = job, metrics, clock
        self._looked = time.monotonic()
        self.steps = job.steps_done

    def install(self) -> None:
        """Start counting steps of SGD (an optimizer around one would count twice)."""
        register_optimizer_step_post_hook(self._after_step)

    def heard(self, numbers: Mapping[str, float]) -> None:
        """Nothing that is logged matters."""

    def before(self, network: int) -> None:
        """Another network begins: it comes out the same whether those before it were trained by this process."""
        self._clock.part(self._job.seed, network)

    def stop(self) -> bool:
        """A script keeps a network when it is trained; there is no use in waiting for that."""
        return False

    def interrupted(self) -> None:
        """There is nothing to keep."""

    def finished(self) -> None:
        """Nor at the end."""

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if type(optimizer) is not torch.optim.SGD:
            return
        self.steps += 1
        if time.monotonic() - self._looked < EVERY:
            return
        if self._job.orphaned():
            raise SystemExit("the process that started this one is gone")
        self._looked = time.monotonic()
        if not all(bool(torch.isfinite(p).all()) for group in optimizer.param_groups for p in group["params"]):
            raise DivergedError(f"step {self.steps}: the network's parameters are no longer finite")
        self._metrics.write("step", {"step": self.steps, "loss": None})
