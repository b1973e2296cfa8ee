"""Hyper-parameters with their source, a TOML file a method."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

_elsewhere: list[Path] = []


def load(method: str) -> dict[str, Any]:
    """The recipes of a method, by name."""
    home = _elsewhere[-1] if _elsewhere else files(__package__)
    return tomllib.loads((home / f"{method}.toml").read_text(encoding="utf-8"))


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Within, recipes are read from another folder: those of a method that is being written."""
    _elsewhere.append(folder)
    try:
        yield
    finally:
        _elsewhere.pop()
