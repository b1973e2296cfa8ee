"""`sdc report`: from run folders to tables, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdc.ground.files import replacing, write_text
from sdc.ground.watch import Watch
from sdc.report import compare, documents, figures, load, page, records
from sdc.report.compare import Comparison
from sdc.report.figures import Figures
from sdc.report.load import Found

PAGE = "index.html"


@dataclass(frozen=True)
class Report:
    """What was found and compared, and the files that were written."""

    found: Found
    compared: Comparison
    skipped: tuple[str, ...]
    files: tuple[Path, ...]


def make(runs: Path, out: Path, html: Path | None, watch: Watch) -> Report:
    """Report on the run folders in `runs`: write everything into `out`, and the page to `html`, too, if given.

    Raises FatalError if there are no runs, and no results of sets made elsewhere.
    """
    watch.stage(f"reading {runs}", None)
    found = load.load(runs)
    compared = compare.compare(found)
    watch.stage("drawing", None)
    drawn = figures.figures(compared, found.choices, lambda done, total: watch.progress(done, f"of {total}"))
    texts = {
        "results.md": documents.as_markdown(found, compared),
        "results.csv": records.as_csv(compared),
        "results.tex": documents.as_latex(found, compared),
        PAGE: page.page(found, compared, drawn),
    }
    return Report(found, compared, drawn.skipped, _written(texts, drawn, out, html))


def as_json(report: Report) -> Mapping[str, Any]:
    """A report for a program: numbers unrounded, accuracies in [0, 1]."""
    return {
        "runs": len(report.found.runs),
        "rows": records.records(report.compared),
        "elsewhere": records.of_elsewhere(report.found.elsewhere),
        "choices": [asdict(choice) for choice in report.found.choices],
        "missing": [asdict(gone) for gone in (*report.found.unfinished, *report.compared.repeated)],
        "not_drawn": list(report.skipped),
        "files": [str(file) for file in report.files],
    }


def _written(texts: Mapping[str, str], drawn: Figures, out: Path, html: Path | None) -> tuple[Path, ...]:
    """Write all files, and take away figures of an earlier report that are in this one no more."""
    places = {out / name: text for name, text in texts.items()} | ({html: texts[PAGE]} if html else {})
    for path, text in places.items():
        write_text(path, text)
    pictures: dict[str, bytes] = {}
    for figure in drawn.drawn:
        pictures |= {f"{figure.name}.svg": figure.svg, f"{figure.name}.png": figure.png}
    for name, content in pictures.items():
        with replacing(out / "figures" / name) as partial:
            partial.write_bytes(content)
    for kind in figures.PLACES:
        for old in (out / "figures").glob(f"{kind}-*-ipc*.*g"):
            if old.name not in pictures:
                old.unlink()
    return (*places, *(out / "figures" / name for name in pictures))
