"""Commands on upstreams and their patches: list, apply, revert, status, verify, patch, upstream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.cli import progress, show
from sdc.cli.common import (
    All,
    Data,
    Dataset,
    Device,
    Json,
    Methods,
    To,
    Uncommitted,
    app,
    choose,
    chosen_methods,
    print_json,
)
from sdc.ground.files import writable, write_text
from sdc.patching import clones, fork, proof
from sdc.patching.apply import Change
from sdc.patching.apply import apply as apply_to_clone
from sdc.patching.apply import revert as revert_clone
from sdc.patching.apply import verify as verify_clone
from sdc.patching.methods import find

if TYPE_CHECKING:
    from sdc.patching.authoring import Authored


@app.command("list")
def list_methods(*, as_json: Json = False) -> None:
    """Methods: upstream, pin, licence, datasets, state."""
    states = {found.method: found.state for found in clones.statuses(ADAPTERS.values())}
    datasets = {method: sorted({*adapter.datasets, "digits"}) for method, adapter in ADAPTERS.items()}
    if as_json:
        rows = [
            {
                "method": m,
                "title": a.title,
                "upstream": a.upstream.url,
                "commit": a.upstream.commit,
                "licence": a.upstream.licence,
                "datasets": datasets[m],
                "state": states[m],
            }
            for m, a in ADAPTERS.items()
        ]
        print_json({"methods": rows})
        return
    columns = ("method", "upstream", "pin", "licence", "datasets", "state")
    show.table(
        "",
        columns,
        [
            [
                m,
                _address(a.upstream.url),
                a.upstream.commit[:8],
                a.upstream.licence or "none",
                " ".join(datasets[m]),
                states[m],
            ]
            for m, a in ADAPTERS.items()
        ],
    )


@app.command()
def apply(
    methods: Methods = None,
    *,
    every: All = False,
    to: To = None,
    uncommitted: Uncommitted = False,
    vendor: Annotated[bool, typer.Option("--vendor", help="Put a copy of the plugin beside the script, too.")] = False,
    as_json: Json = False,
) -> None:
    """Clone, pin and patch upstreams, or patch your own clone or fork; again: no change. Prints the change made."""
    if to:
        _change(
            _for_one(methods, every), as_json, lambda a: fork.apply(a, to, uncommitted=uncommitted, vendored=vendor)
        )
    else:
        _change(chosen_methods(methods, every), as_json, lambda adapter: apply_to_clone(adapter, vendored=vendor))


@app.command()
def revert(
    methods: Methods = None,
    *,
    every: All = False,
    to: To = None,
    uncommitted: Uncommitted = False,
    as_json: Json = False,
) -> None:
    """Take the patch out again: every file then equals the pin's, or what your own clone or fork had."""
    if to:
        _change(_for_one(methods, every), as_json, lambda adapter: fork.revert(adapter, to, uncommitted=uncommitted))
    else:
        _change(chosen_methods(methods, every), as_json, revert_clone)


@app.command()
def status(methods: Methods = None, *, to: To = None, as_json: Json = False) -> None:
    """What each clone is: absent, pristine, patched or drifted. Exit 1 if anything drifted."""
    if to:
        found = [fork.status(adapter, to) for adapter in _for_one(methods, every=False)]
    else:
        found = clones.statuses([find(method) for method in methods or ADAPTERS])
    if as_json:
        print_json(
            {
                "methods": [
                    {
                        "method": s.method,
                        "state": s.state,
                        "commit": s.commit,
                        "upstream": s.upstream,
                        "problems": list(s.problems),
                        "path": str(s.path),
                        "vendored": s.vendored,
                        "edited": s.edited,
                    }
                    for s in found
                ]
            }
        )
    else:
        show.table(
            "",
            ("method", "state", "commit", "upstream"),
            [[s.method, _state(s), s.commit[:8], _address(s.upstream)] for s in found],
        )
        for s in found:
            for problem in s.problems:
                show.ERR.print(f"{s.method}: {problem}")
    if any(s.state == "drifted" for s in found):
        raise typer.Exit(1)


@app.command()
def verify(
    methods: Methods = None,
    *,
    every: All = False,
    to: To = None,
    behaviour: Annotated[
        bool, typer.Option("--behaviour", help="Run each script with and without its patch, and compare the bits.")
    ] = False,
    dataset: Dataset = None,
    data: Data = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the proof as Markdown, too.", dir_okay=False)
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Prove that the patch is all that changed: files, lines, hashes, behaviour. Exit 1 if a claim fails."""
    choose(device)
    if (dataset or data) and not behaviour:
        raise typer.BadParameter("--dataset and --data are for --behaviour")
    chosen = _for_one(methods, every) if to else chosen_methods(methods, every)
    if report:
        writable(report.absolute().parent, report.absolute())  # or the proof is made for nothing
    proofs = [fork.verify(adapter, to) if to else verify_clone(adapter) for adapter in chosen]
    seen = ""
    if behaviour:
        from sdc.distillation import behaviour as scripts

        with progress.bars() as watch:
            proofs, seen = scripts.added_to(proofs, to, dataset, data, watch)
    if report:
        command = " ".join(["sdc verify", *(a.method for a in chosen), *(["--behaviour"] if behaviour else [])])
        write_text(report, proof.report(proofs, ADAPTERS, command, seen))
    if as_json:
        print_json(proof.as_json(proofs))
    else:
        show.proofs(proofs)
    if not all(each.ok for each in proofs):
        raise typer.Exit(1)


patch_app = typer.Typer(help="Patches of your own making: see docs/adding-a-method.md.", no_args_is_help=True)
app.add_typer(patch_app, name="patch")


@patch_app.command("new")
def new_patch(
    name: Annotated[str, typer.Argument(help="What the method is to be called.")],
    *,
    upstream: Annotated[str, typer.Option(help="The https address of its public repository.")],
    commit: Annotated[str, typer.Option(help="The full hash of the commit to pin.")],
    script: Annotated[str, typer.Option(help="The script that distils, by its path there.")],
    as_json: Json = False,
) -> None:
    """Clone an upstream; called again, turn your edits there into a patch, an adapter and recipes."""
    from sdc.patching import authoring

    _authored(authoring.new(name, upstream, commit, script), as_json)


@patch_app.command("refresh")
def refresh_patch(
    name: Annotated[str, typer.Argument(help="A method.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a method's patch anew from your edits in its clone."""
    from sdc.patching import authoring

    _authored(authoring.refresh(name), as_json)


def _authored(made: Authored, as_json: bool) -> None:
    if as_json:
        print_json(asdict(made) | {"script": str(made.script), "files": [str(file) for file in made.files]})
        return
    show.OUT.print(f"{made.method}: {made.script}", soft_wrap=True, markup=False)
    for line in (*(f"+ {text}" for text in made.lines), *(f"wrote {file}" for file in made.files), made.after):
        show.OUT.print(line, soft_wrap=True, markup=False)


upstream_app = typer.Typer(help="The upstreams as they are today.", no_args_is_help=True)
app.add_typer(upstream_app, name="upstream")


@upstream_app.callback()
def _upstream() -> None:
    """Keep `check` a word of its own."""


@upstream_app.command("check")
def check_upstream(
    methods: Methods = None,
    *,
    every: All = False,
    ref: Annotated[str, typer.Option(help="A branch, a tag or a commit of the upstream.")] = "HEAD",
    as_json: Json = False,
) -> None:
    """Would the patch still apply to a newer commit? Says where; moves no pin. Exit 1 if it would not."""
    from sdc.patching import newer

    found = [newer.check(adapter, ref) for adapter in chosen_methods(methods, every)]
    if as_json:
        print_json({"ok": all(check.ok for check in found), "methods": [asdict(c) | {"ok": c.ok} for c in found]})
    else:
        for check in found:
            at = "the pin" if check.commit == check.pin else f"{check.commit[:8]} ({ref}; the pin is {check.pin[:8]})"
            show.OUT.print(f"{check.method} at {at}: {check.said()}", soft_wrap=True, markup=False)
    if not all(check.ok for check in found):
        raise typer.Exit(1)


def _address(url: str) -> str:
    return url.removeprefix("https://").removeprefix("github.com/")


def _change(chosen: list[Adapter], as_json: bool, act: Callable[[Adapter], Change]) -> None:
    changes = []
    for adapter in chosen:
        changes.append(change := act(adapter))
        if not as_json:
            what = (
                f"{change.before} -> {change.after}" if change.before != change.after else f"{change.after}, no change"
            )
            show.OUT.print(f"{change.method}: {what}{', with a copy of the plugin' if change.vendored else ''}")
            if change.diff:
                show.OUT.print(change.diff, markup=False, soft_wrap=True)
    if as_json:
        print_json({"methods": [asdict(change) for change in changes]})


def _state(status: clones.Status) -> str:
    more = [word for word, true in (("edited", status.edited), ("vendored", status.vendored)) if true]
    return ", ".join([status.state, *more])


def _for_one(methods: list[str] | None, every: bool) -> list[Adapter]:
    """The methods of one folder of the user's own."""
    if every or not methods:
        raise typer.BadParameter("name the methods whose scripts the folder of --to has")
    return chosen_methods(methods, every)
