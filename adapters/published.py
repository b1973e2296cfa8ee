"""Accuracies that papers print, to lay beside one's own where the data are the same."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Published:
    """Mean and standard deviation of a test accuracy, in [0, 1] as ours are, and where it is printed."""

    mean: float
    std: float
    source: str


def find(method: str, dataset: str, ipc: int) -> Published | None:
    """What was published for a method on a dataset, or None where nothing was found."""
    table = _tables().get(method, {})
    figures = table.get(dataset, {}).get(str(ipc)) if dataset != "source" else None
    return Published(figures[0] / 100, figures[1] / 100, table["source"]) if figures else None


@functools.cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "published.toml").read_text(encoding="utf-8"))
