"""The members of a folder or an archive, one after the other, in memory: nothing is ever written to disk."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from sdc.data.images import ENDINGS
from sdc.ground.errors import FatalError

KINDS = "a folder, .tar, .tar.xz, .tar.gz, .tgz or .zip of train/<class>/* and test/<class>/*"
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".zip")
MEMBER_LIMIT = 64 * 2**20
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # zipfile, on encryption; NotImplementedError, on an unknown compression, is one too
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)


@dataclass(frozen=True)
class Member:
    """A folder or a file at `path` below the source's top; `data` is None unless it is an image file."""

    path: PurePosixPath
    folder: bool
    data: bytes | None


def members(source: Path) -> Iterator[Member]:
    """Yield what `source` holds, in its own order.

    Left out: hidden members, __MACOSX, names that lead outside ('..', absolute), and in archives all links and devices.
    Raises FatalError if `source` is missing, of no known kind or damaged, or an image file exceeds 64 MiB.
    """
    check(source)
    with damage_is_fatal(source):
        yield from _reader(source)(source)


@contextlib.contextmanager
def damage_is_fatal(source: Path) -> Iterator[None]:
    """Turn what the readers raise on a missing, locked or damaged source into a FatalError naming it."""
    try:
        yield
    except DAMAGE as error:
        raise FatalError(
            f"cannot read {source}: {error or type(error).__name__}\n"
            "It is damaged, cut short, not readable or not what its name says. Make or download it again."
        ) from error


def folder_files(top: Path) -> Iterator[tuple[PurePosixPath, Path, bool]]:
    """Every visible (path below `top`, path, is a folder), links followed; each real folder is entered once."""
    seen: set[str] = set()
    for here, folders, files in os.walk(top, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(filter(_visible, folders))
        below = PurePosixPath(Path(here).relative_to(top).as_posix())
        yield from ((below / name, Path(here, name), True) for name in folders)
        yield from ((below / name, Path(here, name), False) for name in filter(_visible, files))


def check(source: Path) -> None:
    """Raise FatalError if `source` is missing or of no known kind."""
    if not source.exists():
        raise FatalError(f"{source} does not exist\nGive --data PATH of {KINDS}.")
    if not source.is_dir() and not source.name.lower().endswith(ARCHIVES):
        raise FatalError(f"{source} is neither a folder nor an archive of a known kind\nGive --data PATH of {KINDS}.")


def _reader(source: Path) -> Callable[[Path], Iterator[Member]]:
    if source.is_dir():
        return _folder
    return _zip if source.name.lower().endswith(".zip") else _tar


def _folder(source: Path) -> Iterator[Member]:
    for path, real, folder in folder_files(source):
        if folder or not is_image(path):
            yield Member(path, folder, None)
        elif stat.S_ISREG((status := real.stat()).st_mode):
            with real.open("rb") as file:
                yield Member(path, False, _content(file, status.st_size, f"{source}: {path}"))


def _tar(source: Path) -> Iterator[Member]:
    with decompressed(source) as file, tarfile.TarFile(fileobj=file) as archive:
        for info in archive:
            path = inside(info.name)
            if path is None or not (info.isdir() or info.isreg()):
                continue
            data = None
            if info.isreg() and is_image(path) and (stored := archive.extractfile(info)):
                data = _content(stored, info.size, f"{source}: {info.name}")
            yield Member(path, info.isdir(), data)
        _check_end(file, archive.offset)


def _zip(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            path = inside(info.filename)
            if path is None or stat.S_ISLNK(info.external_attr >> 16):
                continue
            data = None
            if not info.is_dir() and is_image(path):
                with archive.open(info) as stored:
                    data = _content(stored, info.file_size, f"{source}: {info.filename}")
            yield Member(path, info.is_dir(), data)


def decompressed(source: Path) -> IO[bytes]:
    """The tar in a tar file, whatever it is compressed by."""
    name = source.name.lower()
    if name.endswith(".xz"):
        return lzma.open(source)
    return cast("IO[bytes]", gzip.open(source)) if name.endswith("gz") else source.open("rb")


def _check_end(file: IO[bytes], offset: int) -> None:
    """A tar ends with a block of zeros; tarfile takes a missing or damaged header for the end and drops the rest."""
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"the archive breaks off, or is damaged, at byte {offset}")
    while file.read(2**20):  # to the end, where the checksum of the compression stands
        pass


def _content(file: IO[bytes], size: int, where: str) -> bytes:
    """Read a whole member; the size that the archive claims is checked first, but not relied on."""
    data = file.read(MEMBER_LIMIT + 1) if size <= MEMBER_LIMIT else b""
    if size > MEMBER_LIMIT or len(data) > MEMBER_LIMIT:
        raise FatalError(f"too large for an image: {where}\nAt most {MEMBER_LIMIT >> 20} MiB are read. Take it out.")
    return data


def is_image(path: PurePosixPath) -> bool:
    """Whether the name ends like an image's."""
    return path.suffix.lower() in ENDINGS


def inside(name: str) -> PurePosixPath | None:
    """A member's name as a path; None if it leads outside of the archive, or is hidden."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts
    return None if outside or not path.parts or not all(map(_visible, path.parts)) else path


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _raise(error: OSError) -> None:
    raise error
