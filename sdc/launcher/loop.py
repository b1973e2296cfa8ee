"""Loop: the one loop of a script that counts its iterations is told which to go through, and tells where it is.

The name `range` of the script stands for ours, which is Python's own everywhere but in that loop. So a script can go on
from where an earlier process ended, or share its iterations with others, and nobody has to change it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path


class Loop:
    """`for VARIABLE in range(...)` of one script, of which there must be exactly one."""

    def __init__(
        self, script: Path, variable: str, turns: Callable[[int], Iterable[int]], before: Callable[[int], None]
    ) -> None:
        """Of so many iterations, the ones that `turns` gives are gone through; `before` is called with each, first."""
        self._script, self._line = str(script), line(script, variable)
        self._turns, self._before = turns, before

    def numbers(self, *bounds: int) -> Sequence[int] | Iterator[int]:
        """What the script calls as `range`."""
        caller = sys._getframe(1)
        numbers = range(*bounds)
        ours = caller.f_lineno == self._line and caller.f_code.co_filename == self._script
        return self._watched(numbers) if ours else numbers

    def _watched(self, numbers: Sequence[int]) -> Iterator[int]:
        for number in self._turns(len(numbers)):
            self._before(number)
            yield numbers[number]


def line(script: Path, variable: str) -> int:
    """Where the loop over `variable` calls `range`. Raises ValueError unless there is one such loop."""
    lines = [
        node.iter.lineno
        for node in ast.walk(ast.parse(script.read_bytes()))
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and node.target.id == variable
        if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range"
    ]
    if len(lines) != 1:
        raise ValueError(f"{script} has {len(lines)} loops `for {variable} in range(...)`, not one")
    return lines[0]
