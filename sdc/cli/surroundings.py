"""What `sdc doctor` looks at around the process: git, the network's variables, folders, clones, Slurm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sdc.adapters.registry import ADAPTERS
from sdc.cli.finding import Finding
from sdc.cli.machine import GIB
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.patching import clones
from sdc.patching import git as git_program
from sdc.plan import needs

_FROM = "https://github.com/"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SLURM = ("sbatch", "squeue", "scancel")
_INSTALL = "install it, for example: apt-get install git"
_LEAST = 5 * GIB
_MOST_FILES = 20_000
"""So many are looked at to know the size of a folder: a page must not take minutes."""


def git() -> Iterator[Finding]:
    """The program, and what it takes instead of GitHub. Proxies by their names alone: their values hold passwords."""
    try:
        yield Finding("git", "version", git_program.version())
        yield Finding("git", "mirrors", ", ".join(git_program.mirrors(_FROM)) or f"none of {_FROM}")
    except FatalError as error:
        there = shutil.which("git")
        value = f"{there}: {error}" if there else "git was not found: upstreams cannot be cloned or checked"
        yield Finding("git", "version", value, "wrong", "mend what git names, then: git version" if there else _INSTALL)
    names = [name for word in _PROXIES for name in (word, word.upper()) if os.environ.get(name)]
    yield Finding("git", "proxies", ", ".join(names) or "none set")


@dataclass(frozen=True)
class Place:
    """A folder that is written to: what it is called, where it is, how to have another."""

    name: str
    find: Callable[[], Path]
    elsewhere: str


def _runs() -> Path:
    return Path("runs").absolute()


PLACES = (
    Place("cache", paths.cache, "export SDC_CACHE=/another/folder"),
    Place("upstream", paths.upstream, "export SDC_UPSTREAM=/another/folder"),
    Place("runs", _runs, "give commands --runs /another/folder"),
)


def folders() -> Iterator[Finding]:
    """Whether each folder can be written to, how much more fits there, and what fills the cache."""
    for place in PLACES:
        yield _folder(place)
    kinds = (paths.data(), paths.experts(), paths.judges(), paths.whitening())
    yield Finding("folders", "in the cache", ", ".join(f"{kind.name} {size(kind)}" for kind in kinds))


def _folder(place: Place) -> Finding:
    path = None
    try:
        path = place.find()
        return _looked_at(place, path)
    except (OSError, RuntimeError) as error:  # the latter: a ~user that is none
        value = f"{path or place.name}: not writable: {error}"
        return Finding("folders", place.name, value, "wrong", place.elsewhere)


def _looked_at(place: Place, path: Path) -> Finding:
    """The finding on `path`; raises OSError if it cannot be written to, or made."""
    there = next(folder for folder in (path, *path.parents) if folder.exists() or folder.is_symlink())
    if not there.is_dir():
        remedy = f"{f'mv {path} {path}.old, or ' if there == path else ''}{place.elsewhere}"
        return Finding("folders", place.name, f"{path}: {there} is no folder", "wrong", remedy)
    with tempfile.TemporaryFile(dir=there):
        free = shutil.disk_usage(there).free
    value = f"{path}: {'writable' if there == path else 'not there yet, can be made'}, {free / GIB:.1f} GiB free"
    if free < _LEAST:
        return Finding("folders", place.name, value, "wrong", f"free some space, or {place.elsewhere}")
    return Finding("folders", place.name, value)


def size(folder: Path) -> str:
    """How much a folder's files hold, in words: a lower bound where they are very many."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    sizes = [_bytes(file) for file in islice(files, _MOST_FILES)]
    return f"{'over ' if len(sizes) == _MOST_FILES else ''}{sum(sizes) / GIB:.2f} GiB"


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # gone since: somebody works there
        return 0


def methods() -> Iterator[Finding]:
    """Which methods are applied, and which clones are not as they were left."""
    try:
        found = clones.statuses(ADAPTERS.values())
    except FatalError as error:
        yield Finding("methods", "state", f"not known: {error}", "note", "see git above, then: sdc status")
        return
    for state in ("patched", "pristine", "absent"):
        if names := [each.method for each in found if each.state == state]:
            yield Finding("methods", state, ", ".join(names))
    for method, adapter in ADAPTERS.items():
        if said := needs.told([adapter]):
            value, _, remedy = said.partition(". Install what is lacking: ")
            yield Finding("methods", method, value, "note", remedy)
    for each in found:
        if each.state == "drifted":
            value = f"drifted: {'; '.join(each.problems)}"
            remedy = f"keep what you need of it, then: rm -rf {each.path} && sdc apply {each.method}"
            yield Finding("methods", each.method, value, "wrong", remedy)


def slurm() -> Iterator[Finding]:
    """Whether a benchmark can hand its cells to Slurm."""
    lacking = [name for name in _SLURM if not shutil.which(name)]
    if lacking and len(lacking) < len(_SLURM):
        value, remedy = f"{', '.join(lacking)} not on PATH", "add the folder of Slurm's commands to PATH"
        yield Finding("slurm", "commands", value, "note", remedy)
    else:
        told = "none on PATH: sdc bench works on this machine alone" if lacking else f"{', '.join(_SLURM)} on PATH"
        yield Finding("slurm", "commands", told)
