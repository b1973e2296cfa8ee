"""Packages that an upstream's scripts import beyond what sdc requires: looked for before a script runs."""

from __future__ import annotations

from collections.abc import Iterable

from sdc.adapters.base import Adapter, Need
from sdc.ground import packages
from sdc.ground.errors import FatalError


def lacking(adapter: Adapter) -> tuple[Need, ...]:
    """Of what a method's scripts need, what is not installed here, or not in a version that will do."""
    return tuple(need for need in adapter.needs if not packages.is_there(need.package, need.imported, need.version))


def told(adapters: Iterable[Adapter]) -> str:
    """What methods lack, a line each, and the line that installs all of it; empty: nothing."""
    found = {adapter.method: needs for adapter in adapters if (needs := lacking(adapter))}
    if not found:
        return ""
    lines = [f"the scripts of {method} need {', '.join(map(_said, needs))}" for method, needs in found.items()]
    install = packages.pip(need.wanted for needs in found.values() for need in needs)
    return "\n".join([*lines[:-1], f"{lines[-1]}. Install what is lacking: {install}"])


def check(adapters: Iterable[Adapter]) -> None:
    """Raise FatalError, with the line that installs it, if a package is lacking that these methods' scripts import."""
    if said := told(adapters):
        raise FatalError(said)


def _said(need: Need) -> str:
    name = need.wanted if need.imported == need.package else f"{need.wanted} (imported as {need.imported})"
    have = packages.installed(need.package)
    return f"{name}, and {have} is installed here" if have and need.version else f"{name}, which is not installed here"
