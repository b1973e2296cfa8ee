"""All tables of a report as one Markdown or LaTeX file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdc.report.compare import Comparison, Row
from sdc.report.load import Found
from sdc.report.tables import LEGEND, NUMBERS, Table, choice_table, elsewhere_table, tables


def as_markdown(found: Found, compared: Comparison) -> str:
    """All tables, what was chosen, and what is missing."""
    parts = ["# Results", LEGEND]
    for name, each in tables(compared).items():
        parts += [f"## {each.title}", *([each.common] if each.common else []), _markdown(each)]
        parts += _footnotes(getattr(compared, name))
    if found.choices:
        parts += ["## Weights that were chosen", "Not by test accuracy: on training images that were held out."]
        for choice in found.choices:
            each = choice_table(choice)
            parts += [f"### {each.title}", each.common, _markdown(each)]
    if found.elsewhere:
        each = elsewhere_table(found.elsewhere)
        parts += [f"## {each.title}", each.common, _markdown(each)]
    if missing := [*found.unfinished, *compared.repeated]:
        parts += [f"## Runs that are not in these tables, or not in all ({len(missing)})"]
        rows = tuple((gone.folder, gone.state, _first_line(gone.reason)) for gone in missing)
        parts += [_markdown(Table("", "", ("run", "state", "reason"), rows))]
    return "\n\n".join(parts) + "\n"


def _footnotes(rows: Sequence[Row]) -> list[str]:
    """The sources of published accuracies, and what the mark beside them means."""
    found = [row for row in rows if row.published]
    if not found:
        return []
    methods: dict[str, set[str]] = {}
    for row in found:
        methods.setdefault(row.published.source if row.published else "", set()).add(row.group.method)
    sources = [f"{', '.join(sorted(of))}: {source}" for source, of in sorted(methods.items())]
    apart = "* our runs have other settings than the published ones. " if any(row.apart for row in found) else ""
    return [f"{apart}Published accuracies: {'; '.join(sources)}."]


def footnotes(compared: Comparison) -> str:
    """The same for all of a comparison, as one text."""
    return " ".join(_footnotes(compared.test))


def as_latex(found: Found, compared: Comparison) -> str:
    """A booktabs table a section, to be put into a document by \\input."""
    parts = [f"% \\usepackage{{booktabs}}\n% {_tex(LEGEND)}"]
    parts += [_latex(each) for each in tables(compared).values()]
    parts += [_latex(elsewhere_table(found.elsewhere))] if found.elsewhere else []
    return "\n\n".join(parts) + "\n"


def _latex(each: Table) -> str:
    kept = [number for number, name in enumerate(each.columns) if name not in ("shown", "notes")]  # a page is narrow
    sides = "".join("r" if each.columns[number] in NUMBERS else "l" for number in kept)
    lines = [" & ".join(_tex(row[number]) for number in kept) + r" \\" for row in (each.columns, *each.rows)]
    caption = f"{each.title}. {each.common}".rstrip(". ") + "."
    body = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    table = [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{_tex(caption)}}}",
        *body,
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(table)


_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)  # a minus, where a hyphen would be printed


def _markdown(each: Table) -> str:
    rules = ["---:" if name in NUMBERS else "---" for name in each.columns]
    lines = [each.columns, rules, *([_md(cell) for cell in row] for row in each.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
