"""What brings a patch's lines into a script that is not the pinned one, and what takes them out again.

First by a three-way merge of the texts, where the outcome is right by the syntax tree, too; else by the tree alone.
Every text here has rows that end with \\n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sdc.patching import additive, anchors, by_hand, git, syntax
from sdc.patching.additive import ChangedError, Line
from sdc.patching.anchors import Ours, Own, Place
from sdc.patching.by_hand import Seen
from sdc.patching.clones import State
from sdc.patching.git import Merged
from sdc.patching.syntax import Script, UnreadableError

Way = Literal["merge", "syntax"]


@dataclass(frozen=True)
class Advice:
    """A line to put in by hand: as it is to be written, and where, as far as that is known."""

    text: str
    where: str


@dataclass(frozen=True)
class Carried:
    """Lines to put into a text or to take out of it, how they were found; None where that failed, for these reasons."""

    lines: tuple[Line, ...] | None
    way: Way = "merge"
    problems: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True)
class Look:
    """What a text has of a patch's lines. `out` are those to take out of it; `into` those that it lacks."""

    state: State
    by_hand: bool
    out: Carried
    into: Carried
    problems: tuple[str, ...]
    unreadable: str
    """Where and why the text cannot be read as a Python script; empty: it can, or nobody asked."""
    missing: tuple[Own, ...] = ()
    """The lines that it lacks, as far as they can be told."""


def look(text: bytes, known: Ours) -> Look:
    """What a text has of the lines, and what would bring in the rest or take them out."""
    added, taken = git.merge(text, known.pinned, known.patched), git.merge(text, known.patched, known.pinned)
    script, unreadable = _read(text, known)
    seen = by_hand.seen(known, script) if script else None
    out = _out(text, taken, known, seen)
    if added == Merged(text, ()):
        return Look("patched", False, out, Carried(()), (), unreadable)
    if seen and seen.complete:
        return Look("patched", True, out, Carried(()), (), unreadable)
    into = _into(text, added, known, script, seen)
    if seen is None or script is None:
        state: State = "pristine" if taken == Merged(text, ()) else "drifted"
    else:
        state = "pristine" if not seen.statements and into.lines is not None else "drifted"
    problems = () if state == "pristine" else _drift(added, into, seen, unreadable)
    return Look(state, False, out, into, problems, unreadable, seen.missing if seen else ())


def without(text: bytes, known: Ours) -> bytes:
    """A text without the lines, as far as they can be told."""
    taken = git.merge(text, known.patched, known.pinned)
    script, _ = _read(text, known)
    out = _out(text, taken, known, by_hand.seen(known, script) if script else None)
    return additive.taken_out(text, out.lines) if out.lines else text


def _read(text: bytes, known: Ours) -> tuple[Script | None, str]:
    try:
        return (syntax.read(text) if known.owned else None), ""
    except UnreadableError as error:
        return None, str(error)


def _out(text: bytes, taken: Merged, known: Ours, seen: Seen | None) -> Carried:
    """What takes the lines out: as the merge does, where that leaves none, else every row of theirs."""
    if not taken.conflicts:
        lines = _more(taken.text, text)
        left = _again(taken.text, known) if lines is not None and seen else None
        if lines is not None and (seen is None or (left and not left.statements)):
            return Carried(lines)
    if seen is None:
        return Carried(None, problems=tuple(conflicts(taken)))
    if not seen.statements:
        return Carried((), "syntax") if not taken.conflicts else Carried(None, "syntax", tuple(conflicts(taken)))
    if problems := list(by_hand.bound_together(seen.statements)):
        return Carried(None, "syntax", tuple(problems))
    lines = _rows(text, by_hand.rows(seen.statements))
    if _again(additive.taken_out(text, lines), known) is None:
        first = seen.statements[0].line
        return Carried(
            None, "syntax", (f"{first}: a block would be left empty, or broken, without what the patch adds",)
        )
    return Carried(lines, "syntax")


def _into(text: bytes, added: Merged, known: Ours, script: Script | None, seen: Seen | None) -> Carried:
    """What brings in the lines that a text lacks: as the merge does, where that is right, else by their places."""
    merged = None if added.conflicts else _more(text, added.text)
    if script is None or seen is None:
        return Carried(merged) if merged is not None else _by_hand(known.owned, known, {}, tuple(conflicts(added)))
    merge_wrong = () if merged is None else tuple(_wrong(added.text, known))
    if merged is not None and not merge_wrong:
        return Carried(merged)
    found = {own: anchors.place(own, known, script, seen.statements) for own in seen.missing}
    lines = _placed(found)
    outcome = additive.put_in(text, lines) if lines is not None else None
    wrong = ["a line is not where it can be meant"] if outcome is None else list(_wrong(outcome, known))
    if lines is not None and not wrong:
        return Carried(lines, "syntax")
    reasons = tuple(conflicts(added)) or merge_wrong or tuple(wrong)
    return _by_hand(seen.missing, known, found, reasons)


def _placed(found: dict[Own, Place | str]) -> tuple[Line, ...] | None:
    lines = []
    for own, place in found.items():
        if isinstance(place, str):
            return None
        lines.append(Line(place.rows, place.indent + own.text))
    return tuple(sorted(lines, key=lambda line: line.place))


def _wrong(text: bytes, known: Ours) -> Iterator[str]:
    """What is not right in a text that is to have all lines."""
    try:
        script = syntax.read(text)
    except UnreadableError as error:
        yield f"with the patch's lines {error}"
        return
    seen = by_hand.seen(known, script)
    yield from (f"lacks {own.text.decode()}" for own in seen.missing)
    yield from seen.problems
    yield from by_hand.unknown(seen, script)


def _again(text: bytes, known: Ours) -> Seen | None:
    """What a text has of the lines; None where it is no Python script."""
    script, _ = _read(text, known)
    return by_hand.seen(known, script) if script else None


def _more(before: bytes, after: bytes) -> tuple[Line, ...] | None:
    try:
        return additive.between(before, after)
    except ChangedError:
        return None


def _rows(text: bytes, rows: Sequence[int]) -> tuple[Line, ...]:
    """Rows of a text as lines that were added to the rest of it."""
    content = text.split(b"\n")
    return tuple(Line(row - number, content[row]) for number, row in enumerate(rows))


def conflicts(merged: Merged) -> Iterator[str]:
    """Where a merge into a script does not go, for people."""
    for first, last in merged.conflicts:
        lines = f"line {first}" if first == last else f"lines {first} to {last}"
        yield f"changed where the patch adds lines: {lines}"


def _drift(added: Merged, into: Carried, seen: Seen | None, unreadable: str) -> tuple[str, ...]:
    broken = (unreadable,) if unreadable else ()
    partly = "some of the patch's lines are there, some are not"
    if seen is None or not seen.statements:
        return (*(tuple(conflicts(added)) or into.problems or (partly,)), *broken)
    if not seen.missing:
        return seen.problems
    lacking = ", ".join(own.text.decode() for own in seen.missing)
    return (f"{partly}: it lacks {lacking}", *seen.problems)


def _by_hand(lacking: Sequence[Own], known: Ours, found: dict[Own, Place | str], problems: tuple[str, ...]) -> Carried:
    """Why lines cannot be put in, and how a person does it."""
    listed = tuple(_advice(own, found.get(own, "")) for own in lacking)
    if not known.owned:
        listed = tuple(Advice(line.text.decode(), f"line {line.place} of the pin") for line in known.lines)
    return Carried(None, "syntax", problems, listed)


def _advice(own: Own, place: Place | str) -> Advice:
    if isinstance(place, Place):
        return Advice((place.indent + own.text).decode(), place.told)
    anchor, side = (own.after, "after") if own.after else (own.before, "before")
    said = f"`{anchor.shortened}`" if anchor else "the head of its block"
    inside = "" if own.where == "the top level" else f" of {own.where}"
    return Advice(own.line.text.decode(), f"{side} {said}{inside}" + (f" ({place})" if place else ""))
