"""What runs keep of how difficult their images were on the way. Files alone tell, so torch is not loaded for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sdc.ground.errors import FatalError
from sdc.ground.files import read_json

FILE = "difficulty.json"
FAILED = "difficulty.failed.json"
"""Says why a run could not be measured; of a run that was measured since, nothing."""


def unmeasured(run: Path) -> bool:
    """Whether a complete run has states on the way that were not measured. Of most other folders nothing is opened.

    A run on held-out images has none to be measured: it is there to choose a weight, and no figure shows it.
    """
    if not (run / "history").is_dir() or (run / FILE).exists():
        return False
    try:
        complete = json.loads((run / "result.json").read_bytes())["state"] == "complete"
        settings = json.loads((run / "cell.json").read_bytes()).get("settings", {})
        return bool(complete and not settings.get("validation"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # a report says what is wrong with it


def failure(run: Path) -> str:
    """Why the states of a run could not be measured, in a sentence; empty if nobody tried, or they were."""
    if not (run / FAILED).is_file() or (run / FILE).is_file():
        return ""
    try:
        return sentence(run, str(read_json(run / FAILED)["error"]))
    except (FatalError, KeyError) as error:
        return sentence(run, f"{FAILED} does not say why: {error}")


def sentence(run: Path, reason: str) -> str:
    """That the states of a run could not be measured, and why."""
    return f"no difficulty over the steps for {run.name}: {reason}"


def waiting(runs: Path) -> list[Path]:
    """The runs in `runs` that are unmeasured, also those that failed to be; in the order of names."""
    folders = sorted(Path(entry.path) for entry in os.scandir(runs)) if runs.is_dir() else []
    return [run for run in folders if unmeasured(run)]
