"""Ways in which people's tools write one and the same script: formatters, and what stands in for those not installed."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable

Writer = Callable[[bytes], bytes]


def ruff(*settings: str, sort: str = "") -> Writer:
    """Ruff's formatter, which writes as black does, under settings; `sort`: rules whose fixes come first."""

    def write(text: bytes) -> bytes:
        options = [word for setting in settings for word in ("--config", setting)]
        if sort:
            text = _piped("check", "--select", sort, "--fix-only", "--exit-zero", *options, text=text)
        return _piped("format", *options, text=text)

    return write


def _piped(*arguments: str, text: bytes) -> bytes:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--stdin-filename", "script.py", "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout


def indented(unit: str) -> Writer:
    """Every level of indentation, and every line that goes on, by `unit`; strings stay."""

    def write(text: bytes) -> bytes:
        lines, level, levels, strings = text.decode().split("\n"), 0, {}, set()
        for token in _tokens(text):
            level += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
            if token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE, tokenize.NL):
                levels.setdefault(token.start[0], level)
            if token.type == tokenize.STRING:
                strings.update(range(token.start[0] + 1, token.end[0] + 1))
        for row, deep in levels.items():
            if row not in strings and row <= len(lines):
                lines[row - 1] = unit * deep + lines[row - 1].lstrip()
        return "\n".join(lines).encode()

    return write


def after_each(more: str) -> Writer:
    """Something after the end of every statement, as `  # type: ignore` or a line of its own."""

    def write(text: bytes) -> bytes:
        lines = text.decode().split("\n")
        for token in _tokens(text):
            if token.type == tokenize.NEWLINE:
                lines[token.end[0] - 1] += more
        return "\n".join(lines).encode()

    return write


def ended(end: bytes) -> Writer:
    """Other line ends."""
    return lambda text: text.replace(b"\r\n", b"\n").replace(b"\n", end)


def both(*writers: Writer) -> Writer:
    """One after the other."""

    def write(text: bytes) -> bytes:
        for writer in writers:
            text = writer(text)
        return text

    return write


def _tokens(text: bytes) -> Iterable[tokenize.TokenInfo]:
    return list(tokenize.tokenize(io.BytesIO(text).readline))


LF = ended(b"\n")
WRITERS: dict[str, Writer] = {
    "black": both(LF, ruff("line-length=88")),
    "narrow": both(LF, ruff("line-length=40", "format.quote-style='single'")),
    "isort": both(LF, ruff("line-length=120", sort="I,F401,E401,E711,E713")),
    "tabs": both(LF, indented("\t")),
    "two spaces, CRLF": both(LF, indented("  "), ended(b"\r\n")),
    "black with tabs": both(LF, ruff("line-length=60", "format.indent-style='tab'")),
    "comments": both(LF, after_each("  # type: ignore[no-untyped-call]")),
    "by Python itself": both(LF, lambda text: f"{ast.unparse(ast.parse(text))}\n".encode()),
    "blank lines": both(LF, after_each("\n")),
}
