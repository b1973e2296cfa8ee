"""The one file that starts upstream processes, watches them, and says why one failed."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdc.distillation import endings
from sdc.ground import cores, hardware, paths
from sdc.ground.errors import FatalError, out_of_memory
from sdc.ground.files import write_text
from sdc.ground.watch import Watch
from sdc.launcher.job import DIVERGED, IDLE, Job

_GRACE = 20.0
_TAIL = 12
STALL = 300.0
"""Seconds without a step after which a script is said to be slow or stuck."""
PAUSE = 0.05
"""Seconds between two looks at what a script has written."""


@dataclass(frozen=True)
class Ended:
    """What a script that ended well says of itself: its peak memory, and the steps that it made."""

    peak_memory_mib: int = 0
    steps: int = 0


class Script:
    """A process of an upstream script under the launcher, from its start on."""

    def __init__(self, job: Job, work: Path, log: Path, *, onto: bool) -> None:
        """Start it in the folder `work`; what it says goes to `log`, `onto` what is there."""
        replace(job, parent=os.getpid()).write(work / "job.json")
        self.log, self._tree, metrics = log, Path(job.tree), Path(job.metrics)
        read = _cut(metrics, job.steps_done)
        self._file = metrics.open()
        self._file.seek(read)
        hardware.leave_to_others()
        with log.open("ab" if onto else "wb") as output:
            fcntl.flock(output, fcntl.LOCK_EX)  # handed on to the child, and kept until that has ended
            output.write(f"$ {shlex.join([Path(job.script).name, *job.argv])}\n".encode())
            output.flush()
            self.child = subprocess.Popen(  # a group of its own: Ctrl-C reaches it through us, once
                [sys.executable, "-P", "-m", "sdc.launcher", str(work / "job.json")],
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(job),
                start_new_session=True,
            )
        self._heard = time.monotonic()

    def has_ended(self) -> bool:
        """Whether it has; what `heard` gives afterwards is all of the rest."""
        return self.child.poll() is not None

    def heard(self) -> list[dict[str, Any]]:
        """The lines that it has appended to its metrics since the last time."""
        found = []
        while (line := self._file.readline()).endswith("\n"):
            found.append(json.loads(line))
        self._file.seek(self._file.tell() - len(line.encode()))
        if found:
            self._heard = time.monotonic()
        return found

    def look(self, watch: Watch) -> None:
        """Say once if nothing has been heard for long."""
        if time.monotonic() - self._heard > STALL:
            watch.say(f"no step for {STALL:.0f} s. See what the script says: tail {self.log}. To stop it: Ctrl-C")
            self._heard = float("inf")

    def failure(self, advice: Mapping[str, str]) -> FatalError | None:
        """Why it failed, with the end of its log; None if it ended well."""
        code = self.child.returncode
        return FatalError(_failure(code, self.log, advice, self._tree)) if code else None

    def was_killed(self) -> bool:
        """Whether a signal ended it."""
        return self.child.returncode < 0

    def found_no_memory(self) -> bool:
        """Whether it ended with an error that says so."""
        return any(map(out_of_memory, tail(self.log)))


def launch(job: Job, work: Path, log: Path, watch: Watch, advice: Mapping[str, str]) -> Ended:
    """Run an upstream script under the launcher, in the folder `work`.

    Raises FatalError with the end of the log if it fails. On an interruption the script is asked to keep a snapshot,
    and KeyboardInterrupt goes on.
    """
    script = Script(job, work, log, onto=bool(job.done))
    try:
        ended = _follow(_lines(script), script, watch)
    finally:
        stop([script])
    if failure := script.failure(advice):
        raise failure
    return ended


def stop(scripts: Sequence[Script]) -> None:
    """End those that still run, all at once: politely, so that they keep a snapshot, then not."""
    children = [script.child for script in scripts if not script.has_ended()]
    for child in children:
        child.send_signal(signal.SIGINT)
    end = time.monotonic() + _GRACE
    for child in children:
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _lines(script: Script) -> Iterator[dict[str, Any] | None]:
    """The lines of its metrics, None while there is none, until it has ended."""
    while True:
        ended = script.has_ended()
        yield from script.heard()
        if ended:
            return
        yield None
        time.sleep(PAUSE)


def _follow(lines: Iterator[dict[str, Any] | None], script: Script, watch: Watch) -> Ended:
    """Show the script's steps; return what it reports at its end."""
    ended = Ended()
    for line in lines:
        if line is None:
            script.look(watch)
        elif line["kind"] == "step":
            watch.progress(line["step"], shown(line["loss"]))
        elif line["kind"] == "end":
            ended = Ended(line["peak_memory_mib"], line["steps"])
    return ended


def shown(loss: float | None) -> str:
    """A loss for people; empty: there is none."""
    return "" if loss is None else f"loss {loss:.4g}"


def environment(job: Job) -> dict[str, str]:
    """What a script's process is told, beside all that this one is."""
    ours = {
        "PYTHONPATH": paths.python_path(),
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written into an upstream's tree
        "PYTHONUNBUFFERED": "1",
        "WANDB_MODE": "disabled",
    }
    # Without a GPU, half the time can go into fresh pages for large tensors: huge ones are fewer, freed ones are kept.
    kept = {"THP_MEM_ALLOC_ENABLE": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
    of_device = hardware.HIDDEN | kept if job.device == "cpu" else hardware.shown(os.environ, job.gpus)
    of_threads = {cores.THREADS: str(job.threads)} if job.threads else {}
    told = {**os.environ, **ours, **of_device, **of_threads}
    cores.wait_quietly(told)
    return told


def wait_for_orphan(log: Path, watch: Watch) -> None:
    """Wait until no script writes to `log` any more: one whose parent was killed ends at its next step."""
    if not log.is_file():
        return
    with log.open("ab") as output:
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watch.say(f"waiting for the script of an earlier command to end: {log}")
            fcntl.flock(output, fcntl.LOCK_EX)


def spent(metrics: Path) -> float:
    """The seconds that the last line of a metrics file tells of; 0 if there is none."""
    return float(json.loads(lines[-1])["seconds"]) if (lines := _whole_lines(metrics)) else 0.0


def _whole_lines(path: Path) -> list[str]:
    """Its lines, but for a last one that a killed process left unfinished."""
    text = path.read_text() if path.is_file() else ""
    return text[: text.rfind("\n") + 1].splitlines(keepends=True)


def _cut(metrics: Path, steps: int) -> int:
    """Leave in a metrics file what was written until `steps`, nothing if that is 0; its size is returned."""
    kept: list[str] = []
    for line in _whole_lines(metrics) if steps else []:
        if json.loads(line).get("step", 0) > steps:
            break
        kept.append(line)
    write_text(metrics, "".join(kept))
    return metrics.stat().st_size


def _failure(code: int, log: Path, advice: Mapping[str, str], tree: Path) -> str:
    lines = tail(log)
    if cause := endings.of_term(lines) or endings.missing_import(lines, tree):
        return cause
    end = "\n".join(f"    {line}" for line in lines)
    name = f"signal {-code}" if code < 0 else f"exit code {code}"
    text = f"the upstream script ended with {name}. The end of {log}:\n{end}"
    if code == DIVERGED:
        text += f"\nTraining diverged. {advice.get('diverged', '')}"
    if code == IDLE:
        text += f"\nNo step was ever taken. {advice.get('idle', '')}"
    if any(map(out_of_memory, lines)) or code == -signal.SIGKILL:
        text += f"\nMemory ran out, it seems. {advice.get('memory', '')}"
    return text


def tail(log: Path) -> list[str]:
    """The last lines of a log."""
    return log.read_text(errors="replace").splitlines()[-_TAIL:]
