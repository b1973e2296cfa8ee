"""Patches for people's own code: a clone or fork of an upstream, whose script may have changes of its own.

What we add is carried over by a three-way merge from the pinned script. Only lines are put in or taken out: every other
byte of the file, its line ends and its mode stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdc.adapters.base import Adapter
from sdc.ground.errors import FatalError
from sdc.ground.files import rewrite
from sdc.patching import additive, clash, clones, git, shipped, vendor
from sdc.patching.additive import with_line_feeds
from sdc.patching.apply import Change
from sdc.patching.clones import State, Status
from sdc.patching.git import Merged
from sdc.patching.proof import Proof


@dataclass(frozen=True)
class _Script:
    """A user's script: as it is, with what we add merged in, and with that merged out; all but `content` with \\n."""

    path: Path
    tree: Path
    content: bytes
    text: bytes
    pinned: bytes
    ours: bytes
    added: Merged
    taken: Merged

    @property
    def state(self) -> State:
        """`pristine` if it has none of our lines, `patched` if it has all, `drifted` if that cannot be said."""
        if self.added == Merged(self.text, ()):
            return "patched"
        return "pristine" if self.taken == Merged(self.text, ()) else "drifted"

    @property
    def hidden(self) -> str:
        """What else in its tree answers to the name that our lines import; empty: nothing."""
        return clash.found(self.path, self.tree)

    @property
    def original(self) -> bytes:
        """The text without our lines, as far as they can be told."""
        return self.text if self.taken.conflicts else self.taken.text

    def conflicts(self, merged: Merged) -> Iterator[str]:
        """Where a merge into it does not go, for people."""
        for first, last in merged.conflicts:
            lines = f"line {first}" if first == last else f"lines {first} to {last}"
            yield f"{self.path}: changed where the patch adds lines: {lines}"


def status(adapter: Adapter, folder: Path) -> Status:
    """Look at the method's script in a folder of the user's own."""
    found = _look(adapter, folder)
    hidden = found.hidden if found.state == "patched" else ""
    problems: tuple[str, ...] = (hidden,) if hidden else ()
    if found.state == "drifted":
        partly = f"{found.path}: some of the patch's lines are there, some are not"
        problems = tuple(found.conflicts(found.added)) or (partly,)
    return Status(
        method=adapter.method,
        state="drifted" if hidden else found.state,
        commit=adapter.upstream.commit,
        upstream=adapter.upstream.url,
        path=folder,
        problems=problems,
        vendored=vendor.state(found.path.parent) == "ours",
        edited=found.original != found.pinned,
    )


def apply(adapter: Adapter, folder: Path, *, uncommitted: bool = False, vendored: bool = False) -> Change:
    """Merge the patch into the user's script; again: no change. A conflict changes nothing."""
    found = _look(adapter, folder)
    clash.check(found.path, folder)
    diff = ""
    if found.state != "patched":
        _refuse_conflicts(adapter, found, found.added, "is not applied")
        _refuse_uncommitted(found, uncommitted=uncommitted)
        lines = additive.between(found.text, found.added.text)
        _write(found, additive.put_in(found.content, lines))
        diff = shipped.body(adapter.patch, "+")
    if vendored:
        vendor.put(found.path.parent)
    there = vendor.state(found.path.parent) == "ours"
    return Change(adapter.method, found.state, "patched", diff, there)


def revert(adapter: Adapter, folder: Path, *, uncommitted: bool = False) -> Change:
    """Take our lines out of the user's script again, and the plugin's copy."""
    found = _look(adapter, folder)
    diff = ""
    if found.state != "pristine":
        _refuse_conflicts(adapter, found, found.taken, "is not taken out")
        _refuse_uncommitted(found, uncommitted=uncommitted)
        lines = additive.between(found.taken.text, found.text)
        _write(found, additive.taken_out(found.content, lines))
        diff = shipped.body(adapter.patch, "-")
    vendor.take(found.path.parent)
    return Change(adapter.method, found.state, "pristine", diff, vendor.state(found.path.parent) == "ours")


def verify(adapter: Adapter, folder: Path) -> Proof:
    """Check that the patch's lines are in the user's script, each once, and count what they change there."""
    found = _look(adapter, folder)
    failures = list(status(adapter, folder).problems)
    if found.state == "pristine":
        failures.append(f"not applied: {found.path}. Run: sdc apply {adapter.method} --to {folder}")
    lines: tuple[additive.Line, ...] = ()
    if found.state == "patched":
        lines = additive.between(found.original, found.text)
        expected = [line.text for line in shipped.lines(adapter.patch)]
        if [line.text for line in lines] != expected:
            failures.append(f"{found.path}: the lines that it has more than without the patch are not the patch's")
    return Proof(
        method=adapter.method,
        files=(adapter.patch.script,) if lines else (),
        added=len(lines),
        removed=0,
        total=additive.count(found.text),
        functions=additive.functions(found.text, lines),
        patch_sha256=adapter.patch.sha256,
        before=git.blob_hash(additive.taken_out(found.content, lines)),
        after=git.blob_hash(found.content),
        vendored=vendor.state(found.path.parent) == "ours",
        failures=tuple(failures),
    )


def original(adapter: Adapter, folder: Path) -> bytes:
    """The user's patched script without our lines, to the byte."""
    found = _look(adapter, folder)
    return additive.taken_out(found.content, additive.between(found.original, found.text))


def _look(adapter: Adapter, folder: Path) -> _Script:
    shipped.checked(adapter.patch)
    path = _script(adapter, folder)
    clones.present(adapter)
    content, pinned = path.read_bytes(), with_line_feeds(clones.pinned_script(adapter))
    text, ours = with_line_feeds(content), additive.put_in(pinned, shipped.lines(adapter.patch))
    added, taken = git.merge(text, pinned, ours), git.merge(text, ours, pinned)
    return _Script(path, folder, content, text, pinned, ours, added, taken)


def _script(adapter: Adapter, folder: Path) -> Path:
    """The script in the user's folder; one that a link leads to could lie anywhere, and is refused."""
    path = folder / adapter.patch.script
    if not folder.is_dir():
        raise FatalError(f"--to {folder} is no folder. Give one with your clone or fork of {adapter.upstream.url}")
    below = [path, *path.parents][: len(Path(adapter.patch.script).parts)]
    if any(part.is_symlink() for part in below):
        raise FatalError(f"{path} is, or lies behind, a link, so it is not touched. Name the folder it leads to: --to")
    if not path.is_file():
        raise FatalError(
            f"{path} does not exist. {adapter.method} is patched in {adapter.patch.script}: "
            f"give --to a folder with a clone or fork of {adapter.upstream.url}"
        )
    return path


def _refuse_conflicts(adapter: Adapter, found: _Script, merged: Merged, what: str) -> None:
    if merged.conflicts:
        listed = "\n".join(f"  {place}" for place in found.conflicts(merged))
        raise FatalError(
            f"the patch of {adapter.method} {what}, nothing was changed:\n{listed}\n"
            f"See the lines it adds: sdc apply {adapter.method}, and put them in or take them out by hand"
        )


def _refuse_uncommitted(found: _Script, *, uncommitted: bool) -> None:
    """Refuse to write to a script with work in it that git could not give back; our own lines are none."""
    if uncommitted:
        return
    head = git.committed(found.path.resolve())
    if head is None:
        raise FatalError(
            f"{found.path} is in no commit, so nothing could give it back. Commit it, or say that it may be changed: "
            "--uncommitted"
        )
    without = with_line_feeds(head)
    if found.original not in (without, _out(found, without)):
        raise FatalError(
            f"{found.path} has changes that are not committed, so it is not touched. Commit them, or say that the "
            "script may be changed: --uncommitted"
        )


def _out(found: _Script, text: bytes) -> bytes:
    """A text, of a commit, without our lines."""
    merged = git.merge(text, found.ours, found.pinned)
    return text if merged.conflicts else merged.text


def _write(found: _Script, content: bytes) -> None:
    rewrite(found.path, content, found.content)
