"""Tap: holds the live synthetic tensors, counts steps, keeps snapshots and the final set, notices divergence.

Every upstream updates its synthetic images with a torch.optim.SGD over a leaf tensor of four dimensions that is no
nn.Parameter (networks have parameters); a learned rate is such a leaf without dimensions, soft labels one of two.
torch's own hooks on optimizer steps show them, whatever the script saves itself. Snapshots are taken between two
iterations of the script, and hold all that another process needs to go on from there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sdc.launcher.clock import Clock
from sdc.launcher.job import DivergedError, IdleError, Job
from sdc.launcher.recorder import Metrics

_NAMES = {4: "images", 2: "labels", 0: "lr"}
FIRST = 3
"""The losses of so many steps say what is usual in this run."""
EXPLODED = 100.0
"""A loss of so many times the usual one, or a learned rate of so many times the first, will not come back."""


class Tap:
    """Watches one script's synthetic images, and the rate and soft labels that it learns with them."""

    def __init__(self, job: Job, metrics: Metrics, clock: Clock) -> None:
        self._job, self._metrics, self._clock = job, metrics, clock
        self._loss: Tensor | None = None
        self._live: dict[str, Tensor] = {}
        self._optimizers: dict[str, Optimizer] = {}
        self._average: Tensor | None = None
        self._pending: tuple[int, dict[str, Tensor], dict[str, str]] | None = None
        self._usual = 0.0
        self._began_at: float | None = None
        self._first: dict[str, Tensor] = {}
        self._captured = self._boundary = job.steps_done
        self._iterating = self._stopping = False
        self.updates = 0
        self.steps = job.steps_done

    def install(self) -> None:
        """Start watching: optimizers for the tensors, `backward` for the loss where the script logs none."""
        register_optimizer_step_pre_hook(self._before_update)
        register_optimizer_step_post_hook(self._after_update)
        real = torch.Tensor.backward

        def backward(loss: Tensor, *arguments: Any, **options: Any) -> None:
            self._loss = loss.detach()
            real(loss, *arguments, **options)  # type: ignore[no-untyped-call]

        torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]
        built = torch.optim.SGD.__init__

        def init(optimizer: torch.optim.SGD, *arguments: Any, **options: Any) -> None:
            built(optimizer, *arguments, **options)
            self._optimizers |= dict.fromkeys(synthetic(optimizer), optimizer)

        torch.optim.SGD.__init__ = init  # type: ignore[method-assign, assignment]

    def heard(self, numbers: Mapping[str, float]) -> None:
        """A script that logs its loss has done a step when it does: all tensors are updated then."""
        if self._job.loss in numbers:
            self._step(numbers[self._job.loss])

    def before(self, iteration: int) -> None:
        """The script has done so many iterations and begins another: the moment to go on from, and to stop at."""
        if not self._iterating and self._job.done:
            self._restore()
        self._iterating = True
        if self._stopping:
            self._save(self._job.snapshot, *self._captured_now(iteration))
            raise KeyboardInterrupt
        of_iteration, self._boundary = self.steps - self._boundary, self.steps
        # One more, since a snapshot waits for the loss behind it.
        if self._is_early() or self.steps + of_iteration + 1 > self._captured + self._job.snapshot_every:
            self._capture(iteration)

    def stop(self) -> bool:
        """Whether the script can be let go on to the end of its iteration, to be stopped and kept there."""
        first = self._iterating and not self._stopping
        self._stopping = True
        return first

    def interrupted(self) -> None:
        """Keep what there is, unless there is a loop: then what was kept between iterations is better."""
        if self._live and not self._job.loop:
            self._save(self._job.snapshot, *self._captured_now(None))

    def finished(self) -> None:
        """Keep the outcome."""
        if not self.updates:
            raise IdleError("the script never updated any synthetic images")
        self._save(self._job.output, self.steps, self._tensors(), {})

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        found = synthetic(optimizer)
        self._first |= {name: tensor.detach().clone() for name, tensor in found.items() if name not in self._first}
        if self._job.average and self._average is None and "images" in found:
            self._average = found["images"].detach().clone()

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        found = synthetic(optimizer)
        self._live |= found
        if "images" not in found:
            return
        if self._job.orphaned():
            raise SystemExit("the process that started this one is gone")
        self.updates += 1
        if self._average is not None:  # in the script's own order of operations, for the same bits
            self._average = self._job.average * self._average + (1.0 - self._job.average) * found["images"].detach()
        if not self._job.loss:
            self._step(self._loss)

    def _step(self, of_step: Tensor | float | None) -> None:
        self.steps += 1
        loss, lr, spoiled = self._read(of_step)
        if problem := self._loss_problem(loss):
            raise DivergedError(f"step {self.steps}: {problem}")
        if self.steps == 1:
            self._remember(0, self._first)
        if self.steps == 1 and self._first and not self._job.loop:
            self._pending = 0, self._first, {}
        if self._pending:  # the loss behind it shows that it is sound
            self._save(self._job.snapshot, *self._pending)
            self._pending = None
        if problem := self._tensor_problem(lr, spoiled):
            raise DivergedError(f"step {self.steps}: {problem}")
        self._remember(self.steps, {})
        rate = {} if lr is None else {"lr": lr}
        self._metrics.write("step", {"step": self.steps, "loss": loss, **rate})
        if self._live and not self._job.loop and (self._is_early() or self.steps % self._job.snapshot_every == 0):
            self._capture(None)

    def _is_early(self) -> bool:
        """At the start, and behind the first, second, fourth, ... step: what fails early is worth a look, too."""
        return self.steps < self._job.snapshot_every and self.steps >= 2 * self._captured

    def _capture(self, iteration: int | None) -> None:
        self._captured = self.steps
        self._pending = self._captured_now(iteration)

    def _captured_now(self, iteration: int | None) -> tuple[int, dict[str, Tensor], dict[str, str]]:
        """The distilled set, and, between two iterations, all else that going on takes."""
        tensors = {name: tensor.clone() for name, tensor in self._tensors().items()}
        if iteration is None:
            return self.steps, tensors, {}
        for name, optimizer in self._optimizers.items():
            tensor = synthetic(optimizer)[name]
            tensors |= {name: tensor.detach().clone()} if name not in tensors else {}
            tensors |= {f"live.{name}": tensor.detach().clone()} if name == "images" and self._job.average else {}
            if (momentum := optimizer.state[tensor].get("momentum_buffer")) is not None:
                tensors[f"momentum.{name}"] = momentum.clone()
        first = self._first_lr() if "lr" in self._first else None
        facts = {"iteration": iteration, "updates": self.updates, "usual": self._usual, "first_lr": first}
        facts["seconds"] = round(self._metrics.seconds(), 3)
        return self.steps, tensors | self._clock.state(), {name: json.dumps(value) for name, value in facts.items()}

    def _restore(self) -> None:
        """Put everything where the snapshot has it."""
        with safe_open(self._job.snapshot, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            facts = {name: json.loads(value) for name, value in file.metadata().items()}
        for name, optimizer in self._optimizers.items():
            tensor = synthetic(optimizer)[name]
            with torch.no_grad():
                tensor.copy_(kept.get(f"live.{name}", kept[name]))
            if f"momentum.{name}" in kept:
                optimizer.state[tensor]["momentum_buffer"] = kept[f"momentum.{name}"].to(tensor.device)
            self._live[name] = tensor
        if self._job.average:
            self._average = kept["images"].to(self._live["images"].device)
        if facts["first_lr"] is not None:
            self._first["lr"] = torch.tensor(facts["first_lr"])
        self.updates, self._usual = facts["updates"], facts["usual"]
        self._clock.restore(kept)

    def _loss_problem(self, loss: float | None) -> str | None:
        """Why this loss, of the tensors before their update, leaves no use in going on; or None."""
        if loss is None:
            return None
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self.steps <= FIRST:
            self._usual = max(self._usual, abs(loss))
        elif abs(loss) > EXPLODED * self._usual > 0:
            return f"the loss is {loss:.4g}, and was at most {self._usual:.4g} in the first {FIRST} steps"
        return None

    def _read(self, loss: Tensor | float | None) -> tuple[float | None, float | None, list[str]]:
        """The loss, the learned rate, and the names of what is not finite any more.

        All come from the device at once: each wait for it costs more than the sums themselves.
        """
        parts = {f"sound {name}": torch.isfinite(tensor).all() for name, tensor in self._live.items()}
        parts |= {"lr": self._live["lr"]} if "lr" in self._live else {}
        parts |= {"loss": loss} if isinstance(loss, Tensor) else {}
        numbers = torch.stack([part.detach().reshape(()).double() for part in parts.values()]).tolist() if parts else []
        found = dict(zip(parts, numbers, strict=True))
        spoiled = [name for name in self._live if not found[f"sound {name}"]]
        return found["loss"] if isinstance(loss, Tensor) else loss, found.get("lr"), spoiled

    def _tensor_problem(self, lr: float | None, spoiled: Sequence[str]) -> str | None:
        """Why the tensors as they are now leave no use in going on; or None."""
        if spoiled:
            return f"{spoiled[0]}: not finite any more"
        if lr is not None and not 0 < lr < EXPLODED * self._first_lr():
            return f"the learned rate is {lr:.4g}, and started from {self._first_lr():.4g}"
        return None

    def _first_lr(self) -> float:
        """The learned rate at the start, read from the device once."""
        if self._began_at is None:
            self._began_at = float(self._first["lr"])
        return self._began_at

    def _remember(self, step: int, over: Mapping[str, Tensor]) -> None:
        """Keep the distilled set, with the tensors of `over` in it, if it is one of the states that are asked for."""
        every = self._job.history_every
        if not every or step % every:
            return
        built = {
            name: synthetic(optimizer)[name] for name, optimizer in self._optimizers.items()
        }  # perhaps never moved
        found = {name: tensor.detach().float() for name, tensor in {**built, **self._tensors(), **over}.items()}
        Path(self._job.history).mkdir(exist_ok=True)
        self._save(f"{self._job.history}/{step:06}.safetensors", step, found, {})

    def _tensors(self) -> dict[str, Tensor]:
        """The distilled set as it is now."""
        averaged = {"images": self._average} if self._average is not None else {}
        return {name: tensor.detach().float() for name, tensor in {**self._live, **averaged}.items()}

    def _save(self, path: str, steps: int, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Write tensors and the number of steps they have seen to `path`, whole or not at all."""
        partial = f"{path}.partial"
        try:
            kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(kept, partial, metadata={"steps": str(steps), **facts})
            with open(partial, "rb") as written:  # noqa: PTH123 - on the disk before its name is
                os.fsync(written)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)


def synthetic(optimizer: Optimizer) -> dict[str, Tensor]:
    """What `optimizer` updates of a distilled set: `images`, `labels` (soft ones) and `lr`, as far as it does."""
    tensors = (tensor for group in optimizer.param_groups for tensor in group["params"])
    return {_NAMES[t.dim()]: t for t in tensors if _is_synthetic(t)}


def _is_synthetic(tensor: Tensor) -> bool:
    return tensor.dim() in _NAMES and tensor.is_leaf and not isinstance(tensor, torch.nn.Parameter)
