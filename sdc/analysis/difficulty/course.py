"""How difficult the images of a run were on their way: mean GraDN of each state that it kept."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdc.analysis.difficulty import judges
from sdc.analysis.difficulty.gradn import by_network
from sdc.analysis.difficulty.judges import NETWORKS, SEED
from sdc.analysis.difficulty.samples import evenly
from sdc.evaluation import distilled
from sdc.ground.errors import FatalError
from sdc.ground.files import read_json, write_text
from sdc.ground.watch import Watch

MOST = 1000
"""As many images of a state are measured at most, evenly spread over it: more change its mean by little."""


@dataclass(frozen=True)
class Course:
    """Mean GraDN of a run's images, of the `images` measured, at the updates `steps`; `networks` says over which."""

    steps: Sequence[int]
    mean: Sequence[float]
    networks: str
    images: int


def over_steps(run: Path, networks: int = NETWORKS, most: int = MOST) -> Course | None:
    """GraDN over a complete run's history, from RUN/difficulty.json if it was measured before; None without a history.

    States are RUN/history/<step>.safetensors and the final distilled set; the networks are freshly initialised ones of
    the run's model. Raises FatalError where a file of the run is not what it should be.
    """
    kept = run / "difficulty.json"
    if kept.is_file():
        return Course(**json.loads(kept.read_text()))
    if not (run / "history").is_dir():
        return None
    final, model = distilled.load(run), str(read_json(run / "cell.json")["model"])
    asked = judges.untrained(model, final.view, networks, SEED)
    chosen = evenly(len(final.images), most)
    means = {
        step: float(by_network(images[chosen], labels[chosen], asked.networks).mean())
        for step, images, labels in states(run, final.images, final.labels)
    }
    course = Course(list(means), list(means.values()), asked.said, len(chosen))
    write_text(kept, json.dumps(asdict(course)) + "\n")
    return course


def fill(runs: Path, watch: Watch) -> int:
    """Measure every complete run in `runs` that has a history and was not measured yet; return how many that were.

    A run that cannot be measured is told of and left out.
    """
    waiting = list(_unmeasured(runs))
    if not waiting:
        return 0
    watch.stage("measuring the difficulty of distilled images", len(waiting))
    made = 0
    for number, run in enumerate(waiting, start=1):
        try:
            made += over_steps(run) is not None
        except FatalError as error:
            watch.say(f"no difficulty over the steps for {run.name}: {error}")
        watch.progress(number)
    return made


def _unmeasured(runs: Path) -> Iterator[Path]:
    """In the order of names. Of a run without a history, or measured, nothing is opened."""
    if not runs.is_dir():
        return
    for run in sorted(Path(entry.path) for entry in os.scandir(runs)):
        if (run / "history").is_dir() and not (run / "difficulty.json").exists() and _complete(run):
            yield run


def _complete(run: Path) -> bool:
    file = run / "result.json"
    return file.is_file() and read_json(file).get("state") == "complete"


def states(run: Path, images: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(update, images, labels) of the history in order, then those given, the final set's, at the last update."""
    last = _last_step(run)
    for file in sorted((run / "history").glob("*.safetensors")):
        if (step := _step(file)) < last:
            yield step, *_state(file, images, labels)
    yield last, images, labels


def _step(file: Path) -> int:
    if not file.stem.isdecimal():
        raise FatalError(f"{file} is not named by a step, as 000100.safetensors. Take it out of the history")
    return int(file.stem)


def _state(file: Path, last_images: Tensor, last_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels of one state; the labels are the final set's where they are not learned."""
    try:
        kept = load_file(file)
        images, labels = kept["images"], kept.get("labels", last_labels)
    except (OSError, SafetensorError, KeyError) as error:
        raise FatalError(f"{file} is no state of a run: {type(error).__name__}: {error}. Delete it") from error
    if images.shape != last_images.shape or labels.shape != last_labels.shape:
        raise FatalError(
            f"{file} holds images {list(images.shape)}, the run's are {list(last_images.shape)}. Delete it"
        )
    return images.float(), labels


def _last_step(run: Path) -> int:
    """How many updates the script made, as its steps were counted; a line cut off by a crash counts for nothing."""
    file, last = run / "metrics.jsonl", 0
    for text in file.read_text().splitlines() if file.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            last = max(last, int(line["step"])) if line.get("kind") == "step" else last
    if not last:
        raise FatalError(f"{file} tells of no step, so the final images have no place in the history of {run}")
    return last
