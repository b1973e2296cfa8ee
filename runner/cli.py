"""The command line: each command parses, calls one function of the library, and prints."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.base import Adapter
from adapters.registry import ADAPTERS
from runner import fork, patching, paths, proof, show
from runner.errors import FatalError, unknown
from runner.files import write_text
from runner.methods import find

if TYPE_CHECKING:
    from runner.authoring import Authored
    from runner.experts import Trained

app = typer.Typer(
    help="Sample Difficulty Correction for existing dataset-distillation code: pin, patch, prove, run, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_NAMES = ", ".join(ADAPTERS)
Methods = Annotated[list[str] | None, typer.Argument(help=_NAMES, metavar="METHOD...")]
All = Annotated[bool, typer.Option("--all", help="Every method.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="mnist, fashionmnist, svhn, cifar10, cifar100, tinyimagenet, digits; or a name for --data."),
]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Your own clone or fork, instead of ours.")]
Uncommitted = Annotated[bool, typer.Option("--uncommitted", help="With --to: also where its script is not committed.")]
Data = Annotated[Path | None, typer.Option(help="A folder or archive of train/<class>/*, test/<class>/*.")]


@app.command("list")
def list_methods(*, as_json: Json = False) -> None:
    """Methods: upstream, pin, licence, datasets, state."""
    states = {method: patching.status(adapter).state for method, adapter in ADAPTERS.items()}
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
        _print_json({"methods": rows})
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
        _change(_chosen(methods, every), as_json, lambda adapter: patching.apply(adapter, vendored=vendor))


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
        _change(_chosen(methods, every), as_json, patching.revert)


@app.command()
def status(methods: Methods = None, *, to: To = None, as_json: Json = False) -> None:
    """What each clone is: absent, pristine, patched or drifted. Exit 1 if anything drifted."""
    if to:
        found = [fork.status(adapter, to) for adapter in _for_one(methods, every=False)]
    else:
        found = [patching.status(find(method)) for method in methods or ADAPTERS]
    if as_json:
        _print_json(
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
    as_json: Json = False,
) -> None:
    """Prove that the patch is all that changed: files, lines, hashes, behaviour. Exit 1 if a claim fails."""
    if (dataset or data) and not behaviour:
        raise typer.BadParameter("--dataset and --data are for --behaviour")
    chosen = _for_one(methods, every) if to else _chosen(methods, every)
    proofs = [fork.verify(adapter, to) if to else patching.verify(adapter) for adapter in chosen]
    seen = ""
    if behaviour:
        from runner import behaviour as scripts

        with show.bars() as watch:
            proofs, seen = scripts.added_to(proofs, to, dataset, data, watch)
    if report:
        command = " ".join(["sdc verify", *(a.method for a in chosen), *(["--behaviour"] if behaviour else [])])
        write_text(report, proof.report(proofs, ADAPTERS, command, seen))
    if as_json:
        _print_json(proof.as_json(proofs))
    else:
        show.proofs(proofs)
    if not all(each.ok for each in proofs):
        raise typer.Exit(1)


@app.command()
def run(
    method: Annotated[str, typer.Argument(help=_NAMES)],
    *,
    weight: Annotated[float, typer.Option(help="Weight of the SDC term; 0 is the original method.")],
    dataset: Dataset = None,
    data: Data = None,
    ipc: Annotated[int, typer.Option(help="Images per class.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    schedule: Annotated[str, typer.Option(help="constant, linear or log ramp of the weight.")] = "constant",
    recipe: Annotated[str, typer.Option(help="quick (minutes on a CPU) or paper (the published settings).")] = "quick",
    model: Annotated[str | None, typer.Option(help="Network of the distillation; the recipe's if not given.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    runs_folder: Annotated[Path, typer.Option("--runs", help="Where run folders go.")] = Path("runs"),
    again: Annotated[bool, typer.Option("--again", help="Repeat a run that is complete.")] = False,
    as_json: Json = False,
) -> None:
    """Distil a dataset by one method, evaluate the outcome, record both in a run folder."""
    from runner import run as runs  # torch takes seconds to import: only the commands that need it wait for it
    from runner.plan import Request, plan

    request = Request(method, weight, dataset, data, ipc, schedule, seed, recipe, model, tuple(changes or ()))
    with show.bars() as watch:
        result = runs.run(plan(request, watch), runs_folder, watch, again=again)
    if as_json:
        _print_json(result)
    else:
        show.scores(result, f"{method} on {result['dataset']}, ipc {ipc}, weight {weight:g}, seed {seed}")
        show.OUT.print(result["run"], soft_wrap=True)


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
    from runner import authoring

    _authored(authoring.new(name, upstream, commit, script), as_json)


@patch_app.command("refresh")
def refresh_patch(
    name: Annotated[str, typer.Argument(help="A method.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a method's patch anew from your edits in its clone."""
    from runner import authoring

    _authored(authoring.refresh(name), as_json)


def _authored(made: Authored, as_json: bool) -> None:
    if as_json:
        _print_json(asdict(made) | {"script": str(made.script), "files": [str(file) for file in made.files]})
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
    from runner import newer

    found = [newer.check(adapter, ref) for adapter in _chosen(methods, every)]
    if as_json:
        _print_json({"ok": all(check.ok for check in found), "methods": [asdict(c) | {"ok": c.ok} for c in found]})
    else:
        for check in found:
            at = "the pin" if check.commit == check.pin else f"{check.commit[:8]} ({ref}; the pin is {check.pin[:8]})"
            show.OUT.print(f"{check.method} at {at}: {check.said()}", soft_wrap=True, markup=False)
    if not all(check.ok for check in found):
        raise typer.Exit(1)


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
    from runner import experts

    found, users = experts.listed(), experts.users(runs_folder)
    if as_json:
        _print_json({"experts": [_facts(trained) | {"runs": users.get(trained.key, [])} for trained in found]})
        return
    rows = [
        [
            t.key,
            t.facts["kind"],
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
    ipc: Annotated[int, typer.Option(help="Images per class of the runs to come: recipes differ by it.")] = 1,
    recipe: Annotated[str, typer.Option(help="quick or paper.")] = "quick",
    model: Annotated[str | None, typer.Option(help="Network; the recipe's if not given.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    as_json: Json = False,
) -> None:
    """Train the experts that runs with the same options will need; none if they are there."""
    from runner import experts
    from runner.plan import Request, plan

    request = Request(method, 0.0, dataset, data, ipc, recipe=recipe, model=model, changes=tuple(changes or ()))
    with show.bars() as watch:
        trained = experts.ready(plan(request, watch), watch)
    if trained is None:
        raise FatalError(f"{method} matches no experts. Methods that do: {', '.join(experts.methods())}")
    if as_json:
        _print_json(_facts(trained))
    else:
        show.OUT.print(str(trained.folder), soft_wrap=True)


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
    from runner import experts

    if every == bool(keys):
        raise typer.BadParameter("name keys, as sdc experts lists them, or give --all")
    known = [trained.key for trained in experts.listed()]
    for key in keys or []:
        if key not in known:
            raise unknown("key of experts", key, known)
    gone = [experts.delete(key) for key in (known if every else keys or [])]
    if as_json:
        _print_json({"deleted": [_facts(trained) for trained in gone]})
    else:
        for trained in gone:
            show.OUT.print(f"{trained.key}: {experts.megabytes(trained.bytes)} freed", soft_wrap=True)


def _number_of(trained: Trained) -> str:
    count, epochs = (trained.facts["settings"][name] for name in ("num_experts", "train_epochs"))
    return f"{trained.facts['done']} of {count} x {epochs}" if trained.unfinished else f"{count} x {epochs}"


def _facts(trained: Trained) -> dict[str, Any]:
    used = datetime.fromtimestamp(trained.used, UTC).isoformat(timespec="seconds")
    state = "unfinished" if trained.unfinished else "complete"
    return {**trained.facts, "state": state, "bytes": trained.bytes, "last_used": used, "folder": str(trained.folder)}


@app.command()
def evaluate(
    path: Annotated[
        Path, typer.Argument(help="A run folder, a .safetensors file, or a .pt file as the upstreams save them.")
    ],
    *,
    model: Annotated[str, typer.Option(help="Models, joined by commas.")] = "",
    networks: Annotated[int, typer.Option(help="Networks of each model; the protocol's number if not given.")] = 0,
    protocol: Annotated[str, typer.Option(help="upstream (as the method's code does) or uniform.")] = "upstream",
    dataset: Dataset = None,
    data: Data = None,
    zca: Annotated[bool, typer.Option("--zca", help="A .pt file's images are whitened.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same networks.")] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a protocol's setting, as epochs=300.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train networks on a distilled set and test them, in the way of its method or in the one way for all."""
    from runner import evaluation

    with show.bars() as watch:
        asked = evaluation.Request(
            path,
            dataset,
            data,
            tuple(filter(None, model.split(","))),
            networks,
            protocol,
            seed,
            tuple(changes or ()),
            zca,
        )
        result = evaluation.evaluate_file(asked, watch)
    if as_json:
        _print_json(result)
    else:
        show.scores(result, f"{path}, {protocol} protocol")


def main() -> None:
    """Run the command line and exit."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command; return 0 done, 1 expected failure, 2 wrong usage, 3 a bug, 130 interrupted."""
    return guarded(lambda: app(list(arguments)), as_json="--json" in arguments)


def guarded(work: Callable[[], None], *, as_json: bool = False) -> int:
    """Do `work`; print what went wrong for people, and return the exit code for it."""
    try:
        work()
    except SystemExit as stop:  # typer's own: done, wrong usage (2), interrupted (130)
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except FatalError as error:
        show.ERR.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        if as_json:
            _print_json({"error": str(error)})
        return 1
    except Exception:
        traceback.print_exc()
        show.ERR.print("This is a bug in sdc. Please report it with the lines above and the command you gave.")
        return 3
    return 0


def _address(url: str) -> str:
    return url.removeprefix("https://").removeprefix("github.com/")


def _change(chosen: list[Adapter], as_json: bool, act: Callable[[Adapter], patching.Change]) -> None:
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
        _print_json({"methods": [asdict(change) for change in changes]})


def _state(status: patching.Status) -> str:
    more = [word for word, true in (("edited", status.edited), ("vendored", status.vendored)) if true]
    return ", ".join([status.state, *more])


def _for_one(methods: list[str] | None, every: bool) -> list[Adapter]:
    """The methods of one folder of the user's own."""
    if every or not methods:
        raise typer.BadParameter("name the methods whose scripts the folder of --to has")
    return _chosen(methods, every)


def _chosen(methods: list[str] | None, every: bool) -> list[Adapter]:
    if every == bool(methods):
        raise typer.BadParameter(f"name methods ({', '.join(ADAPTERS)}) or give --all")
    return [find(method) for method in (ADAPTERS if every else methods or [])]


def _print_json(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
