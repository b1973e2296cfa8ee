"""Networks trained on a CPU side by side in processes: this one trains some, members of a crew the others.

What a network becomes depends on its seed, what it learns and its number of threads alone, so it matters to none who
trains it. What members need to know lies in one file without a name, which they map: images are in memory once.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdc.evaluation import cpu, repeatable
from sdc.ground import crew
from sdc.ground.crew import Crew, Task

log = logging.getLogger(__name__)
WORTH = 6.0
"""Seconds of work that must wait before others are asked to help: they need about two to begin."""
_LOOK, _WORD = 0.1, 0.2
"""Seconds between looks at what members say, and between words of theirs."""

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Known:
    """What whoever trains has to know beside its task: tensors by name, and facts as JSON takes them."""

    tensors: Mapping[str, Tensor]
    facts: Any


Do = Callable[[Known, Task, Tell], Any]
"""Does a task and returns the outcome as JSON takes it; tells the number of each epoch that has ended, from 0."""


@dataclass(frozen=True)
class Work:
    """Tasks, each of so many `epochs`, to be done by `do`, in other processes by `serve(do)` in the module `module`.

    `threads`: the most that a task takes.
    """

    tasks: Sequence[Task]
    epochs: Callable[[Task], int]
    do: Do
    module: str
    known: Known
    threads: int


def carry_out(work: Work, tell: Tell, keep: Callable[[Task, Any], None]) -> None:
    """Do all tasks, here and in other processes where that saves time.

    `tell` hears of the epochs of those that have begun and are not done, `keep` of each outcome when it is there.
    """
    shared = _Shared(work, tell, keep)
    with shared.stack:
        while shared.waiting or shared.at_work:
            if shared.waiting:
                shared.do_one()
            else:
                shared.tend(wait=True)


@dataclass
class _Shared:
    """Work that this process does, and the crew that helps it as soon as there is enough to do."""

    work: Work
    tell: Tell
    keep: Callable[[Task, Any], None]
    stack: ExitStack = field(default_factory=ExitStack)
    crew: Crew | None = None
    own: int = 0
    theirs: int = 0
    """Epochs of the tasks that this process, and the crew, are at."""

    def __post_init__(self) -> None:
        self.waiting = deque(self.work.tasks)

    @property
    def at_work(self) -> bool:
        """Whether somebody else is."""
        return bool(self.crew and self.crew.at_work)

    def do_one(self) -> None:
        """Do the next task here, and see to the crew meanwhile."""
        task, began = self.waiting.popleft(), time.monotonic()
        looked = began

        def heard(epoch: int) -> None:
            nonlocal looked
            self.own, now = epoch + 1, time.monotonic()
            if now - looked > _LOOK:
                looked = now
                waiting = sum(map(self.work.epochs, self.waiting))
                if not self.crew and (now - began) / self.own * waiting > WORTH:
                    self._ask_for_help()
                self.tend()
            self.tell(self.own + self.theirs)

        outcome = self.work.do(self.work.known, task, heard)
        self.own = 0
        self.keep(task, outcome)

    def tend(self, *, wait: bool = False) -> None:
        """See to the crew."""
        if self.crew:
            self.crew.tend(wait=wait)

    def _ask_for_help(self) -> None:
        waiting, files, module = self.waiting, [], self.work.module
        try:
            files.append(self.stack.enter_context(_file(self.work.known)))
        except OSError as error:  # no room, say
            log.warning("networks are trained one after the other: %s", error)
            waiting = deque()  # nobody is started for it
        self.crew = Crew(module, [*map(str, files)], waiting, self.work.threads, self.keep, self._more, files)
        self.stack.callback(self.crew.end)

    def _more(self, epochs: int) -> None:
        self.theirs += epochs
        self.tell(self.own + self.theirs)


@contextmanager
def _file(known: Known) -> Iterator[int]:
    """A file with all that is known; it has no name, so it goes when nobody has it open any more."""
    descriptor, name = tempfile.mkstemp(prefix="sdc-", suffix=".safetensors")
    os.close(descriptor)
    try:
        tensors = {name: tensor.detach().contiguous() for name, tensor in known.tensors.items()}
        save_file(tensors, name, {"facts": json.dumps(known.facts)})
        descriptor = os.open(name, os.O_RDONLY)
    finally:
        Path(name).unlink()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Known:
    """What `_file` wrote; the tensors are the file's own pages."""
    with safe_open(f"/dev/fd/{descriptor}", framework="pt") as kept:
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - not a dict
        return Known(tensors, json.loads(kept.metadata()["facts"]))


def serve(do: Do, arguments: Sequence[str]) -> None:
    """In a member, given its arguments: do tasks until there are no more."""
    known = _read(int(arguments[0]))

    def done(task: Task, tell: Tell) -> Any:  # noqa: ANN401 - whatever the task's outcome is
        told, when = 0, time.monotonic()

        def heard(epoch: int) -> None:
            nonlocal told, when
            if time.monotonic() - when > _WORD:
                tell(epoch + 1 - told)
                told, when = epoch + 1, time.monotonic()

        return do(known, task, heard)

    with repeatable.kernels(torch.device("cpu")), cpu.kept_pages():
        crew.serve(done)
