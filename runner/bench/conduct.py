"""A benchmark from its spec to its end: what is to do is looked up and prepared, the engine does the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner import patching
from runner.bench import cells, engine, spec
from runner.bench.cells import Bench, Cell, Group
from runner.bench.engine import Slots
from runner.bench.work import More
from runner.errors import FatalError
from runner.methods import find
from runner.watch import Watch


@dataclass(frozen=True)
class Outlook:
    """A spec's cells with their states, the experts that those to come share, and what all that will take."""

    bench: Bench
    states: dict[str, cells.State]
    """By a cell's folder."""
    to_do: tuple[Cell, ...]
    groups: tuple[Group, ...]
    more: More
    seconds: float
    """Of one worker, for what is to do, as far as it is known."""
    unknown: int
    """Cells of which no time is known, since none like them is done."""

    def counts(self) -> dict[str, int]:
        """How many cells are in each state."""
        return dict(Counter(self.states.values()))


def outlook(file: Path, runs: Path, watch: Watch, *, retry_failed: bool = False) -> Outlook:
    """Look at a spec and at what is done of it in `runs`."""
    asked = spec.read(file)
    bench = cells.of(asked, watch)
    more = More(asked.models, asked.protocol, asked.networks, asked.floor)
    states = {cell.folder: cell.state(runs) for cell in bench.cells}

    def wanted(cell: Cell) -> bool:
        state = states[cell.folder]
        if state == "failed":
            return retry_failed
        return state != "done" or bool(more.missing(cell, runs))

    to_do = tuple(cell for cell in bench.cells if wanted(cell))
    shared = tuple(cells.groups(tuple(cell for cell in to_do if states[cell.folder] != "done")))
    known = cells.seconds_known(bench.cells, runs)
    seconds = sum(known.get(cells.kind(cell), 0.0) for cell in to_do)
    seconds += sum(group.estimate.seconds for group in shared if group.estimate)
    unknown = sum(cells.kind(cell) not in known for cell in to_do)
    return Outlook(bench, states, to_do, shared, more, seconds, unknown)


def carry_out(ahead: Outlook, runs: Path, slots: Slots, watch: Watch, on_end: Callable[[Cell, str], None]) -> None:
    """Do what there is to do. An upstream that cannot be had fails its own cells alone."""
    if not ahead.to_do:
        return
    for method in dict.fromkeys(cell.request.method for cell in ahead.to_do):
        watch.stage(f"patching {method}", None)
        try:
            patching.apply(find(method))
        except FatalError as error:  # its cells will say so, each in its folder
            watch.say(f"{method}: {error}")
    engine.carry_out(ahead.to_do, ahead.groups, runs.resolve(), ahead.more, slots, on_end, watch.say)


def summary(ahead: Outlook, runs: Path, ended: Mapping[str, str]) -> dict[str, Any]:
    """What there is and what became of it, for a program."""
    states = {cell.folder: cell.state(runs) for cell in ahead.bench.cells}
    return {
        "cells": [_facts(cell, states[cell.folder], runs) for cell in ahead.bench.cells],
        "states": dict(Counter(states.values())),
        "ran": len(ended),
        "failed": [cell.folder for cell in ahead.bench.cells if states[cell.folder] == "failed"],
        "left_out": [asdict(gone) for gone in ahead.bench.left_out],
        "experts": [
            {"folder": str(group.where), "cells": group.cells, "estimate": group.estimate and asdict(group.estimate)}
            for group in ahead.groups
        ],
        "seconds": round(ahead.seconds),
        "cells of unknown time": ahead.unknown,
    }


def _facts(cell: Cell, state: cells.State, runs: Path) -> dict[str, Any]:
    facts = {"name": cell.name(), "folder": cell.folder, "state": state, "experts": cell.experts and cell.experts.name}
    return facts | ({"error": cells.failure(cell, runs)} if state == "failed" else {})
