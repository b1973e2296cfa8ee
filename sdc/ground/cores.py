"""How many processes may work side by side here, with how many threads each; the one place that decides it."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sdc.ground.errors import FatalError

THREADS, WORKERS, SHARES = "OMP_NUM_THREADS", "SDC_WORKERS", "SDC_SHARES"
"""Variables: threads of each process; processes that work side by side; the folder of a benchmark's shares."""
PER_THREAD = 5e8
"""Multiply-adds of a batch's pass that keep a thread busy, about 10 ms: with fewer, threads wait for each other."""
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """The cores that this process may use: those that the system leaves it, or fewer if a container gets less time."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(free, quota() or free)


def quota() -> int:
    """The cores whose time a container gets (cgroup version 1 or 2), rounded up; 0: no limit is known."""
    limits = [*map(_of_version_2, _of_group("")), *map(_of_version_1, _of_group("cpu"))]
    return min(filter(None, limits), default=0)


def _of_group(controller: str) -> list[Path]:
    """The folders with the limits of this process's group and those above it; `controller` is version 1's."""
    root = _GROUPS / controller
    lines = _OWN_GROUP.read_text().splitlines() if _OWN_GROUP.is_file() else []
    owns = [path for line in lines for _, names, path in [line.split(":", 2)] if controller in names.split(",")]
    inner = root / next(iter(owns), "/").lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder == root or root in folder.parents]


def _of_version_2(group: Path) -> int:
    file = group / "cpu.max"
    words = file.read_text().split() if file.is_file() else []
    return _rounded_up(words[0], words[1]) if len(words) == 2 else 0


def _of_version_1(group: Path) -> int:
    files = [group / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    return _rounded_up(*(file.read_text().strip() for file in files)) if all(map(Path.is_file, files)) else 0


def _rounded_up(time: str, period: str) -> int:
    return max(1, -(-int(time) // int(period))) if time.isdecimal() and period.isdecimal() and int(period) else 0


def wait_quietly(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user said how; before torch is imported.

    Threads that spin take the time of those that they wait for, wherever a core has more to do than one of them.
    """
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def stated() -> int:
    """The threads that the user asks for (`OMP_NUM_THREADS`); 0 if nobody does."""
    first = os.environ.get(THREADS, "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def threads(work: float, beside: int = 1) -> int:
    """Threads for a process whose passes take `work` multiply-adds, as one of `beside` that could run side by side.

    What the user asks for, else one for each `PER_THREAD` multiply-adds: no more than its part of the cores, which
    processes use better than threads do, and at least one.
    """
    return stated() or max(1, min(int(work / PER_THREAD), cores() // beside))


def workers(each: int) -> int:
    """Processes of so many threads `each` that are to work side by side, this one included: `SDC_WORKERS`, else as many
    as there are cores for.

    Raises FatalError where that is no positive number.
    """
    asked = os.environ.get(WORKERS, "")
    if asked and not (asked.isascii() and asked.isdecimal() and int(asked)):
        raise FatalError(f"{WORKERS}={asked}: give a number of processes, 1 or more")
    return int(asked) if asked else max(1, cores() // each)


class Spare:
    """The cores that a process may use beside its own, one `take` after the other, each for as long as it is held.

    In a worker of a benchmark they are those of workers that have nothing to do: every worker holds a share while it
    does a task. Elsewhere there are `workers(each) - 1`.
    """

    def __init__(self, each: int) -> None:
        """`each`: the threads that every one that is taken is to run."""
        self._left = workers(each) - 1
        self._shares = os.environ.get(SHARES, "")

    def take(self) -> IO[str] | None:
        """Something to close in order to give the core back; None: there is none to spare now."""
        if self._shares:
            return _taken(Path(self._shares))
        if not self._left:
            return None
        self._left -= 1
        return Path(os.devnull).open()

    def back(self, share: IO[str]) -> None:
        """Give one back."""
        share.close()
        self._left += not self._shares


@contextmanager
def busy() -> Iterator[None]:
    """Within, a worker of a benchmark does a task, and holds a share if there is one."""
    shares = os.environ.get(SHARES, "")
    held = _taken(Path(shares)) if shares else None
    try:
        yield
    finally:
        if held:
            held.close()


def share_out(folder: Path, count: int) -> None:
    """Lay out `count` shares, a file each: whoever locks one holds it, until it lets go or ends, however it ends."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / str(number)).touch()


def _taken(folder: Path) -> IO[str] | None:
    import fcntl  # which Windows lacks, and the command line says so

    for file in sorted(folder.glob("*")):
        share = file.open("r+")
        try:
            fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            share.close()
        else:
            return share
    return None
