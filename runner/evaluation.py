"""Evaluate any distilled set: one of ours, in its run folder, or a file made elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import distilled, foreign
from runner.data import sets, store
from runner.data.reading import stem
from runner.data.sets import Dataset
from runner.distilled import DistilledSet
from runner.errors import FatalError, unknown
from runner.protocol import UNIFORM, Protocol, override
from runner.run import Result, evaluate_set
from runner.watch import Watch


@dataclass(frozen=True)
class Request:
    """What a user asks for; an empty field takes what the set itself, or its run folder, says."""

    path: Path
    dataset: str | None = None
    data: Path | None = None
    models: tuple[str, ...] = ()
    networks: int = 0
    protocol: str = "upstream"
    seed: int = 0
    changes: tuple[str, ...] = ()
    zca: bool = False
    """Whether a set of an upstream's own layout holds whitened images; ours say so themselves."""


def evaluate_file(request: Request, watch: Watch) -> Result:
    """Evaluate the set at `request.path` and return the scores; the run folder stays as it is."""
    if request.path.suffix == ".pt":
        return _evaluate_foreign(request, watch)
    found = distilled.load(request.path)
    cell = cell_of(request.path)
    path = request.data or (Path(cell["data"]) if cell.get("data") and not request.dataset else None)
    name = request.dataset or found.view.dataset
    data = _data(name, path, watch)
    if (held_out := cell.get("settings", {}).get("validation", 0)) and not (request.dataset or request.data):
        data = sets.held_out(data, held_out)  # what such a run is for must not be told by test images
    models = request.models or (cell.get("model") or "ConvNet",)
    scores = evaluate_set(found, data, models, _protocol(request, found), request.seed, watch)
    return {"state": "complete", "dataset": name, **scores, "run": str(request.path.resolve())}


def _evaluate_foreign(request: Request, watch: Watch) -> Result:
    """The same for a file of an upstream's own layout, which does not say of which data it is."""
    if not (request.dataset or request.data):
        raise FatalError(f"{request.path} does not say of which data it is: give --dataset NAME or --data PATH")
    name = request.dataset or stem(request.data or request.path)
    data = _data(name, request.data, watch)
    found, assumed = foreign.load(request.path, data, name, zca=request.zca)
    watch.say(assumed)
    models = request.models or ("ConvNet",)
    scores = evaluate_set(found, data, models, _protocol(request, found), request.seed, watch)
    path = str(request.path.resolve())
    return {"state": "complete", "dataset": name, **scores, "assumed": assumed, "run": path}


def _data(name: str, path: Path | None, watch: Watch) -> Dataset:
    watch.stage(f"reading {name}", None)
    return store.load(name, path, lambda done, _: watch.progress(done))


def _protocol(request: Request, found: DistilledSet) -> Protocol:
    known = {"upstream": found.protocol, "uniform": UNIFORM}
    if request.protocol not in known:
        raise unknown("protocol", request.protocol, list(known))
    pairs = dict(change.partition("=")[::2] for change in request.changes)
    return override(known[request.protocol], pairs | ({"networks": request.networks} if request.networks else {}))


def cell_of(path: Path) -> dict[str, Any]:
    """cell.json of the run folder that the set lies in, if it lies in one."""
    file = (path if path.is_dir() else path.parent) / "cell.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}
