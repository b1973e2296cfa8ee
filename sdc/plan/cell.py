"""A point of a benchmark, everything that shapes its outcome, and the key made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdc.adapters.base import Value
from sdc.ground import hardware
from sdc.ground.hardware import Device
from sdc.patching.trees import Fork


@dataclass(frozen=True)
class Cell:
    """One distillation and its evaluation; equal cells give equal bits on the same machine."""

    method: str
    dataset: str
    ipc: int
    weight: float
    schedule: str
    model: str
    seed: int
    recipe: str
    settings: Mapping[str, Value]
    upstream: str
    commit: str
    patch_sha256: str
    data_sha256: str
    experts: str
    """The key of the experts it matches; empty if it matches none."""
    init_sha256: str = ""
    """The hash of the images that its first ones are drawn from; empty if the script makes its own."""
    fork: Fork | None = None
    """The fork whose script is run; None: the pin's."""

    def facts(self) -> dict[str, Any]:
        """Every field that shapes it: one that is empty because nobody asks for it is none."""
        found = {name: value for name, value in vars(self).items() if name not in ("init_sha256", "fork")}
        found |= {"init_sha256": self.init_sha256} if self.init_sha256 else {}
        return found | ({"fork": self.fork.facts()} if self.fork else {})

    def told(self) -> dict[str, Any]:
        """The same for its files, which say where a fork is, too."""
        return self.facts() | ({"fork": self.fork.told()} if self.fork else {})

    def key(self) -> str:
        """The first ten hex digits of a hash over every field."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:10]

    def folder(self) -> str:
        """The name of the run's folder."""
        return f"{self.method}-{self.dataset}-ipc{self.ipc}-{self.key()}"


def in_the_clear(
    cell: Cell,
    device: Device,
    threads: int,
    data: Path | None,
    init_from: str = "",
    about: Mapping[str, Any] | None = None,
) -> str:
    """The text of cell.json: the cell, its key, libraries and device, and the paths of its data and first images.

    `threads` is the script's number. `about` is what else is to be known and shapes nothing: it is no part of the key.
    """
    facts = {
        "key": cell.key(),
        **cell.told(),
        "data": str(data.resolve()) if data else None,
        **({"init_from": str(Path(init_from).expanduser().resolve())} if init_from else {}),
        **(about or {}),
        "libraries": hardware.libraries(),
        "device": hardware.facts(device, threads),
    }
    return json.dumps(facts, indent=1) + "\n"
