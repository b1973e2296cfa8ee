"""Commands on the scaling law: point, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sdc.cli import progress, show
from sdc.cli.common import Json, app, print_json

theory = typer.Typer(
    help="The test error of a perceptron trained on pruned data: which examples to keep, and how many.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(theory, name="theory")

Dimension = Annotated[int, typer.Option(help="Of a simulation: dimensions.", min=2)]
Repetitions = Annotated[int, typer.Option(help="Of a simulation: repetitions, each with data of its own.", min=2)]
Seed = Annotated[int, typer.Option(help="Of a simulation: the seed of all repetitions.", min=0)]


@theory.command()
def point(
    *,
    alpha_tot: Annotated[float, typer.Option(help="Examples per dimension before pruning.")],
    fraction: Annotated[float, typer.Option(help="How much of them is kept.")],
    theta: Annotated[float, typer.Option(metavar="DEGREES", help="The probe's angle to the teacher, 0 to 90.")],
    keep: Annotated[Literal["easy", "hard", "random"], typer.Option(help="Which are kept.")],
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate it, too.")] = False,
    dimension: Dimension = 200,
    repetitions: Repetitions = 20,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Solve one setting: test error, overlap R with the teacher and rho with the probe, margin kappa."""
    from sdc.analysis.theory import perceptron
    from sdc.analysis.theory.margins import Pruning
    from sdc.analysis.theory.saddle import solve

    pruning = Pruning(fraction, theta, keep)
    solved = solve(alpha_tot, pruning)
    facts: dict[str, object] = {
        "error": solved.error,
        "R": solved.overlap,
        "rho": solved.rho,
        "kappa": solved.kappa,
    }
    if simulate:
        seen = perceptron.simulate(alpha_tot, pruning, perceptron.Size(dimension, repetitions, seed))
        facts["simulated"] = {"mean": seen.mean, "stderr": seen.stderr, "n": seen.n}
    if as_json:
        print_json(facts)
    else:
        show.theory(facts)


@theory.command()
def figures(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.", file_okay=False)] = Path("theory"),
    thetas: Annotated[
        list[float] | None,
        typer.Option("--theta", metavar="DEGREES", help="A probe's angle; 0, 10 and 30 if not given."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Coarse grids, to look at in seconds.")] = False,
    dimension: Dimension = 200,
    repetitions: Repetitions = 20,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Draw error curves, which keeping wins and where that turns, with the numbers behind them."""
    from sdc.analysis.theory import figures, sweeps
    from sdc.analysis.theory.perceptron import Size

    grid = (sweeps.quick if quick else sweeps.full)(thetas or (0.0, 10.0, 30.0), Size(dimension, repetitions, seed))
    with progress.bars() as watch:
        files = figures.make(grid, out, workers, watch)
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    for file in files:
        show.OUT.print(str(file), soft_wrap=True, markup=False)
