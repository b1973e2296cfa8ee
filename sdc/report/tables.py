"""Rows as tables of text, for people, whatever they are then printed with."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdc.evaluation.stats import Difference, Spread
from sdc.report import origins
from sdc.report.compare import Comparison, Row, Side
from sdc.report.elsewhere import Elsewhere
from sdc.report.load import Choice

SECTIONS = {
    "test": "With and without SDC, on the test images",
    "cross": "The same distilled sets, evaluated by other networks or in another way",
    "validation": "On a validation split of the training images (what weights are chosen by; not the test images)",
}
LEGEND = (
    "Accuracies in %: mean ± standard deviation (population) over n networks, all seeds pooled. Difference: the mean, "
    "over the seeds that both sides have, of a seed's mean accuracy with SDC minus that without, with its 95% "
    "confidence interval (Student's t over the seeds); one seed gives no interval. An interval that contains 0 shows "
    "no difference; where there is none, one interval in twenty leaves 0 out by chance. "
    "Floor: random real images, as many."
)
ELSEWHERE = (
    "Files that no run here made. What they do not say of images and labels was assumed, as the page tells of each. n: "
    "the networks of all experiments of a file."
)
NUMBERS = ("ipc", "weight", "base", "+SDC", "difference", "seeds", "floor", "published", "accuracy")


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows of text; `common` is what all rows have in common, left out of them."""

    title: str
    common: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(rows: Sequence[Row], section: str) -> Table:
    """The table of one section; columns that would be empty or say the same in each row are left out."""
    cells = [_cells(row) for row in rows]
    same = {name for name in ("settings", "evaluated by") if len({line[name] for line in cells}) == 1}
    empty = {name for name in ("evaluated by", "floor", "published", "notes") if not any(c[name] for c in cells)}
    columns = tuple(name for name in cells[0] if name not in same | empty)
    common = "; ".join(f"{name}: {cells[0][name]}" for name in ("settings", "evaluated by") if name in same - empty)
    return Table(SECTIONS[section], common, columns, tuple(tuple(line[name] for name in columns) for line in cells))


def tables(compared: Comparison) -> dict[str, Table]:
    """The tables of all sections that have rows."""
    rows = {name: getattr(compared, name) for name in SECTIONS}
    return {name: table(of, name) for name, of in rows.items() if of}


def brief(rows: Sequence[Row], section: str) -> list[Table]:
    """The same for a terminal: a table for each dataset and ipc, in few columns of two lines or three."""
    places = itertools.groupby(rows, lambda row: (row.group.dataset, row.group.ipc))
    return [_brief(f"{dataset}, ipc {ipc}", table(list(there), section)) for (dataset, ipc), there in places]


def _brief(title: str, full: Table) -> Table:
    """Settings that differ are told once, under letters."""
    found = [dict(zip(full.columns, line, strict=True)) for line in full.rows]
    letters = dict(zip(dict.fromkeys(cells.get("settings", "") for cells in found), _letters(), strict=False))
    lines = []
    for cells in found:
        which = f" ({letters[cells['settings']]})" if "settings" in cells else ""
        name = [f"{cells['method']}{which} {cells['weight']}", cells.get("evaluated by", "")]
        sides = [cells[column].replace(" ±", "\n±") for column in ("base", "+SDC")]
        mean, _, interval = cells["difference"].partition(" ")
        paired = f"{mean or 'none'}, s = {cells['seeds']}\n{interval}"
        beside = [cells.get("floor", "").partition(" ")[0], cells.get("published", "")]
        shown = filter(None, (cells["shown"].replace("difference ", "difference\n"), cells.get("notes")))
        lines.append(("\n".join(filter(None, name)), *sides, paired, "\n".join(beside), "\n".join(shown)))
    told = "; ".join(f"({letter}) {name}" for name, letter in letters.items() if name)
    columns = ("method\nweight", "base\n(n)", "+SDC\n(n)", "difference\n[95%]", "floor\npublished", "shown")
    kept = [number for number in range(len(columns)) if any(line[number].strip() for line in lines)]
    rows = tuple(tuple(line[number] for number in kept) for line in lines)
    return Table(title, full.common or told, tuple(columns[number] for number in kept), rows)


def _letters() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def choice_table(choice: Choice) -> Table:
    """What a weight was chosen from."""
    title = (
        f"{origins.named(choice.method, choice.fork)} on {choice.dataset}, ipc {choice.ipc} "
        f"({choice.model}, {choice.recipe}, {choice.schedule}): "
        f"weight {choice.weight:.4g} ({choice.asked})"
    )
    common = f"chosen on {choice.validation:g}% of the training images, held out; seeds {_listed(choice.seeds)}"
    rows = []
    for one in choice.candidates:
        known = None if one.difference is None else Difference(one.difference, None, one.low, one.high, choice.seeds)
        chosen = "chosen" if one.asked == choice.asked and one.weight == choice.weight else ""
        shown = spread(Spread(one.mean, one.std, one.n))
        rows.append((one.asked, f"{one.weight:.4g}", shown, difference(known), chosen))
    return Table(title, common, ("asked", "weight", "accuracy", "difference", ""), tuple(rows))


def elsewhere_table(sets: Sequence[Elsewhere]) -> Table:
    """A row for each set made elsewhere and model."""
    rows = []
    for each in sets:
        shape = "x".join(map(str, each.shape))
        for model, found in each.spreads().items():
            rows.append((each.name, each.dataset, shape, model, spread(found), _protocol(each.protocol)))
    columns = ("set", "dataset", "images", "evaluated by", "accuracy", "protocol")
    if len({row[-1] for row in rows}) > 1:
        return Table("Sets made elsewhere", ELSEWHERE, columns, tuple(rows))
    same = f"protocol: {rows[0][-1]}. " if rows else ""
    return Table("Sets made elsewhere", same + ELSEWHERE, columns[:-1], tuple(row[:-1] for row in rows))


def _protocol(settings: Mapping[str, Any]) -> str:
    numbers = [f"{name} {settings[name]:g}" for name in ("epochs", "batch", "lr") if name in settings]
    return ", ".join([*numbers, str(settings.get("augment") or "plain")])


def spread(found: Spread | None) -> str:
    """`45.20 ± 0.30 (15)`, in percent, the number of networks behind it; empty for None."""
    return f"{100 * found.mean:.2f} ± {100 * found.std:.2f} ({found.n})" if found else ""


def difference(found: Difference | None) -> str:
    """`+0.84 [+0.20, +1.48]`, in percentage points; without an interval where there is none; empty for None."""
    if found is None:
        return ""
    ends = "" if found.low is None or found.high is None else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    return f"{100 * found.mean:+.2f}{ends}"


def published(row: Row) -> str:
    """The published accuracy, marked where the runs are not the published settings; empty if there is none."""
    if row.published is None:
        return ""
    return f"{100 * row.published.mean:.1f} ± {100 * row.published.std:.1f}{'*' if row.apart else ''}"


def arm(row: Row) -> str:
    """The weight, and its schedule if it is not constant."""
    return f"{row.weight:.4g}" + (f" {row.schedule}" if row.schedule not in ("", "constant") else "")


def settings(row: Row) -> str:
    """Network, recipe, and what differs from it."""
    return ", ".join([row.group.model, row.group.recipe, *row.changes])


def seeds(row: Row) -> str:
    """How many seeds are compared, or how many there are where nothing is."""
    found = row.difference.seeds if row.difference else sorted(_seeds(row.base) | _seeds(row.sdc))
    return str(len(found)) if row.difference or not (row.base and row.sdc) else "0"


def evaluated(row: Row) -> str:
    """The networks of an evaluation beside the run's own, and its protocol; empty for the run's own."""
    return f"{row.evaluated}, {row.protocol}" if row.protocol else ""


def _cells(row: Row) -> dict[str, str]:
    return {
        "method": row.group.named,
        "dataset": row.group.dataset,
        "ipc": str(row.group.ipc),
        "weight": arm(row),
        "evaluated by": evaluated(row),
        "base": spread(row.base.spread if row.base else None),
        "+SDC": spread(row.sdc.spread if row.sdc else None),
        "difference": difference(row.difference),
        "seeds": seeds(row),
        "shown": row.claim(),
        "floor": spread(row.floor),
        "published": published(row),
        "settings": settings(row),
        "notes": "; ".join(row.notes),
    }


def _seeds(side: Side | None) -> set[int]:
    return set(side.by_seed) if side else set()


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
