"""The rows of a report by the figure that they are drawn in: a dataset and ipc, with its groups of runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runner.report import tables
from runner.report.compare import Group, Row
from runner.report.load import Choice

PANELS, LINES, SEEDS = 8, 30, 5
"""At most so many groups in a figure, lines of an accuracy figure with all weights, seeds as thin lines."""
PICKED = "Of several weights: the one chosen on a validation split, where one was, else the middle one."


@dataclass(frozen=True)
class Place:
    """A dataset and ipc, with the rows there, a list for each group of runs under its label."""

    dataset: str
    ipc: int
    groups: tuple[tuple[str, tuple[Row, ...]], ...]

    def name(self, kind: str) -> str:
        """A file name; what a file system may not like is replaced, and told apart by a hash."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", self.dataset)[:60]
        mark = "" if plain == self.dataset else "-" + hashlib.sha256(self.dataset.encode()).hexdigest()[:4]
        return f"{kind}-{plain}{mark}-ipc{self.ipc}"

    def title(self) -> str:
        """The place in words."""
        return f"{self.dataset}, {self.ipc} image{'s' if self.ipc > 1 else ''} per class"

    def left_out(self) -> str:
        """What of the place is not drawn."""
        more = [label for label, _ in self.groups[PANELS:]]
        return f" Not drawn: {', '.join(more)}." if more else ""


def places(rows: Sequence[Row]) -> list[Place]:
    """The rows by dataset and ipc, and there by group."""
    by_place: dict[tuple[str, int], dict[Group, list[Row]]] = {}
    for row in rows:
        by_place.setdefault((row.group.dataset, row.group.ipc), {}).setdefault(row.group, []).append(row)
    found = []
    for (dataset, ipc), groups in by_place.items():
        methods = [group.method for group in groups]
        labelled = [
            (g.method if methods.count(g.method) == 1 else f"{g.method} ({tables.settings(of[0])})", tuple(of))
            for g, of in groups.items()
        ]
        found.append(Place(dataset, ipc, tuple(labelled)))
    return found


def picked(rows: Sequence[Row], choices: Sequence[Choice]) -> Row:
    """The row that stands for a group where one weight is shown: see `PICKED`. Never chosen by test accuracy."""
    g = rows[0].group
    for row in rows:
        cell = (g.method, g.dataset, g.ipc, g.model, g.recipe, row.schedule, row.weight)
        if any(cell == (c.method, c.dataset, c.ipc, c.model, c.recipe, c.schedule, c.weight) for c in choices):
            return row
    return rows[(len(rows) - 1) // 2]
