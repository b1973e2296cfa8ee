"""Recorder: stands in for wandb, which most scripts insist on; what they log goes to the metrics file."""

from __future__ import annotations

import json
import math
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Metrics:
    """A file of JSON lines, each written whole; `earlier` seconds were spent by processes before this one."""

    def __init__(self, path: Path, earlier: float = 0.0) -> None:
        self._file = path.open("a", buffering=1)
        self._start = time.monotonic() - earlier

    def seconds(self) -> float:
        """The time spent until now."""
        return time.monotonic() - self._start

    def write(self, kind: str, values: Mapping[str, object]) -> None:
        """Append one line of this kind; a number that JSON does not know is written as null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        line = clean | {"kind": kind, "seconds": round(self.seconds(), 3)}
        self._file.write(json.dumps(line) + "\n")


def install(metrics: Metrics, heard: Callable[[Mapping[str, float]], None] = lambda _: None) -> None:
    """Put a module named wandb in place: `init`, `log`, `config._items`, `run.name`, empty media types.

    `heard` is told of the numbers of every `log`, behind the line that they get in the metrics.
    """
    stand_in: Any = types.ModuleType("wandb")
    stand_in.config = types.SimpleNamespace(_items={})
    stand_in.run = types.SimpleNamespace(name="run", id="run")

    def init(*_: object, config: Any = None, **__: object) -> Any:
        stand_in.config._items = dict(config if isinstance(config, dict) else vars(config)) if config else {}
        return stand_in.run

    def log(values: dict[str, Any], *_: object, **__: object) -> None:
        numbers = {name: number for name, value in values.items() if (number := _number(value)) is not None}
        if numbers:
            metrics.write("logged", numbers)
            heard(numbers)

    stand_in.init, stand_in.log = init, log
    stand_in.finish = stand_in.watch = stand_in.save = stand_in.define_metric = lambda *_, **__: None
    stand_in.Image = stand_in.Histogram = stand_in.Table = stand_in.Settings = lambda *_, **__: None
    sys.modules["wandb"] = stand_in


def _number(value: Any) -> float | None:
    """`value` as a number if it is one (tensors and arrays of one element too), else None."""
    if isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
