"""Prepares any Python process whose PYTHONPATH names this folder for a test, as its environment asks.

- `$SDC_TEST_FAKE`: the process knows the methods `fake` and `matcher` that this folder holds. Workers are such processes. They
  are put into the registry when that is imported, so that scripts, which import nothing of ours, stay as they are.
- `$SDC_TEST_CUDA`: the process has so many emulated CUDA devices (tests/fakecuda) as soon as it has imported torch, so
  that processes without torch stay as quick as they are.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class Behind(MetaPathFinder):
    """Does something with a module right behind its import."""

    def __init__(self, module: str, does: Callable[[ModuleType], None]) -> None:
        self._module, self._does = module, does

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self._module else None
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_more(module: ModuleType) -> None:
                run(module)
                self._does(module)

            spec.loader.exec_module = run_and_more  # type: ignore[method-assign]
        return spec


def with_fake(registry: ModuleType) -> None:
    from tests import fake

    adapter = fake.opened(Path(os.environ["SDC_TEST_FAKE"])).adapter
    registry.ADAPTERS |= {"fake": adapter, "matcher": fake.matcher(adapter)}


def with_cuda(_: ModuleType) -> None:
    """The emulation is loaded from its file: the folder of all tests need not be on the path of a process."""
    if "tests.fakecuda" in sys.modules:
        raise ImportError("a process that is to have an emulated device imports torch before tests.fakecuda")
    file = Path(__file__).parents[1] / "fakecuda" / "__init__.py"
    spec = importlib.util.spec_from_file_location("tests.fakecuda", file)
    assert spec
    assert spec.loader
    fakecuda = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = fakecuda
    spec.loader.exec_module(fakecuda)
    fakecuda.installed_by_environment()


if "SDC_TEST_FAKE" in os.environ:
    sys.meta_path.insert(0, Behind("sdc.adapters.registry", with_fake))
if "SDC_TEST_CUDA" in os.environ:
    sys.meta_path.insert(0, Behind("torch", with_cuda))
