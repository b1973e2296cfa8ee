"""What difficulty is measured of: distilled sets, alone or in run folders, and real datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc.analysis.difficulty.judges import Matched
from sdc.data.sets import Dataset, by_class
from sdc.evaluation import distilled
from sdc.evaluation.view import View, normalised, resized
from sdc.ground.errors import FatalError
from sdc.ground.files import read_json

_LATER = ("networks", "epochs", "snapshot_every", "history")
"""Settings that shape no image."""


@dataclass(frozen=True)
class Cell:
    """What a run folder's cell.json says, as far as difficulty asks; `told` is all that shapes its images but seed,
    weight and schedule."""

    method: str
    weight: float
    schedule: str
    seed: int
    dataset: str
    data: Path | None
    validation: int
    limit: int
    matched: Matched | None
    told: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """Images [N,C,H,W] as the network sees them, and their labels: int64 [N], or float logits [N,K].

    Sources of one `label` are seeds of one thing. `index` are the places of real images among the training images.
    """

    name: str
    label: str
    images: Tensor
    labels: Tensor
    view: View
    model: str | None
    folder: Path | None = None
    cell: Cell | None = None
    index: Tensor | None = None

    def hard(self) -> Tensor:
        """The class of each image, int64 [N]: its label, or what its logits put first."""
        found: Tensor = self.labels.argmax(1) if self.labels.is_floating_point() else self.labels
        return found


def distilled_sets(paths: Sequence[Path]) -> list[Source]:
    """The sets at these paths: files, run folders, or folders of run folders, of which the complete ones are taken.

    Raises FatalError for a path without any.
    """
    every = {source.name + str(source.folder): source for path in paths for source in _at(path)}
    found = list(every.values())
    labels = _labels([source.cell for source in found if source.cell])
    return named([replace(source, label=labels.get(source.cell, source.name)) for source in found])


def real(data: Dataset, most: int, beside: Source | None, model: str | None) -> Source:
    """At most `most` training images of each class (0: all), shown as the images of the set `beside` them.

    Without such a set they are normalised by their own mean and deviation. Raises FatalError for other classes.
    """
    view = beside.view if beside else _own_view(data)
    if beside and len(view.classes) != len(data.classes):
        raise FatalError(
            f"{beside.name} has {len(view.classes)} classes and {data.name} has {len(data.classes)}: "
            "name the data it was made of (--dataset NAME or --data PATH)"
        )
    chosen = torch.cat([of_class[evenly(len(of_class), most)] for of_class in by_class(data)]).sort().values
    return Source(
        name=data.name,
        label=f"real images of {data.name}",
        images=normalised(data.train.images[chosen], view),
        labels=data.train.labels[chosen],
        view=view,
        model=model or (beside.model if beside else None),
        index=chosen,
    )


def groups(sources: Sequence[Source]) -> dict[tuple[tuple[str, str], ...], list[Source]]:
    """Sources of runs that differ in seed, weight and schedule alone."""
    found: dict[tuple[tuple[str, str], ...], list[Source]] = defaultdict(list)
    for source in sources:
        if source.cell:
            found[source.cell.told].append(source)
    return dict(found)


def titles(cells: Sequence[Cell]) -> dict[tuple[tuple[str, str], ...], str]:
    """A title for each group of runs: its method, and in what it differs from the others."""
    found: dict[tuple[tuple[str, str], ...], str] = {}
    all_of = {cell.told: cell.method for cell in cells}
    for told, method in all_of.items():
        alike = [dict(other) for other, its in all_of.items() if its == method]
        every = [dict(other) for other in all_of]
        differs = [
            f"{name} {value}"
            for name, value in told
            if len({str(other.get(name)) for other in (every if name in ("dataset", "ipc") else alike)}) > 1
        ]
        found[told] = ", ".join([method, *differs])
    return found


def _labels(cells: Sequence[Cell]) -> dict[Cell | None, str]:
    named = titles(cells)
    return {cell: f"{named[cell.told]}, weight {cell.weight:g}{_ramp(cell)}" for cell in cells}


def _ramp(cell: Cell) -> str:
    return f" ({cell.schedule})" if cell.weight and cell.schedule != "constant" else ""


def _at(path: Path) -> list[Source]:
    """The set at a path, or those of the complete runs in a folder, by what they are, weight and seed."""
    if not path.is_dir() or (path / "distilled.safetensors").is_file():
        return [_source(path.resolve())]
    found = [_source(folder) for folder in sorted(path.resolve().iterdir()) if _complete(folder)]
    if not found:
        raise FatalError(
            f"{path} is no run folder and holds no complete run. Make some: sdc bench examples/quick.toml --runs {path}"
        )
    return sorted(found, key=_place)


def _place(source: Source) -> tuple[object, ...]:
    cell = source.cell
    return (cell.told, cell.schedule if cell.weight else "", cell.weight, cell.seed) if cell else ((), "", 0.0, 0)


def _complete(folder: Path) -> bool:
    file = folder / "result.json"
    return (
        file.is_file() and (folder / "distilled.safetensors").is_file() and read_json(file).get("state") == "complete"
    )


def _source(path: Path) -> Source:
    found = distilled.load(path)
    folder = path if path.is_dir() else path.parent
    facts = read_json(folder / "cell.json") if (folder / "cell.json").is_file() else {}
    name = path.name if path.is_dir() else path.stem if path.stem != "distilled" or not facts else folder.name
    return Source(
        name=name,
        label=name,
        images=found.images,
        labels=found.labels,
        view=found.view,
        model=str(facts["model"]) if facts.get("model") else None,
        folder=folder if facts else None,
        cell=_cell(facts, folder) if "method" in facts else None,
    )


def _cell(facts: Mapping[str, Any], folder: Path) -> Cell:
    try:
        settings = dict(facts["settings"])
        told = {name: facts[name] for name in ("method", "dataset", "ipc", "model", "recipe", "commit", "data_sha256")}
        told |= {name: facts[name] for name in ("patch_sha256", "experts")}
        told |= {name: settings[name] for name in sorted(settings) if name not in _LATER}
        told |= {"init_from": facts["init_from"]} if facts.get("init_from") else {}
        fork = facts.get("fork")
        told |= {"fork": fork["commit"], "files": fork["files_sha256"]} if fork else {}
        return Cell(
            method=f"{facts['method']} ({fork['name']})" if fork else str(facts["method"]),
            weight=float(facts["weight"]),
            schedule=str(facts["schedule"]),
            seed=int(facts["seed"]),
            dataset=str(facts["dataset"]),
            data=Path(facts["data"]) if facts.get("data") else None,
            validation=int(settings.get("validation", 0)),
            limit=int(settings.get("limit_per_class", 0)),
            matched=_matched(str(facts["experts"]), settings),
            told=tuple((name, _short(value)) for name, value in told.items()),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FatalError(f"{folder}/cell.json is not that of a run: {type(error).__name__}: {error}") from error


def _matched(key: str, settings: Mapping[str, Any]) -> Matched | None:
    """The experts of a run, and the epochs from which its script starts to match them."""
    if not key or "max_start_epoch" not in settings:
        return None
    return Matched(key, int(settings.get("min_start_epoch", 0)), int(settings["max_start_epoch"]))


def _short(value: object) -> str:
    text = str(value)
    return text[:8] if len(text) in (40, 64) and set(text) <= set("0123456789abcdef") else text


def named(sources: Sequence[Source]) -> list[Source]:
    """Each under a name of its own."""
    made: list[Source] = []
    for source in sources:
        taken = {other.name for other in made}
        name, number = source.name, 2
        while name in taken:
            name, number = f"{source.name}-{number}", number + 1
        made.append(replace(source, name=name, label=name if source.label == source.name else source.label))
    return made


def _own_view(data: Dataset) -> View:
    channels, size = data.train.images.shape[1], data.train.images.shape[-1]
    pixels = resized(data.train.images, channels, size).transpose(0, 1).flatten(1).float() / 255
    mean, std = pixels.mean(1).tolist(), pixels.std(1).clamp_min(1e-6).tolist()
    return View(data.name, data.classes, channels, size, tuple(mean), tuple(std))


def evenly(count: int, most: int) -> Tensor:
    """At most `most` (0: all) of the places 0..count-1, evenly spread, int64 [n]."""
    kept = min(count, most) if most else count
    return torch.arange(kept) * count // max(kept, 1)
