"""Evaluate any distilled sets: ours, in their run folders, or files made elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdc.data.reading import Read, reader, stem
from sdc.evaluation import distilled, experiments, foreign
from sdc.evaluation.assumptions import dataset_in
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.foreign import Stated
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.scoring import Result, Subject, evaluate_sets
from sdc.ground import hardware
from sdc.ground.errors import FatalError, unknown
from sdc.ground.watch import Watch


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
    stated: Stated = field(default_factory=Stated)
    """What is said of a file of an upstream's own layout; our sets say it themselves."""


def evaluate_file(request: Request, watch: Watch, read: Read | None = None) -> Result:
    """Evaluate the set at `request.path` and return the scores; the run folder stays as it is."""
    return evaluate_files([request], watch, read)[0]


def evaluate_files(requests: Sequence[Request], watch: Watch, read: Read | None = None) -> list[Result]:
    """The same for several sets, those of one kind together where that pays (`sdc.evaluation.scoring.evaluate_sets`).

    `read` gives the data, where somebody has read them before. Raises FatalError for any that cannot be evaluated
    before it trains networks for one.
    """
    watch.say(f"computing on {hardware.said()}")
    read = read or reader(watch)
    asked = (
        [_asked(requests[0], read, watch)] if len(requests) == 1 else [_named(each, read, watch) for each in requests]
    )
    scores = iter(evaluate_sets([subject for each in asked for subject in each.subjects.values()], watch))
    return [_result(each, {number: next(scores) for number in each.subjects}, watch) for each in asked]


@dataclass(frozen=True)
class Asked:
    """What is to be scored by the number of its experiment, the name of its data, and what else the result says."""

    subjects: dict[int, Subject]
    dataset: str
    about: dict[str, Any]


def _result(asked: Asked, scores: Mapping[int, Result], watch: Watch) -> Result:
    if len(scores) > 1:
        watch.say(experiments.said(scores))
    of_all = experiments.merged(scores) if len(scores) > 1 else next(iter(scores.values()))
    return {"state": "complete", "dataset": asked.dataset, **of_all, **asked.about}


def _named(request: Request, read: Read, watch: Watch) -> Asked:
    """The same, where an error has to say of which of several it is."""
    try:
        return _asked(request, read, watch)
    except FatalError as error:
        raise FatalError(f"{request.path}: {error}") from error


def _asked(request: Request, read: Read, watch: Watch) -> Asked:
    if request.path.suffix == ".pt":
        return _foreign(request, read, watch)
    if request.stated.labels or request.stated.experiment != "all":
        raise FatalError(f"{request.path} says itself what it holds: --labels and --experiment are for .pt files")
    found, cell = distilled.load(request.path), cell_of(request.path)
    path = request.data or (Path(cell["data"]) if cell.get("data") and not request.dataset else None)
    name = request.dataset or found.view.dataset
    own = not (request.dataset or request.data)
    held_out = cell.get("settings", {}).get("validation", 0) if own else 0
    data = read(name, path, held_out, 0)  # what a run with a validation set is for must not be told by test images
    models = request.models or (cell.get("model") or "ConvNet",)
    subject = Subject(found, data, models, _protocol(request, found), request.seed)
    return Asked({0: subject}, name, {"run": str(request.path.resolve())})


def _foreign(request: Request, read: Read, watch: Watch) -> Asked:
    """The same for a file of an upstream's own layout, which says at most by its name of which data it is."""
    name = request.dataset or dataset_in(request.path.name) or (stem(request.data) if request.data else "")
    if not name:
        raise FatalError(f"{request.path} does not say of which data it is: give --dataset NAME or --data PATH")
    data = read(name, request.data, 0, 0)
    found = foreign.load(request.path, data, name, _stated(request))
    for words in dict.fromkeys(each.said for each in found):
        watch.say(words)
    models = request.models or (found[0].model,)
    subjects = {
        each.experiment: Subject(each.made, data, models, _protocol(request, each.made), request.seed) for each in found
    }
    about = {"assumed": found[0].said, "assumptions": found[0].assumptions, "run": str(request.path.resolve())}
    return Asked(subjects, name, about)


_SHOWN = ("mean", "std", "range")
"""What can be set of a file that does not say how its images were shown, beside its protocol."""


def _pairs(request: Request) -> dict[str, str]:
    return dict(change.partition("=")[::2] for change in request.changes)


def _stated(request: Request) -> Stated:
    """What is said of a file, by options and by --set."""
    pairs = _pairs(request)
    mean, std = (_numbers(key, pairs[key]) if key in pairs else None for key in ("mean", "std"))
    return replace(request.stated, mean=mean, std=std, range=pairs.get("range"))


def _numbers(key: str, text: str) -> tuple[float, ...]:
    """A number a channel, or one for all."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(value) and (value > 0 or key == "mean") for value in found):
        kind = "numbers" if key == "mean" else "positive numbers"
        raise FatalError(f"--set {key}={text}: give {kind}, one a channel or one for all, as --set {key}=0.5,0.5,0.5")
    return found


def _protocol(request: Request, found: DistilledSet) -> Protocol:
    known = {"upstream": found.protocol, "uniform": UNIFORM}
    if request.protocol not in known:
        raise unknown("protocol", request.protocol, list(known))
    pairs = _pairs(request)
    if request.path.suffix == ".pt":
        pairs = {key: value for key, value in pairs.items() if key not in _SHOWN}
    return override(known[request.protocol], pairs | ({"networks": request.networks} if request.networks else {}))


def cell_of(path: Path) -> dict[str, Any]:
    """cell.json of the run folder that the set lies in, if it lies in one."""
    file = (path if path.is_dir() else path.parent) / "cell.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}
