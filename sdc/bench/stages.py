"""A benchmark's tasks by stage and number, for a scheduler that knows nothing else of them.

A task keeps its number whatever is done already, also while its weight is not known yet. Each does all of one cell, its
evaluation included: which tasks of an array run beside which others is for the scheduler to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from sdc.bench import work
from sdc.bench.cells import Bench, Cell, Measure, Task, Waiting
from sdc.bench.work import More
from sdc.data.reading import Read
from sdc.ground.errors import FatalError, unknown
from sdc.plan.request import Request

Stage = Literal["experts", "calibrate", "validate", "cells"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which they need each other."""
Numbered = Request | Measure | Cell | Waiting
"""A request stands for the experts that it matches."""


def of(bench: Bench) -> dict[Stage, Sequence[Numbered]]:
    """All tasks of a benchmark."""
    first = {task.experts: task.request for task in (*bench.entries, *bench.measures) if task.experts}
    return {
        "experts": [first[where] for where in sorted(first)],
        "calibrate": bench.measures,
        "validate": [entry for entry in bench.entries if entry.validation],
        "cells": [entry for entry in bench.entries if not entry.validation],
    }


def task(bench: Bench, stage: str, number: int) -> Request | Task:
    """One task of a stage. Raises FatalError if there is none, or if it cannot be begun."""
    if stage not in STAGES:
        raise unknown("stage", stage, list(STAGES))
    found = of(bench)[stage]
    if not 0 <= number < len(found):
        raise FatalError(f"stage {stage} of this benchmark has {len(found)} tasks: give --number 0 to {len(found) - 1}")
    one = found[number]
    if isinstance(one, Waiting):
        raise FatalError(
            f"the weight of {one.name()} is not known: do the stages before it first ({', '.join(STAGES[:-1])})"
        )
    return one


def carry_out(task: Request | Task, runs: Path, more: More, read: Read) -> str:
    """Do a task in this process. Returns `done` or `failed`."""
    if isinstance(task, Request):
        work.train(task, read)
        return "done"
    return work.carry_out(task, runs, more, read)
