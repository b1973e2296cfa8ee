"""Run an unchanged script under the bridges: `python -m sdc.launcher JOB.json`.

Exit codes: the script's own; 4 if it diverged; 5 if it made nothing; 130 if interrupted (a snapshot is kept).
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
from pathlib import Path

from sdc.launcher import device, first_images, layout, light, memory, options, recorder, serving, whitening
from sdc.launcher.clock import Clock
from sdc.launcher.follow import Follow
from sdc.launcher.job import DIVERGED, IDLE, INTERRUPTED, DivergedError, IdleError, Job
from sdc.launcher.loop import Loop
from sdc.launcher.steps import Steps
from sdc.launcher.tap import Tap
from sdc.launcher.turns import Turns

_WATCHES: dict[str, type[Tap | Steps | Follow]] = {"images": Tap, "networks": Steps, "gradients": Follow}


def main() -> int:
    """Read the job, install the bridges, run the script as `__main__`, save what it made."""
    gc.freeze()  # or the interpreter goes through all that torch consists of once more at the end
    job = Job.read(Path(sys.argv[1]))
    metrics, clock = recorder.Metrics(Path(job.metrics), job.earlier), Clock(job.seed, Path(job.tree))
    watched = _WATCHES[job.makes](job, metrics, clock)
    signal.signal(signal.SIGINT, lambda *_: _interrupt(watched))
    if "SLURM_JOB_ID" in os.environ:  # it tells all of a job at once; whoever waits for this process will ask it, too
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    turns = Turns(job, metrics).numbers
    loop = {"range": Loop(Path(job.script), job.loop, turns, watched.before).numbers} if job.loop else {}
    device.install(job.device)
    if job.makes == "gradients":
        device.exact()
    layout.install()
    light.install()
    serving.install(job)
    if job.whiten:
        whitening.install(job.whitening, Path(job.whitened) if job.whitened else None)
    first_images.install(job)
    if job.options:
        options.install(Path(job.options))
    recorder.install(metrics, watched.heard)
    watched.install()
    clock.install()
    sys.argv = [job.script, *job.argv]
    sys.path[:0] = [str(Path(job.script).parent), job.tree]
    try:
        runpy.run_path(job.script, init_globals=loop, run_name="__main__")
    except DivergedError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is where the parent looks
        return DIVERGED
    except SystemExit as end:  # a script may say that it is done; any other code is its failure
        if end.code not in (None, 0):
            raise
    except KeyboardInterrupt:
        watched.interrupted()
        return INTERRUPTED
    try:
        watched.finished()
    except IdleError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return IDLE
    metrics.write("end", {"peak_memory_mib": memory.peak_mib(), "steps": watched.steps})
    return 0


def _interrupt(watched: Tap | Steps | Follow) -> None:
    """Stop where the script can go on from, if it will get there; at once if asked again."""
    if not watched.stop():
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
