"""Adapters that `sdc patch new` has written into a checkout."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

from sdc.adapters import recipes
from sdc.adapters.base import Adapter


def loaded(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """The adapter that was written, its recipes read from beside it."""
    file = checkout / "adapters" / "recipes" / "mine.toml"
    monkeypatch.setattr(recipes, "load", lambda _: tomllib.loads(file.read_text()))
    spec = importlib.util.spec_from_file_location("mine", checkout / "adapters" / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Adapter = module.ADAPTER
    return found
