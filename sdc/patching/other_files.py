"""Lines of ours that people put into another file of theirs, which the script imports: the one that reads the command
line, or computes the loss. They are recognised, counted and taken out; nothing is ever put into such a file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdc.patching import additive, by_hand, closure, syntax
from sdc.patching.additive import Line, with_line_feeds
from sdc.patching.anchors import Own
from sdc.patching.syntax import Script, Statement, UnreadableError


@dataclass(frozen=True)
class Other:
    """Another file that has lines of ours: `statements` of the patch, `lines` its rows, the import's included."""

    path: Path
    name: str
    content: bytes
    statements: tuple[tuple[Own, Statement], ...]
    lines: tuple[Line, ...]
    problems: tuple[str, ...]

    @property
    def without(self) -> bytes:
        """It without our lines, to the byte."""
        return additive.taken_out(self.content, self.lines)


def found(script: Path, tree: Path, missing: Sequence[Own]) -> tuple[Other, ...]:
    """The files that a script imports from its tree and that have lines which it lacks; each line is taken once."""
    left, others = [own for own in missing if not own.imports], []
    for path, content, read in _readable(script, tree) if left else ():
        pairs: list[tuple[Own, Statement]] = []
        for own in list(left):
            said = own.statement.loosely
            alike = [each for each in read.statements if said and each.loosely == said]
            if len(alike) == 1 and alike[0] not in [there for _, there in pairs]:
                pairs.append((own, alike[0]))
                left.remove(own)
        if pairs:
            others.append(_other(path, path.relative_to(tree).as_posix(), content, read, pairs))
    return tuple(others)


def command_line(script: Path, tree: Path) -> str:
    """Where another file that a script imports gives a parser its options, for people; empty: none does."""
    for path, _, read in _readable(script, tree):
        for each in reversed(read.statements):
            if owner := next((name for node in each.nodes() if (name := _adds(node))), ""):
                where = f"{path.relative_to(tree).as_posix()}, after {each.line}, `{each.shortened}`"
                return f"{where}: sdc.add_options({owner}), and import sdc at its head"
    return ""


def _adds(node: ast.AST) -> str:
    """What a call gives an option to."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
        return ast.unparse(node.func.value)
    return ""


def _readable(script: Path, tree: Path) -> Iterator[tuple[Path, bytes, Script]]:
    for name, content in closure.files(script, tree).items():
        path = tree / name
        if path != script and path.suffix == ".py" and not path.is_symlink() and path.is_relative_to(tree):
            try:
                yield path, content, syntax.read(with_line_feeds(content))
            except UnreadableError:  # it has nothing of ours that could be told
                continue


def _other(path: Path, name: str, content: bytes, read: Script, pairs: Sequence[tuple[Own, Statement]]) -> Other:
    mine = [there for _, there in pairs]
    imports = [each for each in read.statements if by_hand.imports(each)]
    used = [each for each in read.statements if each.loosely and each not in mine and each not in imports]
    gone = sorted([*mine, *([] if used else imports)], key=lambda each: each.first)
    rows = by_hand.rows(gone)
    text = with_line_feeds(content).split(b"\n")
    lines = tuple(Line(row - number, text[row]) for number, row in enumerate(rows))
    problems = [*by_hand.bound_together(gone), *([] if imports else [f"{mine[0].line} needs `import sdc` above it"])]
    return Other(path, name, content, tuple(pairs), lines, tuple(f"{path}: {each}" for each in problems))
