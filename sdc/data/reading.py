"""Datasets and parts of them, each read once, however often it is asked for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

from sdc.data import canonical, sets, store
from sdc.data.sets import Dataset
from sdc.ground.watch import Watch


class Read(Protocol):
    """Gives a dataset."""

    def __call__(self, name: str, path: Path | None, validation: int, limit: int, least: int = 0, /) -> Dataset:
        """By its name, and the path that it comes from if not by its name.

        `validation`: the percentage of its training images that is held out to be tested on; `limit`: so many per class
        of the others; 0 for none of either. Where its source has larger images than are usual here, they are no smaller
        than `least` pixels a side.
        """


def reader(watch: Watch) -> Read:
    """Reads each dataset once, and each part of one once, however often it is asked for.

    Of one that comes from a path it says how that was read, and which class is which label.
    """

    @functools.cache
    def loaded(name: str, path: Path | None, least: int) -> Dataset:
        watch.stage(f"reading {name}", None)
        return store.load(name, path, lambda done, _: watch.progress(done), least)

    @functools.cache
    def tell(words: str) -> None:
        watch.say(words)

    @functools.cache
    def whole(name: str, path: Path | None, least: int) -> Dataset:
        usual = loaded(name, path, 0)
        found = loaded(name, path, least) if path and sets.side(usual) < least else usual
        found = found if sets.side(found) > sets.side(usual) else usual
        if path is not None:
            tell("; ".join([*found.notes, canonical.told(found.classes)]))
        return found

    @functools.cache
    def read(name: str, path: Path | None, validation: int, limit: int, least: int = 0, /) -> Dataset:
        every = whole(name, path, least)
        found = sets.held_out(every, validation) if validation else every
        return sets.limited(found, limit) if limit else found

    return read


def stem(path: Path) -> str:
    """What a folder or archive is called: its name up to the first dot."""
    return path.expanduser().resolve().name.split(".")[0]
