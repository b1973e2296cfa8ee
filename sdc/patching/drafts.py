"""Methods whose adapter is written and that no registry has yet: taken from their file, for the time of a trial."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from sdc.adapters import recipes
from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from sdc.ground.errors import FatalError, unknown


@contextmanager
def at_hand(name: str) -> Iterator[Adapter]:
    """Within, a method can be planned and run under its name, whether it is registered or its file alone is there."""
    if name in ADAPTERS:
        yield ADAPTERS[name]
        return
    ADAPTERS[name] = _read(name)
    try:
        yield ADAPTERS[name]
    finally:
        del ADAPTERS[name]


def _read(name: str) -> Adapter:
    """The adapter in adapters/NAME.py. Raises FatalError where there is none, or it cannot be read."""
    file = paths.ADAPTERS / f"{name}.py"
    if not name.isidentifier() or not file.is_file():
        raise unknown("method", name, sorted(ADAPTERS))
    spec = importlib.util.spec_from_file_location(f"sdc.adapters.{name}", file)
    if spec is None or spec.loader is None:
        raise FatalError(f"{file} cannot be read")
    module = importlib.util.module_from_spec(spec)
    try:
        with recipes.beside(paths.ADAPTERS / "recipes"):
            spec.loader.exec_module(module)
        found = module.ADAPTER
    except Exception as error:  # it is being written by hand
        raise FatalError(f"{file} cannot be read: {type(error).__name__}: {error}. Mend it") from error
    if not isinstance(found, Adapter):
        raise FatalError(f"{file}: ADAPTER is no Adapter (adapters/base.py)")
    return found
