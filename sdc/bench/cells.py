"""The tasks of a benchmark: runs, measurements of weights, experts that runs share, and what state each is in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdc.bench.choices import Choice
from sdc.bench.spec import AUTO, CHOSEN, Weight
from sdc.data.reading import Read, stem
from sdc.distillation import experts, run, training_time
from sdc.ground.watch import Quiet
from sdc.patching.trees import shown
from sdc.plan.request import Request, plan

State = Literal["done", "failed", "started", "to do", "waiting"]
FAILED = "failed.json"
INIT = "init_from="


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark: what is asked for, the name of its folder, and the experts that it matches."""

    request: Request
    asked: Weight
    """The weight in the spec's words."""
    folder: str
    experts: Path | None
    """Where its experts are, or will be."""
    model: str
    networks: int
    """The network of the distillation and the run's own evaluation, and how many are evaluated."""
    validation: int = 0
    """The percentage of training images that it is tested on; 0: it is tested on the test images."""
    kind: tuple[object, ...] = ()
    """What it shares with cells whose networks can be trained beside its own: model, shape, protocol."""

    def name(self) -> str:
        """It in a few words, for people."""
        return _name(self.request, self.request.weight, self.asked, self.validation)

    def state(self, runs: Path) -> State:
        """What its folder in `runs` says."""
        where = runs / self.folder
        if not where.is_dir():
            return "to do"
        if run.complete(where):
            return "done"
        return "failed" if self.failed(runs).is_file() else "started"

    def failed(self, runs: Path) -> Path:
        """The file that says why it failed, if it did."""
        return runs / self.folder / FAILED


@dataclass(frozen=True)
class Measure:
    """A calibration that weights of the form `auto:F` wait for."""

    request: Request
    folder: str
    """Its file, relative to the folder of the runs."""
    experts: Path | None

    def name(self) -> str:
        """It in a few words, for people."""
        return f"calibrate {_name(self.request, 0.0, '', 0).replace(' weight 0', '')}"

    def state(self, runs: Path) -> State:
        """Whether it is measured, or failed."""
        if (runs / self.folder).is_file():
            return "done"
        return "failed" if self.failed(runs).is_file() else "to do"

    def failed(self, runs: Path) -> Path:
        """The file that says why it failed, if it did."""
        return (runs / self.folder).with_suffix(f".{FAILED}")


Task = Cell | Measure


@dataclass(frozen=True)
class Waiting:
    """A cell whose weight is not known yet."""

    request: Request
    asked: Weight
    experts: Path | None
    validation: int = 0

    def name(self) -> str:
        """It in a few words, for people."""
        return _name(self.request, None, self.asked, self.validation)


@dataclass(frozen=True)
class LeftOut:
    """What a method cannot do, and why."""

    method: str
    dataset: str
    ipc: int
    reason: str


@dataclass(frozen=True)
class Group:
    """Experts that cells share: where they are, a request that trains them, what that takes, and the cells' number."""

    where: Path
    request: Request
    cells: int
    ready: bool
    estimate: training_time.Estimate | None
    """None where they are there."""


@dataclass(frozen=True)
class Bench:
    """The tasks of a spec. Those of each kind keep their places, whatever is done of them."""

    measures: tuple[Measure, ...]
    entries: tuple[Cell | Waiting, ...]
    """In the order of the spec; one may be asked for in two ways."""
    choices: tuple[Choice, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Those whose weight is known, each once."""
        return tuple({cell.folder: cell for cell in self.entries if isinstance(cell, Cell)}.values())

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Those whose weight is not."""
        return tuple(cell for cell in self.entries if isinstance(cell, Waiting))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All that can be done by now, those that others wait for first."""
        return (*self.measures, *sorted(self.cells, key=lambda cell: not cell.validation))


def groups(tasks: Iterable[Task | Waiting], read: Read) -> list[Group]:
    """The experts that tasks share, each with an estimate where they are still to be trained."""
    found = []
    keyed = sorted((task for task in tasks if task.experts), key=lambda task: str(task.experts))
    for where, sharing in itertools.groupby(keyed, key=lambda task: task.experts):
        members = list(sharing)
        ready = where is not None and experts.are_ready(where)
        estimate = None if ready else training_time.estimate(plan(members[0].request, Quiet(), read))
        cells = sum(not isinstance(member, Measure) for member in members)
        found.append(Group(Path(str(where)), members[0].request, cells, ready, estimate))
    return found


def failure(task: Task, runs: Path) -> str:
    """Why a task failed, as it left it."""
    return str(json.loads(task.failed(runs).read_text())["error"])


def _name(request: Request, weight: float | None, asked: Weight, validation: int) -> str:
    r = request
    number = [] if weight is None else [f"{weight:g}"]
    asking = [str(asked)] if asked in (CHOSEN,) or str(asked).startswith(AUTO) else []
    words = [shown(r.method, r.fork), str(r.dataset), f"ipc {r.ipc}", "weight", *(number or asking), f"seed {r.seed}"]
    words += [f"({asking[0]})"] if number and asking else []
    words += [r.schedule] if r.schedule != "constant" and weight != 0 else []
    words += [r.model] if r.model else []
    words += [f"from {stem(Path(change.removeprefix(INIT)))}" for change in r.changes if change.startswith(INIT)]
    return " ".join([*words, *(["on validation images"] if validation else [])])
