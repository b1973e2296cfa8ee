"""The plugin's copy beside a patched script, with which the script runs where this package is not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Literal

from sdc.ground import paths, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import rewrite, sweep

State = Literal["absent", "ours", "other"]
COPY = "sdc.py"
NAME = "sdc"
"""What a patched script imports."""
_IMPORT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+sdc\b", re.MULTILINE)


def modules(folder: Path) -> Iterator[Path]:
    """What Python would take for `sdc` in a folder: a file or a folder of that name."""
    for path in (folder / NAME, *(folder / f"{NAME}{suffix}" for suffix in all_suffixes())):
        if path.exists() or path.is_symlink():
            yield path


def is_ours(path: Path) -> bool:
    """Whether a file is the plugin, to the byte, under the name of its copy."""
    return (
        path.name == COPY
        and path.is_file()
        and not path.is_symlink()
        and path.read_bytes() == paths.PLUGIN.read_bytes()
    )


def state(beside: Path) -> State:
    """What `import sdc` finds in the folder of a script: nothing, a copy of ours, or something else."""
    found = list(modules(beside))
    if not found:
        return "absent"
    return "ours" if all(map(is_ours, found)) else "other"


def put(beside: Path) -> bool:
    """Make the copy in the folder of a script; False if it is there. Raises FatalError where something else is."""
    if (found := state(beside)) == "other":
        raise FatalError(f"{beside} holds an `{NAME}` that is not the plugin's copy, so it is not touched. Rename it")
    if found == "absent":
        rewrite(beside / COPY, paths.PLUGIN.read_bytes(), None)
    return found == "absent"


def take(beside: Path) -> bool:
    """Take our copy away, unless another script beside it needs it; whether it was there and is gone."""
    sweep(beside)
    others = (script for script in beside.glob("*.py") if script.name != COPY)
    if state(beside) != "ours" or any(_IMPORT.search(script.read_bytes()) for script in others):
        return False
    cache = beside / "__pycache__"
    with storage.at(beside):
        for cached in cache.glob(f"{NAME}.*.pyc"):
            cached.unlink()
        if cache.is_dir() and not any(cache.iterdir()):
            cache.rmdir()
        (beside / COPY).unlink()  # last, or nobody would know whose the others were
    return True
