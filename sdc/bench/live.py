"""A benchmark while it runs, as its files tell it: so it is the same wherever its workers are."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdc.bench.cells import Cell, State

FRESH = 60.0
"""Seconds without news after which a cell that has been begun is not taken to be running."""
_NEWS = ("metrics.jsonl", "scores.json", "result.json", "floor.json", "log.txt")
_TAIL = 4096


@dataclass(frozen=True)
class Running:
    """A cell at work: its stage, how far it is, and its updates a second while it distils."""

    name: str
    stage: str
    done: int
    rate: float


@dataclass(frozen=True)
class Now:
    """How many cells are in each state, those that run, and the seconds until all are done, if that is known."""

    counts: dict[State, int]
    running: tuple[Running, ...]
    left: float | None


class Board:
    """Looks at the cells of a benchmark again and again; those that have ended are not looked at twice."""

    def __init__(self, runs: Path) -> None:
        self._runs, self._began = runs, time.monotonic()
        self._ended: dict[str, State] = {}
        self._before: int | None = None
        self.cells: Sequence[Cell] = ()

    def look(self) -> Now:
        """How far they are."""
        states = {cell.folder: self._ended.get(cell.folder) or cell.state(self._runs) for cell in self.cells}
        self._ended |= {folder: state for folder, state in states.items() if state in ("done", "failed")}
        if self._before is None and self.cells:  # while the spec is still read, nothing is known of it
            self._before = len(self._ended)
        at_work = (
            running(cell.name(), self._runs / cell.folder) for cell in self.cells if states[cell.folder] == "started"
        )
        return Now(dict(Counter(states.values())), tuple(filter(None, at_work)), self._left())

    def _left(self) -> float | None:
        ended = len(self._ended) - (self._before or 0)
        return (time.monotonic() - self._began) / ended * (len(self.cells) - len(self._ended)) if ended else None


def running(name: str, where: Path) -> Running | None:
    """What a cell does now in its folder; None if nothing has come from it for long."""
    news = [file.stat().st_mtime for name in _NEWS if (file := where / name).is_file()]
    if not news or time.time() - max(news) > FRESH:
        return None
    if (where / "distilled.safetensors").is_file():
        scores = where / "scores.json"
        return Running(name, "evaluates", len(json.loads(scores.read_text())) if scores.is_file() else 0, 0.0)
    last = _last(where / "metrics.jsonl")
    step, seconds = int(last.get("step", 0)), float(last.get("seconds", 0))
    return Running(name, "distils" if step else "begins", step, step / seconds if seconds else 0.0)


def _last(metrics: Path) -> dict[str, float]:
    """The last step that a metrics file tells of, read from its end alone."""
    if not metrics.is_file():
        return {}
    with metrics.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")[:-1]
    steps = (json.loads(line) for line in reversed(lines) if line.startswith("{") and '"kind": "step"' in line)
    return next(steps, {})
