"""Torch files in the layout of the upstream scripts, as sdc/evaluation/foreign.py reads them.

Those say neither how the images were shown nor how they are trained on. metadata.json beside them does, where they lie
together; for readers that have the files alone, what they would assume is compared with the truth, and what an option
of `sdc evaluate` mends goes into the command that reads them back.
"""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import torch
from torch import Tensor

from sdc.adapters.registry import ADAPTERS
from sdc.data import canonical
from sdc.data.tiny_classes import WNIDS
from sdc.evaluation import assumptions, foreign_labels, protocol
from sdc.evaluation.assumptions import Assumed
from sdc.evaluation.own_exports import METADATA, WHITENING
from sdc.export.source import Export, Source, facts, save_whitening
from sdc.ground.files import making

_NUMBERED = (
    "Labels number the classes as wnids.txt does; the scripts of MTT, TESLA, FTD and DATM number them by sorted wnid, "
    "those of DC, DSA and DM as their tinyimagenet.pt: `classes` in metadata.json says which is which."
)


def write(source: Source, out: Path) -> Export:
    """Make the folder `out` with the script's file or files, and metadata.json."""
    found, saves = source.found, _saves(source)
    file = _name(source, saves) if saves else "images_last.pt"
    assumed = (
        assumptions.together(file, found.view.dataset, found.view.size)
        if saves
        else assumptions.apart(found.images, found.labels, found.lr)
    )
    read = shlex.join(["sdc", "evaluate", str(out / file), *_options(source, assumed)])
    images, labels = found.images.clone(), found.labels.clone()
    with making(out) as work:
        if saves:
            _save({"data": [[images, labels]]}, work / file)
        else:
            _save(images, work / file)
            _save(labels, work / "labels_last.pt")
            if found.lr is not None:
                _save(torch.tensor(found.lr, dtype=torch.float32), work / "lr_last.pt")
        save_whitening(found, work / WHITENING)
        lost = [_NUMBERED] if _tiny(source) else []
        told = facts(source) | {"read": read, "notes": lost}
        (work / METADATA).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return Export("pt", str(out), len(found.images), lost, read)


def _save(content: object, file: Path) -> None:
    held = io.BytesIO()  # torch does not say why it failed to write a file
    torch.save(content, held)
    file.write_bytes(held.getvalue())


def _saves(source: Source) -> str:
    adapter = ADAPTERS.get((source.found.about or {}).get("method", ""))
    return adapter.saves if adapter else ""


def _name(source: Source, saves: str) -> str:
    """As res_DC_CIFAR10_ConvNet_1ipc.pt."""
    view, method = source.found.view, ADAPTERS[(source.found.about or {})["method"]]
    dataset = method.datasets.get(view.dataset, view.dataset)
    model = [source.cell["model"]] if "model" in source.cell else []
    return "_".join([saves, dataset, *model, f"{len(source.found.images) // len(view.classes)}ipc"]) + ".pt"


def _options(source: Source, assumed: Assumed) -> list[str]:
    """What `sdc evaluate` has to be told, so that it does what the run did."""
    found, cell = source.found, source.cell
    true, taken = protocol.to_dict(found.protocol), protocol.to_dict(assumed.protocol)
    changes = [f"{name}={value}" for name, value in true.items() if value != taken[name]]
    own = bool(cell.get("settings", {}).get("validation"))  # what it held out is told by metadata.json alone
    return [
        *(() if own else ("--dataset", found.view.dataset)),
        *(("--data", cell["data"]) if cell.get("data") and not own else ()),
        *(("--model", cell["model"]) if "model" in cell else ()),
        *(("--seed", str(cell["seed"])) if cell.get("seed") else ()),
        *(("--labels", "logits") if _taken_for_others(found.labels) else ()),
        *(("--label-order", "wnids") if _tiny(source) and not own else ()),
        *(word for change in [*changes, *_shown(source, assumed)] for word in ("--set", change)),
    ]


def _tiny(source: Source) -> bool:
    """Whether its labels are numbered as in wnids.txt, which readers would not take them to be."""
    view = source.found.view
    labels = canonical.labels("tinyimagenet", view.classes, numbers=view.dataset == "tinyimagenet")
    return labels == list(range(len(WNIDS)))


def _taken_for_others(labels: Tensor) -> bool:
    """Whether readers would take logits for something else."""
    return labels.is_floating_point() and foreign_labels.kind_of(labels) != "logits"


def _shown(source: Source, assumed: Assumed) -> list[str]:
    """What readers would not assume of how the images were shown, as settings that tell it."""
    view = source.found.view
    if view.whitening:
        return []  # only metadata.json leads to the transform
    taken = {"mean": assumed.mean or (0.0,) * view.channels, "std": assumed.std or (1.0,) * view.channels}
    told = [
        f"{name}={','.join(map(repr, getattr(view, name)))}"
        for name, values in taken.items()
        if getattr(view, name) != values
    ]
    return told + (["range=normalised"] if bool((source.found.images >= 0).all()) else [])
