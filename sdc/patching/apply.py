"""Apply a method's patch to its clone, take it out, and prove what is there: by hashes, never by a marker file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdc.adapters.base import Adapter
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.files import sha256
from sdc.patching import additive, shipped, vendor
from sdc.patching.clones import State, clone_path, locked, script_path, status, usable
from sdc.patching.fetching import clone
from sdc.patching.git import Clone, GitError
from sdc.patching.proof import Proof, breaches


@dataclass(frozen=True)
class Change:
    """What `apply` or `revert` did: the state before and after, and the lines put in or taken out."""

    method: str
    before: State
    after: State
    diff: str
    vendored: bool = False
    """Whether a copy of the plugin lies beside the script now."""


def apply(adapter: Adapter, *, vendored: bool = False) -> Change:
    """Clone and pin the upstream if it is absent, and patch its script if it is pristine. Again: no change.

    With `vendored` a copy of the plugin is put beside the script.
    """
    patch = shipped.checked(adapter.patch)
    with locked(adapter):
        before = usable(adapter)
        if before.state == "absent":
            clone(adapter.upstream.url, adapter.upstream.commit, adapter.upstream.files, clone_path(adapter))
            usable(adapter)
        if before.state != "patched":
            _change(adapter, patch, "patched")
        if vendored:
            vendor.put(script_path(adapter).parent)
        diff = "" if before.state == "patched" else shipped.body(adapter.patch, "+")
        return Change(adapter.method, before.state, "patched", diff, before.vendored or vendored)


def revert(adapter: Adapter) -> Change:
    """Take the patch out again, and the plugin's copy; every file then equals its blob at the pin."""
    patch = shipped.checked(adapter.patch)
    with locked(adapter):
        before = usable(adapter)
        after, diff = before.state, ""
        if before.state == "patched":
            _change(adapter, patch, "pristine", reverse=True)
            after, diff = "pristine", shipped.body(adapter.patch, "-")
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
        failures.append(shipped.changed(path, patch.sha256, actual))
    files: tuple[str, ...] = ()
    added = removed = total = 0
    functions: tuple[str, ...] = ()
    if found.state == "patched":
        counted = Clone(found.path).git("diff", "--no-ext-diff", "--no-textconv", "--numstat", "HEAD")
        numbers = [line.split("\t") for line in counted.splitlines()]
        files = tuple(name for _, _, name in numbers)
        added, removed = sum(int(n) for n, _, _ in numbers), sum(int(n) for _, n, _ in numbers)
        script = script_path(adapter).read_bytes()
        total, functions = additive.count(script), additive.functions(script, shipped.lines(patch))
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
