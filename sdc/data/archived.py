"""Published datasets that are still in an archive: what it holds, and its files unpacked for a moment."""

from __future__ import annotations

import contextlib
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from sdc.data.members import ARCHIVES, damage_is_fatal, decompressed, inside
from sdc.ground import paths, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import made

LIMIT = 2**29
"""No file of a published dataset is larger, unpacked."""
AHEAD = 64
"""As many members are looked at for one of those that are known, since an archive of images can hold a million."""


@dataclass(frozen=True)
class _File:
    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes] | None]


def first(archive: Path, known: Collection[str]) -> PurePosixPath | None:
    """The path of the first file in an archive that is called like one of `known`; None if it does not begin so."""
    if not archive.name.lower().endswith(ARCHIVES):
        return None
    with contextlib.closing(_files(archive)) as found:
        for number, file in enumerate(found):
            if file.path.name in known:
                return file.path
            if number >= AHEAD:
                break
    return None


@contextlib.contextmanager
def unpacked(archive: Path, known: Collection[str]) -> Iterator[Path]:
    """A passing folder with the files of an archive that are called like one of `known`, below its own folders.

    Nothing else is written, and nothing outside of that folder. Errors name the archive. Raises FatalError for a file
    that is too large, and for an archive that is damaged.
    """
    made(paths.data())
    with tempfile.TemporaryDirectory(dir=paths.data(), prefix=".unpacked-") as name:
        top = Path(name).resolve() / archive.name.split(".")[0]
        top.mkdir()
        with damage_is_fatal(archive):
            for file in _files(archive):
                if file.path.name in known:
                    _write(file, top / file.path, archive)
        try:
            yield top
        except FatalError as error:
            raise FatalError(str(error).replace(str(top), str(archive))) from error


def _write(file: _File, target: Path, archive: Path) -> None:
    stored = file.open()
    data = stored.read(LIMIT + 1) if stored and file.size <= LIMIT else b""
    if file.size > LIMIT or len(data) > LIMIT:
        raise FatalError(f"{archive}: {file.path} is larger than {LIMIT >> 20} MiB, which no published one is")
    with storage.at(target):  # a disk that is full is no damage of the archive
        made(target.parent)
        target.write_bytes(data)


def _files(archive: Path) -> Generator[_File]:
    """The files of an archive whose names lead to no place outside of it."""
    if archive.name.lower().endswith(".zip"):
        yield from _of_zip(archive)
        return
    with decompressed(archive) as file, tarfile.TarFile(fileobj=file) as held:
        for info in held:
            path = inside(info.name)
            if path is not None and info.isreg():
                yield _File(path, info.size, partial(held.extractfile, info))


def _of_zip(archive: Path) -> Iterator[_File]:
    with zipfile.ZipFile(archive) as held:
        for info in held.infolist():
            path = inside(info.filename)
            if path is not None and not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield _File(path, info.file_size, partial(held.open, info))
