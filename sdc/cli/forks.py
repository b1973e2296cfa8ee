"""What the commands on upstreams and on people's own clones and forks share: options, and what they say of a change."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from sdc.adapters.base import Adapter
from sdc.cli import show
from sdc.cli.common import chosen_methods, print_json
from sdc.ground import paths
from sdc.patching.apply import Change
from sdc.patching.clones import Status


def for_one(methods: list[str] | None, every: bool, script: str) -> list[Adapter]:
    """The methods of one folder of the user's own; of one script, if that is named."""
    if every or not methods:
        raise typer.BadParameter("name the methods whose scripts the folder of --to has")
    chosen = chosen_methods(methods, every)
    if script and len({adapter.patch.file for adapter in chosen}) > 1:
        raise typer.BadParameter("--script names the script of one method: give one command a method")
    return chosen


def of_ours(script: str) -> None:
    """Refuse a script's name where no folder of the user's own is given."""
    if script:
        raise typer.BadParameter("--script is for --to: ours are called as their upstreams call them")


def place(to: Path, script: str) -> str:
    """The options that lead to a script of the user's own, for a command that is shown."""
    return f"--to {shlex.quote(str(to))}" + (f" --script {shlex.quote(script)}" if script else "")


def change(chosen: Sequence[Adapter], as_json: bool, act: Callable[[Adapter], Change], own: str = "") -> None:
    """Change the script of each method, and say what was changed; `own`: of `place`, unless it is ours."""
    rows = []
    for adapter in chosen:
        done = act(adapter)
        needed = needs(adapter, own) if own and done.after == "patched" and not done.vendored else []
        more = {"placed": done.placed, "by_hand": done.by_hand, "notes": list(done.notes), "needs": needed}
        rows.append({name: value for name, value in asdict(done).items() if name not in more} | (more if own else {}))
        if not as_json:
            _print(done, needed, adapter, own)
    if as_json:
        print_json({"methods": rows})


def state(found: Status) -> str:
    """A state in words, and what more there is to it."""
    first = f"{found.state} (by hand)" if found.by_hand else found.state
    return ", ".join(
        [first, *(word for word, true in (("edited", found.edited), ("vendored", found.vendored)) if true)]
    )


def needs(adapter: Adapter, own: str) -> list[str]:
    """The ways in which a patched script without a copy of the plugin comes to its `import sdc`, a line each."""
    vendored = f"sdc apply {adapter.method} {own} --vendor   (a copy of the plugin beside the script)"
    if not paths.in_checkout():
        here = f"{shlex.quote(sys.executable)} runs it as it is; for another Python:"
        theirs = "pip install of this package, from where you had it (on PyPI the name sdc is another project's)"
        return [here, theirs, vendored]
    root = shlex.quote(str(paths.ROOT))
    return [f"pip install {root}   (on PyPI the name sdc is another project's)", f"PYTHONPATH={root}", vendored]


def _print(done: Change, needed: Sequence[str], adapter: Adapter, own: str) -> None:
    what = f"{done.before} -> {done.after}" if done.before != done.after else f"{done.after}, no change"
    by_hand = " (by hand)" if done.by_hand else ""
    copy = ", with a copy of the plugin" if done.vendored else ""
    show.OUT.print(f"{done.method}: {what}{by_hand}{copy}", markup=False, soft_wrap=True)
    if done.diff:
        show.told(show.OUT, done.diff)
    if done.placed == "syntax":
        proof = f"sdc verify {adapter.method} {own} --behaviour"
        told = "The script is written differently from the pin's. Look at the places, then prove them:"
        show.OUT.print(f"{told} {proof}", soft_wrap=True, markup=False)
    if needed:
        show.OUT.print("It imports `sdc`. To run it by hand, one of:", soft_wrap=True, markup=False)
        for line in needed:
            show.OUT.print(f"  {line}", soft_wrap=True, markup=False)
    for note in done.notes:
        show.ERR.print(f"{done.method}: {note}", soft_wrap=True, markup=False)
