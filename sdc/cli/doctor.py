"""The command doctor: what a report of a bug needs, what is wrong here, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

import typer

from sdc.cli import machine, show, surroundings
from sdc.cli.common import Json, app, print_json
from sdc.cli.finding import Check, Finding, examine

CHECKS: tuple[Check, ...] = (
    *(machine.software, machine.torch, machine.device, machine.processor),
    *(surroundings.git, surroundings.folders, surroundings.methods, surroundings.slurm),
)
_STYLES = {"ok": "", "note": "yellow", "wrong": "red"}


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Versions, device, git, folders, methods: what is wrong here, and what mends it. Exit 1 if anything is wrong."""
    found = examine(CHECKS)
    ok = all(finding.level != "wrong" for finding in found)
    if as_json:
        print_json({"ok": ok, "findings": [asdict(finding) for finding in found]})
    else:
        _print(found)
    if not ok:
        raise typer.Exit(1)


def _print(found: Sequence[Finding]) -> None:
    """A heading a section, a line a finding, the remedy below it; at the end how many are wrong."""
    for section, findings in groupby(found, key=lambda finding: finding.section):
        _line(section, "bold")
        for finding in findings:
            mark = "" if finding.level == "ok" else f"{finding.level.upper()}: "
            _line(f"  {finding.name}: {mark}{finding.value}".replace("\n", "\n    "), _STYLES[finding.level])
            if finding.remedy:
                _line(f"    remedy: {finding.remedy}", _STYLES[finding.level])
    counts = {level: sum(finding.level == level for finding in found) for level in ("wrong", "note")}
    _line(f"{counts['wrong'] or 'nothing'} wrong, {counts['note'] or 'nothing'} to note", "bold")


def _line(text: str, style: str) -> None:
    """Whatever the terminal's letters: names of folders may have others."""
    fit = text.encode(show.OUT.encoding, "backslashreplace").decode(show.OUT.encoding)
    show.OUT.print(fit, style=style, soft_wrap=True, markup=False)
