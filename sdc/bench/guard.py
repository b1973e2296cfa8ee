"""Lets no process of the engine outlive the command that needs it. As a script it runs a Python module so:

    guard.py LOCK apart|together MODULE ARGUMENTS...

A command locks the file LOCK as long as it lives, however it ends; whoever gets that lock knows that it is gone.
`apart`: in a process group of its own, which Ctrl-C does not reach. It imports nothing of ours: it is run by its path.
"""

from __future__ import annotations

import fcntl
import functools
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

_GRACE = 30.0


def main() -> None:
    """Run the module as `__main__`; end it and its process group when the lock is free."""
    lock, group, module, *arguments = sys.argv[1:]
    if group == "apart":
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_the_command, args=(Path(lock),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@functools.cache
def end_with_parent() -> None:
    """From now on, interrupt this process on SIGTERM, and when the process that started it is gone; later, kill it."""
    signal.signal(signal.SIGTERM, _interrupted)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_the_command(lock: Path) -> None:
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits
        os.killpg(0, signal.SIGTERM)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


def _interrupted(*_: object) -> None:
    """Go the way of Ctrl-C, so that a script is asked for a snapshot; once, however often it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
