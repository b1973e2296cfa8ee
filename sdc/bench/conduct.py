"""A benchmark from its spec to its end: what is to do is looked up and prepared, the engine does the rest.

Weights that must be measured or chosen first make rounds: after each the spec is looked at again.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdc.adapters.base import Adapter
from sdc.analysis.difficulty import kept
from sdc.bench import cells, durations, looked_at, planning, scripts, slurm, spec, stages
from sdc.bench.cells import Bench, Cell, Group, Task, Waiting
from sdc.bench.looked_at import Forks
from sdc.bench.spec import Spec
from sdc.bench.work import More
from sdc.data.reading import Library, reader
from sdc.distillation import experts, jobs
from sdc.ground.errors import FatalError
from sdc.ground.files import made, writable
from sdc.ground.watch import Watch
from sdc.patching import apply
from sdc.patching.methods import find
from sdc.plan import needs
from sdc.plan.request import Request

Engine = Callable[[Sequence[Task], Sequence[Group], More], None]
"""Carries tasks out, experts first; tells whoever it was made for."""


@dataclass(frozen=True)
class Outlook:
    """A spec's tasks with their states, the experts that those to come share, and what all that will take."""

    bench: Bench
    states: dict[str, cells.State]
    """By a task's folder."""
    to_do: tuple[Task, ...]
    groups: tuple[Group, ...]
    more: More
    seconds: float
    """Of one worker, for what is to do, as far as it is known."""
    unknown: int
    """Cells of which no time is known, since none like them is done."""


def looks(file: Path, runs: Path, watch: Watch, *, retry_failed: bool = False) -> Callable[[], Outlook]:
    """What looks at a spec and at what is done of it in `runs`, as often as asked; data that stay are read once."""
    return functools.partial(_outlook, file, runs, watch, Library(), Forks(), retry_failed=retry_failed)


def _outlook(file: Path, runs: Path, watch: Watch, library: Library, own: Forks, *, retry_failed: bool) -> Outlook:
    asked, read = spec.read(file), library.reader(watch)
    bench = planning.of(asked, runs.resolve(), watch, read, own)
    more = _more(asked)
    states = {task.folder: task.state(runs) for task in bench.tasks}

    def wanted(task: Task) -> bool:
        state = states[task.folder]
        if state == "failed":
            return retry_failed
        return state != "done" or (isinstance(task, Cell) and _lacks(task, more, runs, again=retry_failed))

    to_do = tuple(task for task in bench.tasks if wanted(task))
    shared = tuple(cells.groups([*(task for task in to_do if states[task.folder] != "done"), *bench.waiting], read))
    long = [task for task in to_do if isinstance(task, Cell)]
    long = [cell for cell in long if states[cell.folder] != "done" or more.missing(cell, runs)]  # not difficulty alone
    seconds, unknown = durations.ahead(bench.cells, long, runs)
    seconds += sum(group.estimate.seconds for group in shared if group.estimate)
    return Outlook(bench, states, to_do, shared, more, seconds, unknown + len(bench.waiting))


def _lacks(cell: Cell, more: More, runs: Path, *, again: bool) -> bool:
    """Whether something beside its result is missing of a complete cell; `again`: also what failed before."""
    where = runs / cell.folder
    return bool(more.missing(cell, runs)) or (kept.unmeasured(where) and (again or not kept.failure(where)))


def _more(asked: Spec) -> More:
    return More(asked.models, asked.protocol, asked.networks, asked.floor, asked.together)


def carry_out(look: Callable[[], Outlook], engine: Engine, runs: Path, watch: Watch) -> Outlook:
    """Do what there is to do, and what that makes possible, until nothing is left; nothing is tried twice."""
    tried: set[str] = set()
    while True:
        ahead = look()
        if said := _lacking(ahead):
            raise FatalError(said)
        made(runs)
        _record(ahead.bench, runs)
        to_do = tuple(task for task in ahead.to_do if task.folder not in tried)
        if not to_do:
            return ahead
        writable(runs)
        tried |= {task.folder for task in to_do}
        _patch(to_do, watch)
        watch.stage(f"running {len(to_do)} tasks", len(to_do))
        matched = {task.experts for task in to_do}
        engine(to_do, [group for group in ahead.groups if group.where in matched], ahead.more)


def foreseen(look: Callable[[], Outlook], watch: Watch) -> Outlook:
    """What there is to do; what would keep it from being done is said."""
    ahead = look()
    if said := _lacking(ahead):
        watch.say(said)
    return ahead


def _lacking(ahead: Outlook) -> str:
    """The packages that scripts still to be run import and that are not installed here, and what installs them."""
    to_come = [*(task for task in ahead.to_do if ahead.states[task.folder] != "done"), *ahead.bench.waiting]
    return needs.told(_adapters(to_come))


def _adapters(tasks: Iterable[Task | Waiting]) -> list[Adapter]:
    """The methods whose scripts tasks run: their own, and those that train experts which are not there, each once."""
    found = dict[str, Adapter]()
    for task in tasks:
        adapter = find(task.request.method)
        found[adapter.method] = adapter
        owner = jobs.owner(adapter)
        if owner and task.experts and not experts.are_ready(task.experts):
            found[owner.method] = owner
    return list(found.values())


def one(file: Path, runs: Path, stage: str, number: int, watch: Watch, exported: Sequence[str] = ()) -> str:
    """Do one task alone, in this process; `done` or `failed`. `exported`: what `looked_at` told of its forks."""
    asked, read = spec.read(file), reader(watch)
    bench = planning.of(asked, runs.resolve(), watch, read)
    _record(bench, runs)
    task = stages.task(bench, stage, number)
    looked_at.check(task if isinstance(task, Request) else task.request, exported)
    return stages.carry_out(task, runs.resolve(), _more(asked), read)


def export(file: Path, runs: Path, profile: Path, folder: Path, watch: Watch) -> list[Path]:
    """Write array scripts for Slurm into `folder`; the first that is returned submits the others.

    What a node may have no way to, data and upstreams, is fetched and patched now.
    """
    asked = slurm.read(profile)
    bench = planning.of(spec.read(file), runs.resolve(), watch)
    needs.check(_adapters([*bench.entries, *bench.measures]))
    _patch([*bench.entries, *bench.measures], watch)
    counts = {stage: len(tasks) for stage, tasks in stages.of(bench).items()}
    told = looked_at.exported(task.request for task in (*bench.entries, *bench.measures))
    return scripts.write(folder, file, runs, asked, counts, told)


def _record(bench: Bench, runs: Path) -> None:
    """Keep what was chosen and why, for the report."""
    for choice in bench.choices:
        choice.record(runs)


def _patch(to_do: Sequence[Task | Waiting], watch: Watch) -> None:
    """Clone and patch what will be run, but for forks. An upstream that cannot be had fails its own tasks alone."""
    for method in dict.fromkeys(task.request.method for task in to_do if not task.request.fork):
        watch.stage(f"patching {method}", None)
        try:
            apply.apply(find(method))
        except FatalError as error:  # its tasks will say so, each in its folder
            watch.say(f"{method}: {error}")


def remark(task: Task, runs: Path) -> str:
    """What a task that ended well could not do beside its result; empty if it did all."""
    return kept.failure(runs / task.folder) if isinstance(task, Cell) else ""


def summary(ahead: Outlook, runs: Path, ended: Mapping[str, str]) -> dict[str, Any]:
    """What there is and what became of it, for a program."""
    bench = ahead.bench
    asked = {cell.name(): cell for cell in bench.entries}.values()  # one may be asked for in two ways
    found = [_facts(cell, runs) for cell in asked]
    measured = [_facts(measure, runs) for measure in bench.measures]
    return {
        "cells": found,
        "calibrations": measured,
        "states": dict(Counter(facts["state"] for facts in found)),
        "ran": len(ended),
        "failed": [facts["folder"] for facts in (*measured, *found) if facts["state"] == "failed"],
        "left_out": [asdict(gone) for gone in bench.left_out],
        "experts": [
            {"folder": str(group.where), "cells": group.cells, "estimate": group.estimate and asdict(group.estimate)}
            for group in ahead.groups
        ],
        "seconds": round(ahead.seconds),
        "cells of unknown time": ahead.unknown,
    }


def _facts(task: Task | Waiting, runs: Path) -> dict[str, Any]:
    facts = {"name": task.name(), "experts": task.experts and task.experts.name}
    if isinstance(task, Waiting):
        return facts | {"folder": None, "state": "waiting"}
    state = task.state(runs)
    return facts | {"folder": task.folder, "state": state, **_error(task, state, runs)}


def _error(task: Task, state: cells.State, runs: Path) -> dict[str, str]:
    return {"error": cells.failure(task, runs)} if state == "failed" else {}
