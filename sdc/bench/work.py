"""What workers do: train experts, calibrate, carry a cell out, evaluate its set further. All is kept in files.

Each of these may be killed and begun again; what it has done by then it does not do twice. A task that fails says why
in a file of its own. `read` gives the data, where somebody has read them before.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from sdc.analysis.difficulty import course
from sdc.bench.cells import Cell, Task
from sdc.data.reading import Read, reader
from sdc.data.sets import Dataset, drawn
from sdc.distillation import calibrate, run
from sdc.distillation import experts as trained_by
from sdc.evaluation import distilled, set_files
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.scoring import Result, Subject, evaluate_sets
from sdc.evaluation.view import normalised
from sdc.ground import storage
from sdc.ground.errors import FatalError
from sdc.ground.files import write_text
from sdc.ground.watch import Quiet
from sdc.plan.request import Plan, Request, plan

log = logging.getLogger(__name__)
FLOOR = "floor.json"
EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class More:
    """How a cell's set is evaluated beside what its run does: further models, another protocol, the floor.

    `together`: whether the runs themselves are evaluated together, where their sets are of one kind; None: if it pays.
    """

    models: tuple[str, ...] = ()
    protocol: str = "upstream"
    networks: int = 0
    floor: bool = False
    together: bool | None = None

    def files(self, cell: Cell) -> dict[Path, str]:
        """The files of these evaluations in the cell's folder, each with its model, empty for the floor."""
        if cell.validation:  # it is there to choose a weight, no more
            return {}
        models = self.models or ((cell.model,) if self.protocol != "upstream" else ())
        count = self.networks or cell.networks
        found = {Path(EVALUATIONS) / f"{model}-{self.protocol}-{count}.json": model for model in models}
        return found | ({Path(FLOOR): ""} if self.floor and not cell.request.weight else {})

    def missing(self, cell: Cell, runs: Path) -> dict[Path, str]:
        """Those that are not there yet."""
        where = runs / cell.folder
        return {file: model for file, model in self.files(cell).items() if not (where / file).is_file()}


def train(request: Request, read: Read | None = None) -> None:
    """Train the experts that a request matches, unless they are there."""
    torch.set_num_threads(_threads())
    trained_by.ready(plan(request, Quiet(), read), Quiet())


def carry_out(task: Task, runs: Path, more: More, read: Read | None = None) -> str:
    """Do one task, whatever of it is missing; `done`, or `failed` with the reason in its file."""
    return _outcome(task, runs, lambda: _whole(task, runs, more, read or reader(Quiet())), "done")


def distil(cell: Cell, runs: Path, read: Read | None = None) -> str:
    """Do of a cell what comes before its evaluation; `distilled`, or `failed` with the reason in its file."""
    return _outcome(cell, runs, lambda: run.distil(plan(cell.request, Quiet(), read), runs, Quiet()), "distilled")


def evaluate(cells: Sequence[Cell], runs: Path, more: More, read: Read | None = None) -> list[str]:
    """Evaluate together what was distilled of cells, then do what else is missing of each; `done` or `failed`, each.

    Where something stops them together, each goes on alone, behind the networks that have been scored by then.
    """
    torch.set_num_threads(_threads())
    read = read or reader(Quiet())
    try:
        plans = [plan(cell.request, Quiet(), read) for cell in cells]
        run.run_together(plans, runs, Quiet(), stack=more.together)
    except Exception as error:
        log.warning("%d cells could not be evaluated together: %s: %s", len(cells), type(error).__name__, error)
    return [_outcome(cell, runs, functools.partial(_whole, cell, runs, more, read), "done") for cell in cells]


def _outcome(task: Task, runs: Path, do: Callable[[], None], well: str) -> str:
    """Do something for a task; `well`, or `failed` if anything goes wrong, so that the other tasks go on."""
    torch.set_num_threads(_threads())
    try:
        with storage.at(runs, storage.RUNS):
            do()
    except Exception as error:
        text = str(error) if isinstance(error, FatalError) else f"{type(error).__name__}: {error}"
        failed(task, runs, text)
        return "failed"
    task.failed(runs).unlink(missing_ok=True)
    return well


def failed(task: Task, runs: Path, text: str) -> None:
    """Keep in a task's own file why it failed."""
    write_text(task.failed(runs), json.dumps({"error": text, "request": asdict(task.request)}, indent=1, default=str))


def _whole(task: Task, runs: Path, more: More, read: Read) -> None:
    """All that is missing of a task."""
    planned = plan(task.request, Quiet(), read)
    if not isinstance(task, Cell):
        calibrate.measure(planned, runs, Quiet())
        return
    where = runs / task.folder
    run.run(planned, runs, Quiet())
    for file, model in more.missing(task, runs).items():
        found = _evaluated(planned, where, model, more, read) if model else _floor(planned, where)
        write_text(where / file, json.dumps(found, indent=1) + "\n")
    course.keep(where, Quiet())


def _evaluated(planned: Plan, where: Path, model: str, more: More, read: Read) -> Result:
    """The scores of another model, or by another protocol, on a run's set."""
    asked = set_files.Request(
        path=where,
        dataset=planned.cell.dataset,
        data=planned.data,
        models=(model,),
        networks=more.networks or planned.settings.networks,
        protocol=more.protocol,
        seed=planned.cell.seed,
    )
    return set_files.evaluate_file(asked, Quiet(), read)


def _floor(planned: Plan, where: Path) -> Result:
    """The scores of random real images instead of a run's; where the method learned its rate, at the usual one."""
    found = distilled.load(where)
    own = found.protocol if found.lr is None else override(found.protocol, {"lr": UNIFORM.lr})
    return floor(found, planned.dataset, own, planned.settings.model, planned.cell.seed)


def floor(found: DistilledSet, dataset: Dataset, protocol: Protocol, model: str, seed: int) -> Result:
    """Scores of random real images, as many a class as the set has, shown as it was and trained on in its way."""
    ipc = len(found.images) // len(dataset.classes)
    chosen = drawn(dataset, ipc, f"floor/{seed}")  # fewer of a class that has fewer
    images = normalised(dataset.train.images[chosen], found.view)
    real = replace(found, images=images, labels=dataset.train.labels[chosen], protocol=protocol, lr=None)
    return evaluate_sets([Subject(real, dataset, [model], protocol, seed)], Quiet())[0]


def _threads() -> int:
    """As many as the engine gives a worker, so that a cell's bits do not depend on where it runs."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))
