"""The command on difficulty: of distilled sets and real images, over the distillation, by weight; parts by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sdc.cli import progress, show
from sdc.cli.common import Data, Dataset, Device, Json, app, choose, print_json
from sdc.ground import hardware
from sdc.ground.files import writable
from sdc.ground.watch import Once

Networks = Annotated[
    Literal["auto", "fresh", "trained", "experts"],
    typer.Option(
        help="Over which networks. auto: those that the penalty is taken on, which is states of the experts for a run "
        "that matches experts, else fresh ones; for real images alone trained ones."
    ),
]


@app.command()
def difficulty(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Run folders, folders of them, or distilled sets.")
    ] = None,
    *,
    dataset: Dataset = None,
    data: Data = None,
    networks: Networks = "auto",
    count: Annotated[int, typer.Option(help="How many networks.", min=1)] = 5,
    epochs: Annotated[int, typer.Option(help="Epochs of networks trained on real images.", min=1)] = 5,
    model: Annotated[str | None, typer.Option(help="Their model; the run's if not given, or ConvNet.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same networks.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="Use only so many training images of each class; 0: all.", min=0)] = 0,
    most: Annotated[int, typer.Option(help="Measure so many real images of each class at most; 0: all.", min=0)] = 100,
    steps: Annotated[bool, typer.Option("--steps", help="Also the states on the way that runs kept.")] = False,
    trend: Annotated[bool, typer.Option("--trend", help="Difficulty by weight, over both kinds of networks.")] = False,
    split: Annotated[
        Literal["easiest", "hardest", "random"] | None,
        typer.Option(help="Write such a part of the real images as a folder that --data and init_from take."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="With --split: of each class.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where tables, tensors, figures, or a part go.", file_okay=False)
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Difficulty of samples: the norm of the gradient that one gives a network (GraDN), with tables and figures."""
    choose(device)
    _check(paths or [], bool(dataset or data), trend=trend, steps=steps, split=split is not None, out=out is not None)
    from sdc.analysis.difficulty import measure as analysis  # torch takes seconds to import
    from sdc.analysis.difficulty import panel, parts
    from sdc.analysis.difficulty import trend as trends

    if out and not split:
        writable(out)
    asked = panel.Request(tuple(paths or ()), dataset, data, networks, count, epochs, model, seed, limit, most, steps)
    with progress.bars() as bars:
        watch = Once(bars)
        watch.say(f"computing on {hardware.said()}")
        if split and out:
            made = parts.split(asked, split, fraction, out, watch)
            written = [out]
        elif trend:
            falls = trends.measure(asked, watch)
            made, written = trends.facts(falls), trends.write(falls, out) if out else []
        else:
            found = analysis.measure(asked, watch)
            made, written = analysis.facts(found), analysis.write(found, out) if out else []
    if as_json:
        print_json(made)
    else:
        (show.part if split else show.trend if trend else show.difficulty)(made)
    for file in written:
        show.ERR.print(f"wrote {file}", soft_wrap=True, markup=False)


def _check(paths: list[Path], has_data: bool, *, trend: bool, steps: bool, split: bool, out: bool) -> None:
    """Refuse what does not go together."""
    if not (paths or has_data):
        raise typer.BadParameter("name runs or distilled sets, or real images: --dataset NAME or --data PATH")
    if sum((trend, steps, split)) > 1:
        raise typer.BadParameter("--trend, --steps and --split are asked for one at a time")
    if (trend or steps) and not paths:
        raise typer.BadParameter("--trend and --steps are of runs: name them, or a folder of them")
    if split and (paths or not out):
        raise typer.BadParameter("--split is of real images (--dataset NAME or --data PATH), into a folder: --out DIR")
