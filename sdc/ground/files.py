"""Files arrive whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sdc.ground import storage
from sdc.ground.errors import FatalError

_REWRITTEN = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
_STREAM = re.compile(r"/(?:dev|proc/self)/(?:std(?P<name>out|err)|fd/(?P<number>\d+))")
"""One that this process has open."""
_OLD = 3600.0
"""Seconds after which nobody writes to a half-made file any more, where files cannot be locked."""


def made(folder: Path) -> Path:
    """Make a folder, and those that it lies in, unless it is there. Raises FatalError if it cannot be."""
    with storage.at(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
    return folder


def writable(folder: Path, file: Path | None = None) -> None:
    """Raise FatalError unless a folder is there, or can be made, and files in it: before work whose outcome goes there.

    Nothing is left of the trial. The error names the folder, or the `file` that is to come there.
    """
    if file and _is_stream(file):
        return
    named = file or folder
    with storage.at(named):
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        made(folder)
        try:
            with _beside(folder / "any"):
                pass
        except OSError as error:
            error.filename = str(named)
            raise
        finally:
            for each in new:
                with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                    each.rmdir()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to; it takes the place of `path` only if the block succeeds.

    What is no file (a pipe, a terminal, `/dev/stdout`) stays, and is told the whole content.
    Raises FatalError where it cannot be written; whatever happens, no temporary file stays.
    """
    if _is_stream(path):
        with storage.at(path), _told(path) as whole:
            yield whole
        return
    made(path.parent)
    partial = _partial(path)
    try:
        with storage.at(path):
            partial.touch(exist_ok=False)  # a library would say in its own words that it cannot be made
            yield partial
            with contextlib.suppress(OSError):  # not every file system has modes
                partial.chmod(0o666 & ~umask())  # some libraries make their files the owner's alone
            with partial.open("rb") as written:
                _to_the_disk(written)
            partial.replace(path)
    finally:
        _forget(partial)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` to fill; it becomes `folder` only if the block succeeds.

    `folder` must not be there. Raises FatalError where it cannot be made; whatever happens, the temporary one is gone.
    """
    made(folder.parent)
    work = folder.with_name(f".work.{folder.name}.{secrets.token_hex(4)}")  # in a run's folder, so are all half things
    try:
        with storage.at(folder):
            work.mkdir()
            yield work
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises FatalError naming `path` if there is none."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise FatalError(f"{path} cannot be read: {error}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def umask() -> int:
    """The permissions that new files of this process go without."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def rewrite(path: Path, content: bytes, was: bytes | None) -> None:
    """Give a file that holds `was` (None: it is not there) other content, whole or not at all; its mode and owner stay.

    The content is written beside it and takes its place. What a process that was killed left of that is swept before.
    Raises FatalError where the file was changed meanwhile, or cannot be written.
    """
    sweep(path.parent)
    with storage.at(path), _beside(path) as (partial, file):
        file.write(content)
        file.flush()
        _to_the_disk(file)
        if (path.read_bytes() if os.path.lexists(path) else None) != was:
            raise FatalError(f"{path} was changed meanwhile, so it is not touched. Run the same command again")
        _as_it_was(path, file)
        partial.replace(path)


def sweep(folder: Path) -> None:
    """Take away what processes that were killed left of files that they wrote anew; not where nothing may be taken."""
    with contextlib.suppress(OSError):
        for left in [Path(entry.path) for entry in os.scandir(folder) if _REWRITTEN.fullmatch(entry.name)]:
            with left.open("rb") as file:
                mine = hold(file)
                if mine or (mine is None and time.time() - left.stat().st_mtime > _OLD):
                    left.unlink()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside another, open and held, so that nobody sweeps it; at the end it is gone."""
    while True:
        partial = _partial(path)
        with partial.open("xb") as file:
            hold(file, wait=True)
            if not partial.exists():  # swept before it was held
                continue
            try:
                yield partial, file
            finally:
                _forget(partial)
            return


def hold(file: IO[bytes], *, wait: bool = False) -> bool | None:
    """Hold a file until it is closed, or this process ends: whether that went; None where files cannot be locked."""
    import fcntl  # which Windows lacks, and the command line says so

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _to_the_disk(file: IO[bytes]) -> None:
    """A power cut must not leave a name without the content."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # not every file system can
            raise


def _as_it_was(path: Path, file: IO[bytes]) -> None:
    """Give a new file the mode of the one whose place it takes, and the owner where that may be."""
    if not os.path.lexists(path):
        return
    there = path.stat()
    with contextlib.suppress(OSError):
        os.fchown(file.fileno(), there.st_uid, there.st_gid)
    with contextlib.suppress(OSError):  # not every file system has modes
        os.fchmod(file.fileno(), there.st_mode & 0o7777)


def _is_stream(path: Path) -> bool:
    """Whether a path leads to something that is no file of its own, whose place nothing may take."""
    if _STREAM.fullmatch(os.path.abspath(path)):  # noqa: PTH100 - pathlib's may raise
        return True
    there = os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112
    return there and not os.path.isfile(path)  # noqa: PTH113


@contextlib.contextmanager
def _told(path: Path) -> Iterator[Path]:
    """A passing file to write to; in the end all that it holds is written to `path`."""
    with tempfile.TemporaryDirectory(prefix="sdc-") as folder:
        whole = Path(folder) / "whole"
        yield whole
        sys.stdout.flush()  # what was printed before comes before
        with whole.open("rb") as content, _stream(path) as stream:
            shutil.copyfileobj(content, stream)


def _stream(path: Path) -> IO[bytes]:
    """Open it to write; a stream of this process's own is gone on with, where opening it would begin a file anew."""
    own = _STREAM.fullmatch(os.path.abspath(path))  # noqa: PTH100
    if not own:
        return path.open("wb")
    return os.fdopen(os.dup(int(own["number"] or {"out": 1, "err": 2}[own["name"]])), "wb")


def _partial(path: Path) -> Path:
    """A new name beside a file; of a long name the beginning, since this one may be no longer than that."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")


def _forget(partial: Path) -> None:
    with contextlib.suppress(OSError):  # what went wrong before is to be told, not this
        partial.unlink(missing_ok=True)
