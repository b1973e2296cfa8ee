"""Hyper-parameters with their source, a TOML file a method."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any


def load(method: str) -> dict[str, Any]:
    """The recipes of a method, by name."""
    return tomllib.loads((files(__package__) / f"{method}.toml").read_text(encoding="utf-8"))
