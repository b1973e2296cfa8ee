"""A command on a leash: however this process ends (Ctrl-C, kill -9), all that it started ends, too."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from typing import IO, Protocol

_SCRIPT = """\
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
leash=$!
"$@" 3<&-
status=$?
exec 2>/dev/null
kill "$leash"
exit "$status"
"""
"""Runs a command, and ends all processes of its group when standard input closes."""
_BEAT = 0.1
"""Seconds between two looks at a command."""
_AFTERLIFE = 1.0
"""Seconds for a group of processes to be gone after it was killed."""


class Process(Protocol):
    """What is needed of a process that was started: its number, its exit status, what it says."""

    pid: int
    returncode: int
    stderr: IO[bytes]

    def poll(self) -> int | None:
        """Its exit status, None as long as it runs."""


Start = Callable[[Sequence[str], IO[str]], Process]
"""Starts a command, with a file as its standard input, in a session of its own."""


def run(start: Start, command: Sequence[str], hear: Callable[[bytes], None]) -> tuple[int, bytes]:
    """Run a command in a group of processes of its own: its exit status, and all that it says.

    `hear` is told several times a second what it said since the last time; by an exception it ends the command.
    """
    reader, writer = os.pipe()  # nobody else has the end that is written to: when we are gone, it is closed
    try:
        with os.fdopen(reader) as end:
            process = start(["/bin/sh", "-c", _SCRIPT, "sh", *command], end)
        try:
            said = _heard(process, hear)
        except BaseException:
            _end(process)
            raise
        return process.returncode, said
    finally:
        os.close(writer)


def _heard(process: Process, hear: Callable[[bytes], None]) -> bytes:
    """All that a process says, handed on while it runs. One that it leaves in the background is not waited for."""
    said = bytearray()
    with selectors.DefaultSelector() as ends:
        ends.register(process.stderr, selectors.EVENT_READ)
        while True:
            over = process.poll() is not None
            ready = ends.select(0 if over else _BEAT)
            new = os.read(process.stderr.fileno(), 1 << 16) if ready else b""
            if ready and not new:
                ends.unregister(process.stderr)
            said += new
            hear(new)
            if over and not new:
                return bytes(said)


def _end(process: Process) -> None:
    """Kill a process and its group, and see them gone: they would go on writing to a folder that is taken away."""
    end = time.monotonic() + _AFTERLIFE
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, of a group that is dead
        while time.monotonic() < end:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.01)
