"""Run an unchanged script under the bridges: `python -m runner.launcher JOB.json`.

Exit codes: the script's own; 4 if it diverged; 130 if interrupted (a snapshot is kept).
"""

from __future__ import annotations

import runpy
import signal
import sys
from pathlib import Path

from runner.launcher import clock, data, device, layout, memory, recorder
from runner.launcher.job import DIVERGED, INTERRUPTED, Job
from runner.launcher.tap import DivergedError, Tap


def main() -> int:
    """Read the job, install the bridges, run the script as `__main__`, save what it made."""
    job = Job.read(Path(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    metrics = recorder.Metrics(Path(job.metrics))
    tap = Tap(job, metrics)
    folder = Path(job.script).parent
    if job.device == "cpu":
        device.install()
    layout.install()
    data.install(job)
    recorder.install(metrics)
    tap.install()
    clock.seed_everything(job.seed, folder)
    sys.argv = [job.script, *job.argv]
    sys.path.insert(0, str(folder))
    try:
        runpy.run_path(job.script, run_name="__main__")
    except DivergedError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is where the parent looks
        return DIVERGED
    except SystemExit as end:  # a script may say that it is done; any other code is its failure
        if end.code not in (None, 0):
            raise
    except KeyboardInterrupt:
        if tap.images is not None:
            tap.save(job.snapshot)
        return INTERRUPTED
    tap.save(job.output)
    metrics.write("end", {"peak_memory_mib": memory.peak_mib()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
