"""Score distilled sets, whoever made them: train networks on each, test them on its data, say what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdc.data.sets import Dataset
from sdc.evaluation import networks
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol, to_dict
from sdc.evaluation.training import Score, Trial, evaluate_all, summary
from sdc.evaluation.view import alike, normalised
from sdc.ground.errors import FatalError, out_of_memory
from sdc.ground.watch import Watch
from sdc.launcher import memory

Result = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A distilled set that is to be scored by networks of each of `models`, tested on `data`'s test images.

    Networks whose score is in `scored` are not trained again; `on_score` is told of each other when it is scored.
    Raises FatalError for data whose classes are not the set's.
    """

    found: DistilledSet
    data: Dataset
    models: Sequence[str]
    protocol: Protocol
    seed: int
    scored: Sequence[Score] = ()
    on_score: Callable[[Score], None] | None = None

    def __post_init__(self) -> None:
        if len(self.data.classes) != len(self.found.view.classes):
            raise FatalError(
                f"the set has {len(self.found.view.classes)} classes and {self.data.name} has "
                f"{len(self.data.classes)}: name the data it was made of (--dataset NAME or --data PATH)"
            )


def evaluate_sets(subjects: Sequence[Subject], watch: Watch, stack: bool | None = None) -> list[Result]:
    """Score sets, those of one kind together: `stack` is `sdc.evaluation.training.evaluate_all`'s.

    The time that sets took together is each one's in parts, by that of its networks; the peak memory is all of theirs.
    """
    memory.reset()
    began = time.monotonic()
    models = list(dict.fromkeys(model for subject in subjects for model in subject.models))
    for subject in subjects:
        _check_models(subject)
    scores: list[dict[str, list[Score]]] = [{} for _ in subjects]
    with _memory_is_fatal():
        shown = _shown(subjects)
        for model in models:
            asked = [number for number, subject in enumerate(subjects) if model in subject.models]
            trials = [_trial(subjects[number], shown[number]) for number in asked]
            watch.stage(_stage(trials, model), sum(t.protocol.networks * (t.protocol.epochs + 1) for t in trials))
            found = evaluate_all(trials, model, on_progress=lambda done, _: watch.progress(done), stack=stack)
            for number, of_set in zip(asked, found, strict=True):
                scores[number][model] = of_set
    each = [[score for model in s.models for score in of[model]] for s, of in zip(subjects, scores, strict=True)]
    earlier = sum(score.seconds for subject in subjects for score in subject.scored)
    took = time.monotonic() - began + earlier
    own = [sum(score.seconds for score in of_set) for of_set in each]
    parts = [took * seconds / (sum(own) or 1.0) for seconds in own]
    return [_result(subject, of_set, part) for subject, of_set, part in zip(subjects, each, parts, strict=True)]


def _check_models(subject: Subject) -> None:
    """Raise FatalError for a network that does not take the set's images, before another is trained."""
    view = subject.found.view
    for model in subject.models:
        networks.check(model, view.channels, len(view.classes), view.size)


def _trial(subject: Subject, shown: Tensor) -> Trial:
    return Trial(
        subject.found.images,
        subject.found.labels,
        shown,
        subject.data.test.labels,
        subject.protocol,
        subject.seed,
        subject.scored,
        subject.on_score,
    )


def _stage(trials: Sequence[Trial], model: str) -> str:
    counts = " or ".join(str(count) for count in sorted({trial.protocol.networks for trial in trials}))
    return f"evaluating {f'{len(trials)} sets ' if len(trials) > 1 else ''}with {counts} {model}"


def _shown(subjects: Sequence[Subject]) -> list[Tensor]:
    """Each subject's test images as its networks see them; one tensor for all that see the same."""
    made: list[tuple[Subject, Tensor]] = []
    for subject in subjects:
        images, view = subject.data.test.images, subject.found.view
        same = (t for s, t in made if s.data.test.images is images and alike(s.found.view, view))
        shown = next(same, None)
        made.append((subject, normalised(images, view) if shown is None else shown))
    return [shown for _, shown in made]


def _result(subject: Subject, scores: Sequence[Score], seconds: float) -> Result:
    """What one set's scores come to, and the seconds that went into it."""
    return {
        "accuracy": [{"model": s.model, "seed": s.seed, "accuracy": s.accuracy} for s in scores],
        **summary(scores),
        "by_model": {model: summary([s for s in scores if s.model == model]) for model in subject.models},
        "protocol": to_dict(subject.protocol),
        "stages": {"evaluate": {"seconds": round(seconds, 2), "peak_memory_mib": memory.peak_mib()}},
    }


@contextmanager
def _memory_is_fatal() -> Iterator[None]:
    """Turn the end of the GPU's or the machine's memory into a FatalError that says what takes less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own are RuntimeErrors
        if not out_of_memory(f"{type(error).__name__}: {error}"):
            raise
        raise FatalError(
            f"memory ran out while networks were evaluated: {error}\n"
            "Evaluate with less: sdc evaluate PATH --set batch=64, or a narrower network (--model ConvNetW64)"
        ) from error
