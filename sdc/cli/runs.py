"""Commands on single runs: run, experts, evaluate, export."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdc.cli import progress, show
from sdc.cli.common import (
    NAMES,
    All,
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
from sdc.ground import paths
from sdc.ground.errors import unknown
from sdc.patching.trees import shown

if TYPE_CHECKING:
    from sdc.distillation.experts import Trained


@app.command()
def run(
    method: Annotated[str, typer.Argument(help=NAMES)],
    *,
    weight: Annotated[float, typer.Option(help="Weight of the SDC term; 0 is the original method.")],
    dataset: Dataset = None,
    data: Data = None,
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    schedule: Annotated[
        str,
        typer.Option(help="constant, linear or log ramp of the weight; constant/5: only every 5th step, 5 times over."),
    ] = "constant",
    recipe: Recipe = "quick",
    model: Model = None,
    changes: Changes = None,
    runs_folder: Runs = Path("runs"),
    to: To = None,
    script: Script = "",
    again: Annotated[bool, typer.Option("--again", help="Repeat a run that is complete.")] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Distil a dataset by one method, evaluate the outcome, record both in a run folder."""
    choose(device)
    from sdc.analysis.difficulty import course  # torch takes seconds to import: only what needs it waits for it
    from sdc.distillation import run as runs
    from sdc.plan.request import Request, plan

    fork = chosen_fork(method, to, script)
    request = Request(method, weight, dataset, data, ipc, schedule, seed, recipe, model, tuple(changes or ()), fork)
    with progress.bars() as watch:
        result = runs.run(plan(request, watch), runs_folder, watch, again=again)
        course.keep(Path(result["run"]), watch)
    if as_json:
        print_json(result)
    else:
        named = shown(method, fork)
        show.scores(result, f"{named} on {result['dataset']}, ipc {ipc}, weight {weight:g}, seed {seed}")
        show.OUT.print(result["run"], soft_wrap=True)


IpcToCome = Annotated[int, typer.Option(help="Images per class of the runs to come: recipes differ by it.")]
experts_app = typer.Typer(help="Experts: networks trained on real data, shared by all runs that match them.")
app.add_typer(experts_app, name="experts")


@experts_app.callback(invoke_without_command=True)
def list_experts(
    context: typer.Context,
    *,
    runs_folder: Annotated[Path, typer.Option("--runs", help="Where to look for runs that use them.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Experts that are there: size, and the runs that use them."""
    if context.invoked_subcommand:
        return
    from sdc.distillation import experts

    found, users = experts.listed(), experts.users(runs_folder)
    if as_json:
        print_json({"experts": [_facts(trained) | {"runs": users.get(trained.key, [])} for trained in found]})
        return
    rows = [
        [
            t.key,
            _kind_of(t),
            t.facts["dataset"],
            t.facts["model"],
            _number_of(t),
            experts.megabytes(t.bytes),
            str(len(users.get(t.key, []))),
            datetime.fromtimestamp(t.used, UTC).date().isoformat(),
        ]
        for t in found
    ]
    columns = ("key", "kind", "dataset", "model", "experts x epochs", "size", "runs", "last used")
    show.table(f"experts in {paths.experts()}", columns, rows, right=("size", "runs"))


@experts_app.command("train")
def train_experts(
    method: Annotated[str, typer.Argument(help="mtt, ftd, tesla, datm")],
    *,
    dataset: Dataset = None,
    data: Data = None,
    ipc: IpcToCome = 1,
    recipe: Recipe = "quick",
    model: Model = None,
    changes: Changes = None,
    to: To = None,
    script: Script = "",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train the experts that runs with the same options will need; none if they are there."""
    choose(device)
    from sdc.distillation import experts
    from sdc.plan.request import Request, plan

    fork, set_to = chosen_fork(method, to, script), tuple(changes or ())
    request = Request(method, 0.0, dataset, data, ipc, recipe=recipe, model=model, changes=set_to, fork=fork)
    with progress.bars() as watch:
        trained = experts.ready(plan(request, watch), watch)
    if trained is None:
        raise experts.none_for(method)
    if as_json:
        print_json(_facts(trained))
    else:
        show.OUT.print(str(trained.folder), soft_wrap=True)


@experts_app.command("import")
def import_experts(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of replay_buffer_*.pt, made elsewhere.")],
    method: Annotated[str, typer.Argument(help="mtt, ftd, tesla, datm")],
    *,
    dataset: Dataset = None,
    data: Data = None,
    ipc: IpcToCome = 1,
    recipe: Recipe = "quick",
    model: Model = None,
    changes: Changes = None,
    to: To = None,
    script: Script = "",
    link: Annotated[bool, typer.Option("--link", help="Link the files, on the same disk, instead of copying.")] = False,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Take them though the one tested fails.")] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Take in experts that were trained elsewhere with these options, so that runs with the same find them."""
    choose(device)
    from sdc.distillation import imported
    from sdc.plan.request import Request

    fork, set_to = chosen_fork(method, to, script), tuple(changes or ())
    request = Request(method, 0.0, dataset, data, ipc, recipe=recipe, model=model, changes=set_to, fork=fork)
    with progress.bars() as watch:
        taken = imported.take(imported.Import(folder, request, link, unchecked), watch)
    if as_json:
        print_json(_facts(taken.trained) | {"new": taken.new})
    else:
        show.OUT.print(str(taken.trained.folder), soft_wrap=True)


@experts_app.command("delete")
def delete_experts(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="Keys, as `sdc experts` lists them.")
    ] = None,
    *,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Take experts off the disk; a run that needs them trains them again."""
    from sdc.distillation import experts

    if every == bool(keys):
        raise typer.BadParameter("name keys, as sdc experts lists them, or give --all")
    known = [trained.key for trained in experts.listed()]
    for key in keys or []:
        if key not in known:
            raise unknown("key of experts", key, known)
    gone = [experts.delete(key) for key in (known if every else keys or [])]
    if as_json:
        print_json({"deleted": [_facts(trained) for trained in gone]})
    else:
        for trained in gone:
            show.OUT.print(f"{trained.key}: {experts.megabytes(trained.bytes)} freed", soft_wrap=True)


def _kind_of(trained: Trained) -> str:
    """Their kind, and whether this project's own pin trained them or who else did."""
    told = trained.facts
    fork = [told["fork"]["name"]] if "fork" in told else []
    return ", ".join([told["kind"], *fork, *(["imported"] if "imported_from" in told else [])])


def _number_of(trained: Trained) -> str:
    count, epochs = (trained.facts["settings"][name] for name in ("num_experts", "train_epochs"))
    return f"{trained.facts['done']} of {count} x {epochs}" if trained.unfinished else f"{count} x {epochs}"


def _facts(trained: Trained) -> dict[str, Any]:
    used = datetime.fromtimestamp(trained.used, UTC).isoformat(timespec="seconds")
    state = "unfinished" if trained.unfinished else "complete"
    return {**trained.facts, "state": state, "bytes": trained.bytes, "last_used": used, "folder": str(trained.folder)}


@app.command()
def evaluate(
    paths_given: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Run folders, .safetensors files, what sdc export writes, or sets made elsewhere: .pt and .npz files, "
            "save folders, folders of images a class (docs/foreign-sets.md).",
        ),
    ],
    *,
    model: Annotated[str, typer.Option(help="Models, joined by commas.")] = "",
    networks: Annotated[int, typer.Option(help="Networks of each model; the protocol's number if not given.")] = 0,
    protocol: Annotated[str, typer.Option(help="upstream (as the method's code does) or uniform.")] = "upstream",
    dataset: Dataset = None,
    data: Data = None,
    zca: Annotated[
        bool | None,
        typer.Option("--zca/--no-zca", help="Whether images of a set made elsewhere are whitened.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Its labels: hard, probabilities or logits; else by their numbers.")
    ] = None,
    label_order: Annotated[
        str | None,
        typer.Option(
            metavar="wnids|sorted|data|FILE", help="Which class each label of a .pt file means; FILE: a class a line."
        ),
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="K|all", help="Which experiment of a res_*.pt file, counted from 0.")
    ] = "all",
    seed: Annotated[int, typer.Option(help="The same seed gives the same networks.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a protocol's setting, as epochs=300; of a set made elsewhere mean, std, range, too.",
        ),
    ] = None,
    runs_folder: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Keep results of sets made elsewhere, for sdc report DIR."),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train networks on distilled sets and test them, in the way of its method or in the one way for all.

    On a GPU, sets of one shape and protocol share their time.
    """
    choose(device)
    from sdc.evaluation import foreign, set_files

    models = tuple(filter(None, model.split(",")))
    stated = foreign.Stated(labels, experiment, zca, order=label_order)
    asked = [
        set_files.Request(path, dataset, data, models, networks, protocol, seed, tuple(changes or ()), stated)
        for path in paths_given
    ]
    with progress.bars() as watch:
        results = set_files.evaluate_files(asked, watch, runs_folder)
    if as_json:
        print_json(results[0] if len(results) == 1 else {"state": "complete", "sets": results})
    elif len(results) == 1:
        show.scores(results[0], f"{paths_given[0]}, {protocol} protocol")
    else:
        show.scores_of_sets(dict(zip(map(str, paths_given), results, strict=True)), f"{protocol} protocol")
    for result in results if runs_folder and not as_json else []:
        show.OUT.print(result["kept"], soft_wrap=True, markup=False)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a distilled.safetensors file.")],
    *,
    to: Annotated[str, typer.Option(help="parquet (Hugging Face), folder (of images) or pt (the upstream's layout).")],
    out: Annotated[Path | None, typer.Option(help="Where to; beside the distilled set if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a distilled set in a form that is read elsewhere."""
    from sdc.export import write

    made = write.export(path, to, out)
    if as_json:
        print_json(asdict(made))
    else:
        show.exported(made)
