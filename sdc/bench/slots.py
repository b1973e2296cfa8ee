"""Where a benchmark's workers run, and how many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sdc.bench import slurm
from sdc.bench.slurm import Profile
from sdc.ground import hardware
from sdc.ground.cores import cores


@dataclass(frozen=True)
class Slots:
    """Where workers run: on each GPU `per_gpu` of them, or, without one, `workers` that share the cores.

    With a profile: in Slurm's jobs, as that says.
    """

    gpus: int
    per_gpu: int = 1
    workers: int = 0
    profile: Profile | None = None

    @property
    def count(self) -> int:
        """Workers at a time."""
        if self.profile:
            return self.profile.jobs * self.profile.slots
        return self.gpus * self.per_gpu if self.gpus else self.workers or max(1, cores())

    @property
    def device(self) -> str:
        """What they compute on."""
        return "cuda" if (self.profile.gpus if self.profile else self.gpus) else "cpu"

    @property
    def threads(self) -> int:
        """Threads of each."""
        return self.profile.threads_each if self.profile else max(1, cores() // self.count)


def here(per_gpu: int, workers: int) -> Slots:
    """The slots of this machine."""
    return Slots(torch.cuda.device_count() if hardware.device() == "cuda" else 0, per_gpu, workers)


def on_slurm(profile: Path) -> Slots:
    """The slots that a profile asks Slurm for. Raises FatalError for a profile that says what cannot be."""
    return Slots(0, profile=slurm.read(profile))
