"""Networks of an evaluation on a CPU, side by side in processes: this one trains some, members of a crew the others.

A network's score depends on its seed, its trial and its number of threads alone, so it matters to none who trains it.
What members need to know lies in one file without a name, which they map: the images are in memory once.
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
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdc.evaluation.protocol import from_dict, to_dict
from sdc.evaluation.trial import Score, Trial
from sdc.ground.crew import Crew, Task

log = logging.getLogger(__name__)
WORTH = 6.0
"""Seconds of work that must wait before others are asked to help: they need about two to begin."""
_EVERY = 0.1
"""Seconds between looks at what they say."""
_TENSORS = ("images", "labels", "test_images", "test_labels")

Tell = Callable[[int], None]
Do = Callable[[Trial, str, int, int, Tell], Score]
"""Scores one network: (trial, model, its seed, threads, what hears of each epoch that has ended)."""


class Student(NamedTuple):
    """A network of one trial, by the trial's number and the network's own seed."""

    trial: int
    own: int


def carry_out(
    trials: Sequence[Trial],
    students: Sequence[Student],
    model: str,
    threads: Sequence[int],
    do: Do,
    tell: Tell,
    keep: Callable[[Student, Score], None],
) -> None:
    """Score students by `do`, here and in other processes where that saves time, each trial's with so many `threads`.

    `tell` hears of the epochs of those that have begun and have no score yet, `keep` of each score when it is there.
    """
    waiting: deque[Task] = deque({**student._asdict(), "threads": threads[student.trial]} for student in students)
    with ExitStack() as stack:
        helped = _Helped(trials, model, max(threads), waiting, tell, keep, stack)
        while waiting or helped.at_work:
            if not waiting:
                helped.tend(wait=True)
                continue
            student, each = understood(waiting.popleft())
            trial = trials[student.trial]
            score = do(trial, model, student.own, each, helped.began(trial))
            helped.own = 0
            keep(student, score)


class _Helped:
    """What this process does, and the crew that helps it as soon as there is enough to do."""

    def __init__(
        self,
        trials: Sequence[Trial],
        model: str,
        threads: int,
        waiting: deque[Task],
        tell: Tell,
        keep: Callable[[Student, Score], None],
        stack: ExitStack,
    ) -> None:
        self._trials, self._model, self._threads, self._stack = trials, model, threads, stack
        self._waiting, self._tell, self._keep = waiting, tell, keep
        self.own, self._theirs = 0, 0
        """Epochs of the networks that this process, and the crew, are at."""
        self._crew: Crew | None = None
        self._looked = time.monotonic()

    @property
    def at_work(self) -> bool:
        """Whether somebody else is."""
        return bool(self._crew and self._crew.at_work)

    def began(self, trial: Trial) -> Tell:
        """This process begins with a network of a trial: what is to hear of its epochs."""
        began, per_network = time.monotonic(), trial.protocol.epochs + 1

        def heard(epoch: int) -> None:
            self.own = epoch + 1
            now = time.monotonic()
            if now - self._looked > _EVERY:
                self._looked = now
                if not self._crew and (now - began) / self.own * per_network * len(self._waiting) > WORTH:
                    self._ask_for_help()
                self.tend()
            self._tell(self.own + self._theirs)

        return heard

    def tend(self, *, wait: bool = False) -> None:
        """See to the crew."""
        if self._crew:
            self._crew.tend(wait=wait)

    def _ask_for_help(self) -> None:
        try:
            file = self._stack.enter_context(_shared(self._trials))
        except OSError as error:  # no room, say: it goes on alone
            log.warning("networks are trained one after the other: %s", error)
            self._crew = Crew("", (), deque(), self._threads, self._done, self._more)
            return
        arguments = (str(file), self._model)
        self._crew = Crew(
            "sdc.evaluation.member", arguments, self._waiting, self._threads, self._done, self._more, files=(file,)
        )
        self._stack.callback(self._crew.end)

    def _done(self, task: Task, outcome: Mapping[str, Any]) -> None:
        self._keep(understood(task)[0], Score(**outcome))

    def _more(self, epochs: int) -> None:
        self._theirs += epochs
        self._tell(self.own + self._theirs)


def understood(task: Task) -> tuple[Student, int]:
    """A task's student, and its number of threads."""
    return Student(task["trial"], task["own"]), task["threads"]


@contextmanager
def _shared(trials: Sequence[Trial]) -> Iterator[int]:
    """A file with trials, each tensor once; it has no name, so it goes when nobody has it open."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    told = []
    for trial in trials:
        for field in _TENSORS:
            tensor = getattr(trial, field)
            if id(tensor) not in names:
                names[id(tensor)] = str(len(names))
                tensors[names[id(tensor)]] = tensor.detach().contiguous()
        own = {field: names[id(getattr(trial, field))] for field in _TENSORS}
        told.append({"tensors": own, "protocol": to_dict(trial.protocol), "seed": trial.seed})
    descriptor, name = tempfile.mkstemp(prefix="sdc-", suffix=".safetensors")
    os.close(descriptor)
    try:
        save_file(tensors, name, {"trials": json.dumps(told)})
        descriptor = os.open(name, os.O_RDONLY)
    finally:
        Path(name).unlink()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int) -> list[Trial]:
    """The trials in a file that `_shared` made; their tensors are the file's own pages."""
    with safe_open(f"/dev/fd/{descriptor}", framework="pt") as kept:
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - not a dict
        told = json.loads(kept.metadata()["trials"])
    return [
        Trial(
            **{field: tensors[each["tensors"][field]] for field in _TENSORS},
            protocol=from_dict(each["protocol"]),
            seed=each["seed"],
        )
        for each in told
    ]
