"""Apply a method's patch to its clone, take it out, and prove what is there: by hashes, never by a marker file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdc.adapters.base import Adapter
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.files import rewrite, sha256, sweep
from sdc.patching import additive, shipped, vendor
from sdc.patching.clones import State, Status, locked, present_and_locked, script_path, status, usable
from sdc.patching.git import Clone, blob_hash
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
    placed: str = ""
    """How the places of lines were found in a script of the user's own: by `merge` or by `syntax`."""
    by_hand: bool = False
    """Whether the lines were there as nobody but a person, or a formatter, writes them."""
    notes: tuple[str, ...] = ()


def apply(adapter: Adapter, *, vendored: bool = False) -> Change:
    """Clone and pin the upstream if it is absent, and patch its script if it is pristine. Again: no change.

    With `vendored` a copy of the plugin is put beside the script. Where nothing is to do, nothing is written.
    """
    patch = shipped.checked(adapter.patch)
    before = _looked_at(adapter)
    if before.state == "patched" and (before.vendored or not vendored):
        return Change(adapter.method, "patched", "patched", "", before.vendored)
    with locked(adapter):
        before = present_and_locked(adapter)
        if before.state != "patched":
            _change(adapter, patch, "patched")
        if vendored:
            vendor.put(script_path(adapter).parent)
        diff = "" if before.state == "patched" else shipped.body(adapter.patch, "+")
        return Change(adapter.method, before.state, "patched", diff, before.vendored or vendored)


def revert(adapter: Adapter) -> Change:
    """Take the patch out again, and the plugin's copy; every file then equals its blob at the pin."""
    patch = shipped.checked(adapter.patch)
    before = _looked_at(adapter)
    if before.state != "patched" and not before.vendored:
        return Change(adapter.method, before.state, before.state, "")
    with locked(adapter):
        before = usable(adapter)
        after, diff = before.state, ""
        if before.state == "patched":
            _change(adapter, patch, "pristine")
            after, diff = "pristine", shipped.body(adapter.patch, "-")
        vendor.take(script_path(adapter).parent)
        return Change(adapter.method, before.state, after, diff)


def _looked_at(adapter: Adapter) -> Status:
    """The clone's status, without a lock, which takes the right to write; what was left half made there is gone."""
    sweep(script_path(adapter).parent)
    return usable(adapter)


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
        plain = ("--no-ext-diff", "--no-textconv", "--numstat", "HEAD")
        counted = Clone(found.path).git("--no-optional-locks", "diff", *plain)  # which writes no index
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


def _change(adapter: Adapter, patch: Path, wanted: State) -> None:
    """Write the script with our lines, or without, once its hash is the one that was promised; whole or not at all."""
    script, lines = script_path(adapter), shipped.lines(adapter.patch)
    content = script.read_bytes()
    if wanted == "patched":
        made, promised = additive.put_in(content, lines), adapter.patch.after
    else:
        made, promised = additive.taken_out(content, lines), adapter.patch.before
    if (actual := blob_hash(made)) != promised:
        raise FatalError(f"{patch} would make {actual} of {script}, not {promised}, so nothing was changed")
    rewrite(script, made, content)
