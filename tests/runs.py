"""Made-up run folders in their real formats, for tests and measurements of what reads them; nothing was distilled."""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sdc.adapters.registry import ADAPTERS
from sdc.ground.errors import FatalError
from sdc.plan.settings import resolve

LIBRARIES = {"torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4.6", "scipy": "1.17.1", "kornia": "0.9.0"}
CLASSES = 10


@dataclass(frozen=True)
class Made:
    """What a made-up run is to be; `accuracies` are those of its networks."""

    method: str
    dataset: str
    accuracies: Sequence[float]
    ipc: int = 1
    weight: float = 0.0
    schedule: str = "constant"
    seed: int = 0
    recipe: str = "quick"
    model: str = "ConvNetW32"
    data: str | None = None
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    floor: Sequence[float] = ()
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Accuracies by the name of their file in evaluations/, as ResNet18-uniform-2."""
    steps: int = 40
    lr: float = 0.01
    seconds: float = 30.0
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the cell that are to be something else."""


def make(runs: Path, made: Made) -> Path:
    """Write the folder of a finished run, and return it."""
    folder = begin(runs, made)
    cell = json.loads((folder / "cell.json").read_text())
    facts = {name: value for name, value in cell.items() if name not in ("settings", "data", "libraries", "device")}
    own = evaluation(made.accuracies, made.model, made.seed, made.lr)
    stages: dict[str, Any] = {"distil": {"seconds": made.seconds, "peak_memory_mib": 900, "steps": made.steps}}
    if cell["experts"]:
        stages["experts"] = {"key": cell["experts"], "seconds": 120.0, "peak_memory_mib": 700}
    result = {"state": "complete", **facts, **own, "stages": stages | own["stages"], "resumed": []}
    _write(folder / "result.json", result)
    if made.floor:
        _write(folder / "floor.json", {"state": "complete", **evaluation(made.floor, made.model, made.seed, 0.01)})
    for name, accuracies in made.others.items():
        model, protocol, _ = name.rsplit("-", 2)
        lr = made.lr if protocol == "upstream" else 0.01
        _write(folder / "evaluations" / f"{name}.json", evaluation(accuracies, model, made.seed, lr))
    _metrics(folder, made)
    _picture(folder / "images.png", made)
    return folder


def begin(runs: Path, made: Made) -> Path:
    """Write what a run leaves at its start: the folder with its cell alone."""
    cell = _cell(made)
    folder = runs / f"{made.method}-{made.dataset}-ipc{made.ipc}-{cell['key']}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "cell.json", cell)
    (folder / "log.txt").write_text("training begins\n")
    return folder


def fail(runs: Path, made: Made, error: str) -> Path:
    """Write the folder of a run that failed."""
    folder = begin(runs, made)
    _write(folder / "failed.json", {"error": error, "request": {"method": made.method}})
    return folder


def difficulty(folder: Path, steps: Sequence[int], mean: Sequence[float]) -> None:
    """Write how difficult the images of a run were on their way."""
    _write(folder / "difficulty.json", {"steps": steps, "mean": mean, "networks": "10 freshly initialised ConvNetW32"})


def choose(runs: Path, key: str, choice: Mapping[str, Any]) -> None:
    """Write that a weight was chosen on a validation split."""
    _write(runs / "choices" / f"{key}.json", choice)


def evaluation(accuracies: Sequence[float], model: str, seed: int, lr: float) -> dict[str, Any]:
    """What the evaluator gives for networks of these accuracies."""
    summary = {"mean": statistics.fmean(accuracies), "std": statistics.pstdev(accuracies), "n": len(accuracies)}
    return {
        "accuracy": [
            {"model": model, "seed": 1000 * seed + number, "accuracy": accuracy}
            for number, accuracy in enumerate(accuracies)
        ],
        **summary,
        "by_model": {model: summary},
        "protocol": {
            "lr": lr,
            "epochs": 300,
            "batch": 256,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "augment": "",
            "networks": len(accuracies),
        },
        "stages": {"evaluate": {"seconds": 20.5, "peak_memory_mib": 800}},
    }


def _cell(made: Made) -> dict[str, Any]:
    adapter = ADAPTERS[made.method]
    experts = hashlib.sha256(adapter.experts.kind.encode()).hexdigest()[:10] if adapter.experts else ""
    fields = {
        "method": made.method,
        "dataset": made.dataset,
        "ipc": made.ipc,
        "weight": made.weight,
        "schedule": made.schedule,
        "model": made.model,
        "seed": made.seed,
        "recipe": made.recipe,
        "settings": _settings(made) | dict(made.settings),
        "upstream": adapter.upstream.url,
        "commit": adapter.upstream.commit,
        "patch_sha256": adapter.patch.sha256,
        "data_sha256": hashlib.sha256(made.dataset.encode()).hexdigest(),
        "experts": experts,
    } | dict(made.more)
    key = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]
    device = {"kind": "cpu", "name": "x86_64", "threads": 1}
    return {"key": key, **fields, "data": made.data, "libraries": LIBRARIES | {"python": "3.11.7"}, "device": device}


def _settings(made: Made) -> dict[str, int | float | str]:
    """A recipe's settings as a cell holds them; of the quick one where a recipe does not cover the cell."""
    for recipe in (made.recipe, "quick"):
        try:
            found = resolve(ADAPTERS[made.method], recipe, made.dataset, made.ipc, ())
        except FatalError:
            continue
        common = {name: value for name, value in vars(found).items() if isinstance(value, int | float)}
        return {**found.options, **found.experts, **common}
    raise AssertionError(f"no settings for {made}")


def _metrics(folder: Path, made: Made) -> None:
    drawn = random.Random(f"{made.method}{made.seed}{made.weight}")
    lines = [
        {
            "step": step,
            "loss": 2 + 3 * math.exp(-3 * step / made.steps) + drawn.gauss(0, 0.1),
            "kind": "step",
            "seconds": 0.1 * step,
        }
        for step in range(1, made.steps + 1)
    ]
    end = {"peak_memory_mib": 900, "steps": made.steps, "kind": "end", "seconds": 0.1 * made.steps}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, end]))


def _picture(path: Path, made: Made) -> None:
    """A row a class, with a border of two pixels around each image, as the real one has."""
    size = 34
    picture = Image.new("RGB", (made.ipc * size + 2, CLASSES * size + 2), "white")
    for row in range(CLASSES):
        for column in range(made.ipc):
            shade = (25 * row, (40 * column + 90 * made.seed) % 256, 255 if made.weight else 0)
            picture.paste(shade, (column * size + 2, row * size + 2, (column + 1) * size, (row + 1) * size))
    picture.save(path)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
