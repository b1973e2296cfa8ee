"""What is still to come takes about as long as its like took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdc.bench.cells import Cell
from sdc.distillation import run


def ahead(cells: Sequence[Cell], to_do: Sequence[Cell], runs: Path) -> tuple[float, int]:
    """The seconds of one worker that `to_do` takes, as far as finished cells tell, and of how many none tells."""
    asked = {_kind(cell) for cell in to_do}
    known = _known([cell for cell in cells if _kind(cell) in asked], runs)
    return sum(known.get(_kind(cell), 0.0) for cell in to_do), sum(_kind(cell) not in known for cell in to_do)


def _known(cells: Sequence[Cell], runs: Path) -> dict[tuple[object, ...], float]:
    """The mean time of finished runs, experts aside, by their kind."""
    taken: dict[tuple[object, ...], list[float]] = {}
    for cell in cells:
        if result := run.complete(runs / cell.folder):
            spent = sum(stage["seconds"] for name, stage in result["stages"].items() if name != "experts")
            taken.setdefault(_kind(cell), []).append(spent)
    return {which: sum(all_of) / len(all_of) for which, all_of in taken.items()}


def _kind(cell: Cell) -> tuple[object, ...]:
    """What runs that take about as long have in common."""
    r = cell.request
    return r.method, r.dataset, r.ipc, r.recipe, r.model, r.changes
