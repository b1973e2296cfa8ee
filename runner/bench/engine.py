"""The engine: Parsl hands cells to workers, experts before the cells that match them. What is done it reads from files.

Nothing rests on Parsl's own memory: a benchmark that is killed, or runs elsewhere, goes on from its run folders.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parsl
import torch
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from runner import paths
from runner.bench import work
from runner.bench.cells import Cell, Group
from runner.bench.work import More
from runner.plan import Request

Told = Callable[[Cell, str], None]
"""Told of a cell and what became of it: `done`, `failed`, or why it could not be begun."""


@dataclass(frozen=True)
class Slots:
    """Where workers run: on each GPU `per_gpu` of them, or, without one, `workers` that share the cores."""

    gpus: int
    per_gpu: int = 1
    workers: int = 0

    @property
    def count(self) -> int:
        """Workers at a time."""
        return self.gpus * self.per_gpu if self.gpus else self.workers or max(1, _cores() // 2)

    @property
    def threads(self) -> int:
        """Threads of each."""
        return max(1, _cores() // self.count)


def here(per_gpu: int, workers: int) -> Slots:
    """The slots of this machine."""
    return Slots(torch.cuda.device_count() if torch.cuda.is_available() else 0, per_gpu, workers)


def carry_out(
    cells: Sequence[Cell], groups: Sequence[Group], runs: Path, more: More, slots: Slots, on_end: Told
) -> None:
    """Carry the cells out in `runs`, and train the experts that they lack. Returns when all have ended, well or not."""
    with tempfile.TemporaryDirectory(prefix="sdc-bench-") as folder, parsl.load(_config(slots, folder)) as kernel:
        train, run = (python_app(task, data_flow_kernel=kernel) for task in (_trained, _carried_out))
        trained = {group.where: train(group.request) for group in groups if not group.ready}
        running: dict[Future[Any], Cell] = {}
        for cell in cells:
            first = trained.get(cell.experts) if cell.experts else None
            running[run(cell, runs, more, first)] = cell
        for ended in _as_they_end(running):
            error = ended.exception()
            on_end(running[ended], ended.result() if error is None else f"{type(error).__name__}: {error}")


def _as_they_end(running: dict[Future[Any], Cell]) -> Iterator[Future[Any]]:
    """Each future once it is done; the wait is short of breath, so that Ctrl-C is heard."""
    waiting = set(running)
    while waiting:
        for ended in [future for future in waiting if future.done()]:
            waiting.discard(ended)
            yield ended
        time.sleep(0.1)


def _config(slots: Slots, folder: str) -> Config:
    """Workers on this machine; Parsl's own files go into a folder that goes, too."""
    executor = HighThroughputExecutor(
        label="sdc",
        address="127.0.0.1",
        interchange_launch_cmd=[sys.executable, str(Path(sys.executable).with_name("interchange.py"))],
        max_workers_per_node=slots.count,
        available_accelerators=[str(gpu) for gpu in range(slots.gpus) for _ in range(slots.per_gpu)],
        provider=LocalProvider(  # type: ignore[no-untyped-call]
            init_blocks=1, max_blocks=1, worker_init=_environment(slots)
        ),
    )
    return Config(executors=[executor], run_dir=folder, initialize_logging=False, strategy="none", usage_tracking=0)


def _trained(request: Request) -> str:
    """In a worker: failures of experts are told by the cells that need them, which try once more."""
    try:
        work.train(request)
    except Exception as error:
        return str(error)
    return ""


def _carried_out(cell: Cell, runs: Path, more: More, first: str | None) -> str:  # noqa: ARG001 - what it waits for
    return work.carry_out(cell, runs, more)


def _environment(slots: Slots) -> str:
    """What a worker's shell is told: where Python and this project are, and how many threads it has."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    python = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH", "")]))
    told = {"PATH": path, "PYTHONPATH": python, "OMP_NUM_THREADS": str(slots.threads)}
    return "; ".join(f"export {name}='{value}'" for name, value in told.items())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
