"""A folder of images, a folder a class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from sdc.data.class_names import folder_names
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.own_exports import METADATA, WHITENING
from sdc.export.source import ROUNDED, WHITENED, Export, Source, facts, labels, paths, pngs, save_whitening
from sdc.ground.files import making


def write(source: Source, out: Path) -> Export:
    """Make the folder `out`: `train/<class>/0000.png`, metadata.json, and logits.csv where labels were learned.

    Of whitened images the transform lies in whitening.safetensors. `sdc evaluate` reads it all back.
    """
    found = source.found
    lost = _lost(source)
    with making(out) as work:
        for content, path in zip(pngs(found), paths(found), strict=True):
            file = work / "train" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if found.labels.is_floating_point():
            _write_logits(found, work / "logits.csv")
        save_whitening(found, work / WHITENING)
        told = facts(source) | {"folders": folder_names(found.view.classes), "files": paths(found), "notes": lost}
        (work / METADATA).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    read = f"torchvision.datasets.ImageFolder({json.dumps(str(out / 'train'))})"
    return Export("folder", str(out), len(found.images), lost, read)


def _lost(source: Source) -> list[str]:
    found = source.found
    names = folder_names(found.view.classes)
    used = [name for number, name in enumerate(names) if number in set(labels(found))]
    notes = [ROUNDED]
    if found.view.whitening:
        notes.append(WHITENED.format(WHITENING))
    if found.labels.is_floating_point():
        notes.append("Labels are logits, in logits.csv; an image lies in the folder of the class that they put first.")
    if used != sorted(names):
        notes.append("Readers number classes by the names of their folders, which is not the order of `classes` here.")
    return notes


def _write_logits(found: DistilledSet, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as held:
        table = csv.writer(held)
        table.writerow(["file", *found.view.classes])
        for path, logits in zip(paths(found), found.labels.tolist(), strict=True):
            table.writerow([f"train/{path}", *logits])
