"""What the launcher is told: one JSON file, written by the parent, read by the child."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

DIVERGED, INTERRUPTED = 4, 130
"""Exit codes of the launcher, beside the script's own."""


@dataclass(frozen=True)
class Job:
    """One upstream process. Paths are absolute; the process works in the run's folder and writes only there."""

    script: str
    argv: tuple[str, ...]
    seed: int
    device: str
    """`cpu` (the device bridge is installed) or `cuda` (it is not)."""
    slot: str
    """The dataset name the script is given."""
    data: str
    """A safetensors file: train_images and test_images uint8 [N, C, H, W], train_labels and test_labels int64 [N]."""
    classes: tuple[str, ...]
    output: str
    """Where the final images go."""
    snapshot: str
    """Where the images go every `snapshot_every` steps, and on an interruption."""
    metrics: str
    """A JSON line a step."""
    view: str
    """Where the data bridge writes how the script was shown the images."""
    snapshot_every: int

    def write(self, path: Path) -> None:
        """Write this job to `path`."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a job that `write` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields |= {"argv": tuple(fields["argv"]), "classes": tuple(fields["classes"])}
        return cls(**fields)
