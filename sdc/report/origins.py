"""The fork that a run's script lay in, as the run's files say it; runs of the pin have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Origin:
    """A fork. `name` is what it is shown as; where it lay tells no two of them apart."""

    name: str
    commit: str
    script: str
    script_sha256: str
    files_sha256: str
    path: str = field(compare=False, repr=False, default="")


def read(found: Mapping[str, Any]) -> Origin | None:
    """The fork that a cell.json, a result.json or the record of a choice names; None: the pin's script ran."""
    if "fork" not in found:
        return None
    names = ("name", "commit", "script", "script_sha256", "files_sha256", "path")
    return Origin(**{name: str(found["fork"][name]) for name in names})


def named(method: str, origin: Origin | None) -> str:
    """A method as it is shown: `dm`, or `dm (fork 1a2b3c4)`."""
    return f"{method} ({origin.name})" if origin else method
