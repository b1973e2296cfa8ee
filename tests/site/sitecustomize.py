"""Lets any Python process whose PYTHONPATH names this folder know the method `fake` that `$SDC_TEST_FAKE` holds.

Workers are such processes. The method is put into the registry when that is imported, so that scripts, which import
nothing of ours, stay as they are.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

REGISTRY = "sdc.adapters.registry"


class Registry(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == REGISTRY else None
        if spec and spec.loader:
            run = spec.loader.exec_module

            def with_fake(module: ModuleType) -> None:
                run(module)
                from tests import fake

                module.ADAPTERS["fake"] = fake.opened(Path(os.environ["SDC_TEST_FAKE"])).adapter

            spec.loader.exec_module = with_fake  # type: ignore[method-assign]
        return spec


if "SDC_TEST_FAKE" in os.environ:
    sys.meta_path.insert(0, Registry())
