"""Commands for whoever adds a method: patch new, patch refresh, patch trial."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sdc.cli import progress, show
from sdc.cli.common import Json, app, print_json
from sdc.ground import packages

if TYPE_CHECKING:
    from sdc.distillation.first_update import Seen
    from sdc.patching.authoring import Authored

patch_app = typer.Typer(help="Patches of your own making: see docs/adding-a-method.md.", no_args_is_help=True)
app.add_typer(patch_app, name="patch")


@patch_app.command("new")
def new_patch(
    name: Annotated[str, typer.Argument(help="What the method is to be called.")],
    *,
    upstream: Annotated[str, typer.Option(help="The https address of its public repository.")],
    commit: Annotated[str, typer.Option(help="The full hash of the commit to pin.")],
    script: Annotated[str, typer.Option(help="The script that distils, by its path there.")],
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Run the patched script to its first update, once it is patched.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Clone an upstream; called again, turn your edits there into a patch, an adapter and recipes, and try them."""
    from sdc.patching import authoring

    made = authoring.new(name, upstream, commit, script)
    _authored(made, as_json, _tried(name) if trial and made.files else None)


@patch_app.command("trial")
def try_patch(
    name: Annotated[str, typer.Argument(help="A method, registered or just written.")],
    *,
    as_json: Json = False,
) -> None:
    """Run a method's patched script on the bundled digits to its first update. Exit 1 if it does not get there."""
    seen = _tried(name)
    if as_json:
        print_json(asdict(seen))
    else:
        _say(seen.lines())
    if not seen.updated:
        raise typer.Exit(1)


@patch_app.command("refresh")
def refresh_patch(
    name: Annotated[str, typer.Argument(help="A method.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a method's patch anew from your edits in its clone."""
    from sdc.patching import authoring

    _authored(authoring.refresh(name), as_json)


def _tried(name: str) -> Seen:
    from sdc.distillation import first_update

    with progress.bars() as watch:
        return first_update.tried(name, watch)


def _authored(made: Authored, as_json: bool, seen: Seen | None = None) -> None:
    if as_json:
        facts = asdict(made) | {"script": str(made.script), "files": [str(file) for file in made.files]}
        print_json(facts | ({"trial": asdict(seen)} if seen else {}))
        return
    needs = [f"needs {', '.join(made.needs)}: {packages.pip(made.needs)}"] if made.needs else []
    files = [f"wrote {file}" for file in made.files]
    tried = seen.lines() if seen else []
    _say([f"{made.method}: {made.script}", *(f"+ {text}" for text in made.lines), *files, *needs, *tried, made.after])


def _say(lines: list[str]) -> None:
    for line in lines:
        show.OUT.print(line, soft_wrap=True, markup=False)
