"""Hyper-parameters with their source, a TOML file a method."""

from __future__ import annotations

from importlib.resources import files


def text(method: str) -> str:
    """The recipes of a method, as TOML."""
    return (files(__package__) / f"{method}.toml").read_text(encoding="utf-8")
