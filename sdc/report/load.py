"""Run folders as records. What cannot be read, is not finished or failed is told, never skipped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sdc.adapters.base import Value
from sdc.ground.errors import FatalError
from sdc.report import elsewhere, fields, origins
from sdc.report.elsewhere import Elsewhere
from sdc.report.origins import Origin

_MARKS = ("cell.json", "result.json", "failed.json", ".lock")


@dataclass(frozen=True)
class Network:
    """One network trained on a set, with its own seed: `accuracy` on the test images, in [0, 1]."""

    model: str
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Networks of one model, trained on one set in one way; `settings` are the protocol's."""

    model: str
    protocol: str
    settings: Mapping[str, Value]
    networks: tuple[Network, ...]

    def accuracies(self) -> list[float]:
        """Of each network, in order."""
        return [network.accuracy for network in self.networks]


@dataclass(frozen=True)
class Run:
    """A finished run: its cell in the clear, its own evaluation, further ones, and the floor if it has one."""

    folder: Path
    key: str
    method: str
    dataset: str
    ipc: int
    weight: float
    schedule: str
    model: str
    seed: int
    recipe: str
    settings: Mapping[str, Value]
    upstream: str
    commit: str
    patch_sha256: str
    data_sha256: str
    experts: str
    data: str | None
    """Where its data came from; None for a dataset that is known by name."""
    libraries: Mapping[str, str]
    device: Mapping[str, Value]
    own: Evaluation
    floor: Evaluation | None
    others: tuple[Evaluation, ...]
    stages: Mapping[str, Mapping[str, Any]]
    resumed: tuple[Mapping[str, Any], ...]
    init_sha256: str = ""
    """The hash of the images that it began from; empty if they were the script's own."""
    images: Mapping[str, str] = field(default_factory=dict)
    """What is known of its images, in words, by what it is of; nothing of runs of earlier versions."""
    fork: Origin | None = None
    """The fork whose script was run; None: the pin's."""

    def validation(self) -> float:
        """The percentage of each class's training images that it was evaluated on; 0: on the test images."""
        return float(self.settings.get("validation", 0))


@dataclass(frozen=True)
class Unfinished:
    """A run folder that gives no numbers, or not all that were asked for, and why."""

    folder: str
    state: Literal["failed", "unfinished", "unreadable"]
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A weight that was tried on a validation split; differences to weight 0, and the ends of their 95% interval."""

    asked: str
    weight: float
    mean: float
    std: float
    n: int
    difference: float | None
    low: float | None
    high: float | None
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A weight that was chosen among candidates on a validation split of so many percent of the training data."""

    method: str
    dataset: str
    ipc: int
    model: str
    schedule: str
    recipe: str
    validation: float
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    asked: str
    weight: float
    fork: Origin | None = None


@dataclass(frozen=True)
class Found:
    """All that a folder of runs holds, each in the order of the folders' names."""

    runs: tuple[Run, ...]
    unfinished: tuple[Unfinished, ...]
    choices: tuple[Choice, ...]
    elsewhere: tuple[Elsewhere, ...] = ()
    """Sets that no run here made."""


def load(runs: Path) -> Found:
    """Read the run folders in `runs`, and what is kept there of other sets. Raises FatalError if there is nothing."""
    folders = sorted(_folders(runs)) if runs.is_dir() else []
    if runs.is_file():
        raise FatalError(f"{runs} is a file, and a report is on a folder of runs. Give that: sdc report RUNS")
    if (runs / "cell.json").is_file():
        raise FatalError(f"{runs} is one run, and a report is on a folder of them. Give that: sdc report {runs.parent}")
    others = elsewhere.files(runs)
    if not folders and not others:
        raise FatalError(
            f"no runs in {runs}: nothing to report. Make some: sdc bench examples/quick.toml --runs {runs}, "
            f"or one: sdc run dm --dataset digits --weight 0 --runs {runs}"
        )
    read = [item for folder in folders for item in _run(folder)]
    choices, broken = _choices(runs / "choices")
    strangers = [_elsewhere(file) for file in others]
    return Found(
        tuple(item for item in read if isinstance(item, Run)),
        tuple(item for item in (*read, *broken, *strangers) if isinstance(item, Unfinished)),
        choices,
        tuple(item for item in strangers if isinstance(item, Elsewhere)),
    )


def _elsewhere(file: Path) -> Elsewhere | Unfinished:
    try:
        return elsewhere.read(file)
    except fields.BROKEN as error:
        return Unfinished(f"{file.parent.parent.name}/{file.parent.name}", "unreadable", fields.said(error))


def _folders(runs: Path) -> Iterator[Path]:
    for folder in runs.iterdir():
        if not folder.name.startswith(".") and any((folder / mark).is_file() for mark in _MARKS):
            yield folder


def _run(folder: Path) -> Iterator[Run | Unfinished]:
    """The run in a folder, and what is to be told of it: a folder may hold a finished run that then failed further."""
    failed, finished = folder / "failed.json", (folder / "result.json").is_file()
    if failed.is_file():
        yield Unfinished(folder.name, "failed", _reason(failed))
    elif not finished:
        reason = "cut short, running, or not begun; the same command goes on with it"
        yield Unfinished(folder.name, "unfinished", reason)
    if finished:
        try:
            yield _finished(folder)
        except fields.BROKEN as error:
            yield Unfinished(folder.name, "unreadable", fields.said(error))


def _reason(failed: Path) -> str:
    try:
        return str(fields.read(failed)["error"])
    except fields.BROKEN as error:
        return f"failed.json cannot be read: {fields.said(error)}"


def _finished(folder: Path) -> Run:
    cell, result = fields.read(folder / "cell.json"), fields.read(folder / "result.json")
    if result["state"] != "complete":
        raise ValueError(f"result.json says {result['state']!r}, not complete")
    if result["key"] != cell["key"]:
        raise ValueError(f"result.json is of cell {result['key']}, cell.json of {cell['key']}")
    floor = folder / "floor.json"
    return Run(
        folder=folder,
        **{name: str(cell[name]) for name in ("key", "method", "dataset", "schedule", "model", "recipe")},
        **{name: str(cell[name]) for name in ("upstream", "commit", "patch_sha256", "data_sha256", "experts")},
        ipc=fields.whole(cell["ipc"]),
        seed=int(cell["seed"]),
        weight=fields.finite(cell["weight"]),
        settings=fields.scalars(cell["settings"])
        | ({"init_from": str(cell["init_from"])} if "init_from" in cell else {}),
        data=None if cell["data"] is None else str(cell["data"]),
        libraries=fields.scalars(cell["libraries"]),
        device=fields.flat(cell["device"]),
        own=_evaluation(result, "upstream"),
        floor=_evaluation(fields.read(floor), "upstream") if floor.is_file() else None,
        others=tuple(_other(file) for file in sorted((folder / "evaluations").glob("*.json"))),
        stages={
            name: {**stage, "seconds": fields.finite(stage["seconds"])} for name, stage in result["stages"].items()
        },
        resumed=tuple(fields.scalars(where) for where in result["resumed"]),
        init_sha256=str(cell.get("init_sha256", "")),
        images=elsewhere.of_images(cell),
        fork=origins.read(cell),
    )


def _other(file: Path) -> Evaluation:
    """A further evaluation, whose protocol its file's name says: <model>-<protocol>-<networks>.json."""
    return _evaluation(fields.read(file), file.stem.rsplit("-", 2)[1])


def _evaluation(result: Mapping[str, Any], protocol: str) -> Evaluation:
    networks = tuple(
        Network(str(one["model"]), int(one["seed"]), fields.finite(one["accuracy"])) for one in result["accuracy"]
    )
    models = sorted({network.model for network in networks})
    if len(models) != 1:
        raise ValueError(f"an evaluation of {len(models)} models; one was expected")
    return Evaluation(models[0], protocol, fields.scalars(result["protocol"]), networks)


def _choices(folder: Path) -> tuple[tuple[Choice, ...], list[Unfinished]]:
    choices, broken = [], []
    for file in sorted(folder.glob("*.json")):
        try:
            choices.append(_choice(fields.read(file)))
        except fields.BROKEN as error:
            broken.append(Unfinished(f"choices/{file.name}", "unreadable", fields.said(error)))
    return tuple(choices), broken


def _choice(found: Mapping[str, Any]) -> Choice:
    return Choice(
        **{name: str(found[name]) for name in ("method", "dataset", "model", "schedule", "recipe")},
        ipc=fields.whole(found["ipc"]),
        validation=fields.finite(found["validation"]),
        seeds=tuple(int(seed) for seed in found["seeds"]),
        candidates=tuple(_candidate(one) for one in found["candidates"]),
        asked=str(found["chosen"]["asked"]),
        weight=fields.finite(found["chosen"]["weight"]),
        fork=origins.read(found),
    )


def _candidate(found: Mapping[str, Any]) -> Candidate:
    known = {name: found.get(name) for name in ("difference", "low", "high")}
    ends = {name: None if value is None else fields.finite(value) for name, value in known.items()}
    return Candidate(
        asked=str(found["asked"]),
        weight=fields.finite(found["weight"]),
        mean=fields.finite(found["mean"]),
        std=fields.finite(found["std"]),
        n=int(found["n"]),
        runs=tuple(str(run) for run in found["runs"]),
        **ends,
    )
