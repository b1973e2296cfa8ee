"""Blocks: the jobs, of Slurm or of this machine, that workers run in. Parsl asks for them anew as they end.

It would do so for ever, so here is looked whether they come to work at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from parsl.executors import HighThroughputExecutor
from parsl.jobs.states import JobState, JobStatus

TRIES = 3
"""So many blocks in a row that never came to work are enough, if that took `PATIENCE` seconds."""
PATIENCE = 8.0
IDLE = 60.0
"""Seconds after which a block without work is given back, where there are more than what is left to do needs."""
_TAIL = 12
Waiting = Callable[[Sequence[str]], str]
"""Asked about jobs that wait: why one of them never will be started, or nothing."""


class Blocks:
    """Parsl's handler of blocks' states. `problem` says why no block comes to work, once that is plain."""

    def __init__(self, advice: str, waiting: Waiting) -> None:
        self.problem = ""
        self._advice, self._waiting = advice, waiting
        self._since = 0.0

    def look(self, executor: HighThroughputExecutor, states: Mapping[str, JobStatus]) -> None:
        """Told of the blocks' states every few seconds."""
        jobs = executor.blocks_to_job_id
        self._give_back(executor, states)
        waiting = [jobs[block] for block, status in states.items() if status.state == JobState.PENDING]
        if waiting and (reason := self._waiting(waiting)):
            self.problem = f"{reason}\n{self._advice}"
        last = [block for block in sorted(states, key=int) if states[block].state != JobState.SCALED_IN][-TRIES:]
        if len(last) < TRIES or not all(_never_came(block, states[block], executor) for block in last):
            self._since = 0.0
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since >= PATIENCE and not any(_may_come(status) for status in states.values()):
            said = "\n".join(f"    {line}" for line in _said(states[last[-1]]))
            self.problem = (
                f"none of the last {TRIES} jobs came to work. What the last one said:\n{said}\n{self._advice}"
            )

    def _give_back(self, executor: HighThroughputExecutor, states: Mapping[str, JobStatus]) -> None:
        needed = math.ceil(executor.outstanding() / executor.workers_per_node)
        spare = sum(status.state in (JobState.PENDING, JobState.RUNNING) for status in states.values()) - needed
        if needed and spare > 0:
            executor.scale_in_facade(spare, max_idletime=IDLE)


def _never_came(block: str, status: JobStatus, executor: HighThroughputExecutor) -> bool:
    """Whether a block was refused, or has ended before any worker of it was heard."""
    refused = status.state == JobState.FAILED and block not in executor.blocks_to_job_id
    return refused or status.state == JobState.MISSING


def _may_come(status: JobStatus) -> bool:
    return not status.terminal


def _said(status: JobStatus) -> list[str]:
    """The end of a job's output, or what sbatch said to it."""
    refused = (status.message or "").partition("stderr=")[2]
    text = refused or "\n".join(filter(None, [status.stdout_summary, status.stderr_summary])) or status.message or ""
    return [line for line in text.splitlines() if line.strip()][-_TAIL:] or ["nothing"]
