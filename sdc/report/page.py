"""The page: one HTML file with all tables, figures and the inputs of every run, which needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from sdc.evaluation import stats
from sdc.evaluation.stats import Difference, Spread
from sdc.ground.drawing import Drawn
from sdc.report import commands, documents, tables
from sdc.report.compare import Comparison, Row, Side
from sdc.report.elsewhere import Elsewhere
from sdc.report.figures import Figures
from sdc.report.load import Choice, Evaluation, Found

Part = tuple[str, float | None]
"""A piece of text, and the unrounded number that it stands for, if it does."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text in parts, the anchor of the runs behind it, and what it is sorted by."""

    column: str
    parts: tuple[Part, ...]
    link: str = ""
    order: float | None = None


def page(found: Found, compared: Comparison, figures: Figures) -> str:
    """The whole file as text; equal inputs give equal text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": commands.number, "percent": _percent, "uri": _uri, "short": _short}
    template = environment.from_string((files(__package__) / "page.html").read_text(encoding="utf-8"))
    anchors = {run.folder.name: runs.anchor for runs in compared.sets for run in runs.runs}
    sections = [(name, each, _lines(getattr(compared, name), each)) for name, each in tables.tables(compared).items()]
    return template.render(
        found=found,
        counts=_counts(compared),
        legend=tables.LEGEND,
        footnotes=documents.footnotes(compared),
        sections=sections,
        numbers=tables.NUMBERS,
        choices=[(tables.choice_table(choice), _candidates(choice, anchors)) for choice in found.choices],
        missing=[*found.unfinished, *compared.repeated],
        figures=_by_kind(figures.drawn),
        skipped=figures.skipped,
        sets=compared.sets,
        elsewhere=tables.elsewhere_table(found.elsewhere),
        elsewhere_lines=_elsewhere(found.elsewhere),
        again=commands.again,
        others=_others,
    )


def _lines(rows: Sequence[Row], shown: tables.Table) -> list[list[Cell]]:
    """The cells of a section's rows, in the columns that its table has."""
    plain = [dict(zip(shown.columns, texts, strict=True)) for texts in shown.rows]
    return [
        [_rich(row).get(name) or Cell(name, ((text, None),)) for name, text in texts.items()]
        for row, texts in zip(rows, plain, strict=True)
    ]


def _rich(row: Row) -> dict[str, Cell]:
    """The cells that hold numbers."""
    base, sdc = (side.anchor if side else "" for side in (row.base, row.sdc))
    figure = row.published
    known = Spread(figure.mean, figure.std, 0) if figure else None
    mark = "*" if row.apart else ""
    return {
        "ipc": Cell("ipc", ((str(row.group.ipc), None),), order=row.group.ipc),
        "weight": Cell("weight", ((tables.arm(row), None),), order=row.weight),
        "base": _of_side("base", row.base),
        "+SDC": _of_side("+SDC", row.sdc),
        "difference": _of_difference(row.difference, sdc),
        "seeds": Cell("seeds", ((tables.seeds(row), None),), sdc or base, float(tables.seeds(row))),
        "floor": _of_spread("floor", row.floor, base, f" ({row.floor.n})" if row.floor else ""),
        "published": _of_spread("published", known, "sources", mark, digits=1),
    }


def _of_side(column: str, side: Side | None) -> Cell:
    return _of_spread(column, side.spread, side.anchor, f" ({side.spread.n})") if side else Cell(column, (("", None),))


def _of_spread(column: str, found: Spread | None, link: str, end: str, digits: int = 2) -> Cell:
    if found is None:
        return Cell(column, (("", None),))
    mean, std = (f"{100 * value:.{digits}f}" for value in (found.mean, found.std))
    return Cell(column, ((mean, found.mean), (" ± ", None), (std, found.std), (end, None)), link, found.mean)


def _of_difference(found: Difference | None, link: str) -> Cell:
    if found is None:
        return Cell("difference", (("", None),))
    parts: list[Part] = [(f"{100 * found.mean:+.2f}", found.mean)]
    if found.low is not None and found.high is not None:
        ends: list[Part] = [(f"{100 * end:+.2f}", end) for end in (found.low, found.high)]
        parts += [(" [", None), ends[0], (", ", None), ends[1], ("]", None)]
    return Cell("difference", tuple(parts), link, found.mean)


def _candidates(choice: Choice, anchors: Mapping[str, str]) -> list[list[Cell]]:
    """A choice's candidates, with the numbers as its file has them."""
    lines = []
    for one, texts in zip(choice.candidates, tables.choice_table(choice).rows, strict=True):
        known = None if one.difference is None else Difference(one.difference, None, one.low, one.high, choice.seeds)
        link = next((anchors[run] for run in one.runs if run in anchors), "")
        lines.append(
            [
                Cell("asked", ((texts[0], None),)),
                Cell("weight", ((texts[1], None),), order=one.weight),
                _of_spread("accuracy", Spread(one.mean, one.std, one.n), link, f" ({one.n})"),
                _of_difference(known, link),
                Cell("", ((texts[4], None),)),
            ]
        )
    return lines


def _elsewhere(sets: Sequence[Elsewhere]) -> list[list[Cell]]:
    """Sets made elsewhere, a row for each model; accuracies lead to what was assumed."""
    shown = tables.elsewhere_table(sets)
    found = [(each, spread) for each in sets for spread in each.spreads().values()]
    lines = []
    for (each, spread), texts in zip(found, shown.rows, strict=True):
        accuracy = _of_spread("accuracy", spread, each.anchor, f" ({spread.n})")
        plain = dict(zip(shown.columns, texts, strict=True))
        rich = {"set": Cell("set", ((each.name, None),), each.anchor), "accuracy": accuracy}
        lines.append([rich.get(name) or Cell(name, ((text, None),)) for name, text in plain.items()])
    return lines


def _counts(compared: Comparison) -> list[tuple[str, int]]:
    """How many comparisons on test images show what; more words first than fit elsewhere."""
    claims = [row.claim() for row in compared.test if row.sdc]
    words = (stats.HIGHER, stats.LOWER, stats.NOT_SHOWN, stats.ONE_SEED, stats.NO_SEED, "no run at weight 0")
    return [(word, claims.count(word)) for word in words if word in claims]


def _others(run: Any) -> list[tuple[str, Evaluation]]:  # noqa: ANN401
    """Every evaluation of a run under its name."""
    own = [(f"{run.own.model}, the run's own", run.own)]
    floor = [("random real images", run.floor)] if run.floor else []
    return [*own, *((f"{other.model}, {other.protocol}", other) for other in run.others), *floor]


def _by_kind(drawn: Sequence[Drawn]) -> list[tuple[str, list[Drawn]]]:
    kinds: dict[str, list[Drawn]] = {}
    for figure in drawn:
        kinds.setdefault(figure.title.split(":")[0], []).append(figure)
    return list(kinds.items())


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}"


def _short(sha: str) -> str:
    return sha[:10]


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
