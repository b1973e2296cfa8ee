"""Fetching from an upstream, or what the user's git takes for it: a clone at a pin, a script as it is today.

Git is told by name what to fetch. It asks for a commit without the content of its files, then for the files wanted; a
server that does not hand out by name is asked for all its branches, in a new repository. A failure whose cause is known
to stay is told at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.patching import answers, causes
from sdc.patching.answers import shown
from sdc.patching.causes import Cause, Source
from sdc.patching.filling import filling, sweep
from sdc.patching.git import Clone, Contact, GitError
from sdc.patching.waiting import Waiting, say

# Wins over any .gitattributes of the upstream: files arrive as their blobs are.
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding\n"
_PROTOCOLS = "https:file:ssh"
_PLAIN = ("http", "git")
"""Not encrypted: allowed where the user names such an address, never where a server leads to one."""
_SLOW = {"http.lowSpeedLimit": 100, "http.lowSpeedTime": 60}
"""Bytes a second, and seconds: slower for so long is a standstill. What the user's git says otherwise counts."""
_CHECK = "sdc-upstream-check"
_MOST_NAMES = 500
"""So many are asked for at once: they stand on the command line."""


@dataclass(frozen=True)
class _Wish:
    """What is to be fetched: a commit, by its hash or a ref; and the content of which files, by their paths."""

    ref: str
    wanted: Callable[[str], bool]
    patterns: tuple[str, ...] = ()
    """Sparse-checkout patterns, where files are to be checked out."""

    @property
    def by_hash(self) -> bool:
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.ref))


@dataclass(frozen=True)
class _Line:
    """The way to a server: the repository that asks, whom, and how."""

    clone: Clone
    source: Source
    contact: Contact


def selected(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file is one that an upstream's sparse-checkout patterns name."""
    return any(fnmatch(name if "/" in pattern else Path(name).name, pattern) for pattern in patterns)


def clone(url: str, commit: str, patterns: Sequence[str], path: Path) -> Clone:
    """Make `path` a clone of `url` with the files of `commit` that match `patterns` (sparse, without other blobs).

    It is made beside `path` and moved there when complete; one that breaks off leaves nothing.
    Raises FatalError, with the cause, if the address cannot be reached or does not have the commit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    source = Source(url, commit, url, path.parent, "export SDC_UPSTREAM=DIR")
    chosen = tuple(patterns)
    wish = _Wish(commit, lambda name: selected(name, chosen), chosen)
    with _space(source), filling(path.parent, path.name) as folder:
        made, _ = _fetched(folder, source, wish)
        made.path.replace(path)
    return Clone(path)


def newer(url: str, ref: str, script: str) -> tuple[str, bytes | None]:
    """The commit that `ref` is at `url` today, and the script there, None if it is gone. Keeps nothing.

    Raises FatalError, with the cause, if the address cannot be reached or has no such ref.
    """
    parent = Path(tempfile.gettempdir())
    sweep(parent, _CHECK)
    source = Source(url, ref, url, parent, "export TMPDIR=DIR")
    with _space(source), filling(parent, _CHECK) as folder:
        there, commit = _fetched(folder, source, _Wish(ref, lambda name: name == script))
        entry = there.git("ls-tree", "-z", commit, "--", f":(literal){script}").removesuffix("\0")
        return commit, there.blob(entry.split()[2]) if entry else None


def sweep_clones() -> None:
    """Take away what clones left behind that were killed before they were complete."""
    sweep(paths.upstream())


def _fetched(folder: Path, source: Source, wish: _Wish) -> tuple[Clone, str]:
    """A repository in `folder` that has what is wished, checked out where there are patterns; and the commit.

    Raises FatalError, with the words of every attempt, if there is no way to it.
    """
    known: Cause | None = None
    failures = []
    for number, way in enumerate((_by_name, _by_branches)):
        there, trace = Clone(folder / f"{number}"), folder / f"{number}.answers"
        there.path.mkdir()
        try:
            source = _begun(there, source, wish)
            commit = way(_line(there, source, trace, wish), wish)
            if wish.patterns:
                there.git("checkout", "--quiet", "--detach", commit)
        except GitError as error:
            failures.append(str(error))
            known = causes.cause(source, str(error), answers.last(trace)) or known
            if known and known.final:
                break
        else:
            return there, commit
    if known and known.name == "commit" and not wish.by_hash:
        raise FatalError(f"{source.url} has no {wish.ref}. Name a branch, a tag or a full commit hash: --ref main")
    raise FatalError(causes.message(source, known, failures))


def _begun(there: Clone, source: Source, wish: _Wish) -> Source:
    """Begin a repository; the source with the address that the user's git takes."""
    there.git("init", "--quiet", "--template=")
    info = there.path / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text(_ATTRIBUTES)
    there.git("remote", "add", "origin", source.url)
    if wish.patterns:
        there.git("sparse-checkout", "set", "--no-cone", *wish.patterns)
    return replace(source, address=shown(there.git("remote", "get-url", "origin")))


def _line(there: Clone, source: Source, trace: Path, wish: _Wish) -> _Line:
    scheme = urlsplit(source.address).scheme
    if scheme in _PLAIN:
        checked = "the commit is checked by its hash" if wish.by_hash else "what it says cannot be checked"
        _warn(f"warning: {scheme}://{urlsplit(source.address).netloc} is not encrypted: {checked}")
    slow = {name: _setting(there, source.address, name) for name in _SLOW}
    limits = {name: default if slow[name] is None else slow[name] for name, default in _SLOW.items()}
    mine = {name: str(default) for name, default in _SLOW.items() if slow[name] is None}
    patience = float(limits["http.lowSpeedTime"] or 0) if limits["http.lowSpeedLimit"] else 0.0
    hear = Waiting(f"{'cloning' if wish.patterns else 'asking'} {source.address}", patience)
    protocols = ":".join([_PROTOCOLS, *([scheme] if scheme in _PLAIN else [])])
    return _Line(there, source, Contact(protocols, mine, trace, hear))


def _setting(there: Clone, address: str, name: str) -> int | None:
    """A number of the user's own; None if there is none, or git will say that it is none."""
    variable = "GIT_HTTP_LOW_SPEED_" + name.removeprefix("http.lowSpeed").upper()
    if (told := os.environ.get(variable, "")).isdecimal():
        return int(told)
    asked = ["--get-urlmatch", name, address] if "://" in address else ["--get", name]
    try:
        return int(there.git("config", "--type=int", *asked))
    except GitError:
        return None


@functools.cache
def _warn(line: str) -> None:
    """Say it once."""
    say(line)


def _by_name(line: _Line, wish: _Wish) -> str:
    """Fetch the commit without its blobs, then those that are wanted, all by their names."""
    there, ask = line.clone, _asking(line)
    ask("--depth=1", "--filter=blob:none", "--", "origin", wish.ref)
    commit = _commit(there, wish)
    objects = there.git("rev-list", "--objects", "--missing=print", commit).splitlines()
    missing = {row[1:] for row in objects if row.startswith("?")}
    names = sorted({blob for path, blob in there.tree(commit).items() if wish.wanted(path)} & missing)
    for start in range(0, len(names), _MOST_NAMES):
        ask("--filter=blob:none", "--", "origin", *names[start : start + _MOST_NAMES])
    return commit


def _by_branches(line: _Line, wish: _Wish) -> str:
    """Fetch a ref, or all branches and tags, with all that they hold, and look for the commit there."""
    all_refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    _asking(line)("--", "origin", *(all_refs if wish.by_hash else [wish.ref]))
    return _commit(line.clone, wish)


def _commit(there: Clone, wish: _Wish) -> str:
    """The commit that was fetched. Raises GitError if it was not."""
    if not wish.by_hash:
        return there.git("rev-parse", "--verify", "FETCH_HEAD^{commit}")
    there.git("cat-file", "-e", f"{wish.ref}^{{commit}}")
    return wish.ref


def _asking(line: _Line) -> Callable[..., None]:
    options = ("--progress", "--no-tags", "--no-recurse-submodules")
    return functools.partial(line.clone.ask, line.contact, "fetch", *options)


@contextlib.contextmanager
def _space(source: Source) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise FatalError(causes.message(source, causes.full(source), [str(error)])) from error
