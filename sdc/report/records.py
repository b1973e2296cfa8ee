"""Rows for programs: plain values, unrounded, accuracies in [0, 1]."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sdc.evaluation.stats import Spread
from sdc.report.compare import Comparison, Row
from sdc.report.elsewhere import Elsewhere
from sdc.report.tables import SECTIONS


def record(row: Row, section: str) -> dict[str, Any]:
    """A row as plain values for a program: accuracies in [0, 1], unrounded; None where there is none."""
    g, d = row.group, row.difference
    return {
        "section": section,
        "method": g.named,
        **{name: getattr(g, name) for name in ("dataset", "ipc", "model", "recipe")},
        "changes": list(row.changes),
        "weight": row.weight,
        "schedule": row.schedule,
        "evaluated_model": row.evaluated,
        "protocol": row.protocol or "own",
        **_numbers("base", row.base.spread if row.base else None),
        "base_seeds": sorted(row.base.by_seed) if row.base else [],
        **_numbers("sdc", row.sdc.spread if row.sdc else None),
        "sdc_seeds": sorted(row.sdc.by_seed) if row.sdc else [],
        **{f"difference{end}": getattr(d, name, None) for end, name in _ENDS.items()},
        "paired_seeds": list(d.seeds) if d else [],
        "claim": row.claim(),
        **_numbers("floor", row.floor),
        "published_mean": row.published.mean if row.published else None,
        "published_std": row.published.std if row.published else None,
        "published_source": row.published.source if row.published else None,
        "published_apart": row.apart,
        "validation": dict(g.settings).get("validation", 0),
        **{name: getattr(g, name) for name in ("upstream", "commit", "patch_sha256", "data_sha256", "experts")},
        "fork_commit": g.fork.commit if g.fork else "",
        "fork_sha256": g.fork.files_sha256 if g.fork else "",
        "base_runs": [run.folder.name for run in row.base.runs] if row.base else [],
        "sdc_runs": [run.folder.name for run in row.sdc.runs] if row.sdc else [],
        "notes": list(row.notes),
    }


_ENDS = {"": "mean", "_std": "std", "_low": "low", "_high": "high"}


def records(compared: Comparison) -> list[dict[str, Any]]:
    """Every row of every section."""
    return [record(row, name) for name in SECTIONS for row in getattr(compared, name)]


def of_elsewhere(sets: Sequence[Elsewhere]) -> list[dict[str, Any]]:
    """Every set made elsewhere and model, with the record of what was assumed."""
    return [
        {
            "set": each.path,
            "folder": each.folder,
            "dataset": each.dataset,
            "evaluated_model": model,
            **_numbers("accuracy", found),
            "protocol": dict(each.protocol),
            "assumed": each.assumed,
            "assumptions": dict(each.record),
            "images": dict(each.images),
        }
        for each in sets
        for model, found in each.spreads().items()
    ]


def as_csv(compared: Comparison) -> str:
    """A line a row, unrounded; lists are joined by semicolons, and what there is none of is empty."""
    out = io.StringIO()
    rows = [{k: ";".join(map(str, v)) if isinstance(v, list) else v for k, v in r.items()} for r in records(compared)]
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["section"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _numbers(name: str, found: Spread | None) -> Mapping[str, float | int | None]:
    return {f"{name}_{part}": getattr(found, part, None) for part in ("mean", "std", "n")}
