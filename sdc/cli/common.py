"""What the commands share: the application, the options that several take, and how JSON is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.ground import hardware
from sdc.patching import trees
from sdc.patching.methods import find
from sdc.patching.trees import Fork

_ORDER = (
    *("list", "doctor", "apply", "revert", "status", "verify", "run", "experts", "evaluate", "export"),
    *("calibrate", "bench", "report", "difficulty", "theory", "patch", "upstream"),
)


class _InOrder(TyperGroup):
    """Lists the commands in the order in which people come to need them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Their names."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from sdc.cli import about

        sys.stdout.write("\n".join(about.lines()) + "\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Version, commit, torch, device.")
    ] = False,
) -> None:
    """Sample Difficulty Correction for existing dataset-distillation code: pin, patch, prove, run, compare."""


NAMES = ", ".join(ADAPTERS)
Methods = Annotated[list[str] | None, typer.Argument(help=NAMES, metavar="METHOD...")]
All = Annotated[bool, typer.Option("--all", help="Every method.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="mnist, fashionmnist, svhn, cifar10, cifar100, tinyimagenet, digits; or a name for --data."),
]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Your own clone or fork, instead of ours.")]
Script = Annotated[
    str, typer.Option("--script", metavar="PATH", help="With --to: the script's path there, if it has another.")
]
Uncommitted = Annotated[bool, typer.Option("--uncommitted", help="With --to: also where its script is not committed.")]
Data = Annotated[
    Path | None, typer.Option(help="A folder or archive of train/<class>/*, test/<class>/*; or a published dataset.")
]
Recipe = Annotated[str, typer.Option(help="quick (minutes on a CPU) or paper (the published settings).")]
Model = Annotated[str | None, typer.Option(help="Network of the distillation; the recipe's if not given.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")]
Device = Annotated[
    Literal["auto", "cuda", "cpu"] | None,
    typer.Option(help="What to compute on; auto, the default, is a GPU where torch sees one.", show_default=False),
]
Runs = Annotated[Path, typer.Option("--runs", help="Where run folders go.")]


def chosen_fork(method: str, to: Path | None, script: str) -> Fork | None:
    """The user's own fork of a method that is to be run; None: the pin is."""
    if script and not to:
        raise typer.BadParameter("--script is for --to DIR")
    return trees.look(find(method), to, script) if to else None


def choose(device: str | None) -> None:
    """Compute on this device from now on, in the processes that are started, too."""
    if device:
        os.environ[hardware.VARIABLE] = device


def chosen_methods(methods: list[str] | None, every: bool) -> list[Adapter]:
    """The methods that are named, or all."""
    if every == bool(methods):
        raise typer.BadParameter(f"name methods ({', '.join(ADAPTERS)}) or give --all")
    return [find(method) for method in (ADAPTERS if every else methods or [])]


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
