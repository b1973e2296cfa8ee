"""Processes that do tasks beside this one: one by one, and a process that dies costs what it was at alone.

Pools of the standard library and of joblib end as a whole when one of their processes is killed; and what they start
imports the user's own program again. Here each is a fresh Python that runs one module, reads a task a line from its
standard input, and answers with lines of JSON: `{"progress": N}` as often as it likes, and `{"done": ...}`. One whose
parent is gone finds its pipe closed, and ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sdc.ground import cores, paths

log = logging.getLogger(__name__)
_LOSSES = 3
"""So many members may be lost before no other is started."""

Task = Mapping[str, Any]


@dataclass
class _Member:
    """A process, the share of the machine that it holds, its task, and what it has said so far of a line."""

    process: subprocess.Popen[bytes]
    share: IO[str]
    task: Task | None = None
    heard: bytes = b""
    since: int = 0
    """Progress that it told of its task, which is void if it is lost."""


class Crew:
    """Members that do tasks from `waiting`, which whoever made the crew takes tasks from, too.

    `on_done(task, outcome)` is told of each that a member did, `on_progress(more)` of progress with tasks that are not
    done: it is less once one is done, or lost. `files`: descriptors that members are to have, too.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        waiting: deque[Task],
        threads: int,
        on_done: Callable[[Task, Any], None],
        on_progress: Callable[[int], None],
        files: Sequence[int] = (),
    ) -> None:
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._waiting, self._on_done, self._on_progress = waiting, on_done, on_progress
        self._threads, self._spare, self._files = threads, cores.Spare(threads), tuple(files)
        self._members: list[_Member] = []
        self._losses = 0

    def tend(self, *, wait: bool = False) -> None:
        """Hear what members say, give tasks to those that have none, start others while there are tasks and cores.

        Takes no time to speak of, unless it is to `wait` until a member says something.
        """
        self._grow()
        if not self._members:
            return
        with selectors.DefaultSelector() as ready:
            for member in self._members:
                ready.register(_output(member), selectors.EVENT_READ, member)
            for key, _ in ready.select(None if wait else 0):
                self._hear(key.data)

    @property
    def at_work(self) -> bool:
        """Whether a member has a task."""
        return any(member.task for member in self._members)

    def end(self) -> None:
        """Stop all members, whatever they are at."""
        for member in self._members:
            member.process.kill()
        for member in [*self._members]:
            self._part_with(member)

    def _grow(self) -> None:
        while self._waiting and self._losses < _LOSSES and room():
            share = self._spare.take()
            if share is None:
                return
            self._members.append(_Member(self._started(), share))
            self._employ(self._members[-1])

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": paths.python_path(), cores.THREADS: str(self._threads)}
        cores.wait_quietly(environment)
        return subprocess.Popen(  # a group of its own: Ctrl-C is for this process alone, which then stops it
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=self._files,
            env=environment,
            start_new_session=True,
        )

    def _employ(self, member: _Member) -> None:
        """Give a member the next task, or let it go if there is none."""
        if not self._waiting:
            self._part_with(member)
            return
        member.task, member.since = self._waiting.popleft(), 0
        with contextlib.suppress(BrokenPipeError):  # it is lost, which its output will tell
            _input(member).write(json.dumps(member.task).encode() + b"\n")

    def _hear(self, member: _Member) -> None:
        said = os.read(_output(member).fileno(), 65536)
        if not said:
            self._lose(member)
            return
        *lines, member.heard = (member.heard + said).split(b"\n")
        for line in lines:
            self._understand(member, json.loads(line))

    def _understand(self, member: _Member, said: Mapping[str, Any]) -> None:
        if "progress" in said:
            member.since += said["progress"]
            self._on_progress(said["progress"])
        elif member.task is not None:
            task, member.task = member.task, None
            self._on_done(task, said["done"])
            self._on_progress(-member.since)
            self._employ(member)

    def _lose(self, member: _Member) -> None:
        """A member has ended by itself: its task is done by another."""
        self._losses += 1
        if member.task is not None:
            self._on_progress(-member.since)
            self._waiting.appendleft(member.task)
        self._part_with(member)
        more = "another does its part" if self._losses < _LOSSES else "going on without such processes"
        log.warning(
            "a process that worked beside this one ended with exit code %d: %s", member.process.returncode, more
        )

    def _part_with(self, member: _Member) -> None:
        with contextlib.suppress(BrokenPipeError):
            _input(member).close()
        _output(member).close()
        member.process.wait()
        self._spare.back(member.share)
        self._members.remove(member)


def serve(do: Callable[[Task, Callable[[int], None]], Any]) -> None:
    """In a member: do its tasks, one by one, until there are no more. `do(task, tell)` returns the outcome as JSON
    takes it; whatever it prints goes to standard error.
    """
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)

        def answer(**said: object) -> None:
            try:
                output.write(json.dumps(said) + "\n")
                output.flush()
            except BrokenPipeError:  # nobody listens any more
                os._exit(1)

        for line in sys.stdin:
            answer(done=do(json.loads(line), lambda more: answer(progress=more)))


def room() -> bool:
    """Whether another process that needs as much memory as this one fits beside it, as far as the system says."""
    try:
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        own = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(told["MemAvailable"].split()[0]) > int(own["VmRSS"].split()[0])
    except (OSError, KeyError):
        return True


def _input(member: _Member) -> IO[bytes]:
    return cast(IO[bytes], member.process.stdin)


def _output(member: _Member) -> IO[bytes]:
    return cast(IO[bytes], member.process.stdout)
