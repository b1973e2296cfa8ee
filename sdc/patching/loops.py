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


def found(script: bytes, iterations: Sequence[str], once: Sequence[str] = ()) -> Loop:
    """The first loop that is bounded by one of these options and gone through once, around a line of ours if there is.

    It is gone through once if no other loop is around it but those that are bounded by the options of `once`. Its
    variable is told if no other loop of the script has it: only then can a run go on there.
    """
    every = list(_loops(ast.parse(script), []))
    variables = [_variable(loop) for loop, _ in every if _ranges(loop)]
    able = [
        (loop, told)
        for loop, outer in every
        if _ranges(loop) and all(_ranges(each) and _bound(each).bound in once for each in outer)
        for told in [_bound(loop)]
        if told.bound in iterations
    ]
    for _, told in sorted(able, key=lambda each: not _holds_ours(each[0])):
        return told if variables.count(told.variable) == 1 else Loop("", told.bound, told.more)
    return Loop()


def _loops(node: ast.AST, outer: list[ast.AST]) -> Iterator[tuple[ast.AST, list[ast.AST]]]:
    """Every loop, with those around it."""
    is_loop = isinstance(node, ast.For | ast.While)
    if is_loop:
        yield node, outer
    for child in ast.iter_child_nodes(node):
        yield from _loops(child, [*outer, node] if is_loop else outer)


def _holds_ours(loop: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sdc.corrected") for node in ast.walk(loop)
    )


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
