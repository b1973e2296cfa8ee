"""The one exception that stands for an expected failure, and what is told from the words of others' errors."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class FatalError(Exception):
    """What went wrong, where, and the command that mends it. The command line prints it and exits 1."""


def unknown(kind: str, name: str, known: Sequence[str]) -> FatalError:
    """The error for a name that is not in a registry, listing the names that are, and the one that is most like it."""
    return FatalError(f"unknown {kind} {name!r}. Known: {', '.join(known) or 'none'}{meant(name, known)}")


def meant(name: str, known: Sequence[str]) -> str:
    """`. Did you mean dm?`, if one of the names that are known is spelled much like `name`; else nothing."""
    plain = {other.casefold(): other for other in known}
    alike = difflib.get_close_matches(name.casefold(), plain, n=1, cutoff=0.75)
    return f". Did you mean {plain[alike[0]]}?" if alike else ""


def out_of_memory(text: str) -> bool:
    """Whether an error says that the GPU's or the machine's memory did not suffice."""
    return any(words in text for words in ("out of memory", "MemoryError", "can't allocate memory"))
