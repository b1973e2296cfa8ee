"""Runs that were not measured when they were made, for a report: it says what measuring them takes before it begins.

Where nothing is to be measured, torch is not loaded.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from sdc.analysis.difficulty import kept
from sdc.ground.errors import FatalError
from sdc.ground.files import read_json
from sdc.ground.watch import Watch

if TYPE_CHECKING:
    from sdc.analysis.difficulty.course import Work

MOMENT = 15.0
"""Seconds that a report spends at most on runs that nobody asked it to measure."""
_TIMED = 16
"""Images whose norms are timed for an estimate."""
Kind = tuple[object, ...]
"""A model, and the shape of the images: norms of one kind take as long as each other."""


class _OverError(Exception):
    """The time that was said is over."""


def fill(runs: Path, asked: bool | None, watch: Watch) -> int:
    """Measure complete runs in `runs` that have a history and were not measured; return how many were.

    `asked`: True measures all, False none. None: those that did not fail before, if all of them take a moment; else it
    is said what they would take. A run that cannot be measured is told of and left out.
    """
    waiting = kept.waiting(runs) if asked is not False else []
    todo = [run for run in waiting if asked or not kept.failure(run)]
    for run in waiting if not asked else ():
        if reason := kept.failure(run):
            watch.say(f"{reason} (sdc report --difficulty tries again)")
    if not todo:
        return 0
    watch.stage("looking how long measuring difficulty takes", None)
    norms, seconds = _estimate(todo)
    said = f"difficulty over the steps was not measured for {_runs(len(todo))}: about {_time(seconds)}"
    if asked:
        watch.say(f"{said}. Ctrl-C keeps what is measured by then")
        return _measure(todo, norms, None, watch)
    if seconds > MOMENT:
        watch.say(f"{said}, so it is left out. Measure it: sdc report {shlex.quote(str(runs))} --difficulty")
        return 0
    watch.say(f"{said}, at most {MOMENT:.0f} s (--no-difficulty leaves it out)")
    return _measure(todo, norms, time.monotonic() + MOMENT, watch)


def _measure(todo: Sequence[Path], norms: int, end: float | None, watch: Watch) -> int:
    """Measure runs one after another, until the time `end`."""
    from sdc.analysis.difficulty import course

    made = before = 0

    def told(done: int) -> None:
        watch.progress(before + done)
        if end and time.monotonic() > end:
            raise _OverError

    watch.stage("measuring the difficulty over the steps", norms)
    for number, run in enumerate(todo):
        try:
            work = course.work(run)
            work.measure(told)
        except _OverError:
            left = _runs(len(todo) - number)
            watch.say(f"{left} took longer than was said, and wait: sdc report --difficulty measures them")
            break
        except Exception as error:
            course.failed(run, error, watch)
            continue
        made, before = made + 1, before + work.norms
    return made


def _estimate(todo: Sequence[Path]) -> tuple[int, float]:
    """How many norms the runs take, and how many seconds: some of each kind are timed.

    A run that cannot be opened takes none: it is told why when it is to be measured.
    """
    from sdc.analysis.difficulty import course, judges

    each: dict[Kind, float] = {}
    norms, seconds = 0, 0.0
    for run in todo:
        try:
            kind, images = _images(run)
            if kind not in each:
                each[kind] = _seconds(course.work(run, networks=1, most=_TIMED))
        except (FatalError, SafetensorError, OSError, KeyError):
            continue
        found = course.count(run) * min(images, course.MOST) * judges.NETWORKS
        norms, seconds = norms + found, seconds + found * each[kind]
    return norms, seconds


def _images(run: Path) -> tuple[Kind, int]:
    """The kind of a run's norms, and how many images it has; its set's header tells."""
    with safe_open(run / "distilled.safetensors", framework="np") as kept_set:
        number, *shape = kept_set.get_slice("images").get_shape()
    return (read_json(run / "cell.json")["model"], *shape), number


def _seconds(work: Work) -> float:
    """What a norm takes, behind a first time."""
    from sdc.analysis.difficulty.gradn import by_network

    images, labels = work.final.images[work.chosen], work.final.labels[work.chosen]
    for _ in range(2):
        began = time.monotonic()
        by_network(images, labels, work.judges.networks)
    return (time.monotonic() - began) / len(images)


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _time(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{seconds / 60:.0f} min"
