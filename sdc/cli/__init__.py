"""The command line: each command parses, calls one function of the library, and prints.

Imports: ground, adapters, patching, evaluation, plan, distillation, bench, report, export, analysis.
Read: common, runs, patches, new_methods, benches; then difficulty, theory; doctor, finding, machine, surroundings;
show, progress, demo.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from sdc.cli import benches, difficulty, doctor, new_methods, patches, runs, show, theory
from sdc.cli.common import app, print_json
from sdc.ground import cores
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
    return guarded(lambda: _run(list(arguments)), as_json="--json" in arguments)


def _run(arguments: list[str]) -> None:
    if find_spec("fcntl") is None:
        raise FatalError("sdc runs on Linux, macOS or WSL; this system has no fcntl, with which it locks files")
    app(arguments)


def guarded(work: Callable[[], None], *, as_json: bool = False) -> int:
    """Do `work`; print what went wrong for people, and return the exit code for it."""
    try:
        work()
    except SystemExit as stop:  # typer's own: done, wrong usage (2), interrupted (130)
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except FatalError as error:
        show.told(show.ERR, f"error: {error}", style="red")
        if as_json:
            print_json({"error": str(error)})
        return 1
    except Exception:
        traceback.print_exc()
        show.ERR.print(
            "This is a bug in sdc. Please report it with the lines above, the command you gave, and what sdc doctor "
            "prints.",
            soft_wrap=True,
        )
        return 3
    return 0
