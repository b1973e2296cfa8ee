"""Which task the workers are given when: experts first, what matches them next, sets to be evaluated at the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdc.bench import losses, tasks, work
from sdc.bench.cells import Cell, Group, Task
from sdc.bench.work import More

Told = Callable[[Task, str], None]
"""Told of a task and what became of it: `done` or `failed`."""
Submit = Callable[..., Future[Any]]
"""Given a function of `sdc.bench.tasks` and its arguments, has a worker call it; futures among them come first."""


@dataclass(frozen=True)
class _Given:
    """What a worker has been given to do, for which tasks, and the experts that these match if they are to come."""

    does: Callable[..., Any]
    tasks: Sequence[Task]
    first: Future[Any] | None = None

    def may_run(self) -> bool:
        return self.first is None or self.first.done()


@dataclass
class Dispatch:
    """Hands tasks to `workers` workers.

    Where sets are evaluated `together`, a cell is first distilled. Its set waits for its like as long as there is other
    work for all workers; then those that wait are evaluated, by as many workers as are free.
    """

    submit: Submit
    workers: int
    runs: Path
    more: More
    on_end: Told
    together: bool
    _running: dict[Future[Any], _Given] = field(default_factory=dict)
    _training: list[Future[Any]] = field(default_factory=list)
    _distilled: list[Cell] = field(default_factory=list)

    def carry_out(self, todo: Sequence[Task], groups: Sequence[Group], check: Callable[[], None]) -> None:
        """Do all tasks, and train the experts of `groups` for those that match them; return when all have ended.

        `check` is called again and again; whatever it raises ends all.
        """
        trained = {group.where: self.submit(tasks.trained, group) for group in groups if not group.ready}
        self._training = list(trained.values())
        for task in todo:
            self._begin(task, trained.get(task.experts) if task.experts else None)
        while self._running:
            check()
            for ended in [future for future in self._running if future.done()]:
                self._end(ended, self._running.pop(ended))
            self._evaluate()
            time.sleep(0.1)  # short of breath, so that Ctrl-C is heard

    def _begin(self, task: Task, first: Future[Any] | None = None, *, together: bool = True) -> None:
        if isinstance(task, Cell) and self.together and together:
            future = self.submit(tasks.distilled, task, self.runs, first)
            self._running[future] = _Given(tasks.distilled, [task], first)
        else:
            future = self.submit(tasks.carried_out, task, self.runs, self.more, first)
            self._running[future] = _Given(tasks.carried_out, [task], first)

    def _end(self, ended: Future[Any], given: _Given) -> None:
        """Tell what became of tasks, or have them go on."""
        if error := ended.exception():
            self._lost(given, error)
            return
        outcome = ended.result()
        for task, became in zip(given.tasks, outcome if given.does is tasks.evaluated else [outcome], strict=True):
            if became == "distilled" and isinstance(task, Cell):
                self._distilled.append(task)
            else:
                self.on_end(task, became)

    def _lost(self, given: _Given, error: BaseException) -> None:
        """Keep in a task's folder that no worker could carry it out; of several at once, each may still do so alone."""
        if len(given.tasks) > 1:
            for task in given.tasks:
                self._begin(task, together=False)
            return
        (task,) = given.tasks
        work.failed(task, self.runs, losses.reason(error))
        self.on_end(task, "failed")

    def _evaluate(self) -> None:
        """Give sets that wait to workers that would have nothing to do."""
        busy = sum(given.may_run() for given in self._running.values())
        busy += sum(not training.done() for training in self._training)
        if (free := self.workers - busy) <= 0:
            return
        for cells in parts(self._distilled, free):
            self._running[self.submit(tasks.evaluated, cells, self.runs, self.more)] = _Given(tasks.evaluated, cells)
        self._distilled = []


def parts(cells: Sequence[Cell], count: int) -> list[list[Cell]]:
    """Cells in groups that can be evaluated together: each kind in at most `count`, of about one size."""
    found = []
    for _, alike in itertools.groupby(sorted(cells, key=_kind), key=_kind):
        of_kind = list(alike)
        number = min(count, len(of_kind))
        found += [of_kind[first::number] for first in range(number)]
    return found


def _kind(cell: Cell) -> str:
    return repr(cell.kind)
