"""How difficult the images of a run were on their way: mean GraDN of each state that it kept."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdc.analysis.difficulty import judges, kept
from sdc.analysis.difficulty.gradn import by_network
from sdc.analysis.difficulty.judges import NETWORKS, SEED, Judges
from sdc.analysis.difficulty.samples import evenly
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.ground.errors import FatalError
from sdc.ground.files import read_json, write_text
from sdc.ground.watch import Watch

MOST = 1000
"""As many images of a state are measured at most, evenly spread over it: more change its mean by little."""
LITTLE = 0.03
"""Of a run's own time: measuring that takes more is told of."""


@dataclass(frozen=True)
class Course:
    """Mean GraDN of a run's images, of the `images` measured, at the updates `steps`; `networks` says over which."""

    steps: Sequence[int]
    mean: Sequence[float]
    networks: str
    images: int


@dataclass(frozen=True)
class Work:
    """What is to be measured of a run: the images `chosen` of each state of its set, over the networks of `judges`."""

    run: Path
    final: DistilledSet
    chosen: Tensor
    judges: Judges

    @property
    def norms(self) -> int:
        """How many gradient norms that takes."""
        return count(self.run) * len(self.chosen) * len(self.judges.networks)

    def measure(self, on_done: Callable[[int], None] = lambda _: None) -> Course:
        """The mean of each state, kept in the run; `on_done` is told how many norms there are."""
        means, each = dict[int, float](), len(self.chosen) * len(self.judges.networks)
        for step, images, labels in states(self.run, self.final.images, self.final.labels):
            told = functools.partial(_tell, on_done, len(means) * each)
            norms = by_network(images[self.chosen], labels[self.chosen], self.judges.networks, told)
            means[step] = float(norms.mean())
        course = Course(list(means), list(means.values()), self.judges.said, len(self.chosen))
        write_text(self.run / kept.FILE, json.dumps(asdict(course)) + "\n")
        (self.run / kept.FAILED).unlink(missing_ok=True)
        return course


def work(run: Path, networks: int = NETWORKS, most: int = MOST) -> Work:
    """What a complete run's set, at most `most` images of it, and freshly initialised networks of its model make.

    Raises FatalError where a file of the run is not what it should be; `Work.measure` does so, too.
    """
    final, model = distilled.load(run), str(read_json(run / "cell.json")["model"])
    return Work(run, final, evenly(len(final.images), most), judges.untrained(model, final.view, networks, SEED))


def over_steps(run: Path, networks: int = NETWORKS, most: int = MOST) -> Course | None:
    """GraDN over a complete run's history, from RUN/difficulty.json if it was measured before; None without a history.

    States are RUN/history/<step>.safetensors and the final distilled set.
    """
    if (run / kept.FILE).is_file():
        return Course(**json.loads((run / kept.FILE).read_text()))
    return work(run, networks, most).measure() if (run / "history").is_dir() else None


def keep(run: Path, watch: Watch) -> None:
    """Measure a run behind its evaluation, unless it was measured or has no history.

    It stays complete whatever happens here: why it cannot be measured is said, and kept beside it.
    """
    if not kept.unmeasured(run):
        return
    began = time.monotonic()
    try:
        asked = work(run)
        watch.stage("measuring the difficulty over the steps", asked.norms)
        asked.measure(watch.progress)
        _say(run, time.monotonic() - began, watch)
    except Exception as error:
        failed(run, error, watch)


def failed(run: Path, error: Exception, watch: Watch) -> None:
    """Say and keep why a run could not be measured."""
    text = str(error) if isinstance(error, FatalError) else f"{type(error).__name__}: {error}"
    watch.say(kept.sentence(run, text))
    with contextlib.suppress(OSError, FatalError):  # where nothing can be written, it is said at least
        write_text(run / kept.FAILED, json.dumps({"error": text}) + "\n")


def _say(run: Path, seconds: float, watch: Watch) -> None:
    """Say what measuring took, where that is more than a little of what the run took."""
    stages = read_json(run / "result.json").get("stages", {})
    spent = sum(float(stage.get("seconds", 0)) for name, stage in stages.items() if name != "experts")
    if seconds > LITTLE * spent:
        watch.say(
            f"measuring the difficulty over the steps took {seconds:.1f} s, all else {spent:.1f} s: "
            "--set history=0 leaves it out"
        )


def _tell(on_done: Callable[[int], None], before: int, done: int) -> None:
    on_done(before + done)


def count(run: Path) -> int:
    """How many states there are: those of the history, and the outcome."""
    return 1 + sum(1 for _ in (run / "history").glob("*.safetensors"))


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
