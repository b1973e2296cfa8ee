"""What `sdc doctor` finds: one fact, whether it is well, and the remedy if it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sdc.ground.errors import FatalError

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One fact; `wrong` keeps something from working, a `note` is worth knowing. Both name a remedy."""

    section: str
    name: str
    value: str
    level: Level = "ok"
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]
"""Yields findings as it comes by them: those before an exception are kept."""


def examine(checks: Iterable[Check]) -> list[Finding]:
    """What all checks find, in their order. One that raises is a finding, too, and the others go on."""
    return [finding for check in checks for finding in _kept(check)]


def _kept(check: Check) -> Iterator[Finding]:
    name = getattr(check, "__name__", str(check)).replace("_", " ")
    try:
        yield from check()
    except FatalError as error:
        yield Finding(name, "check", str(error), "wrong", "do what the message says, then again: sdc doctor")
    except ImportError as error:
        remedy = f"pip install --force-reinstall {(error.name or 'torch').partition('.')[0]}"
        yield Finding(name, "check", str(error), "wrong", remedy)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        yield Finding(name, "check", told, "wrong", "report it with all that sdc doctor --json prints")
