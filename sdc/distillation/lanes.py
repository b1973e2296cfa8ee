"""Lanes: processes side by side that train the experts of one set, each the next that none has taken.

What an expert becomes depends on its number alone, so it does not matter who trains it, or how many do. Each lane has a
folder of its own; an expert arrives under its number when it is whole. A lane that is killed costs the one expert that
it was at, which waits again for whoever comes first.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdc.distillation import process
from sdc.distillation.buffers import file_of, is_sound
from sdc.distillation.process import Script
from sdc.ground import cores
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch
from sdc.launcher.job import Job
from sdc.launcher.recorder import Metrics

TRIES = 3
"""So often in all is an expert tried whose process was lost, or a lane that has no other beside it."""
_WAITING = "waiting"
_PREFIX = "lane-"
_PART = re.compile(r"^(?=\$ )", re.MULTILINE)


@dataclass(frozen=True)
class Work:
    """Experts to be trained: the `job` of one process, the folder that lanes share, and what is missing of how many."""

    job: Job
    folder: Path
    place: str
    """Where in its own folder a process saves them, and in the one that is shared they arrive."""
    missing: Sequence[int]
    count: int
    steps: int
    """Of an optimizer, for each expert."""
    seconds: float
    """What earlier commands took."""
    advice: Mapping[str, str]


@dataclass
class _Lane:
    number: int
    folder: Path
    script: Script
    steps: int = 0
    """Of the experts that it has begun, since the start of this process."""
    finished: int = 0
    lost: int = 0
    """How often it was lost since it last finished one."""


@dataclass
class Lanes:
    """The processes of one command, and how far they have come together."""

    work: Work
    watch: Watch
    _lanes: list[_Lane] = field(default_factory=list)
    _lost: Counter[int] = field(default_factory=Counter)
    _several: bool = False
    peak: int = 0
    """The most memory that one of them held, in MiB."""

    def __post_init__(self) -> None:
        self._done = self.work.count - len(self.work.missing)
        self._metrics = Metrics(self.work.folder / "metrics.jsonl", self.work.seconds)

    def train(self, count: int) -> None:
        """Train what is missing in `count` processes. Raises FatalError with the end of a log if one fails.

        Whatever happens, none of them is left.
        """
        _prepare(self.work)
        self._several = count > 1
        try:
            for number in range(count):
                self._lanes.append(self._started(number))
            while self._lanes:
                for lane in list(self._lanes):
                    self._look(lane)
                time.sleep(process.PAUSE)
        finally:
            process.stop([lane.script for lane in self._lanes])

    def seconds(self) -> float:
        """What training has taken until now, by the clock, with what earlier commands took."""
        return self._metrics.seconds()

    def _started(self, number: int, lost: int = 0) -> _Lane:
        folder = self.work.folder / f"{_PREFIX}{number}"
        shutil.rmtree(folder / self.work.place, ignore_errors=True)  # what the last one had not finished
        (folder / "taken").mkdir(parents=True, exist_ok=True)
        job = replace(
            self.work.job,
            metrics=str(folder / "metrics.jsonl"),
            view=str(folder / "view.json"),
            waiting=str(self.work.folder / _WAITING),
            taken=str(folder / "taken"),
            saved=str(file_of(folder / self.work.place, 0)),
            finished=str(file_of(self.work.folder / self.work.place, "{}")),
            earlier=self.seconds(),
        )
        return _Lane(number, folder, Script(job, folder, folder / "log.txt", onto=True), lost=lost)

    def _look(self, lane: _Lane) -> None:
        """Hear how far a lane is; one that has ended is gone, or another is in its place."""
        ended, lines = lane.script.has_ended(), lane.script.heard()
        for line in lines:
            if line["kind"] == "step":
                lane.steps = line["step"]
            elif line["kind"] == "network":
                lane.finished, lane.lost = lane.finished + 1, 0
            elif line["kind"] == "end":
                self.peak = max(self.peak, line["peak_memory_mib"])
        if ended:
            self._lanes.remove(lane)
            self._done += lane.finished
            self._end(lane)
        elif not lines:
            lane.script.look(self.watch)
        if lines or ended:
            self._tell()

    def _tell(self) -> None:
        steps = self._done * self.work.steps + sum(
            max(lane.steps, lane.finished * self.work.steps) for lane in self._lanes
        )
        self._metrics.write("step", {"step": steps, "loss": None})
        self.watch.progress(steps)

    def _end(self, lane: _Lane) -> None:
        """Go on without a lane, or with another in its place if experts wait that nobody else would take soon."""
        failure = lane.script.failure(self.work.advice)
        lost = lane.lost + bool(failure)
        if failure:
            alone = not self._lanes
            if not (lane.script.was_killed() or (self._several and lane.script.found_no_memory())):
                raise failure
            self._give_back(lane, failure)
            if alone and lost == TRIES:
                raise failure
            self.watch.say(f"a process that trains experts was lost; going on. What it said: {lane.script.log}")
        waits = any((self.work.folder / _WAITING).iterdir())
        if waits and (not self._lanes or lost == 1):  # lost twice beside others, it may be one too many for the memory
            self._lanes.append(self._started(lane.number, lost))

    def _give_back(self, lane: _Lane, failure: FatalError) -> None:
        """What a lost lane was at waits again. Raises its failure if the same expert was lost too often."""
        for taken in (lane.folder / "taken").iterdir():
            number = int(taken.name)
            if is_sound(file_of(self.work.folder / self.work.place, number)):  # killed right before it told of it
                taken.unlink()
                self._done += 1
                continue
            self._lost[number] += 1
            if self._lost[number] == TRIES:
                raise failure
            taken.rename(self.work.folder / _WAITING / taken.name)


def side_by_side(missing: int, usual: int, begun_with: int) -> tuple[int, int]:
    """How many processes train experts, and how many threads each has (0: torch decides).

    All experts of a set are trained with one number of threads, on which their bits depend: that which the set was
    `begun_with` if it was (else 0), or the `usual` one. A GPU (0) is used by one process, as it is filled by one.
    """
    threads = begun_with or usual
    return (max(1, min(missing, cores.workers(threads))), threads) if threads else (1, 0)


def missing_in(folder: Path, count: int) -> list[int]:
    """The numbers of the experts that are not there, a file each; what is there and not whole is taken away."""
    missing = [number for number in range(count) if not is_sound(file_of(folder, number))]
    for number in missing:
        file_of(folder, number).unlink(missing_ok=True)
    return missing


def logs(folder: Path) -> list[Path]:
    """What the lanes in this folder have said, a file each."""
    return sorted(folder.glob(f"{_PREFIX}*/log.txt"), key=lambda log: (len(log.parent.name), log.parent.name))


def view(folder: Path) -> Path:
    """How the script was shown the images, as a lane in this folder has written it; all were shown them alike."""
    return sorted(folder.glob(f"{_PREFIX}*/view.json"))[0]


def is_ours(file: Path, folder: Path) -> bool:
    """Whether a file in the shared folder belongs to one lane."""
    return file.relative_to(folder).parts[0].startswith(_PREFIX)


def merged(files: Sequence[Path], script: str) -> str:
    """One log of several: how each process began, then what was said of each expert, in the order of their numbers."""
    parts = [part for file in files for part in _parts(file.read_text(errors="replace"), Path(script).name)]
    return "".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def _parts(text: str, script: str) -> list[tuple[int, str]]:
    found = [(-1, "")]
    for part in _PART.split(text):
        title = part.partition("\n")[0]
        if number := re.fullmatch(r"\$ network (\d+)", title):
            found.append((int(number[1]), part))
        elif title.startswith(f"$ {script}"):
            found.append((-1, part))
        else:  # a line of the script's own that looks like ours
            found[-1] = (found[-1][0], found[-1][1] + part)
    return found


def _prepare(work: Work) -> None:
    """Have all that is missing wait, and nothing be taken."""
    for left in (work.folder / _WAITING, *work.folder.glob(f"{_PREFIX}*/taken")):
        shutil.rmtree(left, ignore_errors=True)
    (work.folder / _WAITING).mkdir()
    (work.folder / work.place).mkdir(parents=True, exist_ok=True)
    for number in work.missing:
        (work.folder / _WAITING / str(number)).touch()
