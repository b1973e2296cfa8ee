"""Files arrive whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdc.ground.errors import FatalError


def made(folder: Path) -> Path:
    """Make a folder, and those that it lies in, unless it is there. Raises FatalError if it cannot be."""
    with no_space_is_fatal(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise FatalError(
                f"the folder {folder} cannot be made: {_stands_in_the_way(folder) or error.strerror}\n"
                "Name another place: --runs DIR for runs, --out or --html for a report, SDC_CACHE=DIR for data."
            ) from error
    return folder


def _stands_in_the_way(folder: Path) -> str:
    return next((f"{path} is a file" for path in (folder, *folder.parents) if path.is_file()), "")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to; it takes the place of `path` only if the block succeeds.

    Raises FatalError when the disk is full; whatever happens, no temporary file stays.
    """
    made(path.parent)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with no_space_is_fatal(path):
            yield partial
            partial.chmod(0o666 & ~umask())  # some libraries make their files the owner's alone
            with partial.open("rb") as written:
                os.fsync(written)  # a power cut must not leave the name without the content
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` to fill; it becomes `folder` only if the block succeeds.

    `folder` must not be there. Raises FatalError when the disk is full; whatever happens, the temporary one is gone.
    """
    made(folder.parent)
    work = folder.with_name(f".work.{folder.name}.{secrets.token_hex(4)}")  # in a run's folder, so are all half things
    try:
        with no_space_is_fatal(folder):
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


@contextlib.contextmanager
def no_space_is_fatal(path: Path) -> Iterator[None]:
    """Turn 'no space left' (also when a library wraps it in its own exception) into a FatalError naming `path`."""
    try:
        yield
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        if (isinstance(error, OSError) and error.errno in full) or "No space left on device" in str(error):
            raise FatalError(
                f"no space left on the disk while writing {path}\n"
                f"Free some (df -h {path.parent}), or write elsewhere: --runs DIR for runs, SDC_CACHE=DIR for data."
            ) from error
        raise
