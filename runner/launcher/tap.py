"""Tap: holds the live synthetic tensors, counts their updates, keeps snapshots and the final set.

Every upstream updates its synthetic images with a torch.optim.SGD over a leaf tensor of four dimensions that is no
nn.Parameter (networks have parameters). torch's own hook on optimizer steps shows it, whatever the script saves itself.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from runner.launcher.job import Job
from runner.launcher.recorder import Metrics


class DivergedError(Exception):
    """The images or the loss are no longer finite."""


class Tap:
    """Watches one script's synthetic images."""

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self._job, self._metrics = job, metrics
        self._parent = os.getppid()
        self._loss: Tensor | None = None
        self.steps = 0
        self.images: Tensor | None = None

    def install(self) -> None:
        """Start watching: optimizer steps for the images, `backward` for the loss that moved them."""
        register_optimizer_step_post_hook(self._after_step)
        real = torch.Tensor.backward

        def backward(loss: Tensor, *arguments: Any, **options: Any) -> None:
            self._loss = loss.detach()
            real(loss, *arguments, **options)  # type: ignore[no-untyped-call]

        torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]

    def save(self, path: str) -> None:
        """Write the images and the number of steps they have seen to `path`, whole or not at all."""
        if self.images is None:
            raise RuntimeError("the script never updated any synthetic images")
        partial = f"{path}.partial"
        tensors = {"images": self.images.detach().float().cpu().contiguous()}
        try:
            save_file(tensors, partial, metadata={"steps": str(self.steps)})
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        images = synthetic_images(optimizer)
        if images is None:
            return
        if os.getppid() != self._parent:
            raise SystemExit("the process that started this one is gone")
        self.images, self.steps = images, self.steps + 1
        loss = float(self._loss) if self._loss is not None else None  # a script may differentiate without `backward`
        if not (loss is None or math.isfinite(loss)) or not bool(torch.isfinite(images).all()):
            raise DivergedError(f"step {self.steps}: the loss is {loss} or the images are no longer finite")
        self._metrics.write("step", {"step": self.steps, "loss": loss})
        if self.steps % self._job.snapshot_every == 0:
            self.save(self._job.snapshot)


def synthetic_images(optimizer: Optimizer) -> Tensor | None:
    """The synthetic images among what `optimizer` updates, or None."""
    tensors = (tensor for group in optimizer.param_groups for tensor in group["params"])
    return next((t for t in tensors if t.dim() == 4 and t.is_leaf and not isinstance(t, torch.nn.Parameter)), None)
