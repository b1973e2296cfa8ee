"""What the engine gives its workers: functions that they import, and what a worker's process needs for them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from sdc.bench import guard, work
from sdc.bench.cells import Cell, Group, Task
from sdc.bench.work import More
from sdc.data.reading import Library, Read
from sdc.ground import cores, hardware
from sdc.ground.watch import Quiet

PER_GPU = "SDC_PER_GPU"
"""The variable that tells a worker how many of them share a GPU; not set without GPUs."""


def trained(group: Group) -> str:
    """Train experts. Failures are told by the cells that need them, which try once more."""
    _settle()
    with cores.busy():
        try:
            work.train(group.request, _read())
        except Exception as error:
            return str(error)
    return ""


def carried_out(task: Task, runs: Path, more: More, first: str | None) -> str:  # noqa: ARG001 - what it waits for
    """Carry a task out; returns what became of it."""
    _settle()
    with cores.busy():
        return work.carry_out(task, runs, more, _read())


def distilled(cell: Cell, runs: Path, first: str | None) -> str:  # noqa: ARG001
    """Do of a cell what comes before its evaluation; returns what became of it."""
    _settle()
    with cores.busy():
        return work.distil(cell, runs, _read())


def evaluated(cells: Sequence[Cell], runs: Path, more: More) -> list[str]:
    """Evaluate what was distilled of cells together; returns what became of each."""
    _settle()
    with cores.busy():
        return work.evaluate(cells, runs, more, _read())


def _read() -> Read:
    """What gives a task its data: those of the task before it, where they are the same."""
    return _library().reader(Quiet())


@functools.cache
def _library() -> Library:
    """Of this worker."""
    return Library()


@functools.cache
def _settle() -> None:
    """Once in a worker: it ends with its manager, and sees one GPU. Parsl's own pinning forgets what may be used."""
    guard.end_with_parent()
    if per_gpu := os.environ.get(PER_GPU):
        own = int(os.environ["PARSL_WORKER_RANK"]) // int(per_gpu)
        os.environ.update(hardware.shown(os.environ, first=own))
