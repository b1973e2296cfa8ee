"""From runs to rows: what may be pooled, what is paired with what. Runs that differ in more than seed, weight and
schedule never meet in a row.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sdc.adapters import published
from sdc.adapters.base import Value
from sdc.adapters.published import Published
from sdc.adapters.registry import ADAPTERS
from sdc.evaluation import stats
from sdc.evaluation.stats import Difference, Spread
from sdc.report import commands, origins
from sdc.report.load import Evaluation, Found, Run, Unfinished
from sdc.report.origins import Origin

_ORDER = {method: number for number, method in enumerate(ADAPTERS)}
Arm = tuple[float, str]
"""A weight and its schedule; at weight 0 there is nothing to ramp, and the schedule is empty."""
BASE: Arm = (0.0, "")


@dataclass(frozen=True)
class Group:
    """All that runs of a row share: everything in their cells but seed, weight and schedule."""

    method: str
    dataset: str
    ipc: int
    model: str
    recipe: str
    settings: tuple[tuple[str, Value], ...]
    upstream: str
    commit: str
    patch_sha256: str
    data_sha256: str
    experts: str
    init_sha256: str
    fork: Origin | None = None

    @property
    def named(self) -> str:
        """Its method as it is shown, with the fork if it is one's."""
        return origins.named(self.method, self.fork)


@dataclass(frozen=True)
class RunSet:
    """The runs behind one mean, a seed each, under the name by which a page is linked to them."""

    anchor: str
    title: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: accuracies by seed, and all of them pooled."""

    anchor: str
    runs: tuple[Run, ...]
    by_seed: Mapping[int, Sequence[float]]
    spread: Spread


@dataclass(frozen=True)
class Row:
    """A group without and with the term, by one way of evaluating. `base` or `sdc` is None where there is no such run.

    `evaluated` and `protocol` name the networks that were trained on the sets, and how; `changes` are the settings that
    differ from the recipe's, and what else tells this group from its like; `apart` says in what the runs differ from
    those that were published.
    """

    group: Group
    evaluated: str
    protocol: str
    changes: tuple[str, ...]
    weight: float
    schedule: str
    base: Side | None
    sdc: Side | None
    difference: Difference | None
    floor: Spread | None
    published: Published | None
    apart: str
    notes: tuple[str, ...]

    def claim(self) -> str:
        """What the row shows, in a word; empty where there is nothing to compare."""
        if self.sdc is None:
            return ""
        return stats.claim(self.difference) if self.base else "no run at weight 0"


@dataclass(frozen=True)
class Comparison:
    """The rows on the test images by each run's own evaluation, by others, and those on a validation split.

    `repeated` are runs that repeat another's seed in its group: left out, since pooling them would count it twice.
    """

    test: tuple[Row, ...]
    cross: tuple[Row, ...]
    validation: tuple[Row, ...]
    sets: tuple[RunSet, ...]
    repeated: tuple[Unfinished, ...]


def compare(found: Found) -> Comparison:
    """Group, pool and pair the runs that were found."""
    groups: dict[Group, dict[Arm, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    repeated = []
    for run in sorted(found.runs, key=lambda run: run.schedule != "constant"):
        seeds = groups[_group(run)][(run.weight, run.schedule) if run.weight else BASE]
        if (first := seeds.setdefault(run.seed, run)) is not run:
            reason = f"left out: it repeats {first.folder.name}"
            repeated.append(Unfinished(run.folder.name, "unfinished", reason))
    rows: list[Row] = []
    sets: list[RunSet] = []
    told = _told_apart(groups)
    for group in sorted(groups, key=lambda group: _place(group, told[group])):
        arms = {
            arm: _set(f"s{len(sets) + number}", group, told[group], arm, groups[group][arm])
            for number, arm in enumerate(sorted(groups[group]), start=1)
        }
        sets += arms.values()
        rows += _rows(group, told[group], arms)
    held_out = [bool(dict(row.group.settings).get("validation")) for row in rows]
    own = [row.protocol == "" for row in rows]
    return Comparison(
        tuple(row for row, held, mine in zip(rows, held_out, own, strict=True) if mine and not held),
        tuple(row for row, held, mine in zip(rows, held_out, own, strict=True) if not mine and not held),
        tuple(row for row, held in zip(rows, held_out, strict=True) if held),
        tuple(sets),
        tuple(repeated),
    )


def _group(run: Run) -> Group:
    return Group(
        method=run.method,
        dataset=run.dataset,
        ipc=run.ipc,
        model=run.model,
        recipe=run.recipe,
        settings=tuple(sorted(run.settings.items())),
        upstream=run.upstream,
        commit=run.commit,
        patch_sha256=run.patch_sha256,
        data_sha256=run.data_sha256,
        experts=run.experts,
        init_sha256=run.init_sha256,
        fork=run.fork,
    )


def _place(group: Group, told: tuple[str, ...]) -> tuple[object, ...]:
    order = _ORDER.get(group.method, len(_ORDER))
    return group.dataset, group.ipc, order, group.named, group.model, group.recipe, told, repr(group)


def _told_apart(groups: Mapping[Group, Mapping[Arm, Mapping[int, Run]]]) -> dict[Group, tuple[str, ...]]:
    """What tells each group from the others of its method, dataset, ipc, model and recipe."""
    changes = {g: commands.changes(next(iter(next(iter(arms.values())).values()))) for g, arms in groups.items()}
    alike: dict[tuple[object, ...], list[Group]] = defaultdict(list)
    for group, changed in changes.items():
        alike[(group.named, group.dataset, group.ipc, group.model, group.recipe, changed)].append(group)
    return {group: (*changes[group], *_hashes(group, others)) for others in alike.values() for group in others}


def _hashes(group: Group, others: Sequence[Group]) -> Iterator[str]:
    named = {"upstream": "upstream", "commit": "commit", "patch_sha256": "patch", "data_sha256": "data"}
    for field, name in (named | {"experts": "experts", "init_sha256": "first images"}).items():
        if len({getattr(other, field) for other in others}) > 1:
            value = str(getattr(group, field))
            yield f"{name} {value if field == 'upstream' else value[:8]}"
    if len({other.fork for other in others}) > 1 and group.fork:  # of one name, as a script apart has
        yield f"script {group.fork.script_sha256[:8]}, files {group.fork.files_sha256[:8]}"


def _set(anchor: str, group: Group, told: tuple[str, ...], arm: Arm, seeds: Mapping[int, Run]) -> RunSet:
    weight, schedule = arm
    words = [group.named, group.dataset, f"ipc {group.ipc}", f"weight {weight:.4g}"]
    words += [schedule] if schedule not in ("", "constant") else []
    title = ", ".join([*words, group.model, group.recipe, *told])
    return RunSet(anchor, title, tuple(seeds[seed] for seed in sorted(seeds)))


Way = tuple[str, str, str]
"""A way of evaluating: the networks' model, the protocol's name, its settings; the run's own has no name."""


def _rows(group: Group, told: tuple[str, ...], arms: Mapping[Arm, RunSet]) -> Iterator[Row]:
    by_way: dict[Way, dict[Arm, Side]] = defaultdict(dict)
    for arm, runs in arms.items():
        for way, side in _sides(runs).items():
            by_way[way][arm] = side
    for way, sides in sorted(by_way.items()):
        base = sides.get(BASE)
        others = [arm for arm in sides if arm != BASE]
        for arm in sorted(others, key=lambda arm: (arm[1], arm[0])) or [BASE]:
            yield _row(group, told, way, arm, base, None if arm == BASE else sides[arm])


def _sides(runs: RunSet) -> dict[Way, Side]:
    """What each way of evaluating gave on these runs' sets."""
    networks: dict[Way, dict[int, list[float]]] = defaultdict(dict)
    members: dict[Way, list[Run]] = defaultdict(list)
    for run in runs.runs:
        for way, evaluation in [((run.own.model, "", ""), run.own), *((_way(other), other) for other in run.others)]:
            networks[way][run.seed] = evaluation.accuracies()
            members[way].append(run)
    return {
        way: Side(runs.anchor, tuple(members[way]), seeds, stats.spread(list(itertools.chain(*seeds.values()))))
        for way, seeds in networks.items()
    }


def _way(evaluation: Evaluation) -> Way:
    """The learning rate of a method's own protocol may be learned, and so differ from run to run."""
    own = evaluation.protocol == "upstream"
    settings = {name: value for name, value in evaluation.settings.items() if not (own and name == "lr")}
    return evaluation.model, evaluation.protocol, json.dumps(settings, sort_keys=True)


def _row(group: Group, told: tuple[str, ...], way: Way, arm: Arm, base: Side | None, sdc: Side | None) -> Row:
    runs = [run for side in (base, sdc) if side for run in side.runs]
    figure = _published(group, runs) if way[1] == "" else None
    model = (group.model,) if commands.other_model(runs[0]) else ()
    more = [*model, *told, *([group.fork.name] if group.fork else [])]
    apart = "" if group.recipe == "paper" and not more else ", ".join([f"recipe {group.recipe}", *more])
    return Row(
        group=group,
        evaluated=way[0],
        protocol=way[1],
        changes=told,
        weight=arm[0],
        schedule=arm[1],
        base=base,
        sdc=sdc,
        difference=stats.paired(base.by_seed, sdc.by_seed) if base and sdc else None,
        floor=_floor(base) if base and way[1] == "" else None,
        published=figure,
        apart=apart if figure else "",
        notes=tuple(_notes(base, sdc, runs)),
    )


def _published(group: Group, runs: Iterable[Run]) -> Published | None:
    """The published accuracy, where the data are the published ones, all of them, and the test images were tested."""
    settings = dict(group.settings)
    if settings.get("limit_per_class") or settings.get("validation") or any(run.data for run in runs):
        return None
    return published.find(group.method, group.dataset, group.ipc)


def _floor(base: Side) -> Spread | None:
    pooled = [accuracy for run in base.runs if run.floor for accuracy in run.floor.accuracies()]
    return stats.spread(pooled) if pooled else None


def _notes(base: Side | None, sdc: Side | None, runs: Sequence[Run]) -> Iterator[str]:
    if base and sdc and (alone := base.by_seed.keys() ^ sdc.by_seed.keys()):
        yield f"on one side only: seed {', '.join(map(str, sorted(alone)))}"
    if len({(run.device.get("kind"), run.device.get("name")) for run in runs}) > 1:
        yield "run on different devices"
    if len({json.dumps(dict(run.libraries), sort_keys=True) for run in runs}) > 1:
        yield "run with different library versions"
