"""Datasets and parts of them, each read once, however often it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sdc.data import canonical, sets, store
from sdc.data.sets import Dataset
from sdc.ground.watch import Watch

Read = Callable[[str, Path | None, int, int], Dataset]
"""Gives a dataset by its name, the path that it comes from if not by its name, the percentage of its training images
that is held out to be tested on, and a limit per class of the others (0 for none of either)."""


@dataclass(frozen=True)
class _Held:
    """A dataset, what its source was like when it was read, and the stamp of the file prepared of it."""

    source: store.Source
    stamp: store.Stamp
    dataset: Dataset

    def stays(self, name: str, path: Path | None) -> bool:
        """Whether reading it again would give the same."""
        return self.source == store.source(name, path) and self.stamp == store.stamp(self.dataset.file)


def _held(name: str, path: Path | None, watch: Watch) -> _Held:
    """Read a dataset; an archive's stamp is taken before, so that a change meanwhile is seen later."""
    watch.stage(f"reading {name}", None)
    archive = store.archive(path)
    found = store.load(name, path, lambda done, _: watch.progress(done))
    if path is not None:
        watch.say("; ".join([*found.notes, canonical.told(found.classes)]))
    return _Held(archive or found.file, store.stamp(found.file), found)


class Library:
    """Keeps what one reader read for the next.

    Each reader looks once whether the data it is asked for are what they were: what changed since is read anew. What a
    reader is not asked for goes with it.
    """

    def __init__(self) -> None:
        self._wholes: dict[_Name, _Held] = {}
        self._parts: dict[_Part, tuple[Dataset, Dataset]] = {}

    def reader(self, watch: Watch) -> Read:
        """Reads each dataset once, and makes each part of one once, however often it is asked for.

        Of one that comes from a path it says how that was read, and which class is which label.
        """
        wholes, parts = self._wholes, self._parts
        self._wholes, self._parts = {}, {}
        own_wholes, own_parts = self._wholes, self._parts

        @functools.cache
        def whole(name: str, path: Path | None) -> Dataset:
            known = wholes.pop((name, path), None)
            own_wholes[name, path] = known if known and known.stays(name, path) else _held(name, path, watch)
            return own_wholes[name, path].dataset

        @functools.cache
        def read(name: str, path: Path | None, validation: int, limit: int) -> Dataset:
            found = whole(name, path)
            known = parts.pop((name, path, validation, limit), None)
            if known is None or known[0] is not found:
                known = found, _part(found, validation, limit)
            own_parts[name, path, validation, limit] = known
            return known[1]

        return read


def reader(watch: Watch) -> Read:
    """A reader that finds nothing read before it."""
    return Library().reader(watch)


_Name = tuple[str, Path | None]
_Part = tuple[str, Path | None, int, int]


def _part(whole: Dataset, validation: int, limit: int) -> Dataset:
    found = sets.held_out(whole, validation) if validation else whole
    return sets.limited(found, limit) if limit else found


def stem(path: Path) -> str:
    """What a folder or archive is called: its name up to the first dot."""
    return path.expanduser().resolve().name.split(".")[0]
