"""Turns: which iterations of its loop a process goes through: all behind what is done, or those that nobody has taken.

So processes side by side share the networks of one script. An empty file stands for each that waits. Who moves it to
its own folder trains that network: of several that try, the system lets one succeed. When the script has saved the
network, its file gets its number, and only then the empty one is gone. So whatever is killed, every network either is
finished or can be found among those that wait or were taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sdc.launcher.job import Job
from sdc.launcher.recorder import Metrics


class Turns:
    """Those of one process."""

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self._job, self._metrics = job, metrics

    def numbers(self, count: int) -> Iterable[int]:
        """Of `count` iterations the numbers of this process's, from 0 on, each as it is due."""
        return self._shared(count) if self._job.waiting else range(self._job.done, count)

    def _shared(self, count: int) -> Iterator[int]:
        while (number := self._take(count)) is not None:
            # Their log is put together by these lines, in the order of the numbers.
            print(f"$ network {number}", flush=True)  # noqa: T201
            yield number  # the loop comes back for the next when the script is done with this one
            self._keep(number)

    def _take(self, count: int) -> int | None:
        """The first that waits; None if none does any more, though one that was given back may be waiting later."""
        for number in sorted(int(file.name) for file in Path(self._job.waiting).iterdir()):
            if number >= count:
                raise ValueError(f"network {number} is to be trained, of {count}")
            try:
                (Path(self._job.waiting) / str(number)).rename(Path(self._job.taken) / str(number))
            except FileNotFoundError:  # another process was faster
                continue
            return number
        return None

    def _keep(self, number: int) -> None:
        """Give the file of a finished network its number, and tell of it."""
        finished = Path(self._job.finished)
        Path(self._job.saved).replace(finished.with_name(finished.name.format(number)))
        (Path(self._job.taken) / str(number)).unlink()
        self._metrics.write("network", {"number": number})
