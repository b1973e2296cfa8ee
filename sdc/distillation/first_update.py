"""A method's patched script, run until it updates its images once: does it get there, and if not, what is amiss.

For whoever adds a method: the recipe `trial` on the bundled digits, at a weight above 0, so that the term is taken,
too. All that the script writes goes when it is over.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sdc.adapters.base import Adapter
from sdc.distillation import behaviour, endings, experts, jobs, process
from sdc.distillation.process import Script
from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch
from sdc.launcher.job import IDLE
from sdc.patching import apply, clones, drafts
from sdc.plan import needs
from sdc.plan.request import Plan, Request, plan

PATIENCE = 180.0
"""Seconds in which the update is to come."""


@dataclass(frozen=True)
class Seen:
    """What came of it: the seconds until the update, or where the script stopped, and what mends that."""

    method: str
    updated: bool
    seconds: float = 0.0
    command: str = ""
    """What the script was told."""
    stopped: str = ""
    remedy: str = ""

    def lines(self) -> list[str]:
        """It for people."""
        if self.updated:
            return [f"trial: its first update of the images came after {self.seconds:.0f} s"]
        if not self.command:
            return [f"trial: it was not run: {self.stopped}", f"{self.remedy}, then: sdc patch trial {self.method}"]
        return [
            f"trial: it stopped before its first update. {self.stopped}",
            f"it was told: {self.command}",
            f"Fill in: {self.remedy}",
        ]


@dataclass(frozen=True)
class _Remedy:
    """What is to be done where a script's last words are these."""

    said: str
    do: str


_REMEDIES = (
    _Remedy(
        r"unrecognized arguments: .*--sdc_lambda",
        "the script: it reads its command line where `sdc.add_options(parser)` was not called before. Add that line; "
        "where another file reads it: docs/adding-a-method.md, section 2",
    ),
    _Remedy(r"unrecognized arguments: (.+)", "`argv` of {adapter}: it gives what the script does not take: {0}"),
    _Remedy(r"arguments are required: (.+)", "`argv` of {adapter}: the script wants {0}, too"),
    _Remedy(r"argument (\S+): (?:invalid|expected)", "`argv` of {adapter}: another value for {0}"),
    _Remedy(
        r"has \d+ loops `for (\w+) in",
        "`loop` of {adapter}: the variable of the script's one loop over iterations, or an empty text",
    ),
    _Remedy(
        r"FileNotFoundError: .*?'([^']*)'|No such file or directory: '?([^']*)'?",
        "`argv` of {adapter}: a path that is there ('.' is the run's own folder), or `files` with what is read: {0}",
    ),
    _Remedy(r"FileExistsError: .*?'([^']*)'", "`argv` of {adapter}: a path that is not there yet, instead of {0}"),
    _Remedy(
        r"AttributeError: module 'torchvision\.datasets.*' has no attribute '(\w+)'|KeyError: '(\w+)'",
        "`slots` and `datasets` of {adapter}: the names that the script knows; {0} is none",
    ),
)


def tried(name: str, watch: Watch) -> Seen:
    """Run the script of a method, registered or just written, until its first update of the images."""
    with drafts.at_hand(name) as adapter, tempfile.TemporaryDirectory(prefix="sdc-trial-") as scratch:
        home = f"adapters/{name}.py"
        if said := needs.told([adapter]):
            return Seen(name, updated=False, stopped=said, remedy="Install that")
        try:
            planned = plan(Request(name, behaviour.WEIGHT, recipe=behaviour.RECIPE), watch)
            return _run(planned, Path(scratch), watch)
        except FatalError as error:
            return Seen(
                name, updated=False, stopped=str(error), remedy=f"Mend what this names, in {home} or its recipes"
            )


def _run(planned: Plan, scratch: Path, watch: Watch) -> Seen:
    adapter, work, log = planned.adapter, scratch / "work", scratch / "log.txt"
    if clones.status(adapter).state in ("absent", "pristine"):
        apply.apply(adapter)
    trained = experts.ready(planned, watch, root=scratch / "experts")
    work.mkdir()
    if trained:
        (work / "buffers").symlink_to(trained.folder)
    job = replace(
        jobs.distillation(planned, work, work),
        makes="gradients",
        output=str(work / "gradients"),
        updates=1,
        device="cpu",
    )
    watch.stage(f"{adapter.method}: until the first update", 1)
    began = time.monotonic()
    script = Script(job, work, log, onto=False)
    try:
        state = _state(script, began + PATIENCE)
    finally:
        process.stop([script])
    seconds = round(time.monotonic() - began, 1)
    command = " ".join([Path(job.script).name, *job.argv])
    seen = Seen(adapter.method, updated=state == "updated", seconds=seconds, command=command)
    if state == "ended":
        return _stopped(adapter, script, seen)
    if state == "late":
        few = f"fewer and smaller steps in `trial` of adapters/recipes/{adapter.method}.toml"
        return replace(seen, stopped=f"No update came within {PATIENCE:.0f} s.", remedy=few)
    return seen


def _state(script: Script, until: float) -> Literal["updated", "ended", "late"]:
    """What becomes of a script until it has updated its images, or ended, or it is too late."""
    while time.monotonic() < until:
        ended = script.has_ended()
        if any(line["kind"] == "step" for line in script.heard()):
            return "updated"
        if ended:
            return "ended"
        time.sleep(process.PAUSE)
    return "late"


def _stopped(adapter: Adapter, script: Script, seen: Seen) -> Seen:
    """Where the script stopped, by the end of its log, and what to fill in."""
    lines = process.tail(script.log)
    if cause := endings.of_term(lines):
        mend = f"the line of SDC in {clones.script_path(adapter)}, then: sdc patch refresh {adapter.method}"
        return replace(seen, stopped=f"{cause[:1].upper()}{cause[1:]}", remedy=mend)
    if cause := endings.missing_import(lines, clones.clone_path(adapter)):
        package = f"`needs` of adapters/{adapter.method}.py: what it imports, so that it is asked for before it runs"
        return replace(seen, stopped=f"{cause[:1].upper()}{cause[1:]}", remedy=package)
    if script.child.returncode == IDLE:
        told = "The script ended, and no optimizer has updated a leaf tensor [N, C, H, W] of images."
        return replace(seen, stopped=told, remedy=f"`argv` of adapters/{adapter.method}.py, so that it takes a step")
    told = "\n".join(f"    {line}" for line in lines)
    return replace(seen, stopped=f"The end of what it said:\n{told}", remedy=_remedy(adapter, lines))


def _remedy(adapter: Adapter, lines: list[str]) -> str:
    home = f"adapters/{adapter.method}.py"
    for line in reversed(lines):
        for remedy in _REMEDIES:
            if found := re.search(remedy.said, line):
                return remedy.do.format(*filter(None, found.groups()), adapter=home)
    return (
        f"`argv` of {home} (what the script is told), or mend the lines of SDC; then: sdc patch trial {adapter.method}"
    )
