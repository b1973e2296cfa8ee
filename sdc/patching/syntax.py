"""A script as its syntax tree tells it: its statements in order, what each says however it is written, where it stands.

Quotes, wrapping, indentation, commas at the end, the order of imported names and comments make no difference.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import sys
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

NAME = "sdc"
"""What patched scripts import."""
_SHORT = 100
_NESTED = ("body", "orelse", "finalbody", "handlers", "cases", "decorator_list")
_UNSAID = ("ctx", "kind", "type_comment", "type_ignores")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BUILT_IN = frozenset(dir(builtins))
_OPPOSITE = {ast.In: ast.NotIn, ast.Eq: ast.NotEq, ast.Is: ast.IsNot}


class UnreadableError(Exception):
    """A text that is no Python script for the Python that runs; the message says where and why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"it cannot be read as Python {sys.version_info.major}.{sys.version_info.minor}: {why}")


@dataclass(frozen=True)
class Around:
    """What a statement stands in: loops by what they count, branches in the last of them, its function (0: none)."""

    loops: tuple[str, ...]
    branches: int
    scope: int


@dataclass(frozen=True)
class Statement:
    """A statement: `first` and `last` of its rows, from 0, counted as git does; of a compound one it says the head."""

    node: ast.stmt
    said: str
    loosely: str
    """The same with every name left open but `sdc` and those that begin with `sdc_`; empty if it has none of these."""
    first: int
    last: int
    alone: bool
    """Whether nothing but a comment shares its rows."""
    indent: bytes
    block: int
    around: Around

    @property
    def line(self) -> str:
        """Where it stands, for people."""
        return f"line {self.first + 1}"

    @property
    def shortened(self) -> str:
        """What it says, for people: its head, or the beginning of that."""
        said = " ".join(ast.unparse(self.node).split("\n")[0].split())
        return said if len(said) < _SHORT else f"{said[: _SHORT - 4]} ..."

    def repeats(self, other: Statement) -> bool:
        """Whether it says the same in the same way: `a += b` may change an object that `a = a + b` leaves alone."""
        alike = isinstance(self.node, ast.AugAssign) == isinstance(other.node, ast.AugAssign)
        return alike and self.said == other.said

    def nodes(self) -> Iterator[ast.AST]:
        """It and all in it, but for the statements in it."""
        return _own(self.node)


@dataclass(frozen=True)
class _Scope:
    parent: int | None
    name: str
    bound: set[str]


@dataclass(frozen=True)
class Script:
    """The statements of a script in order, without those that are only a string."""

    statements: tuple[Statement, ...]
    scopes: tuple[_Scope, ...]

    @cached_property
    def _blocks(self) -> dict[int, list[Statement]]:
        found: dict[int, list[Statement]] = {}
        for statement in self.statements:
            found.setdefault(statement.block, []).append(statement)
        return found

    @property
    def top(self) -> list[Statement]:
        """The statements that stand in nothing."""
        return self._blocks.get(0, [])

    def beside(self, statement: Statement) -> tuple[list[Statement], list[Statement]]:
        """The statements before and after one in its block."""
        block = self._blocks[statement.block]
        at = block.index(statement)
        return block[:at], block[at + 1 :]

    def knows(self, scope: int, name: str) -> bool:
        """Whether a name means something in a function: bound in it or around it, built in, or by an import of all."""
        at: int | None = scope
        while at is not None:
            if name in self.scopes[at].bound or "*" in self.scopes[at].bound:
                return True
            at = self.scopes[at].parent
        return name in _BUILT_IN

    def function(self, statement: Statement) -> str:
        """The function that a statement stands in, for people."""
        name = self.scopes[statement.around.scope].name
        return f"{name}()" if name else "the top level"

    def called_in_loop(self, around: Around) -> bool:
        """Whether a place is in no loop of its function, and a loop of the script calls that function."""
        name = self.scopes[around.scope].name
        looped = (each for each in self.statements if name and not around.loops and each.around.loops)
        calls = (node.func for each in looped for node in each.nodes() if isinstance(node, ast.Call))
        return any(name == getattr(func, "id", getattr(func, "attr", "")) for func in calls)


def read(text: bytes) -> Script:
    """The statements of a script whose rows end with \\n. Raises UnreadableError where Python would not take it."""
    if lone := re.search(rb"\r(?!\n)", text):
        line = 1 + text[: lone.start()].count(b"\n")
        raise UnreadableError(f"line {line} holds a carriage return that ends no line")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text).readline)
        decoded = text.decode(encoding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes, which are not ours
            tree = ast.parse(decoded)
        return _script(tree, decoded.encode().split(b"\n"))
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise UnreadableError(f"{where}{error.msg}") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise UnreadableError(f"line {line}: byte {error.object[error.start]:#x} is no {error.encoding}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError(str(error)) from error


def _script(tree: ast.Module, rows: list[bytes]) -> Script:
    names = _bindings(tree)
    scopes = [_Scope(None, "", set())]
    found: list[Statement] = []
    waiting: list[tuple[list[ast.stmt], Around]] = [(tree.body, Around((), 0, 0))]
    blocks = 0
    while waiting:
        body, around = waiting.pop()
        for node in body:
            scopes[0 if isinstance(node, ast.Global) else around.scope].bound.update(_bound(node))
            waiting += _inside(node, around, scopes)
            if not _is_string(node):
                found.append(_statement(node, rows, names, blocks, around))
        blocks += 1
    return Script(tuple(sorted(found, key=lambda each: (each.node.lineno, each.node.col_offset))), tuple(scopes))


def _statement(node: ast.stmt, rows: list[bytes], names: Mapping[str, str], block: int, around: Around) -> Statement:
    decorators = getattr(node, "decorator_list", [])
    first = min(each.lineno for each in (node, *decorators)) - 1
    last = (node.end_lineno or node.lineno) - 1
    before = rows[first][: decorators[0].col_offset - 1 if decorators else node.col_offset]
    after = rows[last][node.end_col_offset :].strip()
    alone = not before.strip() and (after in (b"", b";") or after.startswith(b"#"))
    loosely = _said(node, names, loose=True)
    return Statement(
        node=node,
        said=_said(node, names),
        loosely=loosely if re.search(r"id='sdc(_\w*)?'", loosely) else "",
        first=first,
        last=last,
        alone=alone,
        indent=before if not before.strip() else b"",
        block=block,
        around=around,
    )


def _inside(node: ast.stmt, around: Around, scopes: list[_Scope]) -> Iterator[tuple[list[ast.stmt], Around]]:
    """The blocks in a statement, and what they stand in."""
    branch = replace(around, branches=around.branches + 1)
    if isinstance(node, ast.For | ast.AsyncFor | ast.While):
        counted = "" if isinstance(node, ast.While) else ast.unparse(node.target)
        yield node.body, replace(around, loops=(*around.loops, counted), branches=0)
        yield node.orelse, around
    elif isinstance(node, ast.If):
        inner = around if is_ours(node) or _is_main(node.test) else branch
        elif_ = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        yield node.body, inner
        yield node.orelse, around if elif_ else inner
    elif isinstance(node, ast.With | ast.AsyncWith):
        yield node.body, around
    elif isinstance(node, ast.Try | ast.TryStar):
        yield from ((body, around) for body in (node.body, node.orelse, node.finalbody))
        yield from ((handler.body, branch) for handler in node.handlers)
    elif isinstance(node, ast.Match):
        yield from ((case.body, branch) for case in node.cases)
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        scopes.append(_Scope(around.scope, node.name, set(_parameters(node))))
        yield node.body, Around((), 0, len(scopes) - 1)


def _parameters(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _FUNCTIONS):
        yield from (each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield from _own(child)


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement binds where it stands."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
        return
    if isinstance(node, ast.Global):
        yield from node.names
    for each in _own(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id
        elif isinstance(each, ast.alias):
            yield each.asname or each.name.partition(".")[0]
        elif isinstance(each, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and each.name:
            yield each.name


def _bindings(tree: ast.Module) -> dict[str, str]:
    """What `sdc`, or what is in it, is called in a script, and what that is."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: NAME for alias in node.names if alias.name == NAME and alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == NAME and not node.level:
            names |= {alias.asname or alias.name: f"{NAME}.{alias.name}" for alias in node.names}
    return names


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_ours(node: ast.stmt) -> bool:
    """Whether a branch is one that somebody made for our lines: it asks for one of our options."""
    asked = ast.walk(node.test) if isinstance(node, ast.If) and not node.orelse else ()
    return any(isinstance(each, ast.Attribute) and each.attr.startswith(f"{NAME}_") for each in asked)


def _is_main(test: ast.expr) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(test))


def _said(node: ast.AST, names: Mapping[str, str], *, loose: bool = False) -> str:
    """What a node says, in one way for all ways to write it."""
    node = _plain(node, names)
    if loose and isinstance(node, ast.Name | ast.Attribute):
        root = names.get(_root(node), _root(node)).partition(".")[0]
        if root != NAME and not root.startswith(f"{NAME}_"):
            return "_"
    if isinstance(node, ast.Constant):
        if loose and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return repr(float(node.value))
        return f"{type(node.value).__name__} {node.value!r}"
    told = []
    for field, value in ast.iter_fields(node):
        if field in _UNSAID or (isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case) and field in _NESTED):
            continue
        if isinstance(value, list):
            parts = [_said(each, names, loose=loose) if isinstance(each, ast.AST) else repr(each) for each in value]
            told.append(f"{field}=[{', '.join(sorted(parts) if _is_any_order(node, field) else parts)}]")
        else:
            inner = _said(value, names, loose=loose) if isinstance(value, ast.AST) else repr(value)
            told.append(f"{field}={inner}")
    return f"{type(node).__name__}({', '.join(told)})"


def _is_any_order(node: ast.AST, field: str) -> bool:
    return field == "keywords" or (field == "names" and isinstance(node, ast.Import | ast.ImportFrom))


def _plain(node: ast.AST, names: Mapping[str, str]) -> ast.AST:
    """A node as this file would have it written: formatters and linters turn the one into the other."""
    if isinstance(node, ast.AnnAssign) and node.value:
        return ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, ast.AugAssign):
        return ast.Assign(targets=[node.target], value=ast.BinOp(left=node.target, op=node.op, right=node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        turned = node.operand
        if isinstance(turned, ast.Compare) and len(turned.ops) == 1 and type(turned.ops[0]) in _OPPOSITE:
            opposite = _OPPOSITE[type(turned.ops[0])]()
            return ast.Compare(left=turned.left, ops=[opposite], comparators=turned.comparators)
    if isinstance(node, ast.Name) and node.id in names:
        module, _, member = names[node.id].partition(".")
        plugin = ast.Name(id=module, ctx=ast.Load())
        return ast.Attribute(value=plugin, attr=member, ctx=ast.Load()) if member else plugin
    return node


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def loaded(statement: Statement) -> set[str]:
    """The names that a statement needs to be known where it stands."""
    return {node.id for node in statement.nodes() if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
