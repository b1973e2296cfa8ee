"""What the launcher is told: one JSON file, written by the parent, read by the child."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

DIVERGED, IDLE, INTERRUPTED = 4, 5, 130
"""Exit codes of the launcher, beside the script's own."""
_STARTER = os.getppid()


class IdleError(Exception):
    """The script ended without one update of the images."""


class DivergedError(Exception):
    """What the script trains is of no use any more: not finite, or exploding."""


@dataclass(frozen=True)
class Job:
    """One upstream process. Paths are absolute; the process works in the run's folder and writes only there."""

    script: str
    argv: tuple[str, ...]
    seed: int
    device: str
    """`cpu`, which then takes a GPU's place, or `cuda`."""
    slot: str
    """The dataset name the script is given."""
    data: str
    """A safetensors file: train_images and test_images uint8 [N, C, H, W], train_labels and test_labels int64 [N]."""
    classes: tuple[str, ...]
    output: str
    """Where the final images go; of gradients, the folder that is made for them."""
    snapshot: str
    """Where the images, and all that going on takes, are kept: at most `snapshot_every` steps are lost."""
    metrics: str
    """A JSON line a step."""
    view: str
    """Where the data bridge writes how the script was shown the images."""
    snapshot_every: int
    tree: str
    """The top folder of the upstream's clone: the script imports from there, too, and reads our clock."""
    makes: Literal["images", "networks", "gradients"] = "images"
    """What the script is run for: synthetic images, which are watched and kept; networks, which it keeps itself; or the
    gradients that reach the images at the first updates, after which it is ended."""
    loss: str = ""
    """What the script calls the loss that it logs behind each step; empty: a step ends with the images' update."""
    average: float = 0.0
    """Decay of the moving average of the images that is the outcome; 0: the images are."""
    whiten: bool = False
    """Whether the script whitens the images (kornia's ZCA): the transform is written beside `view`."""
    whitened: str = ""
    """The folder where transforms and whitened images are kept for the processes to come; empty: none are."""
    test_per_class: int = 0
    """How many test images of each class the script is shown; 0 for all."""
    loop: str = ""
    """The variable of the script's loop over its iterations, or over its networks; empty: it cannot be resumed."""
    done: int = 0
    """So many iterations, or networks, were done by processes before this one: it goes on behind them."""
    steps_done: int = 0
    """As many steps they took."""
    earlier: float = 0.0
    """And as many seconds."""
    waiting: str = ""
    """Of networks that processes share: the folder with an empty file for each that waits for a process, named by its
    number; empty: all behind `done` are this one's."""
    taken: str = ""
    """The folder that holds the file of the one that this process trains."""
    saved: str = ""
    """The file that the script saves a network to, the first of its own."""
    finished: str = ""
    """What that file is then moved to, with `{}` in its name for the network's number."""
    threads: int = 0
    """Threads that the process computes with; 0: as many as its environment says."""
    history: str = ""
    """The folder where the distilled set is kept as it was at the start and behind every `history_every` steps."""
    history_every: int = 0
    """0: none is kept."""
    updates: int = 0
    """Of gradients: at so many updates."""
    leader: str = ""
    """Of gradients: the folder that another process left, whose states are gone through; empty: this one's own are."""
    start: str = ""
    """Images that take the place of the script's first ones: safetensors with `images` uint8 [N, C, H, W], in the
    order of its own; empty: it begins from its own."""
    options: str = ""
    """Where the options that the script takes are written; empty: nowhere."""
    gpus: int = 1
    """How many GPUs the script sees; more than one, and it spreads its batches over them."""
    parent: int = 0
    """The process that this one ends with; 0: the one that started it, as found."""

    def orphaned(self) -> bool:
        """Whether the process that waits for this one is gone."""
        return os.getppid() != (self.parent or _STARTER)

    @property
    def whitening(self) -> Path:
        """Where the ZCA transform goes: safetensors with `mean` [d] and `matrix` [d, d]."""
        return Path(self.view).with_suffix(".zca.safetensors")

    def write(self, path: Path) -> None:
        """Write this job to `path`."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a job that `write` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields |= {"argv": tuple(fields["argv"]), "classes": tuple(fields["classes"])}
        return cls(**fields)
