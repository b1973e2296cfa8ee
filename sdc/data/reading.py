"""Datasets and parts of them, each read once, however often it is asked for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Held:
    """A dataset, what its source was like when it was read, and the stamp of the file prepared of it."""

    source: store.Source
    stamp: store.Stamp
    dataset: Dataset

    def stays(self, name: str, path: Path | None, least: int) -> bool:
        """Whether reading it again would give the same."""
        return self.source == store.source(name, path, least) and self.stamp == store.stamp(self.dataset.file)


def _held(name: str, path: Path | None, least: int, watch: Watch) -> _Held:
    """Read a dataset; an archive's stamp is taken before, so that a change meanwhile is seen later."""
    watch.stage(f"reading {name}", None)
    archive = store.archive(path)
    found = store.load(name, path, lambda done, _: watch.progress(done), least)
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
        own_wholes, own_parts, new = self._wholes, self._parts, set[_Name]()

        @functools.cache
        def loaded(name: str, path: Path | None, least: int) -> Dataset:
            asked = name, path, least
            known = wholes.pop(asked, None)
            if known is None or not known.stays(*asked):
                known = _held(*asked, watch)
                new.add(asked)
            own_wholes[asked] = known
            return known.dataset

        @functools.cache
        def tell(words: str) -> None:
            watch.say(words)

        @functools.cache
        def whole(name: str, path: Path | None, least: int) -> Dataset:
            usual = loaded(name, path, 0)
            found = loaded(name, path, least) if path and sets.side(usual) < least else usual
            found = found if sets.side(found) > sets.side(usual) else usual
            if path is not None and new & {(name, path, 0), (name, path, least)}:
                tell("; ".join([*found.notes, canonical.told(found.classes)]))
            return found

        @functools.cache
        def read(name: str, path: Path | None, validation: int, limit: int, least: int = 0, /) -> Dataset:
            found = whole(name, path, least)
            known = parts.pop((name, path, validation, limit, least), None)
            if known is None or known[0] is not found:
                known = found, _part(found, validation, limit)
            own_parts[name, path, validation, limit, least] = known
            return known[1]

        return read


def reader(watch: Watch) -> Read:
    """A reader that finds nothing read before it."""
    return Library().reader(watch)


_Name = tuple[str, Path | None, int]
_Part = tuple[str, Path | None, int, int, int]


def _part(whole: Dataset, validation: int, limit: int) -> Dataset:
    found = sets.held_out(whole, validation) if validation else whole
    return sets.limited(found, limit) if limit else found


def stem(path: Path) -> str:
    """What a folder or archive is called: its name up to the first dot."""
    return path.expanduser().resolve().name.split(".")[0]
