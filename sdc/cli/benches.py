"""Commands on many runs: bench, calibrate, report."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sdc.cli import progress, show
from sdc.cli.common import (
    NAMES,
    Changes,
    Data,
    Dataset,
    Device,
    Json,
    Model,
    Recipe,
    Runs,
    Script,
    To,
    app,
    choose,
    chosen_fork,
    print_json,
)
from sdc.ground.watch import Once

if TYPE_CHECKING:
    from sdc.bench.cells import Task

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the cells and what they take; run nothing.")]
Profile = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="With --on slurm or --export: what to ask Slurm for.")
]
Export = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run nothing; write array scripts for Slurm, and one to submit them.")
]
Stage = Annotated[str, typer.Option(help="Do one task alone, as exported scripts do: its stage.", hidden=True)]

Forks = Annotated[
    list[str] | None, typer.Option("--fork", help="With --stage: METHOD=HASH of a fork when exported.", hidden=True)
]


@app.command()
def bench(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to run: examples/quick.toml shows how.")],
    *,
    runs_folder: Runs = Path("runs"),
    dry_run: DryRun = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cells again that failed.")] = False,
    watch_cells: Annotated[bool, typer.Option("--watch", help="Show a live table of the cells.")] = False,
    per_gpu: Annotated[int, typer.Option(help="Cells at a time on each GPU.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Cells at a time without a GPU; 0: one a core.", min=0)] = 0,
    on: Annotated[Literal["local", "slurm"], typer.Option(help="Where the cells run.")] = "local",
    profile: Profile = None,
    export: Export = None,
    stage: Stage = "",
    number: Annotated[int, typer.Option(help="With --stage: which.", hidden=True)] = 0,
    forks: Forks = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Run every cell of a benchmark that is not done yet. Exit 1 if any failed."""
    choose(device)
    if (on == "slurm" or export is not None) != bool(profile) or (profile and (workers or per_gpu > 1)):
        raise typer.BadParameter(
            "--on slurm and --export take --profile FILE.toml, which says how many workers there are, too"
        )
    from sdc.bench import conduct, live, slots

    runs = runs_folder.resolve()
    if export and profile:
        with progress.bars() as watch:
            files = conduct.export(spec, runs, profile, export, watch)
        _exported(files, as_json)
        return
    if stage:
        with progress.bars() as watch:
            became = conduct.one(spec, runs, stage, number, watch, forks or ())
        _print_one(became, as_json)
        return
    places, ended = slots.on_slurm(profile) if profile else slots.here(per_gpu, workers), dict[str, str]()
    board = live.Board(runs)
    with progress.board(board.look) if watch_cells else progress.bars() as watch:
        looks = conduct.looks(
            spec,
            runs,
            Once(watch),  # planned anew whenever tasks are done
            retry_failed=retry_failed,
        )

        def look() -> conduct.Outlook:
            ahead = looks()
            board.cells = ahead.bench.cells
            return ahead

        def on_end(task: Task, became: str) -> None:
            ended[task.folder] = became
            watch.progress(len(ended))
            watch.say(f"{became}: {task.name()}")
            if remark := conduct.remark(task, runs):
                watch.say(remark)

        if dry_run:
            ahead = conduct.foreseen(look, watch)
        else:
            from sdc.bench import engine  # and Parsl, which a look at the cells can do without

            carry_out = functools.partial(engine.carry_out, runs=runs, slots=places, on_end=on_end, say=watch.say)
            ahead = conduct.carry_out(look, carry_out, runs, watch)
    found = conduct.summary(ahead, runs, ended)
    if as_json:
        print_json(found)
    else:
        show.bench(ahead, found, places.count, dry=dry_run)
    if found["failed"] and not dry_run:
        raise typer.Exit(1)


def _exported(files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    for file in files:
        show.OUT.print(str(file), soft_wrap=True)
    show.OUT.print(f"Submit them: {files[0]}", soft_wrap=True)


def _print_one(became: str, as_json: bool) -> None:
    if as_json:
        print_json({"state": became})
    else:
        show.OUT.print(became)
    if became == "failed":
        raise typer.Exit(1)


@app.command()
def calibrate(
    method: Annotated[str, typer.Argument(help=NAMES)],
    *,
    dataset: Dataset = None,
    data: Data = None,
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the run that is measured.")] = 0,
    recipe: Recipe = "quick",
    model: Model = None,
    changes: Changes = None,
    fractions: Annotated[
        list[float] | None,
        typer.Option("--fraction", help="Length of the term's image gradient, in parts of the matching loss's."),
    ] = None,
    updates: Annotated[int, typer.Option(help="Updates of the images that are looked at; 0: the usual number.")] = 0,
    runs_folder: Runs = Path("runs"),
    to: To = None,
    script: Script = "",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure, over the first updates of a run, at which weight the SDC term weighs how much."""
    choose(device)
    from sdc.distillation import calibrate as calibration
    from sdc.plan.request import Request, plan

    fork = chosen_fork(method, to, script)
    request = Request(method, 0.0, dataset, data, ipc, "constant", seed, recipe, model, tuple(changes or ()), fork)
    asked = fractions or calibration.FRACTIONS
    with progress.bars() as watch:
        facts = calibration.weights(plan(request, watch), asked, runs_folder, watch, updates or calibration.UPDATES)
    if as_json:
        print_json(facts)
    else:
        show.calibration(facts)


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
    difficulty: Annotated[
        bool | None,
        typer.Option(
            "--difficulty/--no-difficulty",
            help="Measure difficulty over the steps where runs lack it, however long that takes; or measure none. Not "
            "given: only if it takes a moment.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Compare all runs with and without SDC: tables (also Markdown, CSV, LaTeX), figures, one HTML page."""
    choose(device)
    from sdc.analysis.difficulty import backlog
    from sdc.report import make

    where = out or runs_folder / "report"
    with progress.bars() as watch:
        backlog.fill(runs_folder, difficulty, watch)
        made = make.make(runs_folder, where, html, watch)
    if as_json:
        print_json(make.as_json(made))
    else:
        show.report(made, where)
