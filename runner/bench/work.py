"""What an engine's workers do: train experts, carry a cell out, evaluate its set further. All is kept in files.

Each of these may be killed and begun again; what it has done by then it does not do twice. A cell that fails says why
in its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from runner import distilled, evaluation, run
from runner import experts as trained_by
from runner.bench.cells import FAILED, Cell
from runner.data.sets import Dataset
from runner.distilled import DistilledSet
from runner.errors import FatalError
from runner.files import write_text
from runner.plan import Plan, Request, plan
from runner.protocol import UNIFORM, Protocol, override
from runner.view import normalised
from runner.watch import Quiet

FLOOR = "floor.json"
EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class More:
    """How a cell's set is evaluated beside what its run does: further models, another protocol, the floor."""

    models: tuple[str, ...] = ()
    protocol: str = "upstream"
    networks: int = 0
    floor: bool = False

    def files(self, cell: Cell) -> dict[Path, str]:
        """The files of these evaluations in the cell's folder, each with its model, empty for the floor."""
        models = self.models or ((cell.model,) if self.protocol != "upstream" else ())
        count = self.networks or cell.networks
        found = {Path(EVALUATIONS) / f"{model}-{self.protocol}-{count}.json": model for model in models}
        return found | ({Path(FLOOR): ""} if self.floor and not cell.request.weight else {})

    def missing(self, cell: Cell, runs: Path) -> dict[Path, str]:
        """Those that are not there yet."""
        where = runs / cell.folder
        return {file: model for file, model in self.files(cell).items() if not (where / file).is_file()}


def train(request: Request) -> None:
    """Train the experts that a request matches, unless they are there."""
    torch.set_num_threads(_threads())
    trained_by.ready(plan(request, Quiet()), Quiet())


def carry_out(cell: Cell, runs: Path, more: More) -> str:
    """Distil and evaluate one cell; `done`, or `failed` with the reason in its folder."""
    torch.set_num_threads(_threads())
    where = runs / cell.folder
    try:
        planned = plan(cell.request, Quiet())
        run.run(planned, runs, Quiet())
        for file, model in more.missing(cell, runs).items():
            _keep(where / file, _evaluated(planned, where, model, more) if model else _floor(planned, where))
    except Exception as error:  # whatever it is, the other cells go on
        text = str(error) if isinstance(error, FatalError) else f"{type(error).__name__}: {error}"
        failed(cell, runs, text)
        return "failed"
    (where / FAILED).unlink(missing_ok=True)
    return "done"


def failed(cell: Cell, runs: Path, text: str) -> None:
    """Keep in a cell's folder why it failed."""
    write_text(runs / cell.folder / FAILED, json.dumps({"error": text, "request": _plain(cell.request)}, indent=1))


def _evaluated(planned: Plan, where: Path, model: str, more: More) -> run.Result:
    """The scores of another model, or by another protocol, on a run's set."""
    asked = evaluation.Request(
        path=where,
        dataset=planned.cell.dataset,
        data=planned.data,
        models=(model,),
        networks=more.networks or planned.settings.networks,
        protocol=more.protocol,
        seed=planned.cell.seed,
    )
    return evaluation.evaluate_file(asked, Quiet())


def _floor(planned: Plan, where: Path) -> run.Result:
    """The scores of random real images instead of a run's; where the method learned its rate, at the usual one."""
    found = distilled.load(where)
    own = found.protocol if found.lr is None else override(found.protocol, {"lr": UNIFORM.lr})
    return floor(found, planned.dataset, own, planned.settings.model, planned.cell.seed)


def floor(found: DistilledSet, dataset: Dataset, protocol: Protocol, model: str, seed: int) -> run.Result:
    """Scores of random real images, as many a class as the set has, shown as it was and trained on in its way."""
    ipc = len(found.images) // len(dataset.classes)
    drawn = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"floor/{seed}".encode()).digest()[:7]))
    chosen = []
    for label in range(len(dataset.classes)):
        of_class = (dataset.train.labels == label).nonzero()[:, 0]
        chosen.append(of_class[torch.randperm(len(of_class), generator=drawn)[:ipc]])
    images = normalised(dataset.train.images[torch.cat(chosen)], found.view)
    labels = distilled.hard_labels(len(dataset.classes), ipc)
    real = replace(found, images=images, labels=labels, protocol=protocol, lr=None)
    return run.evaluate_set(real, dataset, [model], protocol, seed, Quiet())


def _keep(file: Path, result: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(dict(result), indent=1) + "\n")


def _plain(request: Request) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(request).items()}


def _threads() -> int:
    """As many as the engine gives a worker, so that a cell's bits do not depend on where it runs."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))
