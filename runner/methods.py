"""Methods by name, as a user gives them."""

from __future__ import annotations

from adapters.base import Adapter
from adapters.registry import ADAPTERS
from runner.errors import unknown


def find(method: str) -> Adapter:
    """The adapter of a method, or a FatalError that lists the methods."""
    if method not in ADAPTERS:
        raise unknown("method", method, sorted(ADAPTERS))
    return ADAPTERS[method]
