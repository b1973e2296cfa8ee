"""`sdc difficulty`: GraDN of distilled sets and real images, over networks of one's choice, class by class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sdc.analysis.difficulty import course, figures, samples
from sdc.analysis.difficulty.gradn import Spread, by_network, spread
from sdc.analysis.difficulty.judges import Judges
from sdc.analysis.difficulty.panel import Panel, Request
from sdc.analysis.difficulty.samples import Source
from sdc.data.sets import Dataset
from sdc.evaluation import shown
from sdc.ground.drawing import Drawn
from sdc.ground.errors import FatalError
from sdc.ground.files import replacing, write_text
from sdc.ground.watch import Watch


@dataclass(frozen=True)
class Measured:
    """A source and the gradient norms of its samples, [M,N]: a row a network."""

    source: Source
    norms: Tensor
    networks: str

    @property
    def gradn(self) -> Tensor:
        """Of each sample, [N]: the mean over the networks."""
        return self.norms.mean(0)

    def overall(self) -> Spread:
        """Over all samples."""
        return spread(self.gradn)

    def by_class(self) -> list[tuple[str, Spread]]:
        """Of each class that has samples."""
        hard, gradn = self.source.hard(), self.gradn
        present = sorted(set(hard.tolist()))
        return [(self.source.view.classes[label], spread(gradn[hard == label])) for label in present]


@dataclass(frozen=True)
class State:
    """Difficulty of a run's images behind so many updates."""

    step: int
    spread: Spread


@dataclass(frozen=True)
class Found:
    """All that was measured; `courses` are the states of each run's history, by the number of its source."""

    measured: tuple[Measured, ...]
    courses: Mapping[int, Sequence[State]]
    data: Dataset | None
    """The real images, if they were asked for."""
    places: Tensor
    """Of each of their training images, its place in the whole dataset, int64 [n]."""


def measure(request: Request, watch: Watch) -> Found:
    """Measure all that is asked for. Raises FatalError where something is not there, or does not fit."""
    panel = Panel(request, watch)
    sets, data = samples.distilled_sets(request.paths), panel.data()
    courses = _courses(sets, panel, watch) if request.steps else {}
    chosen = [(source, panel.of(source)) for source in sets]
    if data:
        real = _real(data, chosen, panel, request)
        shown.say(watch, *(shown.viewed(data, source.view) for source, _ in real))
        chosen += real
    watch.stage("measuring gradient norms", sum(len(s.images) * len(j.networks) for s, j in chosen))
    measured, done = [], 0
    for source, panelists in chosen:
        told = _counted(watch, done)
        measured.append(
            Measured(source, by_network(source.images, source.labels, panelists.networks, told), panelists.said)
        )
        done += len(source.images) * len(panelists.networks)
    return Found(tuple(measured), courses, data, panel.places())


def _real(
    data: Dataset, sets: Sequence[tuple[Source, Judges]], panel: Panel, request: Request
) -> list[tuple[Source, Judges]]:
    """The real images, judged by themselves or once by each of the judges of the sets, and shown as these are."""
    first = {id(panelists): (source, panelists) for source, panelists in reversed(sets)}
    if not first:
        alone = samples.real(data, request.most, None, request.model)
        return [(alone, panel.of(alone))]
    pairs = [
        (samples.real(data, request.most, source, request.model), panelists)
        for source, panelists in reversed(first.values())
    ]
    names = [source.name for source in samples.named([*(s for s, _ in sets), *(s for s, _ in pairs)])]
    return [
        (replace(source, name=name), panelists)
        for (source, panelists), name in zip(pairs, names[len(sets) :], strict=True)
    ]


def facts(found: Found) -> dict[str, Any]:
    """The numbers as JSON: of one source its own; of several those of the first, and all of them in `sources`."""
    every = _every(found)
    first = {name: value for name, value in every[0].items() if name != "name"}
    return first if len(every) == 1 else first | {"sources": every}


def write(found: Found, out: Path) -> list[Path]:
    """Write tables, tensors and figures into the folder `out`, and return their paths."""
    drawn = [figures.distribution([(m.source.label, m.gradn, m.networks) for m in found.measured])]
    drawn += figures.courses(_lines(found)) if found.courses else []
    if shown := next((m for m in found.measured if found.data and m.source.index is not None), None):
        drawn.append(_extremes(shown, found))
    written = [out / "difficulty.json", out / "difficulty.csv", out / "difficulty.safetensors"]
    write_text(written[0], json.dumps({"sources": _every(found)}, indent=1) + "\n")
    write_text(written[1], _csv(_rows(found)))
    with replacing(written[2]) as partial:
        save_file(dict(_tensors(found)), partial, {"networks": json.dumps([m.networks for m in found.measured])})
    if found.courses:
        written.append(out / "steps.csv")
        write_text(written[-1], _csv(_step_rows(found)))
    return [*written, *figures.write(drawn, out)]


def _extremes(measured: Measured, found: Found) -> Drawn:
    source = measured.source
    if found.data is None or source.index is None:
        raise ValueError(f"{source.name} is not of real images")
    images = found.data.train.images[source.index]
    return figures.extremes(images, source.hard(), measured.gradn, source.view.classes, measured.networks)


def _every(found: Found) -> list[dict[str, Any]]:
    """The numbers of each source under its name."""
    return [{"name": m.source.name} | _numbers(m, found.courses.get(n)) for n, m in enumerate(found.measured)]


def _numbers(measured: Measured, states: Sequence[State] | None) -> dict[str, Any]:
    by_class = [{"class": name, **asdict(each)} for name, each in measured.by_class()]
    numbers = {"overall": asdict(measured.overall()), "by_class": by_class, "networks": measured.networks}
    steps = [{"step": state.step, **asdict(state.spread)} for state in states or ()]
    return numbers | ({"steps": steps} if steps else {})


def _counted(watch: Watch, before: int) -> Any:  # noqa: ANN401 - a function of a number
    return lambda done: watch.progress(before + done)


def _courses(every: Sequence[Source], panel: Panel, watch: Watch) -> dict[int, list[State]]:
    """The states of each run that kept its history; it is told which did not."""
    with_history = {n: s for n, s in enumerate(every) if s.folder and (s.folder / "history").is_dir()}
    without = [source.name for n, source in enumerate(every) if n not in with_history and source.index is None]
    if not with_history:
        raise FatalError(
            f"no states on the way are kept in {', '.join(without[:3]) or 'real images'}: give run folders that were "
            "made with --set history=8"
        )
    if without:
        watch.say(f"no states on the way are kept in {', '.join(without)}")
    watch.stage("measuring the states on the way", len(with_history))
    found: dict[int, list[State]] = {}
    for done, (number, source) in enumerate(with_history.items(), start=1):
        found[number] = _course(source, panel.of(source))
        watch.progress(done)
    return found


def _course(source: Source, panelists: Judges) -> list[State]:
    chosen = samples.evenly(len(source.images), course.MOST)
    return [
        State(step, spread(by_network(images[chosen], labels[chosen], panelists.networks).mean(0)))
        for step, images, labels in course.states(source.folder or Path(), source.images, source.labels)
    ]


def _lines(found: Found) -> list[figures.Line]:
    """The courses as lines of a figure: a panel for each group of runs, a line for each weight and seed."""
    runs = {n: found.measured[n].source for n in found.courses}
    titles = samples.titles([source.cell for source in runs.values() if source.cell])
    return [
        figures.Line(
            titles[source.cell.told] if source.cell else source.name,
            source.cell.weight if source.cell else 0.0,
            [state.step for state in found.courses[n]],
            [state.spread.mean for state in found.courses[n]],
            found.measured[n].networks,
        )
        for n, source in runs.items()
    ]


def _rows(found: Found) -> Iterator[tuple[object, ...]]:
    yield "source", "class", "mean", "std", "n", "networks"
    for measured in found.measured:
        for name, each in [("", measured.overall()), *measured.by_class()]:
            yield measured.source.name, name, each.mean, each.std, each.n, measured.networks


def _step_rows(found: Found) -> Iterator[tuple[object, ...]]:
    yield "source", "step", "mean", "std", "n", "networks"
    for number, states in found.courses.items():
        measured = found.measured[number]
        for state in states:
            s = state.spread
            yield measured.source.name, state.step, s.mean, s.std, s.n, measured.networks


def _tensors(found: Found) -> Iterator[tuple[str, Tensor]]:
    for measured in found.measured:
        name, source = measured.source.name, measured.source
        yield f"{name}/gradn", measured.gradn.contiguous()
        yield f"{name}/by_network", measured.norms.contiguous()
        yield f"{name}/labels", source.hard().clone()
        if source.index is not None:
            yield f"{name}/index", found.places[source.index].contiguous()


def _csv(rows: Iterator[tuple[object, ...]]) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows(rows)
    return held.getvalue()
