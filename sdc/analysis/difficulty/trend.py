"""Does a larger weight make the distilled set easier? Difficulty by weight, over networks of two kinds.

One kind is what the penalty is taken on: states of the experts for the methods that match them, fresh networks for the
others. The other kind is fresh networks, or such as are trained on real data.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdc.analysis.difficulty import figures, samples
from sdc.analysis.difficulty.gradn import by_network, together
from sdc.analysis.difficulty.judges import Kind
from sdc.analysis.difficulty.panel import Panel, Request
from sdc.analysis.difficulty.samples import Source
from sdc.ground.errors import FatalError
from sdc.ground.files import write_text
from sdc.ground.watch import Watch

_SAID = {
    "fresh": "over freshly initialised networks",
    "experts": "over states of the experts",
    "trained": "over networks trained on real data",
}


@dataclass(frozen=True)
class Point:
    """The set's mean GraDN at a weight, by seed; and what the term penalises there, without augmentation."""

    weight: float
    by_seed: Mapping[int, float]
    penalty: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.by_seed.values())


@dataclass(frozen=True)
class Trend:
    """Points of one group of runs and one schedule, the smallest weight first, over networks of one kind."""

    group: str
    method: str
    kind: Kind
    penalised: bool
    """Whether the penalty is taken on networks of this kind."""
    networks: str
    points: tuple[Point, ...]

    @property
    def falls(self) -> bool | None:
        """Whether each weight has a lower mean than the one before; None of a single weight."""
        means = [point.mean for point in self.points]
        return all(one > two for one, two in itertools.pairwise(means)) if len(means) > 1 else None

    def ratios(self) -> list[list[float]]:
        """Of each weight, the values of its seeds over those at the first; a seed that is not there has its mean."""
        first = self.points[0]
        return [
            [value / first.by_seed.get(seed, first.mean) for seed, value in point.by_seed.items()]
            for point in self.points
        ]


def measure(request: Request, watch: Watch) -> list[Trend]:
    """The trends of all complete runs at the paths that are asked for.

    Over both kinds of networks, or over that which is asked for. Raises FatalError if there is no run.
    """
    found, panel = samples.distilled_sets(request.paths), Panel(request, watch)
    members = _by_schedule(found)
    if not members:
        raise FatalError("no run folders are given, so there are no weights. Give a folder of runs")
    jobs = [(name, own, kind) for name, own in members.items() for kind in _kinds(own[0], panel, request)]
    watch.stage("measuring gradient norms", sum(len(own) for _, own, _ in jobs))
    trends, done = [], 0
    for name, own, kind in jobs:
        values: dict[float, dict[int, tuple[float, float]]] = defaultdict(dict)
        for source in own:
            if source.cell is None:
                continue
            networks = panel.of(source, kind).networks
            mean = float(by_network(source.images, source.labels, networks).mean())
            values[source.cell.weight].setdefault(source.cell.seed, (mean, _penalty(source, networks)))
            done += 1
            watch.progress(done)
        points = tuple(_point(weight, values[weight]) for weight in sorted(values))
        method, said = own[0].cell.method if own[0].cell else "", panel.of(own[0], kind).said
        trends.append(Trend(name, method, kind, kind == panel.kind(own[0]), said, points))
    return trends


def _point(weight: float, values: Mapping[int, tuple[float, float]]) -> Point:
    seeds = sorted(values)
    return Point(weight, {seed: values[seed][0] for seed in seeds}, {seed: values[seed][1] for seed in seeds})


def _penalty(source: Source, networks: Sequence[nn.Module]) -> float:
    """The norm of the gradient of all images together where trajectories are matched, else the mean over classes."""
    hard = source.hard()
    whole = bool(source.cell and source.cell.matched)
    by_class = [hard == label for label in sorted(set(hard.tolist()))]
    parts = [torch.ones_like(hard, dtype=torch.bool)] if whole else by_class
    norms = [together(network, source.images[part], source.labels[part]) for network in networks for part in parts]
    return statistics.fmean(norms)


def facts(trends: Sequence[Trend]) -> dict[str, Any]:
    """The numbers as JSON: `trends`, and of the kinds that penalties are taken on, how many fall."""
    asked = [trend for trend in trends if trend.penalised and trend.falls is not None]
    return {
        "trends": [
            {
                "group": trend.group,
                "method": trend.method,
                "kind": trend.kind,
                "penalised": trend.penalised,
                "networks": trend.networks,
                "falls": trend.falls,
                "weights": [_numbers(point) for point in trend.points],
            }
            for trend in trends
        ],
        "falls": {"yes": sum(bool(trend.falls) for trend in asked), "of": len(asked)},
    }


def write(trends: Sequence[Trend], out: Path) -> list[Path]:
    """Write tables and the figure into the folder `out`, and return their paths."""
    written = [out / "trend.json", out / "trend.csv"]
    write_text(written[0], json.dumps(facts(trends), indent=1) + "\n")
    held = io.StringIO()
    table = csv.writer(held, lineterminator="\n")
    table.writerow(("group", "method", "kind", "penalised", "weight", "mean", "std", "n", "penalty", "networks"))
    for t in trends:
        for point in t.points:
            numbers = _numbers(point)
            spread = (numbers["mean"], numbers["std"], numbers["n"], numbers["penalty"]["mean"])
            table.writerow((t.group, t.method, t.kind, int(t.penalised), point.weight, *spread, t.networks))
    write_text(written[1], held.getvalue())
    swept: dict[str, list[Trend]] = defaultdict(list)
    for trend in trends:
        if trend.falls is not None:
            swept[trend.group].append(trend)
    if not swept:
        return written
    falls = [
        figures.Fall(group, [p.weight for p in own[0].points], {t.kind: t.ratios() for t in own})
        for group, own in swept.items()
    ]
    return [*written, *figures.write([figures.trend(falls, _SAID)], out)]


def _numbers(point: Point) -> dict[str, Any]:
    values = list(point.by_seed.values())
    return {
        "weight": point.weight,
        "mean": point.mean,
        "std": statistics.pstdev(values),
        "n": len(values),
        "penalty": {"mean": statistics.fmean(point.penalty.values()), "std": statistics.pstdev(point.penalty.values())},
        "by_seed": {str(seed): value for seed, value in point.by_seed.items()},
    }


def _kinds(source: Source, panel: Panel, request: Request) -> list[Kind]:
    """Over which networks: first those of the penalty, unless one kind is asked for."""
    own = panel.kind(source)
    if request.networks != "auto":
        return [own]
    return [own, "fresh" if own == "experts" else "trained"]


def _by_schedule(found: Sequence[Source]) -> dict[str, list[Source]]:
    """Runs by group and schedule; those at weight 0 belong to every schedule of their group."""
    titles = samples.titles([source.cell for source in found if source.cell])
    members: dict[str, list[Source]] = {}
    for told, own in samples.groups(found).items():
        base = [s for s in own if s.cell and not s.cell.weight]
        schedules = sorted({s.cell.schedule for s in own if s.cell and s.cell.weight}) or ["constant"]
        for schedule in schedules:
            more = f" ({schedule})" if schedule != "constant" else ""
            ramped = [s for s in own if s.cell and s.cell.weight and s.cell.schedule == schedule]
            members[f"{titles[told]}{more}"] = [*base, *ramped]
    return members
