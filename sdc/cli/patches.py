"""Commands on upstreams and their patches: list, apply, revert, status, verify, upstream."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdc.adapters.registry import ADAPTERS
from sdc.cli import forks, progress, show
from sdc.cli.common import (
    All,
    Data,
    Dataset,
    Device,
    Json,
    Methods,
    Script,
    To,
    Uncommitted,
    app,
    choose,
    chosen_methods,
    print_json,
)
from sdc.ground.files import writable, write_text
from sdc.patching import clones, fork, proof
from sdc.patching.apply import apply as apply_to_clone
from sdc.patching.apply import revert as revert_clone
from sdc.patching.apply import verify as verify_clone
from sdc.patching.methods import find

if TYPE_CHECKING:
    from sdc.adapters.base import Adapter
    from sdc.patching.apply import Change


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
                "needs": [need.wanted for need in a.needs],
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
    script: Script = "",
    uncommitted: Uncommitted = False,
    vendor: Annotated[bool, typer.Option("--vendor", help="Put a copy of the plugin beside the script, too.")] = False,
    as_json: Json = False,
) -> None:
    """Clone, pin and patch upstreams, or patch your own clone or fork; again: no change. Prints the change made."""
    if to:

        def act(adapter: Adapter) -> Change:
            return fork.apply(adapter, to, uncommitted=uncommitted, vendored=vendor, script=script)

        forks.change(forks.for_one(methods, every, script), as_json, act, forks.place(to, script))
    else:
        forks.of_ours(script)
        forks.change(chosen_methods(methods, every), as_json, lambda adapter: apply_to_clone(adapter, vendored=vendor))


@app.command()
def revert(
    methods: Methods = None,
    *,
    every: All = False,
    to: To = None,
    script: Script = "",
    uncommitted: Uncommitted = False,
    as_json: Json = False,
) -> None:
    """Take the patch out again: every file then equals the pin's, or what your own clone or fork had."""
    if to:

        def act(adapter: Adapter) -> Change:
            return fork.revert(adapter, to, uncommitted=uncommitted, script=script)

        forks.change(forks.for_one(methods, every, script), as_json, act, forks.place(to, script))
    else:
        forks.of_ours(script)
        forks.change(chosen_methods(methods, every), as_json, revert_clone)


@app.command()
def status(methods: Methods = None, *, to: To = None, script: Script = "", as_json: Json = False) -> None:
    """What each clone is: absent, pristine, patched or drifted. Exit 1 if anything drifted."""
    if to:
        found = [fork.status(adapter, to, script) for adapter in forks.for_one(methods, False, script)]
    else:
        forks.of_ours(script)
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
                        "by_hand": s.by_hand,
                        "notes": list(s.notes),
                    }
                    for s in found
                ]
            }
        )
    else:
        show.table(
            "",
            ("method", "state", "commit", "upstream"),
            [[s.method, forks.state(s), s.commit[:8], _address(s.upstream)] for s in found],
        )
        for s in found:
            for problem in (*s.problems, *s.notes):
                show.ERR.print(f"{s.method}: {problem}", markup=False, soft_wrap=True)
    if any(s.state == "drifted" for s in found):
        raise typer.Exit(1)


@app.command()
def verify(
    methods: Methods = None,
    *,
    every: All = False,
    to: To = None,
    script: Script = "",
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
    if not to:
        forks.of_ours(script)
    chosen = forks.for_one(methods, every, script) if to else chosen_methods(methods, every)
    if report:
        writable(report.absolute().parent, report.absolute())  # or the proof is made for nothing
    proofs = [fork.verify(adapter, to, script) if to else verify_clone(adapter) for adapter in chosen]
    seen = ""
    if behaviour:
        from sdc.distillation import behaviour as scripts

        with progress.bars() as watch:
            proofs, seen = scripts.added_to(proofs, to, dataset, data, watch, script)
    if report:
        command = " ".join(["sdc verify", *(a.method for a in chosen), *(["--behaviour"] if behaviour else [])])
        write_text(report, proof.report(proofs, ADAPTERS, command, seen))
    if as_json:
        print_json(proof.as_json(proofs))
    else:
        show.proofs(proofs)
    if not all(each.ok for each in proofs):
        raise typer.Exit(1)


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
