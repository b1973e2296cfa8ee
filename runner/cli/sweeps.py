"""Commands on many runs: bench, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import show
from runner.cli.common import Json, Runs, app, print_json

if TYPE_CHECKING:
    from runner.bench.cells import Cell


@app.command()
def bench(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to run: examples/quick.toml shows how.")],
    *,
    runs_folder: Runs = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and what they take; run nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cells again that failed.")] = False,
    per_gpu: Annotated[int, typer.Option(help="Cells at a time on each GPU.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Cells at a time without a GPU; 0: one for two cores.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Run every cell of a benchmark that is not done yet. Exit 1 if any failed."""
    from runner.bench import conduct, engine

    with show.bars() as watch:
        ahead = conduct.outlook(spec, runs_folder, watch, retry_failed=retry_failed)
        slots = engine.here(per_gpu, workers)
        ended: dict[str, str] = {}
        if not dry_run:
            watch.stage(f"running {len(ahead.to_do)} cells, {slots.count} at a time", len(ahead.to_do))

            def on_end(cell: Cell, became: str) -> None:
                ended[cell.folder] = became
                watch.progress(len(ended))
                watch.say(f"{became}: {cell.name()}")

            conduct.carry_out(ahead, runs_folder, slots, watch, on_end)
    found = conduct.summary(ahead, runs_folder, ended)
    if as_json:
        print_json(found)
    else:
        show.bench(ahead, found, slots.count)
    if found["failed"] and not dry_run:
        raise typer.Exit(1)


@app.command()
def report(
    runs_folder: Annotated[Path, typer.Argument(metavar="[RUNS]", help="A folder of run folders.")] = Path("runs"),
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; RUNS/report if not given.", file_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page to this file, too.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare all runs with and without SDC: tables (also Markdown, CSV, LaTeX), figures, one HTML page."""
    from runner.report import make

    where = out or runs_folder / "report"
    with show.bars() as watch:
        made = make.make(runs_folder, where, html, watch)
    if as_json:
        print_json(make.as_json(made))
    else:
        show.report(made, where)
