"""Evaluate any distilled sets: ours, in their run folders, or files made elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdc.data import torchvision_folders
from sdc.data.reading import Read, reader, stem
from sdc.data.sets import Dataset
from sdc.evaluation import distilled, experiments, foreign, label_order, networks, outcomes, set_layouts, shown
from sdc.evaluation.assumptions import dataset_in
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.foreign import Stated
from sdc.evaluation.protocol import UNIFORM, Protocol, override
from sdc.evaluation.scoring import Result, Subject, evaluate_sets
from sdc.ground import hardware
from sdc.ground.errors import FatalError, unknown
from sdc.ground.files import writable
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
    """What is said of a set made elsewhere; our sets say it themselves."""

    def again(self) -> list[str]:
        """The command that asks for it, in words."""
        words = ["sdc", "evaluate", str(self.path.resolve())]
        stated = {"labels": self.stated.labels, "experiment": self.stated.experiment, "model": ",".join(self.models)}
        given = {"dataset": self.dataset, "data": self.data and str(self.data.expanduser().resolve()), **stated}
        given |= {"networks": str(self.networks or ""), "protocol": self.protocol, "seed": str(self.seed or "")}
        usual = {"experiment": "all", "protocol": "upstream"}
        words += [w for n, value in given.items() if value and value != usual.get(n) for w in (f"--{n}", str(value))]
        words += ["--label-order", self.stated.order] if self.stated.order else []
        words += [] if self.stated.zca is None else ["--zca" if self.stated.zca else "--no-zca"]
        return [*words, *(word for change in self.changes for word in ("--set", change))]


def evaluate_file(request: Request, watch: Watch, read: Read | None = None) -> Result:
    """Evaluate the set at `request.path` and return the scores; the run folder stays as it is."""
    return evaluate_files([request], watch, read=read)[0]


def evaluate_files(
    requests: Sequence[Request], watch: Watch, runs: Path | None = None, read: Read | None = None
) -> list[Result]:
    """The same for several sets, those of one kind together where that pays (`sdc.evaluation.scoring.evaluate_sets`).

    With `runs`, results of sets made elsewhere are kept beside the runs there. `read` gives the data, for callers with
    more to do. Raises FatalError for any that cannot be evaluated, or kept, before it trains networks for one.
    """
    for request in requests:
        if runs and cell_of(request.path):
            raise outcomes.refuse(request.path, runs)
    watch.say(f"computing on {hardware.said()}")
    read = read or reader(watch)
    asked = (
        [_asked(requests[0], read, watch)] if len(requests) == 1 else [_named(each, read, watch) for each in requests]
    )
    for line in dict.fromkeys(each.about["shown"]["words"] for each in asked if each.about["shown"]["changed"]):
        watch.say(line)
    if runs:
        writable(runs)
    scores = iter(evaluate_sets([subject for each in asked for subject in each.subjects.values()], watch))
    results = [_result(each, {number: next(scores) for number in each.subjects}, watch) for each in asked]
    if runs is None:
        return results
    return [
        outcomes.keep(request.path, list(each.subjects.values()), result, request.again(), runs)
        for request, each, result in zip(requests, asked, results, strict=True)
    ]


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
    for model in request.models:
        networks.known(model)
    if not distilled.is_one(request.path):
        return _foreign(request, read, watch)
    found, cell = distilled.load(request.path), cell_of(request.path)
    _check_nothing_stated(request)
    path = request.data or (Path(cell["data"]) if cell.get("data") and not request.dataset else None)
    name = request.dataset or found.view.dataset
    own = not (request.dataset or request.data)
    held_out = cell.get("settings", {}).get("validation", 0) if own else 0
    least = 0 if "data_sha256" in (found.about or {}) else found.view.size  # a run of ours saw images of the usual size
    data = read(name, path, held_out, 0, least)  # what a run with a validation set is for is not told by test images
    _check_classes(request, found, data)
    found, renumbered = label_order.of_set(found, data, name)
    if renumbered:
        watch.say(renumbered)
    models = request.models or (cell.get("model") or "ConvNet",)
    subject = Subject(found, data, models, _protocol(request, found, _pairs(request)), request.seed)
    return Asked({0: subject}, name, {"run": str(request.path.resolve()), **_of_images(data, found)})


def _check_classes(request: Request, found: DistilledSet, data: Dataset) -> None:
    if request.data and len(data.classes) != len(found.view.classes):
        raise FatalError(
            f"the set has {len(found.view.classes)} classes, of {found.view.dataset}, and {request.data} has "
            f"{len(data.classes)}. Leave out --data, or give the images that the set was made of"
        )


def _check_nothing_stated(request: Request) -> None:
    """Our own sets say how they were made: nothing may be said against that, and be passed over."""
    told, pairs = request.stated, _pairs(request)
    options = {"--labels": told.labels, "--experiment": told.experiment != "all"}
    options |= {"--label-order": told.order, "--zca": told.zca}
    options |= {"--no-zca": told.zca is False, **{f"--set {key}": key in pairs for key in _SHOWN}}
    if given := [name for name, value in options.items() if value]:
        raise FatalError(
            f"{request.path} says itself what it holds: {' and '.join(given)} {'is' if len(given) == 1 else 'are'} for "
            ".pt files, and other sets made elsewhere. Leave it out"
        )


def _foreign(request: Request, read: Read, watch: Watch) -> Asked:
    """The same for a set made elsewhere, which says at most by its name of which data it is, and for our exports."""
    held = set_layouts.held(request.path)
    told = held.told
    of_set = told.dataset if told else dataset_in(held.path.name)
    name = request.dataset or of_set or (_called(request.data) if request.data else "")
    if not name:
        raise FatalError(f"{request.path} does not say of which data it is: give --dataset NAME or --data PATH")
    own = told is not None and not (request.dataset or request.data)
    path, held_out = (told.data, told.validation) if told and own else (request.data, 0)
    data = read(name, path, held_out, 0, foreign.side(held))
    found = foreign.read(held, data, name, _stated(request))
    for words in dict.fromkeys(each.said for each in found):
        watch.say(words)
    models = request.models or (found[0].model,)
    pairs = {key: value for key, value in _pairs(request).items() if key not in _SHOWN}
    subjects = {
        each.experiment: Subject(each.made, data, models, _protocol(request, each.made, pairs), request.seed)
        for each in found
    }
    images = _of_images(data, found[0].made)
    seen = images["shown"]["words"] if images["shown"]["changed"] else "as they are"
    assumptions = found[0].assumptions | {"test_images": seen}
    about = {"assumed": found[0].said, "assumptions": assumptions, "run": str(request.path.resolve())}
    return Asked(subjects, name, about | images)


def _called(data: Path) -> str:
    """The dataset known by name whose published files these are, else what they are called."""
    published = torchvision_folders.choose(data, stem(data)) if data.is_dir() else None
    return published.dataset if published and not published.doubt else stem(data)


def _of_images(data: Dataset, found: DistilledSet) -> dict[str, Any]:
    """What the result says of the data, and of how they are shown to networks that learn from the set."""
    return dict(shown.about(data, shown.viewed(data, found.view)))


_SHOWN = ("mean", "std", "range", "factor")
"""What can be set of a file that does not say how its images were shown, beside its protocol."""


def _pairs(request: Request) -> dict[str, str]:
    return dict(change.partition("=")[::2] for change in request.changes)


def _stated(request: Request) -> Stated:
    """What is said of a file, by options and by --set."""
    pairs = _pairs(request)
    mean, std = (_numbers(key, pairs[key]) if key in pairs else None for key in ("mean", "std"))
    factor = pairs.get("factor", "1")
    if factor not in ("1", "2", "3", "4", "5", "6", "7", "8"):
        raise FatalError(f"--set factor={factor}: give how many images stand side by side in one, 1 to 8")
    return replace(request.stated, mean=mean, std=std, range=pairs.get("range"), factor=int(factor))


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


def _protocol(request: Request, found: DistilledSet, pairs: Mapping[str, str]) -> Protocol:
    """The protocol that is asked for, with the changes in `pairs`."""
    known = {"upstream": found.protocol, "uniform": UNIFORM}
    if request.protocol not in known:
        raise unknown("protocol", request.protocol, list(known))
    return override(known[request.protocol], {**pairs} | ({"networks": request.networks} if request.networks else {}))


def cell_of(path: Path) -> dict[str, Any]:
    """cell.json of the run folder that the set lies in, if it lies in one."""
    file = (path if path.is_dir() else path.parent) / "cell.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}
