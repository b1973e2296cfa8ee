"""How many processes may work side by side here."""

from __future__ import annotations

import os

from sdc.ground.errors import FatalError

WORKERS = "SDC_WORKERS"
"""The variable that says how many processes work side by side; not set: as many as there are cores for."""


def cores() -> int:
    """The cores that this process may use, where the system says; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """How many threads each of several processes side by side computes with: `OMP_NUM_THREADS`, else one."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, int(said)) if said.isdigit() else 1


def lanes(wanted: int) -> int:
    """How many processes, `wanted` at most, are to compute side by side here. At least one.

    Raises FatalError if `SDC_WORKERS` is no number from 1 on.
    """
    said = os.environ.get(WORKERS, "").strip()
    if said and not (said.isdigit() and int(said)):
        raise FatalError(f"{WORKERS}={said}: give a number of processes, 1 or more")
    return max(1, min(wanted, int(said) if said else cores() // threads()))
