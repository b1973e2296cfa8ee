"""Where an added line belongs in a script that is written differently: after the same statement, found by what it says.

A place is taken only if it is the one that can be meant: the statement is there once in as many loops as in the pinned
script, and the names that the line needs are known there. Nothing of an upstream is kept: all is worked out from the
pinned script and the patch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sdc.patching import additive, syntax
from sdc.patching.additive import Line
from sdc.patching.syntax import NAME, Around, Script, Statement, UnreadableError

_READS = ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args")


@dataclass(frozen=True)
class Own:
    """A line of ours: its statement in the patched pinned script, and the pin's before and after it in its block."""

    line: Line
    statement: Statement
    after: Statement | None
    before: Statement | None
    where: str
    """The function that it stands in."""

    @property
    def text(self) -> bytes:
        """The line without its indentation."""
        return self.line.text.strip()

    @property
    def imports(self) -> bool:
        """Whether it is the import."""
        return isinstance(self.statement.node, ast.Import | ast.ImportFrom)

    @property
    def parser(self) -> str:
        """The parser that it gives our options to; empty: it is another line."""
        node = self.statement.node
        call = node.value if isinstance(node, ast.Expr) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
            return ""
        first = call.args[0]
        return first.id if call.func.attr == "add_options" and isinstance(first, ast.Name) else ""


@dataclass(frozen=True)
class Place:
    """Where a line goes: before or after a statement."""

    beside: Statement
    after: bool
    indent: bytes

    @property
    def rows(self) -> int:
        """How many rows come before it."""
        return self.beside.last + 1 if self.after else self.beside.first

    @property
    def told(self) -> str:
        """The place, for people."""
        where = f"after line {self.rows}" if self.after else f"before line {self.rows + 1}"
        return f"{where}, `{self.beside.shortened}`"


@dataclass(frozen=True)
class Ours:
    """A patch on its pinned script; `owned` are its lines as statements, none where one of them is no statement."""

    pinned: bytes
    patched: bytes
    lines: tuple[Line, ...]
    script: Script | None
    owned: tuple[Own, ...]

    @property
    def theirs(self) -> list[Statement]:
        """The pin's own statements."""
        mine = {own.statement for own in self.owned}
        return [each for each in self.script.statements if each not in mine] if self.script else []


def ours(pinned: bytes, lines: Sequence[Line]) -> Ours:
    """What a patch adds to the pinned script, whose rows end with \\n."""
    patched, kept = additive.put_in(pinned, lines), tuple(lines)
    try:
        script = syntax.read(patched)
    except UnreadableError:
        return Ours(pinned, patched, kept, None, ())
    rows = {line.place + number: line for number, line in enumerate(kept)}
    found = [each for each in script.statements if each.first in rows]
    simple = all(each.alone and each.first == each.last and not hasattr(each.node, "body") for each in found)
    if len(found) != len(kept) or not simple:
        return Ours(pinned, patched, kept, None, ())
    owned = []
    for statement in found:
        before, after = script.beside(statement)
        anchor = next((each for each in reversed(before) if each not in found), None)
        follower = next((each for each in after if each not in found), None)
        owned.append(Own(rows[statement.first], statement, anchor, follower, script.function(statement)))
    return Ours(pinned, patched, kept, script, tuple(owned))


def place(own: Own, known: Ours, script: Script, there: Collection[Statement]) -> Place | str:
    """Where a line of ours belongs in a script, or why that cannot be said. `there`: those of ours that it has."""
    if own.imports:
        return _among_imports(own, script)
    found = _beside_anchor(own, known, script, there)
    if isinstance(found, str) and own.parser:
        read = _before_reading(own.parser, script)
        return read or found
    return found


def fits(own: Around, there: Around) -> bool:
    """Whether a place is in the loops of one in the pinned script, and in no more branches of the last of them.

    Loops may count by other names, or there may be more or fewer around those that count by the same.
    """
    common = min(len(there.loops), len(own.loops))
    same = len(there.loops) == len(own.loops) or there.loops[-common:] == own.loops[-common:]
    return not own.loops or (common > 0 and same and there.branches <= own.branches)


def can_be_meant(own: Around, there: Around, script: Script) -> bool:
    """Whether a place in a script fits one in the pinned script, or is in a function made of the body of its loop."""
    return fits(own, there) or (there.branches <= own.branches and script.called_in_loop(there))


def _among_imports(own: Own, script: Script) -> Place | str:
    """After the import that it follows in the pinned script, whatever that takes today, else after the first ones."""
    top = [each for each in script.top if each.alone]
    head = next((n for n, each in enumerate(top) if hasattr(each.node, "body") and not _tries(each)), len(top))
    imports = [each for each in top[:head] if isinstance(each.node, ast.Import | ast.ImportFrom)]
    alike = [each for each in imports if own.after and _source(each) == _source(own.after)]
    if chosen := (alike or imports)[-1:]:
        return Place(chosen[0], after=True, indent=b"")
    return Place(top[0], after=False, indent=b"") if top else "there is no statement"


def _tries(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Try | ast.If | ast.With)


def _source(statement: Statement) -> str:
    """What an import takes from where: a module by its name, else all that it says."""
    node = statement.node
    return f"{node.level} {node.module}" if isinstance(node, ast.ImportFrom) else statement.said


def _beside_anchor(own: Own, known: Ours, script: Script, there: Collection[Statement]) -> Place | str:
    anchor = own.after or own.before
    if anchor is None or known.script is None:
        return "it is alone in its block"
    alike = [each for each in script.statements if each.said == anchor.said and each not in there]
    inside = [each for each in alike if can_be_meant(own.statement.around, each.around, script)]
    if not inside:
        lines = ", ".join(each.line for each in alike)
        return f"in other loops or branches there: {lines}" if alike else "not found"
    chosen = _meant(anchor, [each for each in inside if each.alone], known, known.script, script)
    if chosen is None:
        return f"cannot be told apart, or shares its line: {', '.join(each.line for each in inside)}"
    needed = sorted(syntax.loaded(own.statement) - {NAME} - _bound_by(known))
    if unknown := [name for name in needed if not script.knows(chosen.around.scope, name)]:
        return f"{chosen.line}, where {', '.join(unknown)} is not known"
    return Place(chosen, own.after is not None, chosen.indent)


def _bound_by(known: Ours) -> set[str]:
    """The names that lines of ours bind, and the pin does not."""
    return {
        node.id
        for each in known.owned
        for node in each.statement.nodes()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.startswith(f"{NAME}_")
    }


def _meant(
    anchor: Statement, inside: Sequence[Statement], known: Ours, pin: Script, script: Script
) -> Statement | None:
    """Of statements that say the same, the one that is the pin's: the only one, or the one with its neighbours."""
    alike = [each for each in known.theirs if each.said == anchor.said]
    rivals = [each for each in alike if fits(anchor.around, each.around)]
    if len(inside) == len(rivals):
        return inside[rivals.index(anchor)]
    wanted = _around(anchor, pin)
    scores = [sum(side == other for side, other in zip(wanted, _around(each, script), strict=True)) for each in inside]
    best = max(scores, default=0)
    return inside[scores.index(best)] if best and scores.count(best) == 1 else None


def _around(statement: Statement, script: Script) -> tuple[str, str, str]:
    """What the statements beside one say, ours left out, and the name of its function."""
    sides: list[str] = []
    for beside, last in zip(script.beside(statement), (True, False), strict=True):
        theirs = [each.said for each in beside if not each.loosely]
        sides.append((theirs[-1] if last else theirs[0]) if theirs else "")
    return sides[0], sides[1], script.function(statement)


def _before_reading(parser: str, script: Script) -> Place | None:
    """Before the one statement that has a parser read the command line."""
    read = [each for each in script.statements if any(_reads(node, parser) for node in each.nodes())]
    known = [each for each in read if each.alone and script.knows(each.around.scope, parser)]
    return Place(known[0], after=False, indent=known[0].indent) if len(read) == len(known) == 1 else None


def _reads(node: ast.AST, parser: str) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    return node.func.attr in _READS and isinstance(owner, ast.Name) and owner.id == parser
