"""Slurm: a profile in a small file, and the jobs that Parsl asks for by it, one node each, with workers inside."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from parsl.addresses import address_by_interface
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider
from parsl.providers.slurm.slurm import squeue_translate_table
from parsl.utils import execute_wait

from sdc.ground.errors import FatalError

EXAMPLE = "examples/slurm.toml"
_COMMAND_SECONDS = 60
_FOR_EVER = (
    "AccountNotAllowed",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSNotAllowed",
)
"""Slurm's reasons for letting a job wait that do not pass."""


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


def provider(profile: Profile, init: str, first: int) -> SlurmProvider:
    """Parsl's way to Slurm: `first` jobs at first, `init` before the workers start. Raises FatalError without Slurm."""
    if not shutil.which("sbatch"):
        raise FatalError("there is no sbatch here: give this command where Slurm's commands are, or --on local")
    gpus = ":".join(filter(None, ["gpu", profile.gpu_type, str(profile.gpus)])) if profile.gpus else None
    jobs = _Jobs(
        partition=profile.partition or None,
        account=profile.account or None,
        walltime=_hours(profile.time),
        gres=gpus,
        cores_per_node=profile.cores,
        mem_per_node=profile.memory or None,
        exclusive=profile.exclusive,
        # A job whose node died would wait its turn for minutes; another is asked for at once.
        scheduler_options="\n".join(f"#SBATCH {option}" for option in ("--no-requeue", *profile.sbatch)),
        worker_init="\n".join([init, *profile.init]),
        init_blocks=min(first, profile.jobs),
        max_blocks=profile.jobs,
        cmd_timeout=_COMMAND_SECONDS,
        launcher=SimpleLauncher(),
    )
    jobs.poll = profile.poll
    # Not sacct, which does not know yet what was just submitted. squeue fails if it is asked for one job and has
    # forgotten that; asked for two, it lists those that it knows.
    jobs._cmd = "squeue --noheader --format='%i %t' --job '{0},{0}'"
    jobs._translate_table = squeue_translate_table
    return jobs


def addresses(profile: Profile) -> set[str]:
    """Where the nodes may reach this machine. Parsl itself would ask a server in the internet, too."""
    if profile.address:
        return {profile.address}
    found = set()
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError):  # it has no address
            found.add(address_by_interface(name))
    return {address for address in found if not address.startswith("127.")} or found


def cancel_left(scripts: Path) -> None:
    """Cancel the jobs whose scripts a killed command left in this folder."""
    names = [script.name for script in scripts.glob("*") if script.suffix not in (".stdout", ".stderr")]
    if names and shutil.which("scancel"):
        execute_wait(f"scancel --me --name={shlex.quote(','.join(names))}", _COMMAND_SECONDS)


class Queue:
    """Asked why jobs wait: says it, and returns it if it will not pass."""

    def __init__(self, every: int, say: Callable[[str], None]) -> None:
        self._every, self._say = every, say
        self._next, self._said = 0.0, ""

    def waiting(self, jobs: Sequence[str]) -> str:
        """Why one of these jobs will never be started, or nothing."""
        if time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + self._every
        ids = ",".join([*jobs, jobs[0]])  # twice, for the reason above
        _, out, _ = execute_wait(f"squeue --noheader --format='%i %r' --job '{ids}'", _COMMAND_SECONDS)
        reasons = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
        for job, reason in reasons.items():
            if reason in _FOR_EVER:
                return f"Slurm will never start job {job}: {reason}"
        said = ", ".join(sorted(set(reasons.values()) - {"None"}))
        if said and said != self._said:
            self._say(f"jobs wait for Slurm: {said}")
        self._said = said
        return ""


class _Jobs(SlurmProvider):
    """Parsl's, but it looks at the queue as often as asked."""

    poll = 60

    @property
    def status_polling_interval(self) -> int:
        """Seconds between looks at the queue."""
        return self.poll


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
        return "" if isinstance(value, str) and _TIME.fullmatch(value) and _minutes(value) else _TIMES
    return "" if isinstance(value, str) and not re.search(r"\s", value) else "a text without spaces"


_LISTS = {
    "sbatch": 'a list of options of sbatch, such as ["--qos=high"]',
    "init": 'a list of lines for the shell, such as ["module load cuda"]',
}
_TIMES = 'hours, minutes and seconds, at least a minute: "04:00:00", with days in front: "1-00:00:00"'
_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")


def _minutes(text: str) -> int:
    """The whole minutes of a time: Parsl and Slurm count no less."""
    days, hours, minutes, _ = (int(part or 0) for part in _TIME.fullmatch(text).groups())  # type: ignore[union-attr]
    return (days * 24 + hours) * 60 + minutes


def _hours(text: str) -> str:
    """A time as Parsl takes it, without days."""
    return f"{_minutes(text) // 60:02d}:{_minutes(text) % 60:02d}:00"
