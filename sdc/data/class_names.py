"""Names of classes as names of folders."""

from __future__ import annotations

import re
from collections.abc import Sequence


def folder_names(classes: Sequence[str]) -> list[str]:
    """Class names as folder names that no file system and no reader minds, all different: what is special becomes `_`.

    None begins with `_` or a dot: readers pass over such folders.
    """
    made: list[str] = []
    for number, name in enumerate(classes):
        safe = re.sub(r"[^\w\- ()]", "_", name).strip(" _")[:60] or "class"
        while safe.casefold() in (other.casefold() for other in made):
            safe = f"{safe}_{number}"
        made.append(safe)
    return made


def ordered(classes: Sequence[str]) -> list[str]:
    """Folder names from which the classes are read back in this order: numbered, unless they are as they are."""
    names = folder_names(classes)
    numbers = all(name.isascii() and name.isdigit() for name in names)
    if names == sorted(names, key=lambda name: (int(name) if numbers else 0, name)):
        return names
    width = len(str(len(names) - 1))
    return [f"{number:0{width}}-{name}" for number, name in enumerate(names)]
