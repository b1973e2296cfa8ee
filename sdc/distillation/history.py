"""History: states of the distilled set that a run keeps on the way, for difficulty over the steps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sdc.ground.watch import Watch
from sdc.launcher.job import Job
from sdc.plan.request import Plan

LIMIT = 100e6
"""Bytes that the history of one run takes, at most."""
_FOLDER = "history"


def kept(job: Job, plan: Plan, folder: Path, watch: Watch) -> Job:
    """The job of a run in `folder`, told to keep what `plan` asks for; says so if less is kept for its size."""
    asked, states = plan.settings.history, _states(plan)
    if not asked:
        return job
    if states < min(asked, plan.steps()):
        watch.say(
            f"history: a state takes {_size(plan) / 1e6:.0f} MB; {states or 'none'} of {asked} kept, "
            f"so that all take less than {LIMIT / 1e6:.0f} MB"
        )
    every = -(-plan.steps() // states) if states else 0
    return replace(job, history=str(folder / _FOLDER), history_every=every)


def forget(folder: Path, behind: int = 0) -> None:
    """Take away what a run in `folder` kept behind so many steps, or left half-written; at 0, the start, too.

    What was measured of it goes as well: other states are to come.
    """
    for measured in folder.glob("difficulty*.json"):
        measured.unlink()
    if not behind:
        shutil.rmtree(folder / _FOLDER, ignore_errors=True)
        return
    for file in (folder / _FOLDER).glob("*"):
        if not (file.suffix == ".safetensors" and file.stem.isdigit() and int(file.stem) <= behind):
            file.unlink()


def _states(plan: Plan) -> int:
    """How many states fit, beside the start."""
    return min(plan.settings.history, plan.steps(), max(0, int(LIMIT / _size(plan)) - 1))


def _size(plan: Plan) -> int:
    """Bytes of one state: an image's numbers, and a label's where they are learned."""
    slot = plan.slot
    return 4 * slot.classes * plan.cell.ipc * (slot.channels * slot.size**2 + slot.classes)
