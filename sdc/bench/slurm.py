"""Slurm: what to ask it for, a profile in a small file. Parsl is not loaded for it: that takes half a second."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sdc.ground.errors import FatalError

EXAMPLE = "examples/slurm.toml"


@dataclass(frozen=True)
class Profile:
    """What to ask Slurm for. A job has one node."""

    jobs: int = 1
    """At most so many at a time."""
    partition: str = ""
    account: str = ""
    time: str = "04:00:00"
    """Hours, minutes, seconds of a job; days in front: 1-00:00:00. A cell goes on in the next job."""
    gpus: int = 0
    gpu_type: str = ""
    cores: int = 2
    memory: int = 0
    """GB; 0: what the cluster gives."""
    exclusive: bool = False
    """Whether a job has its node for itself."""
    per_gpu: int = 1
    workers: int = 0
    """Cells at a time in a job: on each GPU, or without GPUs (0: one a core)."""
    threads: int = 0
    """Of each worker; 0: the cores, divided among the workers. The same number as elsewhere gives the same bits."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, such as `--qos=high`."""
    init: tuple[str, ...] = ()
    """Lines for the shell before the workers start, such as `module load cuda`."""
    address: str = ""
    """Under which the nodes reach this machine; empty: all that it has are tried."""
    poll: int = 15
    """Seconds between looks at the queue."""
    patience: int = 120
    """Seconds without a word from a job's workers after which their cells are given to others."""
    file: Path = Path(EXAMPLE)
    """Where this was read."""

    @property
    def slots(self) -> int:
        """Workers in a job."""
        return self.gpus * self.per_gpu if self.gpus else self.workers or max(1, self.cores)

    @property
    def threads_each(self) -> int:
        """Threads of a worker."""
        return self.threads or max(1, self.cores // self.slots)

    def advice(self) -> str:
        """What to look at when Slurm starts no job."""
        return (
            f"Mend {self.file} (partition, account, time, gpus, cores, memory, init, address); `sinfo` lists "
            "partitions and their limits. What is done is kept: the same command goes on."
        )


def read(file: Path) -> Profile:
    """The profile in a file. Raises FatalError for what is unknown, of the wrong kind or out of bounds, naming it."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FatalError(f"cannot read {file}: {error}\n{EXAMPLE} shows what a profile looks like") from error
    known = {field.name: field.default for field in fields(Profile) if field.name != "file"}
    for name, value in found.items():
        if name not in known:
            raise FatalError(f"{file}: unknown {name!r}. Known: {', '.join(sorted(known))}")
        if wrong := _wrong(name, value, known[name]):
            raise FatalError(f"{file}: {name} is {value!r}; give {wrong}")
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Profile(**{**found, **lists}, file=file)


def _wrong(name: str, value: Any, default: Any) -> str:  # noqa: ANN401 - whatever the file holds
    """What to give instead of a value that cannot be meant, or nothing."""
    if isinstance(default, tuple):
        lines = isinstance(value, list) and all(isinstance(line, str) and "\n" not in line for line in value)
        options = name != "sbatch" or (lines and all(line.startswith("-") for line in value))
        return "" if lines and options else _LISTS[name]
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        least = 1 if default else 0
        sound = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return "" if sound else f"a whole number from {least} on"
    if name == "time":
        return "" if isinstance(value, str) and _TIME.fullmatch(value) and minutes(value) else _TIMES
    return "" if isinstance(value, str) and not re.search(r"\s", value) else "a text without spaces"


_LISTS = {
    "sbatch": 'a list of options of sbatch, such as ["--qos=high"]',
    "init": 'a list of lines for the shell, such as ["module load cuda"]',
}
_TIMES = 'hours, minutes and seconds, at least a minute: "04:00:00", with days in front: "1-00:00:00"'
_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")


def minutes(text: str) -> int:
    """The whole minutes of a time: Parsl and Slurm count no less."""
    days, hours, minutes, _ = (int(part or 0) for part in _TIME.fullmatch(text).groups())  # type: ignore[union-attr]
    return (days * 24 + hours) * 60 + minutes
