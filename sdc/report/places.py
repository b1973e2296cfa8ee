"""The rows of a report by the figure that they are drawn in: a dataset and ipc, with its groups of runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdc.report import tables
from sdc.report.compare import Group, Row
from sdc.report.load import Choice

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
        labels = _labels(groups)
        found.append(Place(dataset, ipc, tuple((labels[group], tuple(of)) for group, of in groups.items())))
    return found


def _labels(groups: Mapping[Group, Sequence[Row]]) -> dict[Group, str]:
    """Each group's method, and in what it differs from others of its method, as short as tells them apart."""
    words = {group: [_brief(word) for word in tables.settings(rows[0]).split(", ")] for group, rows in groups.items()}
    made = {}
    for group, own in words.items():
        alike = [words[other] for other in groups if other.named == group.named]
        apart = [word for word in own if not all(word in other for other in alike)]
        made[group] = _label(group, apart)
    if len(set(made.values())) == len(made):
        return made
    return {group: _label(group, [tables.settings(rows[0])]) for group, rows in groups.items()}


def _label(group: Group, apart: Sequence[str]) -> str:
    """`dm`, `dm (ConvNetW32)`, `dm (fork 1a2b3c4, ConvNetW32)`."""
    told = ", ".join([*([group.fork.name] if group.fork else []), *apart])
    return f"{group.method} ({told})" if told else group.method


def _brief(word: str) -> str:
    """A setting with the last part of its path alone."""
    return f"from {Path(word).name}" if word.startswith("init_from=") else word


def picked(rows: Sequence[Row], choices: Sequence[Choice]) -> Row:
    """The row that stands for a group where one weight is shown: see `PICKED`. Never chosen by test accuracy."""
    g = rows[0].group
    for row in rows:
        cell = (g.method, g.fork, g.dataset, g.ipc, g.model, g.recipe, row.schedule, row.weight)
        if any(cell == (c.method, c.fork, c.dataset, c.ipc, c.model, c.recipe, c.schedule, c.weight) for c in choices):
            return row
    return rows[(len(rows) - 1) // 2]
