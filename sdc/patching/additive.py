"""Changes that only add lines: found between two texts, put in, taken out, read from a patch, written as one.

Lines end with \\n, wherever else Python would break them, as git counts them.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

MOST = 6
"""A patch adds so many lines at most."""


@dataclass(frozen=True)
class Line:
    """An added line, without its end, behind the first `place` lines of the text it is added to."""

    place: int
    text: bytes


class ChangedError(Exception):
    """One text is not the other with lines added; `offences` are the lines that were removed or changed."""

    def __init__(self, offences: Sequence[str]) -> None:
        self.offences = tuple(offences)
        super().__init__("\n".join(self.offences))


def between(before: bytes, after: bytes) -> tuple[Line, ...]:
    """The lines that `after` adds to `before`. Raises ChangedError where it removed or changed any."""
    old, new = _lines(before), _lines(after)
    added, place = [], 0
    for line in new:
        if place < len(old) and line == old[place]:
            place += 1
        else:
            added.append(Line(place, line.rstrip(b"\r\n")))
    if place < len(old):
        raise ChangedError(list(_offences(old, new)))
    return tuple(added)


def put_in(text: bytes, lines: Iterable[Line]) -> bytes:
    """`text` with the lines added, each ended as the line before it (the first as the one behind it)."""
    out, old = [], _lines(text)
    wanted = {place: list(group) for place, group in groupby(lines, key=lambda line: line.place)}
    for place in range(len(old) + 1):
        out += old[place - 1 : place] if place else []
        end = _end(old[max(place, 1) - 1]) if old else b"\n"
        out += [line.text + end for line in wanted.get(place, [])]
    return b"".join(out)


def taken_out(text: bytes, lines: Iterable[Line]) -> bytes:
    """`text` without the lines, which were added to what this gives."""
    gone = {line.place + number for number, line in enumerate(lines)}
    return b"".join(line for number, line in enumerate(_lines(text)) if number not in gone)


def with_line_feeds(text: bytes) -> bytes:
    """`text` with every line ended by a line feed alone."""
    return text.replace(b"\r\n", b"\n")


def read(patch: bytes) -> tuple[Line, ...]:
    """The lines that a zero-context patch of one file adds."""
    lines, place = [], 0
    for row in _lines(patch[patch.index(b"\n+++ ") + 1 :])[1:]:
        if found := re.match(rb"@@ -(\d+),0 ", row):
            place = int(found[1])
        elif row.startswith(b"+"):
            lines.append(Line(place, row[1:].rstrip(b"\r\n")))
    return tuple(lines)


def written(script: str, text: bytes, lines: Sequence[Line]) -> bytes:
    """A patch that adds the lines to a script whose content is `text`: zero context, nothing but our own lines."""
    out, done = f"--- a/{script}\n+++ b/{script}\n".encode(), 0
    ended = _lines(put_in(text, lines))
    for place, group in groupby(lines, key=lambda line: line.place):
        count = len(list(group))
        out += f"@@ -{place},0 +{place + done + 1}{f',{count}' if count > 1 else ''} @@\n".encode()
        out += b"".join(b"+" + line for line in ended[place + done : place + done + count])
        done += count
    return out


def functions(script: bytes, lines: Iterable[Line]) -> tuple[str, ...]:
    """Where in a script, `lines` put in, they stand: the innermost functions around them, in order."""
    spans = [(node.lineno, node.end_lineno or node.lineno, node.name) for node in _functions(script)]
    found = []
    for number, line in enumerate(lines, start=1):
        at = line.place + number
        around = [(end - first, name) for first, end, name in spans if first <= at <= end]
        found.append(f"{min(around)[1]}()" if around else "top level")
    return tuple(dict.fromkeys(found))


def count(text: bytes) -> int:
    """How many lines a text has."""
    return len(_lines(text))


def _functions(script: bytes) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError):  # a fork's script may be broken; its lines are told all the same
        return
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _offences(old: list[bytes], new: list[bytes]) -> Iterator[str]:
    """The lines of `old` that `new` does not have where they were, with their numbers and what stands there."""
    for kind, first, last, _, _ in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind in ("delete", "replace"):
            what = "removed" if kind == "delete" else "changed"
            for number in range(first, last):
                yield f"line {number + 1}, {what}: {old[number].decode(errors='replace').rstrip()}"


def _lines(text: bytes) -> list[bytes]:
    return io.BytesIO(text).readlines()


def _end(line: bytes) -> bytes:
    return b"\r\n" if line.endswith(b"\r\n") else b"\n"
