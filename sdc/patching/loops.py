"""The loop over iterations of a script that holds our lines: its variable, and how far it goes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Loop:
    """`for VARIABLE in range(args.BOUND + MORE)`, as far as it is known; empty: there is none like that."""

    variable: str = ""
    bound: str = ""
    more: int = 0


def found(script: bytes, iterations: Sequence[str]) -> Loop:
    """The outermost loop around a line of ours that is bounded by one of these options, else the only one that is.

    Its variable is told if no other loop of the script has it: only then can a run go on there.
    """
    tree = ast.parse(script)
    every = [node for node in ast.walk(tree) if _ranges(node)]
    around = [node for node in _around(tree, []) if _ranges(node)]
    for node in (*around, *every):
        told = _bound(node)
        if told.bound in iterations:
            alone = sum(_variable(other) == told.variable for other in every) == 1
            return told if alone else Loop("", told.bound, told.more)
    return Loop()


def _around(node: ast.AST, outer: list[ast.AST]) -> Iterator[ast.AST]:
    """The loops around the first call of the term, the outermost first."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sdc.corrected"):
        yield from outer
        return
    within = [*outer, node] if isinstance(node, ast.For) else outer
    for child in ast.iter_child_nodes(node):
        if loops := list(_around(child, within)):
            yield from loops
            return


def _ranges(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.For)
        and isinstance(node.target, ast.Name)
        and isinstance(node.iter, ast.Call)
        and isinstance(node.iter.func, ast.Name)
        and node.iter.func.id == "range"
        and bool(node.iter.args)
    )


def _variable(node: ast.AST) -> str:
    return node.target.id if isinstance(node, ast.For) and isinstance(node.target, ast.Name) else ""


def _bound(node: ast.AST) -> Loop:
    """What a loop is told to go to: an option, or one with a number added or taken."""
    if not isinstance(node, ast.For) or not isinstance(node.iter, ast.Call):
        return Loop()
    end = node.iter.args[min(1, len(node.iter.args) - 1)]
    more = 0
    if isinstance(end, ast.BinOp) and isinstance(end.right, ast.Constant) and isinstance(end.right.value, int):
        more = {ast.Add: 1, ast.Sub: -1}.get(type(end.op), 0) * end.right.value
        end = end.left
    start = node.iter.args[0] if len(node.iter.args) > 1 else None
    if isinstance(start, ast.Constant) and isinstance(start.value, int):
        more -= start.value
    return Loop(_variable(node), end.attr if isinstance(end, ast.Attribute) else "", more)
