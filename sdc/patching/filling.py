"""Folders that are being filled: beside the place where they are to be, and gone in the end, however that comes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sdc.ground.files import hold

_SUFFIX = ".partial"
_LOCK = "lock"
_OLD = 24 * 3600.0
"""Seconds after which a folder is taken for left behind, where files cannot be locked."""


@contextlib.contextmanager
def filling(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in `parent`, to fill and to move from. As long as this process lives, nobody sweeps it away.

    Raises OSError if it cannot be made.
    """
    folder, lock = _held(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def sweep(parent: Path, name: str = "*") -> None:
    """Take away the folders that commands have left behind that were killed while they filled them."""
    for folder in parent.glob(f".{name}.*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # somebody else's, or a place that cannot be written to
            if folder.is_dir() and not folder.is_symlink():
                _take_away(folder)


def _held(parent: Path, name: str) -> tuple[Path, IO[bytes]]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=parent))
        try:
            lock = (folder / _LOCK).open("ab")
        except FileNotFoundError:  # swept away before it was locked
            continue
        if hold(lock) is not False and (folder / _LOCK).exists():
            return folder, lock
        lock.close()


def _take_away(folder: Path) -> None:
    with (folder / _LOCK).open("ab") as lock:
        mine = hold(lock)
        if mine or (mine is None and time.time() - folder.stat().st_mtime > _OLD):
            shutil.rmtree(folder, ignore_errors=True)
