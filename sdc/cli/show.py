"""What people see: progress on stderr, tables on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdc.patching.proof import Proof, problems

if TYPE_CHECKING:
    from pathlib import Path

    from sdc.bench.conduct import Outlook
    from sdc.export.source import Export
    from sdc.report.make import Report
    from sdc.report.tables import Table as Written

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table under its title, if it has one; the columns named in `right` are numbers.

    The first column names the row, for the next command: it is never folded.
    """
    if title:  # the table's own title would be folded to its width
        OUT.print(title, style="bold", soft_wrap=True, markup=False)
    shown = Table()
    for number, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column in right else "left"
        shown.add_column(column, justify=side, overflow="fold", no_wrap=number == 0)
    for row in rows:
        shown.add_row(*row)
    OUT.print(shown)


def told(console: Console, text: str, style: str | None = None) -> None:
    """Print a text as it is, its tabs, too: it may hold lines of a script that are to be copied from here."""
    for line in text.split("\n"):
        if "\t" in line:  # the console would make spaces of them
            console.file.write(f"{line}\n")
        else:
            console.print(line, style=style, soft_wrap=True, markup=False)


def percent(value: float) -> str:
    """An accuracy as the field prints it."""
    return f"{100 * value:.2f}"


def scores(result: Mapping[str, Any], title: str) -> None:
    """Mean, standard deviation and number of networks of a result, a row a model."""
    table(title, ("model", *_NUMBERS), _scores(result), right=_NUMBERS)


def scores_of_sets(results: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """The same of several sets, by the names that these are given, which may be long: a row a set and model."""
    rows = [[*row, name] for name, result in results.items() for row in _scores(result)]
    table(title, ("model", *_NUMBERS, "set"), rows, right=_NUMBERS)


_NUMBERS = ("mean %", "std %", "n")


def _scores(result: Mapping[str, Any]) -> list[list[str]]:
    return [[model, percent(s["mean"]), percent(s["std"]), str(s["n"])] for model, s in result["by_model"].items()]


def proofs(found: Sequence[Proof]) -> None:
    """What was proved of each method, a row of two lines each, and what does not hold on stderr."""
    claimed = list(dict.fromkeys(claim.name for proof in found for claim in proof.claims))
    rows = [
        [
            p.method,
            f"{' '.join(p.files)}\n{', '.join(p.functions)}",
            f"+{p.added} -{p.removed} of {p.total}\n{100 * p.share:.2f} %",
            f"{p.before[:8]}\n{p.after[:8]}",
            *(next((claim.outcome for claim in p.claims if claim.name == name), "") for name in claimed),
            *([] if claimed else [p.patch_sha256[:8], "ok" if p.ok else "FAILED"]),
        ]
        for p in found
    ]
    columns = ("method", "script\nlines in", "lines\nshare", "before\nafter", *(claimed or ["patch", ""]))
    table("", columns, rows)
    for proof in found:
        if proof.spread:
            OUT.print(f"{proof.method}: {proof.spread}", markup=False, soft_wrap=True)
        for problem in problems(proof):
            ERR.print(f"{proof.method}: {problem}", markup=False, soft_wrap=True)


def calibration(facts: Mapping[str, Any]) -> None:
    """The weight of each fraction, and how far single updates are from the balance."""
    own = f" ({facts['fork']['name']})" if "fork" in facts else ""
    title = f"{facts['method']}{own} on {facts['dataset']}, ipc {facts['ipc']}, {facts['model']}, seed {facts['seed']}"
    rows = [[f"{each['fraction']:g}", f"{each['weight']:g}"] for each in facts["weights"]]
    table(title, ("fraction", "weight"), rows, right=("weight",))
    ratios, cosines = sorted(facts["ratios"]), facts["cosines"]
    OUT.print(
        f"equal at {facts['balance']:.3g} (median of {facts['updates']} updates, {ratios[0]:.3g} to {ratios[-1]:.3g}); "
        f"cosine of the two gradients {sum(cosines) / len(cosines):+.3f}",
        soft_wrap=True,
    )


def theory(facts: Mapping[str, Any]) -> None:
    """One setting of the scaling law, and its simulation if there is one."""
    OUT.print(f"test error {percent(facts['error'])} %")
    OUT.print(f"R {facts['R']:.6f}   rho {facts['rho']:.6f}   kappa {facts['kappa']:.6f}")
    if seen := facts.get("simulated"):
        OUT.print(f"simulated {percent(seen['mean'])} +- {percent(seen['stderr'])} % (standard error, n = {seen['n']})")


def bench(ahead: Outlook, found: Mapping[str, Any], workers: int, *, dry: bool) -> None:
    """The cells of a benchmark with their states (of a dry run), what was left out, and what the rest takes."""
    tasks = [*found["calibrations"], *found["cells"]]
    if dry:
        rows = [[task["name"], task["state"], (task["experts"] or "").rpartition("-")[2]] for task in tasks]
        table("", ("cell", "state", "experts"), rows)
    for gone in ahead.bench.left_out:
        OUT.print(
            f"left out: {gone.method} on {gone.dataset}, ipc {gone.ipc}: {gone.reason}", soft_wrap=True, markup=False
        )
    for task in tasks:
        if "error" in task:
            OUT.print(f"failed: {task['name']}\n{task['error']}", soft_wrap=True, markup=False)
    for group in ahead.groups:
        cost = group.estimate
        words = f"about {cost.seconds / 60:.0f} min, {cost.bytes / 1e6:.0f} MB" if cost else "there already"
        OUT.print(f"experts {group.where.name}, for {group.cells} cells: {words}", soft_wrap=True, markup=False)
    counts = ", ".join(f"{number} {state}" for state, number in found["states"].items())
    left = f"; to come: about {ahead.seconds / workers / 60:.0f} min" if dry and ahead.seconds else ""
    more = f" and {ahead.unknown} cells of unknown time" if dry and ahead.unknown else ""
    OUT.print(f"{len(found['cells'])} cells: {counts}{left}{more}", soft_wrap=True)


def exported(made: Export) -> None:
    """Where an export is and how it is read on stdout, what it could not take along on stderr."""
    for note in made.lost:
        ERR.print(note, soft_wrap=True, markup=False)
    OUT.print(made.path, soft_wrap=True, markup=False)
    OUT.print(f"read it by: {made.read}", soft_wrap=True, markup=False)


def difficulty(facts: Mapping[str, Any]) -> None:
    """Mean, standard deviation and number of samples of each source, by class and overall, and over which networks."""
    numbers = ("mean", "std", "n")
    for source in facts.get("sources", [facts]):
        rows = [[each["class"], *_spread(each)] for each in source["by_class"]]
        table(
            f"GraDN{' of ' + source['name'] if 'name' in source else ''}",
            ("class", *numbers),
            [*rows, ["all", *_spread(source["overall"])]],
            right=numbers,
        )
        if steps := source.get("steps"):
            table("", ("step", *numbers), [[str(each["step"]), *_spread(each)] for each in steps], right=numbers)
        OUT.print(f"over {source['networks']}", soft_wrap=True, markup=False)


def trend(facts: Mapping[str, Any]) -> None:
    """GraDN of the sets by weight, a table for each kind of networks, and for how many groups it falls."""
    for penalised, title in ((True, "over the networks that the penalty is taken on"), (False, "over other networks")):
        rows = [
            [
                *(("", "") if number else (t["group"], t["kind"])),
                f"{each['weight']:g}",
                *_spread(each),
                f"{each['penalty']['mean']:.4g}",
                "" if number else _falls(t["falls"]),
            ]
            for t in facts["trends"]
            if t["penalised"] is penalised
            for number, each in enumerate(t["weights"])
        ]
        numbers = ("weight", "mean", "std", "n")
        if rows:
            columns = ("runs", "networks", *numbers, "penalty", "falls")
            table(
                f"mean GraDN of the distilled set, {title}; mean and std over seeds",
                columns,
                rows,
                right=(*numbers, "penalty"),
            )
    falls = facts["falls"]
    OUT.print(f"falls with every weight in {falls['yes']} of {falls['of']}, over the networks of the penalty")


def part(facts: Mapping[str, Any]) -> None:
    """What was chosen of a dataset, class by class."""
    rows = [[each["class"], str(each["n"]), str(each["of"])] for each in facts["classes"]]
    table(f"{facts['part']} of {facts['dataset']}", ("class", "n", "of"), rows, right=("n", "of"))
    for name, each in facts["gradn"].items():
        OUT.print(f"GraDN of {name}: {each['mean']:.4g} +- {each['std']:.4g} (n = {each['n']})")
    if facts["networks"]:
        OUT.print(f"over {facts['networks']}", soft_wrap=True, markup=False)
    OUT.print(f"use it by: --data {facts['out']}, or --set init_from={facts['out']}", soft_wrap=True, markup=False)


def _spread(each: Mapping[str, Any]) -> list[str]:
    return [f"{each['mean']:.4g}", f"{each['std']:.2g}", str(each["n"])]


def _falls(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def report(made: Report, where: Path) -> None:
    """The tables of a report, what is missing in them, and where it was written."""
    from sdc.report import documents, tables

    for name, title in tables.SECTIONS.items():
        if rows := getattr(made.compared, name):
            OUT.print(f"{title}:", style="bold", soft_wrap=True, markup=False)
            _tables(tables.brief(rows, name))
    _tables(list(map(tables.choice_table, made.found.choices)))
    _tables([tables.elsewhere_table(made.found.elsewhere)] if made.found.elsewhere else [])
    OUT.print(documents.footnotes(made.compared).replace("±", "+-"), soft_wrap=True, markup=False)
    for gone in (*made.found.unfinished, *made.compared.repeated):
        OUT.print(f"{gone.state}: {gone.folder}: {gone.reason.splitlines()[0]}", soft_wrap=True, markup=False)
    count, others = len(made.found.runs), len(made.found.elsewhere)
    told = f"{count} runs" + (f", {others} set{'s' if others > 1 else ''} made elsewhere" if others else "")
    OUT.print(f"{told}; tables, figures and page: {where}", soft_wrap=True, markup=False)


def _tables(found: Sequence[Written]) -> None:
    """Tables as a report has them; all columns but the first and the last are numbers."""
    for each in found:
        title = f"{each.title}; {each.common}" if each.common else each.title
        rows = [[escape(cell.replace("±", "+-")) for cell in row] for row in each.rows]
        table(title, each.columns, rows, right=each.columns[1:-1])
