"""A method's clone of its upstream: where it is, what it is, and that it stays what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from sdc.adapters.base import Adapter
from sdc.ground import paths, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import made
from sdc.patching import vendor
from sdc.patching.causes import broken_git
from sdc.patching.fetching import clone, selected, sweep_clones
from sdc.patching.git import Clone, GitError, blob_hash

_OLD = "not the plugin's copy of this version. If it is an older copy, take it away, then: sdc apply METHOD --vendor"
State = Literal["absent", "pristine", "patched", "drifted"]


@dataclass(frozen=True)
class Status:
    """What a method's clone is, found on the disk; `problems` says where and how it drifted."""

    method: str
    state: State
    commit: str
    upstream: str
    path: Path
    problems: tuple[str, ...] = ()
    vendored: bool = False
    """Whether a copy of the plugin lies beside the script."""
    edited: bool = False
    """Whether a script of the user's own has other changes, too."""
    by_hand: bool = False
    """Whether the lines are in it as nobody but a person, or a formatter, writes them."""
    notes: tuple[str, ...] = ()
    """What is worth knowing, and is no drift."""


def clone_path(adapter: Adapter) -> Path:
    """Where the method's clone lives. One a method: DC and DSA share a script, and reverting one keeps the other."""
    return paths.upstream() / adapter.method


def script_path(adapter: Adapter) -> Path:
    """The script that a run starts."""
    return clone_path(adapter) / adapter.patch.script


def status(adapter: Adapter) -> Status:
    """Look at the method's clone: every file the pin has, byte by byte, and Python files it does not have."""
    sweep_clones()
    path, pin = clone_path(adapter), adapter.upstream.commit

    def found(state: State, *problems: str) -> Status:
        vendored = vendor.state(script_path(adapter).parent) == "ours"
        return Status(adapter.method, state, pin, adapter.upstream.url, path, problems, vendored)

    if not path.exists():
        return found("absent")
    target = Clone(path)
    try:
        head, tree = target.head(), target.tree()
    except GitError as error:
        if broken := broken_git(str(error), path):
            raise FatalError(broken) from error
        return found("drifted", f"{path} is no usable git repository: {error}")
    if head != pin:
        return found("drifted", f"{path}: at commit {head}, expected {pin}")
    wanted = {name: blob for name, blob in tree.items() if selected(name, adapter.upstream.files)}
    script, problems = adapter.patch.script, []
    for name, blob in wanted.items():
        allowed = {blob, adapter.patch.after} if name == script else {blob}
        if (actual := hash_of(path / name)) not in allowed:
            problems.append(f"{path / name}: expected {' or '.join(sorted(allowed))}, found {actual}")
    copy = (Path(script).parent / vendor.COPY).as_posix()
    problems += [
        f"{path / name}: {_OLD if name == copy else 'a Python file that the pin does not have'}"
        for name in strangers(path, tree)
        if name != copy or vendor.state(script_path(adapter).parent) != "ours"
    ]
    if problems or wanted.get(script) != adapter.patch.before:
        return found("drifted", *(problems or [f"{path}: the pin's {script} is not {adapter.patch.before}"]))
    return found("patched" if hash_of(path / script) == adapter.patch.after else "pristine")


def statuses(adapters: Iterable[Adapter]) -> list[Status]:
    """The same for several, side by side: most of the time goes into waiting for git."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(status, adapters))


def present(adapter: Adapter) -> None:
    """Clone and pin the upstream if it is absent; a clone that is there, patched or not, stays as it is."""
    if usable(adapter).state != "absent":
        return  # without a lock, which takes the right to write
    with locked(adapter):
        present_and_locked(adapter)


def present_and_locked(adapter: Adapter) -> Status:
    """The same within `locked`; the status before."""
    before = usable(adapter)
    if before.state == "absent":
        clone(adapter.upstream.url, adapter.upstream.commit, adapter.upstream.files, clone_path(adapter))
        usable(adapter)
    return before


def unchanged(adapter: Adapter) -> None:
    """Refuse to go on with a clone that is not patched any more, or has drifted, since a run began."""
    if (found := usable(adapter)).state != "patched":
        raise FatalError(
            f"the clone of {adapter.method} was changed while a run used it: {found.path} is {found.state}. "
            f"What is done is kept. Run: sdc apply {adapter.method}, then the same command again"
        )


def pinned_script(adapter: Adapter) -> bytes:
    """The script as the pin has it, whatever was done to the clone's files. The clone must be there."""
    content = Clone(clone_path(adapter)).blob(adapter.patch.before)
    if (actual := blob_hash(content)) != adapter.patch.before:
        raise FatalError(f"{clone_path(adapter)}: git gives blob {actual} for {adapter.patch.before}")
    return content


def usable(adapter: Adapter) -> Status:
    """The clone's status, refusing a drifted one."""
    found = status(adapter)
    if found.state == "drifted":
        listed = "\n".join(f"  {problem}" for problem in found.problems)
        raise FatalError(
            f"the clone of {adapter.method} is not as it was left, so it is not touched:\n{listed}\n"
            f"Keep what you need of it, then: rm -rf {found.path} && sdc apply {adapter.method}"
        )
    return found


def hash_of(path: Path) -> str:
    """The git blob hash of a file on the disk; `nothing` for a link or what is no file."""
    return blob_hash(path.read_bytes()) if path.is_file() and not path.is_symlink() else "nothing"


def strangers(path: Path, tree: dict[str, str]) -> list[str]:
    """Python files that the pin does not have: such a file could stand in for a module the script imports."""
    found = (file.relative_to(path).as_posix() for file in sorted(path.rglob("*.py")) if ".git" not in file.parts)
    return [name for name in found if name not in tree]


@contextlib.contextmanager
def locked(adapter: Adapter) -> Iterator[None]:
    """One process at a time changes a method's clone. Raises FatalError where nothing can be written."""
    path = clone_path(adapter)
    with storage.at(path.parent), FileLock(made(path.parent) / f".{path.name}.lock"):
        yield
