"""A real Slurm on this machine, in one folder: its daemons, reached over the loopback only, with two GPUs that are none."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SECONDS = 30
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 Gres=gpu:2
PartitionName=all Nodes={host} Default=YES MaxTime=60 State=UP
"""


def lacking() -> str:
    """Why there can be no Slurm here; nothing if there can."""
    if missing := [name for name in (*DAEMONS, "sbatch", "setpriv") if not shutil.which(name)]:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started by root here"


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start it in a new folder; its slurm.conf, for `$SLURM_CONF`. All is ended at the end, whatever happened."""
    config = folder / "slurm.conf"
    for name in ("state", "spool", "dev"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    cores = os.cpu_count() or 1
    config.write_text(CONFIG.format(folder=folder, host=host(), controller=_port(), node=_port(), cores=cores))
    gpus = [_gpu(folder / "dev" / f"nvidia{number}") for number in range(2)]
    (folder / "gres.conf").write_text("".join(f"NodeName={host()} Name=gpu File={gpu}\n" for gpu in gpus))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    munge = [f"--{what}-file={folder}/munge.{what}" for what in ("pid", "log", "seed")]
    commands = [
        ["munged", "-F", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    with contextlib.ExitStack() as stack:
        for command in commands:
            stack.enter_context(_daemon(command, folder, config))
            if command[0] == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), folder)
        _wait(lambda: "idle" in said(config, "sinfo", "--noheader", "--format=%t"), folder)
        yield config


def host() -> str:
    """The name of the one node."""
    return socket.gethostname().split(".")[0]


def said(config: Path, *command: str) -> str:
    """What one of Slurm's commands prints."""
    environment = os.environ | {"SLURM_CONF": str(config)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=SECONDS)
    return done.stdout


def jobs(config: Path) -> list[str]:
    """The jobs that wait or run."""
    return said(config, "squeue", "--noheader", "--format=%i").split()


@contextlib.contextmanager
def _daemon(command: list[str], folder: Path, config: Path) -> Iterator[None]:
    environment = os.environ | {"SLURM_CONF": str(config)}
    with (folder / f"{command[0]}.out").open("wb") as out:
        # It ends when this process does, even by kill -9.
        kept = ["setpriv", "--pdeathsig", "TERM", *command]
        process = subprocess.Popen(kept, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(ready: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        output = "\n".join(file.read_text(errors="replace")[-2000:] for file in folder.glob("*.out"))
        assert time.monotonic() < end, f"Slurm did not start:\n{output}"
        time.sleep(0.1)


def _gpu(path: Path) -> Path:
    """A device that is none: Slurm tells a job of it as of a GPU. Where devices cannot be made, a plain file."""
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except OSError:
        path.touch()
    return path


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
