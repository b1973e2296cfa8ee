"""Parts of a dataset by difficulty: the easiest, the hardest or random training images of each class."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from sdc.analysis.difficulty.gradn import by_network, spread
from sdc.analysis.difficulty.panel import Panel, Request
from sdc.analysis.difficulty.samples import real
from sdc.data.class_names import ordered
from sdc.data.sets import Dataset, Split, by_class, drawn
from sdc.evaluation import shown
from sdc.evaluation.shown import Shown
from sdc.ground.errors import FatalError
from sdc.ground.files import making, writable
from sdc.ground.watch import Watch

Which = Literal["easiest", "hardest", "random"]
MANIFEST = "part.json"


@dataclass(frozen=True)
class Ranked:
    """GraDN of every training image of a dataset, [N], and over which networks."""

    data: Dataset
    gradn: Tensor
    networks: str
    places: Tensor
    """Of each training image, its place in the whole dataset, int64 [N]."""


@dataclass(frozen=True)
class Part:
    """The images of a part: their places among the training images of `data`, class by class, int64 [n]."""

    data: Dataset
    which: Which
    fraction: float
    seed: int
    index: Tensor


def ranked(request: Request, watch: Watch) -> Ranked:
    """Measure all training images of the real dataset that is asked for."""
    panel = Panel(request, watch)
    data = panel.data()
    if data is None:
        raise ValueError("no dataset is asked for")
    source = real(data, 0, None, request.model)
    panelists = panel.of(source)
    watch.stage("measuring gradient norms", len(source.images) * len(panelists.networks))
    norms = by_network(source.images, source.labels, panelists.networks, watch.progress)
    return Ranked(data, norms.mean(0), panelists.said, panel.places())


def part(data: Dataset, gradn: Tensor | None, which: Which, fraction: float, seed: int) -> Part:
    """A fraction of the training images of each class, at least one: by `gradn` [N], or drawn by `seed`.

    Of equals, those that come first in the dataset are the easier ones.
    """
    if not 0 < fraction <= 1:
        raise FatalError(f"--fraction {fraction:g}: above 0, and at most 1 (all)")
    chosen = []
    for of_class in by_class(data):
        count = max(1, round(fraction * len(of_class)))
        if which == "random":
            chosen.append((of_class, count))
            continue
        if gradn is None:
            raise ValueError(f"the {which} images need a ranking")
        order = of_class[gradn[of_class].argsort(stable=True)]
        chosen.append((order if which == "easiest" else order.flip(0), count))
    if which == "random":
        shuffled = drawn(data, len(data.train.labels), f"part/{seed}")
        whole = torch.split(shuffled, [len(of_class) for of_class, _ in chosen])
        chosen = [(order, count) for order, (_, count) in zip(whole, chosen, strict=True)]
    return Part(data, which, fraction, seed, torch.cat([order[:count] for order, count in chosen]))


def split(request: Request, which: Which, fraction: float, out: Path, watch: Watch) -> dict[str, Any]:
    """Write a part of the real dataset that is asked for as an image folder, and return what it is, as JSON.

    `out` then holds train/<class>/<index>.png (the place among the training images), test/<class>/<index>.png (all of
    them) and part.json. Raises FatalError before anything is measured if there is something in `out` already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FatalError(f"{out} is there already, and not empty. Name another folder, or take it away: rm -r {out}")
    writable(out.absolute().parent, out)
    if which == "random":
        panel = Panel(request, watch)
        data, gradn, networks, places = panel.data(), None, "", panel.places()
        if data is None:
            raise ValueError("no dataset is asked for")
        shown.say(watch, _as_written(data))
    else:
        found = ranked(request, watch)
        data, gradn, networks, places = found.data, found.gradn, found.networks, found.places
    chosen = part(data, gradn, which, fraction, request.seed)
    facts = _facts(chosen, gradn, networks)
    watch.stage(f"writing {out}", None)
    with making(out) as work:
        files = _written(data.train, chosen.index, places, ordered(data.classes), work / "train")
        tested = torch.arange(len(data.test.labels))
        _written(data.test, tested, tested, ordered(data.classes), work / "test")
        values = gradn[chosen.index].tolist() if gradn is not None else [None] * len(files)
        images = [
            {"file": f"train/{file}", "index": index, "gradn": value}
            for file, index, value in zip(files, places[chosen.index].tolist(), values, strict=True)
        ]
        (work / MANIFEST).write_text(json.dumps(facts | {"images": images}, indent=1) + "\n", encoding="utf-8")
    return facts | {"out": str(out)}


def _as_written(data: Dataset) -> Shown:
    return shown.served(data, data.train.images.shape[1], data.train.images.shape[-1])


def _facts(chosen: Part, gradn: Tensor | None, networks: str) -> dict[str, Any]:
    data, labels = chosen.data, chosen.data.train.labels[chosen.index]
    counts, all_of = (each.bincount(minlength=len(data.classes)).tolist() for each in (labels, data.train.labels))
    classes = [
        {"class": name, "folder": folder, "n": count, "of": of}
        for name, folder, count, of in zip(data.classes, ordered(data.classes), counts, all_of, strict=True)
    ]
    known = {} if gradn is None else {"chosen": asdict(spread(gradn[chosen.index])), "all": asdict(spread(gradn))}
    return {
        "part": chosen.which,
        "fraction": chosen.fraction,
        "seed": chosen.seed,
        "dataset": data.name,
        "data_sha256": data.sha256,
        "shown": _as_written(data).as_json(),
        "networks": networks,
        "gradn": known,
        "classes": classes,
    }


def _written(split: Split, index: Tensor, places: Tensor, folders: list[str], into: Path) -> list[str]:
    """Write these images of a split without loss, named by their places; their paths below `into` are returned."""
    width, made = len(str(int(places.max()))), []
    for folder in folders:
        (into / folder).mkdir(parents=True)
    for number in index.tolist():
        path = f"{folders[int(split.labels[number])]}/{int(places[number]):0{width}}.png"
        (into / path).write_bytes(_png(split.images[number]))
        made.append(path)
    return made


def _png(image: Tensor) -> bytes:
    """uint8 [C,H,W] as a PNG: grey if it has one channel, else RGB."""
    pixels = image.permute(1, 2, 0).numpy()
    held = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(held, format="PNG")
    return held.getvalue()
