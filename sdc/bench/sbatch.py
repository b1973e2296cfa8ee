"""Jobs of Slurm: those that Parsl asks for by a profile, one node each, with workers inside."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from parsl.addresses import address_by_interface
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider
from parsl.providers.slurm.slurm import squeue_translate_table
from parsl.utils import execute_wait

from sdc.bench.slurm import Profile, minutes
from sdc.ground.errors import FatalError

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


def _hours(text: str) -> str:
    """A time as Parsl takes it, without days."""
    return f"{minutes(text) // 60:02d}:{minutes(text) % 60:02d}:00"
