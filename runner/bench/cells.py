"""From a spec to its cells: what can be run, what is left out and why, what is done, and what the rest will take."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner import experts, run
from runner.bench.spec import Part, Spec
from runner.errors import FatalError
from runner.plan import Request, plan, reader
from runner.watch import Quiet, Watch

State = Literal["done", "failed", "started", "to do"]
FAILED = "failed.json"


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark: what is asked for, the name of its folder, and the experts that it matches."""

    request: Request
    folder: str
    experts: Path | None
    """Where its experts are, or will be."""
    model: str
    networks: int
    """The network of the distillation and the run's own evaluation, and how many are evaluated."""

    def name(self) -> str:
        """It in a few words, for people."""
        r = self.request
        words = [r.method, str(r.dataset), f"ipc {r.ipc}", f"weight {r.weight:g}", f"seed {r.seed}"]
        return " ".join([*words, *([r.schedule] if r.schedule != "constant" else []), *([r.model] if r.model else [])])

    def state(self, runs: Path) -> State:
        """What its folder in `runs` says."""
        where = runs / self.folder
        if run.complete(where):
            return "done"
        if (where / FAILED).is_file():
            return "failed"
        return "started" if where.is_dir() else "to do"


@dataclass(frozen=True)
class LeftOut:
    """What a method cannot do, and why."""

    method: str
    dataset: str
    ipc: int
    reason: str


@dataclass(frozen=True)
class Group:
    """Experts that cells share: where they are, the cell that trains them, what that takes, and the cells' number."""

    where: Path
    request: Request
    cells: int
    ready: bool
    estimate: experts.Estimate | None
    """None where they are there."""


@dataclass(frozen=True)
class Bench:
    """The cells of a spec, in the order of their methods, and what was left out."""

    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...]


def of(spec: Spec, watch: Watch) -> Bench:
    """All cells of a spec. Raises FatalError for data that cannot be had, or if no cell can be run."""
    read = reader(watch)
    cells: dict[str, Cell] = {}
    left_out: dict[LeftOut, None] = {}
    watch.stage("planning", None)
    for request in _requests(spec):
        read(str(request.dataset), request.data, 0)
        try:
            planned = plan(request, Quiet(), read)
        except FatalError as error:
            reason = str(error).splitlines()[0]
            left_out[LeftOut(request.method, str(request.dataset), request.ipc, reason)] = None
            continue
        matched = experts.folder(planned) if planned.adapter.experts else None
        cell = Cell(request, planned.cell.folder(), matched, planned.settings.model, planned.settings.networks)
        cells[cell.folder] = cell
    if not cells:
        reasons = "\n".join(f"  {gone.method} on {gone.dataset}, ipc {gone.ipc}: {gone.reason}" for gone in left_out)
        raise FatalError(f"no cell of this benchmark can be run:\n{reasons}")
    return Bench(tuple(cells.values()), tuple(left_out))


def groups(cells: tuple[Cell, ...]) -> list[Group]:
    """The experts that cells share, each with an estimate where they are still to be trained."""
    found = []
    keyed = sorted((cell for cell in cells if cell.experts), key=lambda cell: str(cell.experts))
    for where, sharing in itertools.groupby(keyed, key=lambda cell: cell.experts):
        members = list(sharing)
        ready = where is not None and experts.are_ready(where)
        estimate = None if ready else experts.estimate(plan(members[0].request, Quiet()))
        found.append(Group(Path(str(where)), members[0].request, len(members), ready, estimate))
    return found


def seconds_known(cells: tuple[Cell, ...], runs: Path) -> dict[tuple[object, ...], float]:
    """The mean time of finished runs in `runs`, by their kind, for an estimate of others."""
    taken: dict[tuple[object, ...], list[float]] = {}
    for cell in cells:
        if result := run.complete(runs / cell.folder):
            spent = sum(stage["seconds"] for name, stage in result["stages"].items() if name != "experts")
            taken.setdefault(kind(cell), []).append(spent)
    return {which: sum(all_of) / len(all_of) for which, all_of in taken.items()}


def kind(cell: Cell) -> tuple[object, ...]:
    """What runs that take about as long have in common."""
    r = cell.request
    return r.method, r.dataset, r.ipc, r.recipe, r.model, r.changes


def failure(cell: Cell, runs: Path) -> str:
    """Why a cell failed, as its folder keeps it."""
    return str(json.loads((runs / cell.folder / FAILED).read_text())["error"])


def _requests(spec: Spec) -> Iterator[Request]:
    for method, dataset, ipc in itertools.product(spec.methods, spec.datasets, spec.ipc):
        part: Part = spec.parts[method]
        for model, schedule, weight, seed in itertools.product(part.models, part.schedules, part.weights, spec.seeds):
            yield Request(
                method=method,
                weight=weight,
                dataset=dataset,
                data=spec.data.get(dataset),
                ipc=ipc,
                schedule=schedule if weight else "constant",  # at weight 0 there is nothing to ramp
                seed=seed,
                recipe=part.recipe,
                model=model or None,
                changes=tuple(f"{name}={value}" for name, value in part.settings.items()),
            )
