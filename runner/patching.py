"""Apply a method's patch to its clone, take it out, and prove what is there: by hashes, never by a marker file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from filelock import FileLock

from adapters.base import Adapter, Patch
from runner import additive, paths, vendor
from runner.errors import FatalError
from runner.files import sha256
from runner.git import Clone, GitError, blob_hash, clone
from runner.proof import Proof, breaches

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


@dataclass(frozen=True)
class Change:
    """What `apply` or `revert` did: the state before and after, and the lines put in or taken out."""

    method: str
    before: State
    after: State
    diff: str
    vendored: bool = False
    """Whether a copy of the plugin lies beside the script now."""


def clone_path(adapter: Adapter) -> Path:
    """Where the method's clone lives. One a method: DC and DSA share a script, and reverting one keeps the other."""
    return paths.upstream() / adapter.method


def script_path(adapter: Adapter) -> Path:
    """The script that a run starts."""
    return clone_path(adapter) / adapter.patch.script


def status(adapter: Adapter) -> Status:
    """Look at the method's clone: every file the pin has, byte by byte, and Python files it does not have."""
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
        return found("drifted", f"{path} is no usable git repository: {error}")
    if head != pin:
        return found("drifted", f"{path}: at commit {head}, expected {pin}")
    wanted = {name: blob for name, blob in tree.items() if selected(name, adapter.upstream.files)}
    script, problems = adapter.patch.script, []
    for name, blob in wanted.items():
        allowed = {blob, adapter.patch.after} if name == script else {blob}
        if (actual := hash_of(path / name)) not in allowed:
            problems.append(f"{path / name}: expected {' or '.join(sorted(allowed))}, found {actual}")
    copies = {(Path(script).parent / name).as_posix(): content for name, content in vendor.copies().items()}
    problems += [
        f"{path / name}: a Python file that the pin does not have"
        for name in strangers(path, tree)
        if (path / name).read_bytes() != copies.get(name)
    ]
    if problems or wanted.get(script) != adapter.patch.before:
        return found("drifted", *(problems or [f"{path}: the pin's {script} is not {adapter.patch.before}"]))
    return found("patched" if hash_of(path / script) == adapter.patch.after else "pristine")


def apply(adapter: Adapter, *, vendored: bool = False) -> Change:
    """Clone and pin the upstream if it is absent, and patch its script if it is pristine. Again: no change.

    With `vendored` a copy of the plugin is put beside the script.
    """
    patch = checked_patch(adapter.patch)
    with _locked(adapter):
        before = _usable(adapter)
        if before.state == "absent":
            clone(adapter.upstream.url, adapter.upstream.commit, adapter.upstream.files, clone_path(adapter))
            _usable(adapter)
        if before.state != "patched":
            _change(adapter, patch, "patched")
        if vendored:
            vendor.put(script_path(adapter).parent)
        diff = "" if before.state == "patched" else body(adapter.patch, "+")
        return Change(adapter.method, before.state, "patched", diff, before.vendored or vendored)


def present(adapter: Adapter) -> None:
    """Clone and pin the upstream if it is absent; a clone that is there, patched or not, stays as it is."""
    with _locked(adapter):
        if _usable(adapter).state == "absent":
            clone(adapter.upstream.url, adapter.upstream.commit, adapter.upstream.files, clone_path(adapter))
            _usable(adapter)


def unchanged(adapter: Adapter) -> None:
    """Refuse to go on with a clone that is not patched any more, or has drifted, since a run began."""
    with _locked(adapter):
        if (found := _usable(adapter)).state != "patched":
            raise FatalError(
                f"the clone of {adapter.method} was changed while a run used it: {found.path} is {found.state}. "
                f"What is done is kept. Run: sdc apply {adapter.method}, then the same command again"
            )


def revert(adapter: Adapter) -> Change:
    """Take the patch out again, and the plugin's copy; every file then equals its blob at the pin."""
    patch = checked_patch(adapter.patch)
    with _locked(adapter):
        before = _usable(adapter)
        after, diff = before.state, ""
        if before.state == "patched":
            _change(adapter, patch, "pristine", reverse=True)
            after, diff = "pristine", body(adapter.patch, "-")
        vendor.take(script_path(adapter).parent)
        return Change(adapter.method, before.state, after, diff)


def verify(adapter: Adapter) -> Proof:
    """Check every textual claim about the patch against the clone, by counting and hashing what is on the disk."""
    patch, path = adapter.patch, paths.PATCHES / adapter.patch.file
    found = status(adapter)
    failures = list(found.problems)
    if found.state in ("absent", "pristine"):
        failures.append(f"not applied: the clone is {found.state}. Run: sdc apply {adapter.method}")
    if (actual := sha256(path)) != patch.sha256:
        failures.append(_changed_patch(path, patch.sha256, actual))
    files: tuple[str, ...] = ()
    added = removed = total = 0
    functions: tuple[str, ...] = ()
    if found.state == "patched":
        counted = Clone(found.path).git("diff", "--no-ext-diff", "--no-textconv", "--numstat", "HEAD")
        numbers = [line.split("\t") for line in counted.splitlines()]
        files = tuple(name for _, _, name in numbers)
        added, removed = sum(int(n) for n, _, _ in numbers), sum(int(n) for _, n, _ in numbers)
        script = script_path(adapter).read_bytes()
        total, functions = additive.count(script), additive.functions(script, added_lines(patch))
        failures += breaches(files, added, removed)
    return Proof(
        method=adapter.method,
        files=files,
        added=added,
        removed=removed,
        total=total,
        functions=functions,
        patch_sha256=actual,
        before=patch.before,
        after=patch.after,
        vendored=found.vendored,
        failures=tuple(failures),
    )


def pinned_script(adapter: Adapter) -> bytes:
    """The script as the pin has it, whatever was done to the clone's files. The clone must be there."""
    content = Clone(clone_path(adapter)).blob(adapter.patch.before)
    if (actual := blob_hash(content)) != adapter.patch.before:
        raise FatalError(f"{clone_path(adapter)}: git gives blob {actual} for {adapter.patch.before}")
    return content


def added_lines(patch: Patch) -> tuple[additive.Line, ...]:
    """The lines that a patch adds."""
    return additive.read((paths.PATCHES / patch.file).read_bytes())


def checked_patch(patch: Patch) -> Path:
    """The patch file, once its bytes are the ones the adapter names."""
    path = paths.PATCHES / patch.file
    if not path.is_file():
        raise FatalError(f"{path} is missing. Restore it: git -C {path.parent} checkout -- {path.name}")
    if (actual := sha256(path)) != patch.sha256:
        raise FatalError(_changed_patch(path, patch.sha256, actual))
    return path


def _changed_patch(path: Path, expected: str, actual: str) -> str:
    return (
        f"{path} was changed: expected sha256 {expected}, found {actual}. "
        f"Restore it: git -C {path.parent} checkout -- {path.name}"
    )


def _usable(adapter: Adapter) -> Status:
    """The clone's status, refusing a drifted one."""
    found = status(adapter)
    if found.state == "drifted":
        listed = "\n".join(f"  {problem}" for problem in found.problems)
        raise FatalError(
            f"the clone of {adapter.method} is not as it was left, so it is not touched:\n{listed}\n"
            f"Keep what you need of it, then: rm -rf {found.path} && sdc apply {adapter.method}"
        )
    return found


def _change(adapter: Adapter, patch: Path, wanted: State, *, reverse: bool = False) -> None:
    """Apply the patch, or put the script back as it was if the outcome is not the one the hashes promise."""
    script = script_path(adapter)
    content = script.read_bytes()
    try:
        Clone(clone_path(adapter)).apply(patch, reverse=reverse)
    except GitError as error:
        raise FatalError(f"{patch} does not apply to {script}:\n{error}") from error
    outcome = status(adapter).state
    if outcome != wanted:
        script.write_bytes(content)
        raise FatalError(f"{patch} would leave {script} {outcome}, not {wanted}; it was put back as it was")


def body(patch: Patch, sign: str) -> str:
    """The lines a patch adds, each behind `sign`, under the script's name."""
    added = (line.text.decode().strip() for line in added_lines(patch))
    return "\n".join([patch.script, *(f"{sign} {line}" for line in added)])


def selected(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file is one that an upstream's sparse-checkout patterns name."""
    return any(fnmatch(name if "/" in pattern else Path(name).name, pattern) for pattern in patterns)


def hash_of(path: Path) -> str:
    """The git blob hash of a file on the disk; `nothing` for a link or what is no file."""
    return blob_hash(path.read_bytes()) if path.is_file() and not path.is_symlink() else "nothing"


def strangers(path: Path, tree: dict[str, str]) -> list[str]:
    """Python files that the pin does not have: such a file could stand in for a module the script imports."""
    found = (file.relative_to(path).as_posix() for file in sorted(path.rglob("*.py")) if ".git" not in file.parts)
    return [name for name in found if name not in tree]


@contextlib.contextmanager
def _locked(adapter: Adapter) -> Iterator[None]:
    """One process at a time works on a method's clone."""
    path = clone_path(adapter)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield
