"""From what a user asks to what will run: the data, the settings, the script's slot, the cell. Writes no run folder."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from sdc.adapters import base
from sdc.adapters.base import Adapter, Slot
from sdc.adapters.registry import ADAPTERS
from sdc.data import class_names, sets
from sdc.data.reading import Read, reader, stem
from sdc.data.sets import Dataset
from sdc.evaluation.protocol import Protocol, from_dict
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch
from sdc.patching import shipped
from sdc.patching.methods import find
from sdc.plan import schedule
from sdc.plan.cell import Cell
from sdc.plan.settings import Settings, resolve


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

    def steps(self) -> int:
        """How often the synthetic images will be updated."""
        return self.adapter.steps(self.job)

    def protocol(self, lr: float | None = None) -> Protocol:
        """How the method's own code would train on the distilled set (at `lr` if it was learned), with what is set."""
        own = dict(self.adapter.evaluation(self.job)) | {"networks": self.settings.networks}
        own |= {} if lr is None else {"lr": lr}
        return from_dict(own | ({"epochs": self.settings.epochs} if self.settings.epochs else {}))


def plan(request: Request, watch: Watch, read: Read | None = None) -> Plan:
    """Check a request against its method and data. Raises FatalError before anything is run or written.

    `read` gives the data, for callers with many requests of the same.
    """
    adapter = find(request.method)
    _check_numbers(request)
    name = request.dataset or (stem(request.data) if request.data else "digits")
    changes = (*request.changes, *([f"model={request.model}"] if request.model else []))
    settings = resolve(adapter, request.recipe, name, request.ipc, changes)
    shipped.checked(adapter.patch)
    read = read or reader(watch)
    dataset = read(name, request.data, settings.validation, settings.limit_per_class)
    start = _start(settings, dataset, request.ipc, read)
    slot = choose_slot(adapter, name, dataset)
    job = base.Job(slot, request.ipc, settings.model, settings.options, settings.experts, given=start is not None)
    if reason := adapter.refuse(job):
        raise FatalError(f"{adapter.method} cannot do this: {reason}")
    _check_supply(dataset, request.ipc)
    cell = _cell(request, name, adapter, settings, dataset, job, start)
    return Plan(adapter, dataset, slot, settings, cell, job, request.data, start)


def varied(planned: Plan, request: Request) -> Plan:
    """The plan that `plan` makes of a request, from that of one that differs in weight, schedule and seed alone."""
    _check_numbers(request)
    cell = replace(planned.cell, weight=request.weight, schedule=request.schedule, seed=request.seed)
    return replace(planned, cell=cell)


def choose_slot(adapter: Adapter, name: str, dataset: Dataset) -> Slot:
    """The dataset the script is told it has: the one of that name, else one of that shape, else of as many classes."""
    classes, (channels, size) = len(dataset.classes), (dataset.train.images.shape[1], dataset.train.images.shape[-1])
    fitting = [slot for slot in adapter.slots if slot.classes == classes]
    if not fitting:
        counts = " or ".join(str(n) for n in sorted({slot.classes for slot in adapter.slots}))
        raise FatalError(
            f"{adapter.method} takes datasets of {counts} classes; {name} has {classes}: {_few(dataset.classes)}.\n"
            + _instead(classes, counts)
        )
    named = [slot for slot in fitting if slot.name == adapter.datasets.get(name)]
    same_shape = [slot for slot in fitting if (slot.channels, slot.size) == (channels, size)]
    return (named or same_shape or fitting)[0]


def _instead(classes: int, counts: str) -> str:
    """What to do about a number of classes that a method does not take; another method, only if there is one."""
    others = [other.method for other in ADAPTERS.values() if any(slot.classes == classes for slot in other.slots)]
    if others:
        return f"Take another method: {', '.join(others)}"
    return f"No method here takes {classes}. Leave out classes, or add some, until there are {counts}"


def _start(settings: Settings, dataset: Dataset, ipc: int, read: Read) -> Dataset | None:
    """The images of `init_from`, if it is set: of the dataset's classes and shape, and enough of each class.

    Those that are held out to be tested on are left out.
    """
    if not settings.init_from:
        return None
    where, setting = Path(settings.init_from).expanduser(), f"--set init_from={settings.init_from}"
    found = read(stem(where), where, 0, 0)
    if list(found.classes) not in (list(dataset.classes), class_names.ordered(dataset.classes)):
        raise FatalError(
            f"{setting}: its classes are {_few(found.classes)}, those of {dataset.name} {_few(dataset.classes)}. "
            f"Give images of the same classes, as sdc difficulty --dataset {dataset.name} --split easiest writes"
        )
    shapes = [tuple(each.train.images.shape[1:]) for each in (found, dataset)]
    if shapes[0] != shapes[1]:
        raise FatalError(
            f"{setting}: its images are {_shape(shapes[0])}, those of {dataset.name} {_shape(shapes[1])}. "
            "Give images of the same shape"
        )
    found = sets.without(found, dataset.test.images) if settings.validation else found
    counts = found.train.labels.bincount(minlength=len(found.classes))
    if (fewest := int(counts.min())) < ipc:
        name = found.classes[int(counts.argmin())]
        raise FatalError(f"{setting}: class {name} has {fewest} training images there, and --ipc {ipc} needs as many")
    return found


def _few(classes: tuple[str, ...]) -> str:
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return ", ".join(classes[:5]) + more


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
        experts=_experts(adapter, job, dataset.sha256),
        init_sha256=start.sha256 if start else "",
    )


def _flat(settings: Settings) -> dict[str, base.Value]:
    values = {name: value for name, value in vars(settings).items() if name not in ("options", "experts")}
    return {**settings.options, **settings.experts, **values}


def _experts(adapter: Adapter, job: base.Job, data_sha256: str) -> str:
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


def _check_supply(dataset: Dataset, ipc: int) -> None:
    counts = dataset.train.labels.bincount(minlength=len(dataset.classes))
    if (fewest := int(counts.min())) < ipc:
        name = dataset.classes[int(counts.argmin())]
        raise FatalError(f"--ipc {ipc}: class {name} of {dataset.name} has only {fewest} training images to start from")
