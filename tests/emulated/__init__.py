"""What the product does on a GPU, on an emulated one (tests/fakecuda), in processes of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdc.ground import paths
from tests import fakecuda, warm

REPORTS = "reports.jsonl"
SITE = os.pathsep.join([str(paths.ROOT / "tests" / "site"), str(paths.ROOT)])


@dataclass(frozen=True)
class Told:
    """What a process wrote, and what each process that it started tells of its device."""

    out: str
    err: str
    reports: list[dict[str, Any]]

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def problems(self) -> list[dict[str, str]]:
        """Of all processes."""
        return [problem for report in self.reports for problem in report["problems"]]


def environment(folder: Path, devices: int, variables: Mapping[str, str]) -> dict[str, str]:
    """What a process is told that is to see so many emulated GPUs, unless `variables` say another number."""
    told = {"PYTHONPATH": SITE, "SDC_TEST_CUDA": str(devices), "SDC_TEST_CUDA_REPORT": str(folder / REPORTS)}
    outside = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {**outside, **told, **variables}


def run(folder: Path, *words: object, devices: int = 1, **variables: str) -> Told:
    """Run Python with these words; its reports go into `folder`. It has to end well."""
    (folder / REPORTS).unlink(missing_ok=True)
    told = environment(folder, devices, variables)
    done = warm.STARTS.run([*map(str, words)], Path.cwd(), told)
    assert done.returncode == 0, done.stderr
    return Told(done.stdout, done.stderr, fakecuda.reports(folder / REPORTS))


def call(function: Callable[..., Any], folder: Path, *arguments: Any, **variables: str) -> Told:
    """Call a function of a test module in a process of its own. All that it takes and gives is JSON."""
    given = f"{function.__name__}(*json.loads({json.dumps(arguments)!r}))"
    code = f"import json, torch; from {function.__module__} import {function.__name__}; print(json.dumps({given}))"
    return run(folder, "-c", code, **variables)
