"""What runs recorded on their way, thinned to what a figure can show."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from sdc.report.load import Run

Curve = tuple[list[float], list[float]]
"""Steps and values, as long as each other."""
READ, SHOWN = 1000, 60


def losses(run: Run) -> Curve | None:
    """The loss behind each step, at most `READ` lines of it, in at most `SHOWN` means; None if none was kept."""
    try:
        lines = [line for line in (run.folder / "metrics.jsonl").read_bytes().splitlines() if b'"kind": "step"' in line]
        found = [json.loads(line) for line in lines[:: max(1, math.ceil(len(lines) / READ))]]
        points = [(float(one["step"]), float(one["loss"])) for one in found if one.get("loss") is not None]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _thinned(points)


def difficulties(run: Run) -> tuple[Curve, str] | None:
    """How difficult the images were on their way, and over which networks; None where it was not measured."""
    try:
        found = json.loads((run.folder / "difficulty.json").read_bytes())
        points = [(float(s), float(m)) for s, m in zip(found["steps"], found["mean"], strict=True)]
        networks = str(found["networks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (curve, networks) if (curve := _thinned(points)) else None


def mean(found: Sequence[Curve]) -> Curve:
    """The mean of curves at the steps that all of them have."""
    values = [dict(zip(steps, at, strict=True)) for steps, at in found]
    shared = sorted(set.intersection(*(set(each) for each in values)))
    return shared, [statistics.fmean(each[step] for each in values) for step in shared]


def picture(run: Run) -> Path | None:
    """The picture of its images, if it has one."""
    path = run.folder / "images.png"
    return path if path.is_file() else None


def _thinned(points: Sequence[tuple[float, float]]) -> Curve | None:
    """Means over stretches of as many points each."""
    size = max(1, math.ceil(len(points) / SHOWN))
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    if not parts:
        return None
    return [part[-1][0] for part in parts], [statistics.fmean(value for _, value in part) for part in parts]
