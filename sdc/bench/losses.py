"""Workers that are lost with their node or job: what they did is tried again as long as it gets further each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from sdc.bench.cells import Group, Task

TRIES = 3
"""A task is given up when its worker was lost so often without its getting further."""
_NEVER = float(TRIES)
Reached = tuple[int, int, int]


class Losses:
    """Parsl's handler of failed tasks: what another try costs, of `TRIES - 1` that each task has."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._reached: dict[int, Reached] = {}

    def cost(self, error: Exception, task: Any) -> float:  # noqa: ANN401 - a record of Parsl's
        """0 where a lost task got further than when it was lost before; what failed by itself is not tried again."""
        if not isinstance(error, ManagerLost | WorkerLost):
            return _NEVER
        at = task["args"][0]
        folders = [_folder(each, self._runs) for each in (at if isinstance(at, Sequence) else [at])]
        now, before = _sum(map(reached, folders)), self._reached.get(task["id"], (0, 0, 0))
        self._reached[task["id"]] = max(now, before)
        return 0.0 if now > before else 1.0


def reason(error: BaseException) -> str:
    """Why a cell could not be carried out, for people."""
    cause = getattr(error, "__cause__", None) or error
    if isinstance(cause, ManagerLost | WorkerLost):
        return (
            f"its worker was lost {TRIES} times without getting further ({cause}). Was it killed for want of memory? "
            "Is a job's time too short to reach the next snapshot? Give more of that, or set snapshot_every lower"
        )
    return f"{type(error).__name__}: {error}"


def reached(folder: Path) -> Reached:
    """How far the work in a run's or experts' folder has come: steps, files, the size of what is evaluated so far."""
    if not folder.is_dir():
        return 0, 0, 0
    metrics, scores = folder / "metrics.jsonl", folder / "scores.json"
    steps = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    files = [*folder.glob("*.json"), *folder.glob("evaluations/*"), *folder.rglob("replay_buffer_*.pt")]
    return steps, len(files), scores.stat().st_size if scores.is_file() else 0


def _sum(parts: Iterable[Reached]) -> Reached:
    """How far several have come in all."""
    steps, files, scored = zip(*parts, strict=True)
    return sum(steps), sum(files), sum(scored)


def _folder(at: Task | Group, runs: Path) -> Path:
    if not isinstance(at, Group):
        return runs / at.folder
    return at.where.with_name(f".{at.where.name}.partial")
