"""What could not be read or written, told from a bug of ours: the one place that decides it, for the whole product.

An error of the operating system is an expected failure where it is about a path that the user chose, by an argument or
the environment, and where it is about the disk whatever the path. Any other is a bug.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sdc.ground import paths
from sdc.ground.errors import FatalError

RUNS, UPSTREAM, CACHE, PASSING = "--runs DIR", "SDC_UPSTREAM=DIR", "SDC_CACHE=DIR", "TMPDIR=DIR"
_ANY = f"{RUNS} for runs, --out or --html for a report, {CACHE} for data"
_CHECKOUT = "in a checkout of sdc that is yours"
_FULL = {
    errno.ENOSPC: ("no space left on the disk", "df -h {folder}"),
    errno.EDQUOT: ("the quota of the disk is used up", "quota -s"),
}
"""What is said of a disk that has no room left, and the command that shows how much is used."""
_NO_ROOM = (*_FULL, errno.EFBIG)
_OF_THE_DISK = {*_NO_ROOM, errno.EIO, errno.ESTALE}
"""No bug of ours makes these, whatever path they are about."""
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_TORCH_GAVE_UP = "PytorchStreamWriter failed writing"
"""Torch keeps to itself why it could not write a file."""
_HALF = re.compile(r"\.(.+)\.[0-9a-z_]{8}\.partial|\.work\.(.+)\.[0-9a-f]{8}")
_OURS_PASSING = ("tmp", "sdc-", ".sdc-")
"""How the names of our passing files begin."""


@dataclass(frozen=True)
class Place:
    """A file or folder, with all that lies in it, and what names another; `ours`: no user chose it."""

    path: Path
    elsewhere: str = ""
    ours: bool = False


@dataclass(frozen=True)
class _Failure:
    """What an error of the operating system says: its number, the path that it is about if it is known, and why."""

    number: int
    path: Path | None
    reason: str


_chosen: ContextVar[Callable[[], Iterable[Place]]] = ContextVar("chosen", default=tuple)


@contextlib.contextmanager
def chosen(places: Callable[[], Iterable[Place]]) -> Iterator[None]:
    """Within, these places are the user's, too: a function, since nobody asks for them unless something fails."""
    before = _chosen.get()
    token = _chosen.set(lambda: chain(places(), before()))
    try:
        yield
    finally:
        _chosen.reset(token)


@contextlib.contextmanager
def at(path: Path, elsewhere: str = "") -> Iterator[None]:
    """Within, whatever cannot be read or written at `path`, a place of the user's, raises FatalError that says so.

    `elsewhere`: what names another; not given: the options and variables that are known to.
    """
    try:
        yield
    except Exception as error:
        if refused := refusal(error, Place(path, elsewhere)):
            raise refused from error
        raise


def refusal(error: Exception, *places: Place) -> FatalError | None:
    """What an error comes to if it is an expected failure: about these places or others of the user's; None: a bug.

    Also where a library wrapped it in an exception of its own. One without a path is taken to be about the first place.
    """
    if isinstance(error, RuntimeError) and "determine home directory" in str(error):  # pathlib's, of ~ and Path.home
        return FatalError(f"there is no home folder where one is needed\nName folders in full: {CACHE}, {UPSTREAM}")
    for failure in _failures(error):
        if said := _said(failure, places):
            return FatalError(said)
    return None


def _failures(error: Exception) -> Iterator[_Failure]:
    """What an error is about; then those that it came of, as far as they are of the disk."""
    if found := _seen(error):
        yield found
    before: BaseException | None = error
    while not isinstance(before, FatalError) and before and (before := before.__cause__ or before.__context__):
        if isinstance(before, OSError) and before.errno in _OF_THE_DISK and (found := _seen(before)):
            yield found


def _seen(error: Exception) -> _Failure | None:
    text = str(error)
    if type(error).__module__ == "ssl":  # which counts errors in a way of its own
        return None
    if isinstance(error, OSError) and error.errno is not None:
        named = error.filename2 or error.filename
        path = Path(os.fsdecode(named)) if isinstance(named, str | bytes | os.PathLike) else None
        return _Failure(error.errno, path, error.strerror or text)
    if loop := re.fullmatch(r"Symlink loop from '(.*)'", text):  # as pathlib says it
        return _Failure(errno.ELOOP, Path(loop[1]), os.strerror(errno.ELOOP))
    if number := next((number for number in _NO_ROOM if os.strerror(number) in text), 0):
        return _Failure(number, None, os.strerror(number))
    if isinstance(error, FatalError):
        return None
    if wrapped := re.search(r"\(os error (\d+)\)", text):  # as Rust's libraries say it
        return _Failure(int(wrapped[1]), None, os.strerror(int(wrapped[1])))
    return _Failure(errno.EIO, None, "it could not be written whole") if _TORCH_GAVE_UP in text else None


def _said(failure: _Failure, places: tuple[Place, ...]) -> str:
    """What an expected failure comes to, for people; empty: it is none."""
    number, path = failure.number, failure.path
    if number == errno.ENOENT and "No usable temporary directory" in failure.reason:
        return f"no folder for passing files can be written to: {failure.reason}\nName another: {PASSING}"
    if path is None and places and number in {*_OF_THE_DISK, errno.EROFS}:
        path = places[0].path
    if path is None:
        return _words(failure, None, _ANY) if number in _OF_THE_DISK else ""
    path = _shown(path)
    around = sorted(_around(path, places), key=lambda place: -len(place.path.absolute().parts))
    if number not in _OF_THE_DISK and (not around or around[0].ours):
        return ""
    below = (place for place in _chosen.get()() if _is_in(place.path, path))  # a folder on the way to a place
    elsewhere = next((place.elsewhere for place in chain(around, below) if place.elsewhere), _ANY)
    return _words(failure, path, elsewhere)


def _around(path: Path, places: tuple[Place, ...]) -> Iterator[Place]:
    """The places that a path lies in, or is."""
    for place in chain(places, _chosen.get()(), _of_the_environment(), _of_ours(), _passing(path)):
        if _is_in(path, place.path):
            yield place


def _is_in(path: Path, top: Path) -> bool:
    """Whether a path is another or lies in it, by its own name or by where links lead."""
    spelled = {Path(os.path.abspath(path)), Path(os.path.realpath(path))}  # noqa: PTH100 - pathlib's may raise
    alike = {Path(os.path.abspath(top)), Path(os.path.realpath(top))}  # noqa: PTH100
    return any(one == other or other in one.parents for one in spelled for other in alike)


def _of_the_environment() -> Iterator[Place]:
    """The folders that variables name, and those that stand where none does."""
    told = {"SDC_UPSTREAM": UPSTREAM, "SDC_CACHE": CACHE, "XDG_CACHE_HOME": CACHE}
    for name, elsewhere in told.items():
        if named := os.environ.get(name):
            yield Place(Path(named), elsewhere)
    for find, elsewhere in ((paths.upstream, UPSTREAM), (paths.cache, CACHE)):
        with contextlib.suppress(OSError, RuntimeError, FatalError):  # the same again that is being told
            yield Place(find(), elsewhere)


def _of_ours() -> Iterator[Place]:
    """Where the code lies: what cannot be read there is a bug, or an installation that is not whole."""
    for path in (paths.PACKAGE, paths.PLUGIN.parent, paths.ADAPTERS, paths.PATCHES):
        yield Place(path, _CHECKOUT, ours=True)


def _passing(path: Path) -> Iterator[Place]:
    """The place of a passing file of ours."""
    tops = {os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")} | {tempfile.tempdir or "/tmp"}  # noqa: S108
    for top in filter(None, tops):
        with contextlib.suppress(ValueError):
            below = Path(os.path.abspath(path)).relative_to(os.path.abspath(top))  # noqa: PTH100
            if below.parts and below.parts[0].startswith(_OURS_PASSING):
                yield Place(Path(top) / below.parts[0], PASSING)


def _words(failure: _Failure, path: Path | None, elsewhere: str) -> str:
    if failure.number in _FULL:
        what, shows = _FULL[failure.number]
        shows = shows.format(folder=path.parent if path else ".")
        return f"{what} while writing {path or 'a file'}\nFree some ({shows}), or write elsewhere: {elsewhere}"
    verb, reason = _done_to(path, failure)
    if failure.number == errno.EFBIG:
        verb, reason = "written", "the limit on the size of files is reached (ulimit -f)"
    way = "Write elsewhere" if "=" in elsewhere else "Name another place"
    return f"{path or 'a file'} cannot be {verb}: {reason}\n{way}: {elsewhere}"


def _done_to(path: Path | None, failure: _Failure) -> tuple[str, str]:
    """What was to be done to a path, and why it could not be."""
    if path is None:
        return "read or written", failure.reason
    there = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)
    in_the_way = there != path or failure.number == errno.EEXIST
    if in_the_way and os.path.isfile(there):  # noqa: PTH113 - pathlib's may raise
        return "made", f"{there} is a file"
    if failure.number not in _REFUSED:
        return "read or written", failure.reason
    if there != path:
        return "made", f"{failure.reason}, in {there}"
    effective = os.access in os.supports_effective_ids
    readable = failure.number == errno.EROFS or os.access(path, os.R_OK, effective_ids=effective)
    return "written" if readable else "read", failure.reason


def _shown(path: Path) -> Path:
    """The path that people know: of what is to take another's place that one, of a lock its folder."""
    if half := _HALF.fullmatch(path.name):
        return path.with_name(half[1] or half[2])
    return path.parent if path.suffix == ".lock" and not os.path.lexists(path) else path
