"""From a spec to its tasks: what can be run, what is left out and why, and which weights must be measured first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdc.bench import choices
from sdc.bench.cells import INIT, Bench, Cell, LeftOut, Measure, Waiting
from sdc.bench.choices import Candidate, Choice
from sdc.bench.looked_at import Forks
from sdc.bench.spec import AUTO, Part, Spec, Weight
from sdc.data.reading import Read, reader
from sdc.distillation import calibrate, experts
from sdc.evaluation import networks
from sdc.ground.errors import FatalError
from sdc.ground.watch import Once, Quiet, Watch
from sdc.patching.trees import shown
from sdc.plan.request import Plan, Request, plan, varied


def of(spec: Spec, runs: Path, watch: Watch, read: Read | None = None, own: Forks | None = None) -> Bench:
    """All tasks of a spec. Raises FatalError for data or a fork that cannot be had, or if no cell can be run.

    `read` gives the data, and `own` the forks, for callers with more to do with them.
    """
    forks = (own or Forks()).of(spec)
    found = _Planner(
        spec, runs, read or reader(watch), Once(watch)
    )  # what is done to images is said for many cells alike
    watch.stage("planning", None)
    for method, dataset, ipc in itertools.product(spec.methods, spec.datasets, spec.ipc):
        part = spec.parts[method]
        for start, model, schedule in itertools.product(spec.starts, part.models, part.schedules):
            base = _request(spec, part, method, dataset, ipc, model, schedule, start)
            found.add(replace(base, fork=forks.get(method)), part.weights)
    if not found.entries:
        reasons = "\n".join(
            f"  {gone.method} on {gone.dataset}, ipc {gone.ipc}: {gone.reason}" for gone in found.left_out
        )
        raise FatalError(f"no cell of this benchmark can be run:\n{reasons}")
    return Bench(
        tuple(found.measures.values()), tuple(found.entries.values()), tuple(found.choices), tuple(found.left_out)
    )


@dataclass
class _Planner:
    """What `of` has found so far."""

    spec: Spec
    runs: Path
    read: Read
    watch: Watch
    measures: dict[str, Measure] = field(default_factory=dict)
    entries: dict[tuple[Request, Weight], Cell | Waiting] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    left_out: dict[LeftOut, None] = field(default_factory=dict)
    shared: dict[Request, _Shared] = field(default_factory=dict)
    """By the request at weight 0 and seed 0."""

    def add(self, base: Request, weights: Iterable[Weight]) -> None:
        """The cells of a request at all weights and seeds, or the reason why it cannot be done."""
        self.read(str(base.dataset), base.data, 0, 0)  # what cannot be read fails the benchmark, not this cell
        try:
            for asked in weights:
                self._add(base, asked, self._number(base, asked))
        except FatalError as error:
            gone = LeftOut(shown(base.method, base.fork), str(base.dataset), base.ipc, str(error).splitlines()[0])
            self.left_out[gone] = None

    def _add(self, base: Request, asked: Weight, weight: float | None) -> list[Cell]:
        """A cell a seed, or as many that wait; those that do not are returned."""
        schedule = base.schedule if asked else "constant"  # at weight 0 there is nothing to ramp
        shared, made = self._shared(base), list[Cell]()
        for seed in self.spec.seeds:
            request = replace(base, seed=seed, schedule=schedule)
            if (request, asked) not in self.entries:
                self.entries[request, asked] = _entry(shared, request, asked, weight)
            if isinstance(found := self.entries[request, asked], Cell):
                made.append(found)
        return made

    def _check_models(self, planned: Plan) -> None:
        """Raises FatalError if a set is to be judged by a network that does not take its images."""
        slot = planned.slot
        for model in self.spec.models:
            networks.check(model, slot.channels, slot.classes, slot.size)

    def _number(self, base: Request, asked: Weight) -> float | None:
        """The weight that the spec's word means; None as long as it has to be measured."""
        if not isinstance(asked, str):
            return asked
        if asked.startswith(AUTO):
            return self._measured(base, float(asked.removeprefix(AUTO)))
        return self._chosen(base)

    def _measured(self, base: Request, fraction: float) -> float | None:
        request = replace(base, weight=0.0, schedule="constant", seed=self.spec.seeds[0])
        shared = self._shared(request)
        planned = varied(shared.plan, request)
        file = calibrate.file(planned, self.runs).relative_to(self.runs).as_posix()
        self.measures.setdefault(file, Measure(request, file, shared.experts))
        known = calibrate.known(planned, self.runs)
        return known.weight(fraction) if known else None

    def _chosen(self, base: Request) -> float | None:
        """The best of the spec's candidates on images held out of the training data, once all have been run."""
        asked = self.spec.choose
        apart = replace(base, changes=(*base.changes, f"validation={asked.validation}"))
        numbers = [(word, self._number(apart, word)) for word in (0.0, *asked.weights)]
        runs = [(word, weight, self._add(apart, word, weight)) for word, weight in numbers]
        candidates = [
            Candidate(word, weight, tuple(cell.folder for cell in cells))
            for word, weight, cells in runs
            if weight is not None
        ]
        if len(candidates) < len(numbers):
            return None
        if choice := choices.decide(apart, asked.validation, self.spec.seeds, candidates, self.runs):
            self.choices.append(choice)
            return choice.chosen.weight
        return None

    def _shared(self, request: Request) -> _Shared:
        """What a request shares with those that differ from it in weight, schedule and seed alone."""
        base = replace(request, weight=0.0, schedule="constant", seed=0)
        if base not in self.shared:
            planned = plan(base, Quiet(), self.read)
            for line in planned.remarks():
                self.watch.say(line)
            self._check_models(planned)
            self.shared[base] = _Shared(planned, _experts(planned), _kind(planned))
        return self.shared[base]


@dataclass(frozen=True)
class _Shared:
    """A plan, but for its weight, schedule and seed, with its experts and the kind of its networks."""

    plan: Plan
    experts: Path | None
    kind: tuple[object, ...]


def _entry(shared: _Shared, request: Request, asked: Weight, weight: float | None) -> Cell | Waiting:
    """The cell of a request at a weight, or that waits for it."""
    weighed, settings = replace(request, weight=weight or 0.0), shared.plan.settings
    planned = varied(shared.plan, weighed)
    if weight is None:
        return Waiting(request, asked, shared.experts, settings.validation)
    numbers = settings.networks, settings.validation
    return Cell(weighed, asked, planned.cell.folder(), shared.experts, settings.model, *numbers, shared.kind)


def _request(
    spec: Spec, part: Part, method: str, dataset: str, ipc: int, model: str, schedule: str, start: Path | None
) -> Request:
    """At weight 0 and the first seed, as the others are made of it."""
    return Request(
        method=method,
        weight=0.0,
        dataset=dataset,
        data=spec.data.get(dataset),
        ipc=ipc,
        schedule=schedule,
        seed=spec.seeds[0],
        recipe=part.recipe,
        model=model or None,
        changes=(*(f"{name}={value}" for name, value in part.settings.items()), *([f"{INIT}{start}"] if start else [])),
    )


def _kind(planned: Plan) -> tuple[object, ...]:
    slot, protocol = planned.slot, replace(planned.protocol(lr=1.0), networks=1)
    return planned.settings.model, slot.classes * planned.cell.ipc, slot.channels, slot.size, protocol


def _experts(planned: Plan) -> Path | None:
    return experts.folder(planned) if planned.adapter.experts else None
