"""Datasets and parts of them, each read once, however often it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from sdc.data import canonical, sets, store
from sdc.data.sets import Dataset
from sdc.ground.watch import Watch

Read = Callable[[str, Path | None, int, int], Dataset]
"""Gives a dataset by its name, the path that it comes from if not by its name, the percentage of its training images
that is held out to be tested on, and a limit per class of the others (0 for none of either)."""


def reader(watch: Watch) -> Read:
    """Reads each dataset once, and each part of one once, however often it is asked for.

    Of one that comes from a path it says how that was read, and which class is which label.
    """

    @functools.cache
    def whole(name: str, path: Path | None) -> Dataset:
        watch.stage(f"reading {name}", None)
        found = store.load(name, path, lambda done, _: watch.progress(done))
        if path is not None:
            watch.say("; ".join([*found.notes, canonical.told(found.classes)]))
        return found

    @functools.cache
    def read(name: str, path: Path | None, validation: int, limit: int) -> Dataset:
        found = sets.held_out(whole(name, path), validation) if validation else whole(name, path)
        return sets.limited(found, limit) if limit else found

    return read


def stem(path: Path) -> str:
    """What a folder or archive is called: its name up to the first dot."""
    return path.expanduser().resolve().name.split(".")[0]
