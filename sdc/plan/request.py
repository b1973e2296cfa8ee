"""From what a user asks to what will run: the data, the settings, the script's slot, the cell. Writes no run folder."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdc.adapters import base
from sdc.adapters.base import Adapter, Slot
from sdc.data import canonical, class_names, sets
from sdc.data.reading import Read, reader, stem
from sdc.data.sets import Dataset
from sdc.evaluation import shown
from sdc.evaluation.protocol import Protocol, from_dict
from sdc.evaluation.shown import Scale
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch
from sdc.patching import shipped, trees
from sdc.patching.methods import find
from sdc.patching.trees import Fork
from sdc.plan import schedule
from sdc.plan.cell import Cell
from sdc.plan.fitting import Asked, few, job_of
from sdc.plan.refusals import resolved
from sdc.plan.settings import Settings


@dataclass(frozen=True)
class Request:
    """What a user asks for. `dataset` may be left out where `data` (a folder or archive) is given: it is its name."""

    method: str
    weight: float
    dataset: str | None = None
    data: Path | None = None
    ipc: int = 1
    schedule: str = "constant"
    seed: int = 0
    recipe: str = "quick"
    model: str | None = None
    changes: tuple[str, ...] = ()
    fork: Fork | None = None
    """The fork whose scripts are run, as it was looked at; None: the pin's are."""


@dataclass(frozen=True)
class Plan:
    """A request that can be carried out."""

    adapter: Adapter
    dataset: Dataset
    slot: Slot
    settings: Settings
    cell: Cell
    job: base.Job
    data: Path | None
    start: Dataset | None = None
    """The images that its first synthetic ones are drawn from; None: the script makes its own."""

    def about(self, scale: Scale | None = None) -> dict[str, Any]:
        """What is recorded of its images beside what shapes the cell; `scale` is the script's, once known."""
        slot = self.slot
        how = shown.served(self.dataset, slot.channels, slot.size, scale)
        first = shown.served(self.start, slot.channels, slot.size, scale).as_json() if self.start else None
        return {**shown.about(self.dataset, how), **({"init_shown": first} if first else {})}

    def changes(self) -> list[str]:
        """What is done to its images, and to those that its first ones are drawn from, a line each; none if nothing."""
        slot = self.slot
        read = [shown.served(data, slot.channels, slot.size) for data in (self.dataset, self.start) if data]
        return [each.words() for each in read if each.changed()]

    def remarks(self) -> list[str]:
        """What is to be said before it runs, a line each: of the fork whose scripts are run, and of images."""
        return [*(self.cell.fork.remarks if self.cell.fork else ()), *self.changes()]

    @property
    def script(self) -> Path:
        """The script that distils."""
        return trees.script_path(self.adapter, self.cell.fork)

    @property
    def tree(self) -> Path:
        """The top folder of the tree that it lies in."""
        return trees.tree_path(self.adapter, self.cell.fork)

    def steps(self) -> int:
        """How often the synthetic images will be updated."""
        return self.adapter.steps(self.job)

    def protocol(self, lr: float | None = None) -> Protocol:
        """How the method's own code would train on the distilled set (at `lr` if it was learned), with what is set."""
        own = dict(self.adapter.evaluation(self.job)) | {"networks": self.settings.networks}
        own |= {} if lr is None else {"lr": lr}
        return from_dict(own | ({"epochs": self.settings.epochs} if self.settings.epochs else {}))


def plan(request: Request, watch: Watch, read: Read | None = None) -> Plan:
    """Check a request against its method and data, and say what is run of a fork, and what is done to its images.

    `read` gives the data, for callers with many requests of the same. Raises FatalError before anything is run or
    written.
    """
    adapter = find(request.method)
    _check_numbers(request)
    name = request.dataset or (stem(request.data) if request.data else "digits")
    changes = (*request.changes, *([f"model={request.model}"] if request.model else []))
    settings = resolved(adapter, request.recipe, name, request.ipc, changes)
    shipped.checked(adapter.patch)
    read = read or reader(watch)
    dataset = read(name, request.data, settings.validation, settings.limit_per_class)
    start = _start(settings, dataset, request.data, read)
    asked = Asked(
        name,
        lambda percent, limit: read(name, request.data, percent, limit),
        request.ipc,
        request.recipe,
        changes,
        start,
    )
    job = job_of(adapter, settings, asked)
    cell = _cell(request, name, adapter, settings, dataset, job, start)
    made = Plan(adapter, dataset, job.slot, settings, cell, job, request.data, start)
    for line in made.remarks():
        watch.say(line)
    return made


def varied(planned: Plan, request: Request) -> Plan:
    """The plan that `plan` makes of a request, from that of one that differs in weight, schedule and seed alone."""
    _check_numbers(request)
    cell = replace(planned.cell, weight=request.weight, schedule=request.schedule, seed=request.seed)
    return replace(planned, cell=cell)


def _start(settings: Settings, dataset: Dataset, data: Path | None, read: Read) -> Dataset | None:
    """The images of `init_from`, if it is set: of the dataset's classes, in its order, and of its shape.

    Those that are held out to be tested on are left out.
    """
    if not settings.init_from:
        return None
    found = _classed_as(dataset, data, settings.init_from, read)
    shapes = [tuple(each.train.images.shape[1:]) for each in (found, dataset)]
    if shapes[0] != shapes[1]:
        raise FatalError(
            f"--set init_from={settings.init_from}: its images are {_shape(shapes[0])}, those of {dataset.name} "
            f"{_shape(shapes[1])}. Give images of the same shape"
        )
    return sets.without(found, dataset.test.images) if settings.validation else found


def _classed_as(dataset: Dataset, data: Path | None, init_from: str, read: Read) -> Dataset:
    """The images at `init_from`, whose classes are to be the dataset's, in its order, not in that of their folders."""
    where, setting = Path(init_from).expanduser(), f"--set init_from={init_from}"
    known = canonical.of(dataset.name, dataset.classes)
    named = ["--dataset", dataset.name, *(["--data", str(data)] if data else [])]
    advice = f"Give images of the same classes, as sdc difficulty {shlex.join(named)} --split easiest writes"
    try:
        found = read(known or stem(where), where, 0, 0)
    except FatalError as error:
        said = [line for line in str(error).splitlines() if "--data" not in line]  # advice for the data themselves
        raise FatalError("\n".join([f"{setting}: {said[0]}", *said[1:], advice])) from error
    if len(found.classes) != len(dataset.classes) or not (
        known or list(found.classes) in (list(dataset.classes), class_names.ordered(dataset.classes))
    ):
        raise FatalError(
            f"{setting}: its classes are {few(found.classes)}, those of {dataset.name} {few(dataset.classes)}. {advice}"
        )
    return found


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _cell(
    request: Request,
    name: str,
    adapter: Adapter,
    settings: Settings,
    dataset: Dataset,
    job: base.Job,
    start: Dataset | None,
) -> Cell:
    return Cell(
        method=adapter.method,
        dataset=name,
        ipc=request.ipc,
        weight=request.weight,
        schedule=request.schedule,
        model=settings.model,
        seed=request.seed,
        recipe=request.recipe,
        settings={key: value for key, value in _flat(settings).items() if key not in ("model", "source", "init_from")},
        upstream=adapter.upstream.url,
        commit=adapter.upstream.commit,
        patch_sha256=adapter.patch.sha256,
        data_sha256=dataset.sha256,
        experts=_experts(adapter, job, dataset.sha256, request.fork),
        init_sha256=start.sha256 if start else "",
        fork=request.fork,
    )


def _flat(settings: Settings) -> dict[str, base.Value]:
    values = {name: value for name, value in vars(settings).items() if name not in ("options", "experts")}
    return {**settings.options, **settings.experts, **values}


def _experts(adapter: Adapter, job: base.Job, data_sha256: str, fork: Fork | None) -> str:
    """The key of the experts: ten hex digits of a hash over all that shapes them; empty if the method needs none."""
    if adapter.experts is None:
        return ""
    owner = find(adapter.experts.method)
    shaping = {
        "kind": adapter.experts.kind,
        "upstream": owner.upstream.url,
        "commit": owner.upstream.commit,
        "script": adapter.experts.script,
        "data_sha256": data_sha256,
        "slot": job.slot.name,
        "model": job.model,
        "zca": job.options["zca"],
        **job.experts,
        **({"fork": fork.experts_sha256} if fork and fork.experts_sha256 else {}),
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:10]


def _check_numbers(request: Request) -> None:
    if not (math.isfinite(request.weight) and request.weight >= 0):
        raise FatalError(f"--weight {request.weight}: the weight is a finite number, 0 (no SDC) or more")
    schedule.options(request.schedule)
    if request.ipc < 1:
        raise FatalError(f"--ipc {request.ipc}: at least one image a class")
    if request.seed < 0:
        raise FatalError(f"--seed {request.seed}: 0 or more")
