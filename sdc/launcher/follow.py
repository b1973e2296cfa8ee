"""Follow: keeps the gradient that reaches the images at each of the first updates, and leads another process there.

Two processes of one script and seed differ in the weight of the term alone. Behind every update the second's tensors
are overwritten with the first's. Since the term draws no random numbers, both then see the same images, networks and
draws at each update, and their gradients differ by the weight times the gradient of the term.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sdc.launcher.clock import Clock
from sdc.launcher.job import IdleError, Job
from sdc.launcher.recorder import Metrics
from sdc.launcher.tap import synthetic


class Follow:
    """Looks at `job.updates` updates of one script's images, then ends it; leads it behind `job.leader` if it has one.

    Into the folder `job.output` goes, for the n-th update of each synthetic tensor, `NAME-n.safetensors`: the tensor
    `after` it if there is no leader, and of the images the `gradient` with a digest of the `state` it was taken at.
    """

    def __init__(self, job: Job, metrics: Metrics, clock: Clock) -> None:
        self._job, self._metrics, self._clock = job, metrics, clock
        self._folder = Path(job.output)
        self._live: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._gradient: dict[str, Tensor] = {}
        self._state = ""
        self.steps = 0

    def install(self) -> None:
        """Start watching."""
        self._folder.mkdir()
        register_optimizer_step_pre_hook(self._before_update)
        register_optimizer_step_post_hook(self._after_update)

    def heard(self, numbers: Mapping[str, float]) -> None:
        """Nothing that is logged matters."""

    def before(self, iteration: int) -> None:
        """Nor does where the script is: it is never gone on with."""

    def stop(self) -> bool:
        """There is nothing to wait for."""
        return False

    def interrupted(self) -> None:
        """Nor to keep."""

    def finished(self) -> None:
        """All is kept already, if there is anything."""
        if not self.steps:
            raise IdleError("the script never updated any synthetic images")

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        found = synthetic(optimizer)
        self._live |= found
        if "images" in found:
            images = found["images"]
            self._gradient = {"gradient": torch.zeros_like(images) if images.grad is None else images.grad.clone()}
            self._state = self._digest()

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        found = synthetic(optimizer)
        if not found:
            return
        if self._job.orphaned():
            raise SystemExit("the process that started this one is gone")
        for name, tensor in found.items():
            self._counts[name] += 1
            self._keep(name, tensor, f"{name}-{self._counts[name]:06}.safetensors")
        if "images" in found:
            self.steps += 1
            self._metrics.write("step", {"step": self.steps, "loss": None})
            if self.steps == self._job.updates:
                raise SystemExit

    def _keep(self, name: str, tensor: Tensor, file: str) -> None:
        kept, facts = (self._gradient, {"state": self._state}) if name == "images" else ({}, {})
        if self._job.leader:
            with torch.no_grad():
                tensor.copy_(load_file(Path(self._job.leader) / file)["after"])
        else:
            kept = kept | {"after": tensor.detach()}
        save_file({name: kept[name].cpu().contiguous() for name in kept}, self._folder / file, facts)

    def _digest(self) -> str:
        """A hash over the synthetic tensors, the random numbers and the clock: equal ones see the same draws."""
        seen = sha256()
        for name, tensor in sorted((self._live | self._clock.state()).items()):
            seen.update(name.encode())
            seen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return seen.hexdigest()
