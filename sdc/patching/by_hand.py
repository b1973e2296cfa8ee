"""Which lines of ours a script has, however they are written and whoever put them there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sdc.patching import anchors, syntax
from sdc.patching.anchors import Ours, Own
from sdc.patching.syntax import NAME, Script, Statement


@dataclass(frozen=True)
class Seen:
    """The lines of ours with their statements in a script, None where it has none; `surplus` says one once more."""

    lines: tuple[tuple[Own, Statement | None], ...]
    surplus: tuple[Statement, ...]
    guards: tuple[Statement, ...]
    """Branches that ask for our options and hold nothing but our lines."""
    problems: tuple[str, ...]
    """What of their places is not the patch's."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All that is of ours in the script, in order."""
        found = {statement for _, statement in self.lines if statement} | {*self.surplus, *self.guards}
        return tuple(sorted(found, key=lambda each: each.first))

    @property
    def missing(self) -> tuple[Own, ...]:
        """The lines that the script lacks."""
        return tuple(own for own, statement in self.lines if statement is None)

    @property
    def complete(self) -> bool:
        """Whether every line is there once, where it can be meant."""
        return not (self.missing or self.problems)


def seen(known: Ours, script: Script) -> Seen:
    """Look for the lines of a patch in a script: by what they say, then with other names in their places."""
    found: dict[Own, Statement] = {}
    surplus: list[Statement] = []
    for alike in _groups(known):
        there = _candidates(alike[0], script)
        pairs, more = _paired(alike, there)
        found |= pairs
        surplus += more
    _loosely(known, script, found, surplus)
    _ambiguous(known, script, found, surplus)
    lines = tuple((own, found.get(own)) for own in known.owned)
    guards = tuple(_guards(script, {*found.values(), *surplus}))
    return Seen(lines, tuple(surplus), guards, tuple(_problems(script, found, surplus)))


def rows(statements: Sequence[Statement]) -> tuple[int, ...]:
    """The rows of statements, in order."""
    return tuple(sorted({row for each in statements for row in range(each.first, each.last + 1)}))


def bound_together(statements: Sequence[Statement]) -> Iterator[str]:
    """Why statements cannot be taken out by whole rows."""
    for each in statements:
        several = isinstance(each.node, ast.Import | ast.ImportFrom) and len(each.node.names) > 1
        names = {alias.name for alias in each.node.names} if isinstance(each.node, ast.Import) else set()
        if not each.alone or (several and names - {NAME}):
            yield f"{each.line} holds more than a line of the patch"


def _groups(known: Ours) -> Iterator[list[Own]]:
    """Lines of ours that say the same, where no statement of the pin says that, too."""
    theirs = {each.said for each in known.theirs}
    for said in dict.fromkeys(own.statement.said for own in known.owned):
        if said not in theirs:
            yield [own for own in known.owned if own.statement.said == said]


def _guards(script: Script, mine: set[Statement]) -> Iterator[Statement]:
    nodes = {each.node for each in mine}
    for each in script.statements:
        if syntax.is_ours(each.node) and isinstance(each.node, ast.If) and nodes.issuperset(each.node.body):
            yield each


def _candidates(own: Own, script: Script) -> list[Statement]:
    if not own.imports:
        return [each for each in script.statements if each.repeats(own.statement)]
    found = [each for each in script.statements if imports(each)]
    top = [each for each in found if not each.around.scope] or found
    return [each for each in top if each.said == own.statement.said] or top


def imports(statement: Statement) -> bool:
    """Whether it imports the plugin, or something of it."""
    node = statement.node
    if isinstance(node, ast.Import):
        return any(alias.name == NAME for alias in node.names)
    return isinstance(node, ast.ImportFrom) and node.module == NAME and not node.level


def _paired(alike: Sequence[Own], there: Sequence[Statement]) -> tuple[dict[Own, Statement], list[Statement]]:
    """Each line with its statement, in order; where there are fewer, each with the first that could be meant."""
    if len(there) >= len(alike):
        return dict(zip(alike, there, strict=False)), list(there[len(alike) :])
    pairs, left = {}, list(there)
    for own in alike:
        fitting = [each for each in left if anchors.fits(own.statement.around, each.around)]
        if fitting:
            pairs[own] = fitting[0]
            left.remove(fitting[0])
    return pairs, left


def _loosely(known: Ours, script: Script, found: dict[Own, Statement], surplus: list[Statement]) -> None:
    """Lines that somebody adapted: the same call of the plugin with other names in it."""
    wanted = [own for own in known.owned if own not in found and own.statement.loosely and not own.imports]
    for kind in dict.fromkeys(own.statement.loosely for own in wanted):
        alike = [own for own in wanted if own.statement.loosely == kind]
        taken = {*found.values(), *surplus}
        there = [each for each in script.statements if each.loosely == kind and each not in taken]
        there = [each for each in there if isinstance(each.node, type(alike[0].statement.node))]
        if len(there) <= len(alike):
            pairs, more = _paired(alike, there)
            found |= pairs
            surplus += more


def _ambiguous(known: Ours, script: Script, found: dict[Own, Statement], surplus: list[Statement]) -> None:
    """Lines that say what the pin says elsewhere, too: told by their order, and only where all others are there.

    In a script with copies of the loop each of them has those lines, and so has the surplus.
    """
    twins = [own for own in known.owned if own not in found and own.statement.said in _twins(known)]
    if not twins or known.script is None or len(found) + len(twins) != len(known.owned):
        return
    looped, more = [own for own in found if own.statement.around.loops], [each for each in surplus if each.around.loops]
    copies = 1 + len(more) // max(len(looped), 1)
    for said in dict.fromkeys(own.statement.said for own in twins):
        expected = [each for each in known.script.statements if each.said == said]
        there = [each for each in script.statements if each.said == _renamed(said, found)]
        if len(there) == copies * len(expected):
            for own in (own for own in twins if own.statement.said == said):
                mine = there[expected.index(own.statement) :: len(expected)]
                found[own] = mine[0]
                surplus += mine[1:]


def _renamed(said: str, found: dict[Own, Statement]) -> str:
    """What the pin says, with the names that the script's own lines have for its names."""
    names: dict[str, str] = {}
    for own, there in found.items():
        if own.statement.loosely == there.loosely:
            pairs = zip(own.statement.nodes(), there.nodes(), strict=False)
            both = ((old.id, new.id) for old, new in pairs if isinstance(old, ast.Name) and isinstance(new, ast.Name))
            names |= {old: new for old, new in both if not own.imports}
    return re.sub(r"\bid='(\w+)'", lambda each: f"id='{names.get(each[1], each[1])}'", said)


def _copies(script: Script, found: dict[Own, Statement], surplus: Sequence[Statement]) -> set[Statement]:
    """Those of the surplus in a further copy of the loop, after its copy of the statement that they follow."""
    copies, blocks = set(), {each.block for each in found.values()}
    for each in surplus:
        for own, there in found.items():
            alike = there.said == each.said and anchors.fits(own.statement.around, each.around)
            behind = own.after and any(other.said == own.after.said for other in script.beside(each)[0])
            if own.statement.around.loops and alike and behind and each.block not in blocks:
                copies.add(each)
    return copies


def _twins(known: Ours) -> set[str]:
    return {each.said for each in known.theirs}


def _problems(script: Script, found: dict[Own, Statement], surplus: Sequence[Statement]) -> Iterator[str]:
    copies = _copies(script, found, surplus)
    for statement in (each for each in surplus if not imports(each) and each not in copies):
        yield f"{statement.line} says once more what the patch adds"
    looped = [(own, there) for own, there in found.items() if own.statement.around.loops]
    for own, there in looped:
        if not anchors.can_be_meant(own.statement.around, there.around, script):
            yield f"{there.line} stands in another loop or branch than the patch has it in: {own.text.decode()}"
    ordered = sorted(looped, key=lambda pair: pair[0].statement.first)
    for (own, there), (other, following) in pairwise(ordered):
        made = script.called_in_loop(there.around) or script.called_in_loop(following.around)
        same = own.statement.around.scope == other.statement.around.scope and not made
        if same and (there.around.scope != following.around.scope or there.first > following.first):
            yield f"{there.line} is to come before {following.line}, in the same function: {own.text.decode()}"


def unknown(found: Seen, script: Script) -> Iterator[str]:
    """Names that lines of ours need and that are not known where they stand."""
    for _, there in found.lines:
        if there and (names := sorted(n for n in syntax.loaded(there) if not script.knows(there.around.scope, n))):
            yield f"{there.line}: {', '.join(names)} is not known there"
