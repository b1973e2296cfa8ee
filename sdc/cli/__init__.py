"""The command line: each command parses, calls one function of the library, and prints.

Imports: ground, adapters, patching, evaluation, plan, distillation, bench, report, export, analysis.
Read: common, runs, patches, new_methods, benches; then difficulty, theory; doctor, finding, machine, surroundings;
chosen, show, progress, demo.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from sdc.cli import benches, chosen, difficulty, doctor, new_methods, patches, runs, show, theory
from sdc.cli.common import app, print_json
from sdc.ground import cores, storage
from sdc.ground.errors import FatalError

__all__ = ["benches", "call", "difficulty", "doctor", "guarded", "main", "new_methods", "patches", "runs", "theory"]


def main() -> None:
    """Run the command line and exit. To be told to end (by a batch system, say) is Ctrl-C."""
    cores.wait_quietly()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = call(sys.argv[1:])
    gc.freeze()  # or the interpreter goes through all that torch consists of once more, for a third of a second
    sys.exit(code)


def call(arguments: Sequence[str]) -> int:
    """Run one command; return 0 done, 1 expected failure, 2 wrong usage, 3 a bug, 130 interrupted."""
    with storage.chosen(lambda: chosen.places(arguments)):
        return guarded(lambda: _run(list(arguments)), as_json="--json" in arguments)


def _run(arguments: list[str]) -> None:
    if find_spec("fcntl") is None:
        raise FatalError("sdc runs on Linux, macOS or WSL; this system has no fcntl, with which it locks files")
    app(arguments)


def guarded(work: Callable[[], None], *, as_json: bool = False) -> int:
    """Do `work`; print what went wrong for people, and return the exit code for it."""
    try:
        return _done(work)
    except KeyboardInterrupt:
        return 130
    except FatalError as error:
        return _failed(error, as_json)
    except Exception as error:
        if refused := storage.refusal(error):
            return _failed(refused, as_json)
        traceback.print_exc()
        show.ERR.print(
            "This is a bug in sdc. Please report it with the lines above, the command you gave, and what sdc doctor "
            "prints.",
            soft_wrap=True,
        )
        return 3


def _done(work: Callable[[], None]) -> int:
    """Do it, and have all that it printed where it belongs, or it is not done."""
    code = 0
    try:
        work()
    except SystemExit as stop:  # typer's own: done, wrong usage (2), interrupted (130)
        code = int(stop.code or 0)
    try:
        if sys.stdout is not None:  # as where it was closed
            sys.stdout.flush()
    except BrokenPipeError:  # who read it wants no more
        _print_nowhere()
        return 1
    return code


def _failed(error: FatalError, as_json: bool) -> int:
    show.ERR.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    try:
        if as_json:
            print_json({"error": str(error)})
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # it was this that failed
        _print_nowhere()
    return 1


def _print_nowhere() -> None:
    """What is still to be printed would fail once more, at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # it is no file
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
