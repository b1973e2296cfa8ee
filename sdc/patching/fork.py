"""Patches for people's own code: a clone, a fork or a download of an upstream, whose script may have other changes.

What we add is carried over by a three-way merge from the pinned script, and where the script is written differently, by
its syntax tree. Only lines are put in or taken out: every other byte of the file, its line ends and its mode stay.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sdc.adapters.base import Adapter
from sdc.ground.errors import FatalError
from sdc.ground.files import rewrite
from sdc.patching import additive, anchors, carrying, clash, clones, download_of_pin, git, other_files, shipped, vendor
from sdc.patching.additive import Line, with_line_feeds
from sdc.patching.anchors import Ours
from sdc.patching.apply import Change
from sdc.patching.carrying import Carried, Look
from sdc.patching.clones import State, Status
from sdc.patching.other_files import Other
from sdc.patching.proof import Proof


@dataclass(frozen=True)
class _Script:
    """A user's script: as it is, with \\n alone, the pin's to the byte, and what it has of the lines that we add."""

    path: Path
    tree: Path
    name: str
    content: bytes
    text: bytes
    pinned: bytes
    known: Ours
    look: Look
    others: tuple[Other, ...] = ()
    """Other files that have lines of ours."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What of its lines of ours is not as it is to be, or what else answers to the name that they import."""
        hidden = clash.found(self.path, self.tree) if self.look.state == "patched" else ""
        return (*((hidden,) if hidden else ()), *(f"{self.path}: {problem}" for problem in self.look.problems))

    @property
    def without(self) -> bytes:
        """It without our lines, to the byte, as far as they can be told."""
        return additive.taken_out(self.content, self.look.out.lines or ())

    def notes(self) -> tuple[str, ...]:
        """What of it is worth knowing, and is no fault of the patch's lines."""
        if not self.look.unreadable or self.look.state == "drifted":
            return ()
        return (f"{self.path}: {self.look.unreadable}",)


def status(adapter: Adapter, folder: Path, script: str = "") -> Status:
    """Look at the method's script in a folder of the user's own; `script`: what it is called there, if renamed."""
    found = _look(adapter, folder, script)
    problems = found.problems
    return Status(
        method=adapter.method,
        state="drifted" if problems else found.look.state,
        commit=adapter.upstream.commit,
        upstream=adapter.upstream.url,
        path=folder,
        problems=problems,
        vendored=vendor.state(found.path.parent) == "ours",
        edited=with_line_feeds(found.without) != found.known.pinned,
        by_hand=found.look.by_hand,
        notes=(*found.notes(), *download_of_pin.differences(adapter, folder, found.path)),
    )


def apply(
    adapter: Adapter, folder: Path, *, uncommitted: bool = False, vendored: bool = False, script: str = ""
) -> Change:
    """Bring the patch's lines into the user's script; again: no change. Where one has no place, nothing is changed."""
    found = _look(adapter, folder, script)
    clash.check(found.path, folder)
    diff = ""
    if found.look.state != "patched":
        lines = _allowed(adapter, found, found.look.into, "is not applied", script)
        _refuse_uncommitted(found, uncommitted=uncommitted)
        content = additive.put_in(found.content, lines)
        diff = _shown(found.name, content, lines) if found.look.into.way == "syntax" else _body(found.name, lines, "+")
        rewrite(found.path, content, found.content)
    if vendored:
        vendor.put(found.path.parent)
    there = vendor.state(found.path.parent) == "ours"
    placed = found.look.into.way if diff else ""
    return Change(
        adapter.method,
        found.look.state,
        "patched",
        diff,
        there,
        placed,
        by_hand=found.look.by_hand,
        notes=found.notes(),
    )


def revert(adapter: Adapter, folder: Path, *, uncommitted: bool = False, script: str = "") -> Change:
    """Take our lines out of the user's script again, and the plugin's copy."""
    found = _look(adapter, folder, script)
    diff = ""
    if found.look.state != "pristine":
        lines = _allowed(adapter, found, found.look.out, "is not taken out", script)
        if problems := [problem for other in found.others for problem in other.problems if "holds more" in problem]:
            raise FatalError("\n".join(["nothing was changed:", *problems]))
        _refuse_uncommitted(found, uncommitted=uncommitted)
        for other in found.others:
            rewrite(other.path, other.without, other.content)
        rewrite(found.path, additive.taken_out(found.content, lines), found.content)
        diff = "\n".join([_body(each.name, each.lines, "-") for each in found.others] + [_body(found.name, lines, "-")])
    vendor.take(found.path.parent)
    there = vendor.state(found.path.parent) == "ours"
    return Change(adapter.method, found.look.state, "pristine", diff, there, notes=found.notes())


def verify(adapter: Adapter, folder: Path, script: str = "") -> Proof:
    """Check that the patch's lines are in the user's script, each once, and count what they change there."""
    found = _look(adapter, folder, script)
    failures = list(found.problems)
    if found.look.state == "pristine":
        failures.append(f"not applied: {found.path}. Run: {_command('apply', adapter, folder, script)}")
    lines = (found.look.out.lines or ()) if found.look.state == "patched" else ()
    others = found.others if found.look.state == "patched" else ()
    if found.look.state == "patched" and not lines:
        failures += [f"{found.path}: {problem}" for problem in found.look.out.problems]
    if lines and not found.look.by_hand and _texts(lines) != _texts(shipped.lines(adapter.patch)):
        failures.append(f"{found.path}: the lines that it has more than without the patch are not the patch's")
    return Proof(
        method=adapter.method,
        files=(*((found.name,) if lines else ()), *(other.name for other in others)),
        added=len(lines) + sum(len(other.lines) for other in others),
        removed=0,
        total=additive.count(found.text),
        functions=additive.functions(found.text, lines),
        patch_sha256=adapter.patch.sha256,
        before=git.blob_hash(found.without),
        after=git.blob_hash(found.content),
        vendored=vendor.state(found.path.parent) == "ours",
        failures=tuple(failures),
        by_hand=found.look.by_hand,
    )


def originals(adapter: Adapter, folder: Path, script: str = "") -> dict[str, bytes]:
    """The user's patched script without our lines, to the byte, and other files that have some, by their paths."""
    found = _look(adapter, folder, script)
    return {found.name: found.without} | {other.name: other.without for other in found.others}


def _look(adapter: Adapter, folder: Path, script: str) -> _Script:
    shipped.checked(adapter.patch)
    name = _name(script, folder) or adapter.patch.script
    path = _script(adapter, folder, name)
    clones.present(adapter)
    content, pinned = path.read_bytes(), clones.pinned_script(adapter)
    if b"\0" in content:
        raise FatalError(f"{path} is no Python script: it holds null bytes. Save it as UTF-8")
    text, known = with_line_feeds(content), anchors.ours(with_line_feeds(pinned), shipped.lines(adapter.patch))
    seen = carrying.look(text, known)
    others = other_files.found(path, folder, seen.missing) if seen.missing else ()
    if others:
        known, seen = _the_rest(text, known, others)
    return _Script(path, folder, name, content, text, pinned, known, seen, others)


def _the_rest(text: bytes, known: Ours, others: Sequence[Other]) -> tuple[Ours, Look]:
    """What a script is to have of the lines where other files have some, and what it has; all of it is by hand."""
    there = {own.line for other in others for own, _ in other.statements}
    rest = [own.line for own in known.owned if own.line not in there]
    alone = all(own.imports for own in known.owned if own.line in rest)
    known = anchors.ours(known.pinned, [] if alone else rest)
    seen = carrying.look(text, known)
    problems = (*seen.problems, *(problem for other in others for problem in other.problems))
    if seen.state == "pristine":
        lacking = ", ".join(own.text.decode() for own in seen.missing)
        problems = (f"other files have some of the patch's lines, and it lacks {lacking}", *problems)
    state: State = "patched" if seen.state == "patched" and not problems else "drifted"
    return known, replace(seen, state=state, by_hand=state == "patched", problems=problems)


def _name(script: str, folder: Path) -> str:
    """The path of a script in a folder, as git has it; empty: as the upstream calls it."""
    name = PurePosixPath(script)
    if name.is_absolute() or ".." in name.parts:
        raise FatalError(
            f"--script {script}: give the script's path within {folder}, for example --script src/distil.py"
        )
    return name.as_posix() if script else ""


def _script(adapter: Adapter, folder: Path, name: str) -> Path:
    """The script in the user's folder; one that a link leads to could lie anywhere, and is refused."""
    path = folder / name
    if not folder.is_dir():
        raise FatalError(f"--to {folder} is no folder. Give one with your clone or fork of {adapter.upstream.url}")
    below = [path, *path.parents][: len(Path(name).parts)]
    if any(part.is_symlink() for part in below):
        raise FatalError(f"{path} is, or lies behind, a link, so it is not touched. Name the folder it leads to: --to")
    if not path.is_file():
        like = download_of_pin.renamed(adapter, folder)
        whole = f"/{adapter.patch.script}"  # an archive unpacked into a folder of its own
        options = [
            f"--to {shlex.quote(str(folder / each[: -len(whole)]))}" if each.endswith(whole) else f"--script {each}"
            for each in like
        ]
        told = "".join(f"\nIt looks like {each}: {option}" for each, option in zip(like, options, strict=True))
        raise FatalError(
            f"{path} does not exist. {adapter.method} is patched in {adapter.patch.script}: "
            f"give --to a folder with a clone or fork of {adapter.upstream.url}"
            + (told or "\nIf the script has another name there: --script PATH")
        )
    return path


def _allowed(adapter: Adapter, found: _Script, carried: Carried, what: str, script: str) -> tuple[Line, ...]:
    """The lines to put in or take out. Raises FatalError where they cannot be, with what to do by hand."""
    if carried.lines is not None:
        return carried.lines
    told = [f"the patch of {adapter.method} {what}, nothing was changed:"]
    told += [f"  {found.path}: {problem}" for problem in carried.problems]
    told += [f"  {found.path}: {found.look.unreadable}"] if found.look.unreadable else []
    if carried.advice:
        told.append("Put these lines in by hand, indented as what stands around them:")
        lacks = any(own.parser for own in found.look.missing) and b".add_argument(" not in found.text
        there = other_files.command_line(found.path, found.tree) if lacks else ""
        told += [f"  the command line is read elsewhere, so its line goes into {there}"] if there else []
        told += [row for each in carried.advice for row in (f"  {each.where}:", each.text)]
        told.append(f"then: {_command('verify', adapter, found.tree, script)} --behaviour")
    else:
        told.append("Take them out by hand, or undo what was changed around them")
    raise FatalError("\n".join(told))


def _command(word: str, adapter: Adapter, folder: Path, script: str) -> str:
    named = f" --script {shlex.quote(script)}" if script else ""
    return f"sdc {word} {adapter.method} --to {shlex.quote(str(folder))}{named}"


def _texts(lines: Iterable[Line]) -> list[bytes]:
    return [line.text.rstrip() for line in lines]


def _body(name: str, lines: Sequence[Line], sign: str) -> str:
    """The lines that come or go, under the script's name."""
    return "\n".join([name, *(f"{sign} {line.text.decode(errors='replace').strip()}" for line in lines)])


def _shown(name: str, content: bytes, lines: Sequence[Line]) -> str:
    """The lines that came, with their numbers and what stands around them."""
    rows = with_line_feeds(content).decode(errors="replace").split("\n")
    ours = {line.place + number for number, line in enumerate(lines)}
    near = sorted({row + step for row in ours for step in (-2, -1, 0, 1, 2) if 0 <= row + step < len(rows)})
    out, last = [f"{name}, each after the statement that it follows in the pinned script:"], -1
    for row in near:
        out += ["     ..."] if out[1:] and row > last + 1 else []
        out.append(f"{'+' if row in ours else ' '} {row + 1:5d}  {rows[row]}".rstrip())
        last = row
    return "\n".join(out)


def _refuse_uncommitted(found: _Script, *, uncommitted: bool) -> None:
    """Refuse to write to a script with work in it that nothing could give back; our own lines are none.

    One that is the pin's to the byte needs no repository of its own: this gives it back.
    """
    if uncommitted:
        return
    for other in found.others:
        head = git.committed(other.path.resolve())
        if head is None or with_line_feeds(head) not in map(with_line_feeds, (other.content, other.without)):
            raise FatalError(
                f"{other.path} has changes that are not committed, so it is not touched. Commit them, or say that it "
                "may be changed: --uncommitted"
            )
    if found.without == found.pinned:
        return
    head = git.committed(found.path.resolve())
    if head is None:
        differs = download_of_pin.told(found.without, found.pinned)
        raise FatalError(
            f"{found.path} is in no commit, so nothing could give it back, and it is not the pin's: {differs}. "
            "Commit it, or say that it may be changed: --uncommitted"
        )
    without = with_line_feeds(head)
    if with_line_feeds(found.without) not in (without, carrying.without(without, found.known)):
        raise FatalError(
            f"{found.path} has changes that are not committed, so it is not touched. Commit them, or say that the "
            "script may be changed: --uncommitted"
        )
