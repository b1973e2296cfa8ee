"""Benchmarks of the method `fake` in tests: specs, commands of their own, and what is left of these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdc.bench import engine, tasks
from sdc.ground import paths

MARK = "SDC_TEST_MARK"
"""Every process that a command of a test starts has this variable."""
SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = {weights}
[set]
limit_per_class = 3
model = "ConvNetD1"
networks = 1
epochs = {epochs}
steps = {steps}
snapshot_every = 10
end = "{end}"
[evaluate]
floor = false
"""
COMMAND = [sys.executable, "-c", "from sdc.cli import main; main()"]


def spec(folder: Path, *, weights: str = "[0]", steps: int = 6, end: str = "well", epochs: int = 1) -> Path:
    """A spec of a few cells that take little."""
    file = folder / f"spec-{steps}-{end}.toml"
    file.write_text(SPEC.format(weights=weights, steps=steps, end=end, epochs=epochs))
    return file


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a benchmark's tasks are done one after another by the process that asks for them."""

    def submit(does: Callable[..., Any], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            known = [each.result() if isinstance(each, Future) else each for each in arguments]
            future.set_result(does(*known))
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(engine, "_started", lambda *_: nullcontext((submit, lambda: None)))
    monkeypatch.setattr(tasks, "_settle", lambda: None)


def start(*arguments: object) -> subprocess.Popen[str]:
    """A command in a session of its own, as in a terminal of its own."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=paths.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have this mark, without those that have ended and are not yet fetched."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def wait(ready: Callable[[], bool], child: subprocess.Popen[str] | None = None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert child is None or child.poll() is None, child and child.communicate()
        assert time.monotonic() < end, [process.cmdline() for process in marked(os.environ.get(MARK, ""))]
        time.sleep(0.05)


def steps(folder: Path) -> list[int]:
    """The steps that a run's metrics tell of."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    lines = (json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines())
    return [line["step"] for line in lines if line["kind"] == "step"]


def made(runs: Path) -> int:
    """The most steps that a run has made."""
    return max((len(steps(folder)) for folder in runs.glob("fake-*")), default=0)
