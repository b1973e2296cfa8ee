"""Sets made elsewhere: what `sdc evaluate FILE --runs DIR` kept of them, with all that was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdc.evaluation import stats
from sdc.evaluation.stats import Spread
from sdc.ground.paths import ELSEWHERE as FOLDER
from sdc.report import fields

_GIVEN = {"zca": "whitening"}
"""What an option is called in the record, where that is another word."""


@dataclass(frozen=True)
class Elsewhere:
    """A set of a file, and what networks that learned from it came to: their accuracies by model."""

    folder: str
    path: str
    dataset: str
    shape: tuple[int, ...]
    """[N, C, H, W] of its images."""
    networks: Mapping[str, tuple[float, ...]]
    protocol: Mapping[str, Any]
    experiments: tuple[tuple[int, Spread], ...]
    """Each one's own, where the file holds several."""
    assumed: str
    """In words; empty where the file says all itself."""
    record: Mapping[str, Any]
    images: Mapping[str, str]
    again: str
    hashes: Mapping[str, str]
    libraries: Mapping[str, Any]
    device: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """Where the page tells of it."""
        return f"elsewhere-{self.folder}"

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name

    def spreads(self) -> dict[str, Spread]:
        """Mean, deviation and number of networks by model."""
        return {model: stats.spread(accuracies) for model, accuracies in self.networks.items()}

    def told(self) -> list[tuple[str, str, str]]:
        """Each part of the record: whether it was assumed or given, its name, and it in words."""
        given = {_GIVEN.get(name, name) for name in fields.texts(self.record.get("stated", []))}
        parts = {name: value for name, value in self.record.items() if name != "stated"}
        return [("given" if name in given else "assumed", name, _words(value)) for name, value in parts.items()]


def files(runs: Path) -> list[Path]:
    """What is kept of sets made elsewhere, in the order of their names."""
    return sorted((runs / FOLDER).glob("*/result.json"))


def read(file: Path) -> Elsewhere:
    """A set's result. Raises one of `fields.BROKEN` where it is not what it should be."""
    found = fields.read(file)
    networks: dict[str, list[float]] = {}
    for one in found["accuracy"]:
        networks.setdefault(str(one["model"]), []).append(fields.finite(one["accuracy"]))
    if not networks:
        raise ValueError("it has no networks")
    own = found.get("experiments", [])
    return Elsewhere(
        folder=file.parent.name,
        path=str(found["run"]),
        dataset=str(found["dataset"]),
        shape=tuple(int(size) for size in found["images"]),
        networks={model: tuple(accuracies) for model, accuracies in networks.items()},
        protocol=fields.scalars(found["protocol"]),
        experiments=tuple((int(one["experiment"]), _spread(one)) for one in own),
        assumed=str(found.get("assumed", "")),
        record=_record(found.get("assumptions", {})),
        images=of_images(found),
        again=str(found["again"]),
        hashes={name: str(found[f"{name}_sha256"]) for name in ("set", "data")},
        libraries=fields.scalars(found["libraries"]),
        device=fields.flat(found["device"]),
    )


def _record(found: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the order of the labels, which is told of the data."""
    labels = {"labels": found["labels"]["words"]} if "labels" in found else {}
    return {**found, **labels}


def _spread(one: Mapping[str, Any]) -> Spread:
    return Spread(fields.finite(one["mean"]), fields.finite(one["std"]), int(one["n"]))


def of_images(found: Mapping[str, Any]) -> dict[str, str]:
    """What a cell.json or a result.json says of its images, in words; nothing where it is of an earlier version."""
    words = {
        "images shown": str(found["shown"]["words"]) if "shown" in found else "",
        "first images": str(found["init_shown"]["words"]) if "init_shown" in found else "",
        "classes": str(found.get("labels", "")),
        "how data were read": "; ".join(fields.texts(found.get("notes", []))),
    }
    return {name: text for name, text in words.items() if text}


def _words(value: Any) -> str:  # noqa: ANN401 - whatever a record holds
    """A part of a record in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "none"
