"""What the emulated devices are to a process: which of them it sees, what it made them do, and what it did wrong."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MEMORY = (8 * 2**30, 10 * 2**30)
"""Bytes, free and in all, that every device tells of."""
_OTHERS = ("/torch/", "/kornia/", "/tests/fakecuda/", "contextlib.py", "<frozen")
"""Files in which nobody looks for the line that asked for something."""


@dataclass
class Counts:
    """What a GPU would have had to do. A copy to the host waits, too, and is not counted as a wait again."""

    launches: int = 0
    syncs: int = 0
    to_device: int = 0
    to_host: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    """How often `kind operation file:line` was counted, if that is asked for."""

    def reset(self) -> None:
        """Begin again from zero."""
        self.launches = self.syncs = self.to_device = self.to_host = 0
        self.sites.clear()

    def numbers(self) -> dict[str, int]:
        """The four numbers by name."""
        return {name: value for name, value in vars(self).items() if name != "sites"}


class Device:
    """The one state of the emulation in this process. `begin` gives it one without history."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.begin(0)

    def begin(self, devices: int, noise: bool = False, sites: bool = False) -> None:
        """Forget everything. The machine has so many devices from now on."""
        self.devices, self.sites = devices, sites
        self.counts.reset()
        self.noise = torch.Generator().manual_seed(int.from_bytes(os.urandom(6))) if noise else None
        self.problems: list[dict[str, str]] = []
        self.nondeterministic: set[str] = set()
        self.variable: str | None = None
        self.visible: list[str] = []
        self.used: set[int] = set()
        self.current = 0
        self.random = [seeded(0)] * devices
        self._user = 0

    def listed(self) -> list[str]:
        """The devices that a process would see that uses CUDA now for the first time."""
        every, told = [str(number) for number in range(self.devices)], os.environ.get("CUDA_VISIBLE_DEVICES")
        names = every if told is None else [name.strip() for name in told.split(",")]
        return list(itertools.takewhile(lambda name: name in every or name.startswith(("GPU-", "MIG-")), names))

    def seen(self) -> list[str]:
        """The devices that this process sees. The first call is the first use of CUDA, and decides."""
        if not self._user:
            self._user, self.visible = os.getpid(), self.listed()
            self.variable = os.environ.get("CUDA_VISIBLE_DEVICES")
            self.report()
        return [] if self.forked() else self.visible

    def count(self) -> int:
        """How many devices there are, which does not use them yet."""
        return len(self.seen() if self._user else self.listed())

    def forked(self) -> bool:
        """Whether this process is the child of one that used CUDA."""
        return self._user not in (0, os.getpid())

    def ready(self, index: int | None = None) -> None:
        """Use a device, the current one if none is named. Raises RuntimeError where torch does."""
        if self.forked():
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. Use the 'spawn' start method")
        if not self.seen():
            raise RuntimeError("No CUDA GPUs are available")
        number = self.current if index is None else index
        if number >= len(self.visible):
            raise RuntimeError(f"CUDA error: invalid device ordinal {number} of {len(self.visible)}")
        self.used.add(number)

    def tick(self, kind: str, name: str) -> None:
        """Count one launch, wait or copy."""
        setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        if self.sites:
            self.counts.sites[f"{kind} {name} {site()}"] += 1

    def refused(self, what: str) -> RuntimeError:
        """The error for a tensor in the wrong place. It is remembered, in case somebody catches it."""
        self.problems.append({"what": what, "where": site()})
        self.report()
        return RuntimeError(f"Expected all tensors to be on the same device: {what}")

    def facts(self) -> dict[str, Any]:
        """A line of the report; `reports` says what it holds."""
        first = {"variable": self.variable, "visible": self.visible}
        return {
            "pid": os.getpid(),
            "argv": sys.argv,
            "counts": self.counts.numbers(),
            "first_use": first if self._user else None,
            "devices": [self.visible[number] for number in sorted(self.used)],
            "problems": self.problems,
            "nondeterministic": sorted(self.nondeterministic),
            "sites": dict(self.counts.sites.most_common(40)),
        }

    def report(self) -> None:
        """Add a line to the report, if one is asked for: at the first use, at each problem, at the end.

        So even a process that is killed has left a line.
        """
        if file := os.environ.get("SDC_TEST_CUDA_REPORT"):
            with Path(file).open("a") as out:
                out.write(json.dumps(self.facts()) + "\n")

    @contextmanager
    def own_random(self) -> Iterator[None]:
        """The CPU's kernels draw from the current device's generator."""
        host = torch.default_generator.get_state()
        torch.default_generator.set_state(self.random[self.current])
        try:
            yield
        finally:
            self.random[self.current] = torch.default_generator.get_state()
            torch.default_generator.set_state(host)


def reports(file: Path) -> list[dict[str, Any]]:
    """What each process told last, in the order in which they first told anything.

    `pid` and `argv` say which process it was. `counts` are those of `Counts`. `first_use` is None for a process that
    did not use CUDA; else it holds CUDA_VISIBLE_DEVICES at that moment (`variable`) and the devices that were `visible`.
    `devices` are those, by their physical names, that it computed on. `problems` are the attempts to mix devices, each
    `what` and `where`; `nondeterministic` the kernels used that have no deterministic version; `sites` the costs by line.
    """
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return list({line["pid"]: line for line in lines}.values())


def seeded(seed: int) -> Tensor:
    """The state of a device's generator. A device draws other numbers by a seed than the CPU does."""
    return torch.Generator().manual_seed((seed ^ 0x5DEECE66D) % 2**63).get_state()


def site() -> str:
    """The line that asked for what is done now, as `folder/file.py:12`."""
    frame = sys._getframe(1)
    while frame.f_back and any(part in frame.f_code.co_filename for part in _OTHERS):
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"


DEVICE = Device()
