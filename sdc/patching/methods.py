"""Methods by name, as a user gives them."""

from __future__ import annotations

from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.ground.errors import unknown


def find(method: str) -> Adapter:
    """The adapter of a method, or a FatalError that lists the methods."""
    if method not in ADAPTERS:
        raise unknown("method", method, sorted(ADAPTERS))
    return ADAPTERS[method]
