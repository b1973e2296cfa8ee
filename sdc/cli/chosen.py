"""Which files and folders a command's words name, and which words name others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sdc.ground.storage import RUNS, Place

_OPTIONS = {
    "--runs": RUNS,
    "--report": "--report FILE",
    "--html": "--html FILE",
    "--out": "--out PATH",
    "--export": "--export DIR",
    "--to": "--to DIR",
    "--data": "--data PATH",
    "--profile": "--profile FILE",
    "--label-order": "--label-order FILE",
}
_USUAL = Path("runs")
"""Where runs go, and a report looks for them, unless a command says otherwise."""


def places(arguments: Sequence[str]) -> Iterator[Place]:
    """Every path that the words of a command may name, and those that stand where it names none."""
    yield Place(_USUAL.absolute(), RUNS)
    if arguments[:1] == ["theory"]:  # the folder where its figures go has that name, too
        yield Place(Path("theory").absolute(), _OPTIONS["--out"])
    reports, before = [_USUAL], ""
    for word in arguments:
        option, is_one, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if word.startswith("--") and not is_one:
            before = word
            continue
        named = _OPTIONS.get(option)
        yield from (Place(path, named or "another path in the command") for path in _paths(value))
        reports += [] if named else _paths(value)
        before = ""
    if arguments[:1] == ["report"]:
        yield from (Place(path / "report", _OPTIONS["--out"]) for path in reports)


def _paths(value: str) -> Iterator[Path]:
    """What a word may mean: a path, or a setting that is one."""
    for text in (value, value.partition("=")[2]):
        if text:
            try:
                yield Path(text).expanduser().absolute()
            except RuntimeError:  # a ~user that is none
                yield Path(text).absolute()
