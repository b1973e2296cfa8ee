"""What people see of a server that takes its time, and the end of one that stands still."""

from __future__ import annotations

import sys
import time

from sdc.patching.answers import progress
from sdc.patching.git import GitError

_PATIENCE = 2.0
"""Seconds after which a line says what is waited for."""
_EVERY = 10.0
"""Seconds between two such lines."""
_MARGIN = 5.0
"""Seconds for git to notice by itself that a server stands still: it says more of it."""


class Waiting:
    """Hears what git says of a transfer. `limit`: seconds without a word after which it is ended; 0: never.

    Git watches a server in the middle of an HTTP transfer alone: this is for a handshake, for ssh, and for files.
    """

    def __init__(self, what: str, limit: float) -> None:
        self._what, self._limit = what, limit
        self._began = self._heard = time.monotonic()
        self._next, self._last = self._began + _PATIENCE, ""

    def __call__(self, said: bytes) -> None:
        """Take in what was said since the last time. Raises GitError where nothing was said for too long."""
        now = time.monotonic()
        if said:
            self._heard, self._last = now, progress(said) or self._last
        if self._limit and now - self._heard > self._limit + _MARGIN:
            raise GitError(f"{self._what}\nno progress for {now - self._heard:.0f} s")
        if now >= self._next:
            self._next = now + _EVERY
            say(f"{self._what}: {now - self._began:.0f} s{': ' if self._last else ''}{self._last}")


def say(line: str) -> None:
    """A line for people. Looked up anew: bars, where there are any, take standard error's place."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
