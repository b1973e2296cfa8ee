"""Evaluate any distilled set: one of ours, in its run folder, or a file made elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from runner import distilled
from runner.data import store
from runner.distilled import DistilledSet
from runner.errors import unknown
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


def evaluate_file(request: Request, watch: Watch) -> Result:
    """Evaluate the set at `request.path` and return the scores; the run folder stays as it is."""
    found = distilled.load(request.path)
    cell = _cell(request.path)
    path = request.data or (Path(cell["data"]) if cell.get("data") and not request.dataset else None)
    name = request.dataset or found.view.dataset
    watch.stage(f"reading {name}", None)
    data = store.load(name, path, lambda done, _: watch.progress(done))
    models = request.models or (cell.get("model") or "ConvNet",)
    scores = evaluate_set(found, data, models, _protocol(request, found), request.seed, watch)
    return {"state": "complete", "dataset": name, **scores, "run": str(request.path.resolve())}


def _protocol(request: Request, found: DistilledSet) -> Protocol:
    known = {"upstream": found.protocol, "uniform": UNIFORM}
    if request.protocol not in known:
        raise unknown("protocol", request.protocol, list(known))
    pairs = dict(change.partition("=")[::2] for change in request.changes)
    return override(known[request.protocol], pairs | ({"networks": request.networks} if request.networks else {}))


def _cell(path: Path) -> dict[str, str]:
    """cell.json of the run folder that the set lies in, if it lies in one."""
    file = (path if path.is_dir() else path.parent) / "cell.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}
