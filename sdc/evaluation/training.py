"""How good a distilled set is: train fresh networks on it alone, and test each once on real images.

The recipe is the one that every upstream shares. Nothing in here knows which method made the images.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdc.evaluation import beside, cpu, pace, repeatable, stacked
from sdc.evaluation.augment import make, side_by_side
from sdc.evaluation.beside import Known
from sdc.evaluation.learning import shuffled, targets_of, tested, train
from sdc.evaluation.networks import build, known, multiply_adds
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.trial import Score, Trial, check, classes, kind, known_of, placed, trial_of
from sdc.ground import cores, hardware
from sdc.ground.crew import Task

__all__ = [
    "Score",
    "Trial",
    "evaluate",
    "evaluate_all",
    "network_seed",
    "summary",
]

log = logging.getLogger(__name__)


class Student(NamedTuple):
    """A network of one trial, by the trial's number and the network's own seed."""

    trial: int
    own: int


Progress = Callable[[int, int], None]  # (epochs done, epochs in all)
Tell = Callable[[int], None]
Keep = Callable[[Student, Score], None]


def evaluate(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    model: str,
    protocol: Protocol,
    seed: int,
    networks: int | None = None,
    on_progress: Progress | None = None,
    device: str | None = None,
    scored: Sequence[Score] = (),
    on_score: Callable[[Score], None] | None = None,
    stack: bool | None = None,
) -> list[Score]:
    """Score one set, as `Trial` describes it, by as many networks as asked for (the protocol's number if None)."""
    protocol = protocol if networks is None else replace(protocol, networks=networks)
    trial = Trial(images, labels, test_images, test_labels, protocol, seed, scored, on_score)
    return evaluate_all([trial], model, on_progress, device, stack)[0]


def evaluate_all(
    trials: Sequence[Trial],
    model: str,
    on_progress: Progress | None = None,
    device: str | None = None,
    stack: bool | None = None,
) -> list[list[Score]]:
    """Score several sets by networks of one model, each network independent of all others; a list a set.

    `stack`: train networks side by side, where they can be; None: where it pays, which is measured on anything but a
    CPU. Those of all sets of one kind then share stacks; sets of another kind have their turn.
    """
    for trial in trials:
        check(trial)
    where = torch.device(device or hardware.device())
    trials = placed(trials, where)
    seeds = [[network_seed(trial.seed, model, n) for n in range(trial.protocol.networks)] for trial in trials]
    found = {
        Student(number, score.seed): score
        for number, trial in enumerate(trials)
        for score in trial.scored
        if score.model == model and score.seed in seeds[number]
    }
    kinds: dict[object, list[Student]] = {}
    for number, trial in enumerate(trials):
        kinds.setdefault(kind(trial), []).extend(Student(number, own) for own in seeds[number])

    def epochs(students: Iterable[Student]) -> int:
        return sum(trials[student.trial].protocol.epochs + 1 for student in students)

    count = epochs(Student(number, own) for number, of_trial in enumerate(seeds) for own in of_trial)

    def tell(done: int) -> None:
        if on_progress:
            on_progress(epochs(found) + done, count)

    def keep(student: Student, score: Score) -> None:
        found[student] = score
        if on_score := trials[student.trial].on_score:
            on_score(score)

    with repeatable.kernels(where), cpu.kept_pages() if where.type == "cpu" else nullcontext():
        if where.type == "cpu" and not _stacks(model, where, stack):
            _one_by_one(trials, [s for of_kind in kinds.values() for s in of_kind if s not in found], model, tell, keep)
            return [[found[Student(number, own)] for own in of_trial] for number, of_trial in enumerate(seeds)]
        for students in kinds.values():
            _score(trials, students, found, model, stack, tell, keep)
    return [[found[Student(number, own)] for own in of_trial] for number, of_trial in enumerate(seeds)]


def network_seed(seed: int, model: str, number: int) -> int:
    """The seed of network `number`: a hash, so that neighbouring seeds share no network."""
    return _hash(seed, model, number)


def summary(scores: Sequence[Score]) -> dict[str, float | int]:
    """Mean, standard deviation and number of the accuracies; as in the field's tables, the population's (ddof = 0)."""
    accuracies = [score.accuracy for score in scores]
    return {"mean": statistics.fmean(accuracies), "std": statistics.pstdev(accuracies), "n": len(accuracies)}


def _score(
    trials: Sequence[Trial],
    students: Sequence[Student],
    found: Mapping[Student, Score],
    model: str,
    stack: bool | None,
    tell: Tell,
    keep: Keep,
) -> None:
    """Score each student, all of one kind, that has no score yet; `tell` hears of the epochs since the last score.

    Who is trained beside whom does not depend on what was scored before, so that all round alike: a part of them in
    which a single score is missing is trained again whole.
    """
    if all(student in found for student in students):
        return
    size, first = _side_by_side(trials, students, model, stack), 0
    while chunk := students[first : first + size]:
        missing = [student for student in chunk if student not in found]
        try:
            _score_together(trials, chunk, missing, model, tell, keep)
        except torch.OutOfMemoryError:
            if len(chunk) == 1:
                raise
            size = len(chunk) // 2
            log.warning("%d %s side by side take more memory than there is: going on with %d", len(chunk), model, size)
            continue
        first += len(chunk)


def _one_by_one(trials: Sequence[Trial], students: Sequence[Student], model: str, tell: Tell, keep: Keep) -> None:
    """Score students on a CPU, here and in processes beside this one; each with the threads that its trial gets."""
    threads = [_threads(trial, model) for trial in trials]
    tasks = [{**student._asdict(), "model": model, "threads": threads[student.trial]} for student in students]
    work = beside.Work(
        tasks,
        lambda task: trials[task["trial"]].protocol.epochs + 1,
        one,
        "sdc.evaluation.member",
        known_of(trials),
        max(threads),
    )
    beside.carry_out(work, tell, lambda task, of: keep(Student(task["trial"], task["own"]), Score(**of)))


def one(known: Known, task: Task, on_epoch: Tell) -> dict[str, Any]:
    """The score of one network on a trial, as `_one_by_one` asks for it."""
    trial, student = trial_of(known, task["trial"]), Student(0, task["own"])
    with cpu.threads(task["threads"]):
        return asdict(_scores([trial], [student], [student], task["model"], on_epoch)[student])


def _threads(trial: Trial, model: str) -> int:
    """How many threads train a network of a trial; it depends on no other trial, for it decides the last bits."""
    batch, channels, size = min(trial.protocol.batch, len(trial.images)), *trial.images.shape[1:3]
    return cores.threads(batch * multiply_adds(model, channels, classes(trial), size), trial.protocol.networks)


def _score_together(
    trials: Sequence[Trial], chunk: Sequence[Student], missing: Sequence[Student], model: str, tell: Tell, keep: Keep
) -> None:
    """Score students who are trained together, if the score of any is missing."""
    if missing:
        scores = _scores(trials, chunk, missing, model, lambda epoch: tell(len(missing) * (epoch + 1)))
        for student, score in scores.items():
            keep(student, score)


def _scores(
    trials: Sequence[Trial], chunk: Sequence[Student], missing: Sequence[Student], model: str, on_epoch: Tell
) -> dict[Student, Score]:
    """The scores that are missing of students who are trained together, a part of the time each."""
    start = time.perf_counter()
    made = [_fresh(trials[student.trial], model, student.own) for student in chunk]
    learned, seeds = [trials[student.trial] for student in chunk], [student.own for student in chunk]
    _trained(made, learned, seeds, on_epoch)
    accuracies = {
        student: tested(network, trial.test_images, trial.test_labels)
        for student, network, trial in zip(chunk, made, learned, strict=True)
        if student in missing
    }
    seconds = (time.perf_counter() - start) / len(chunk)
    return {student: Score(model, student.own, accuracy, seconds) for student, accuracy in accuracies.items()}


def _fresh(trial: Trial, model: str, own: int) -> nn.Module:
    images = trial.images
    return build(known(model), images.shape[1], classes(trial), images.shape[2], own).to(images.device)


def _stacks(model: str, where: torch.device, stack: bool | None) -> bool:
    """Whether networks are trained in stacks on this device; where nobody asked, the log says why they are not."""
    if stack is None and (reason := stacked.drawback(where)):
        log.info("%s: trained one at a time: %s", model, reason)
        return False
    return stack is not False


def _side_by_side(trials: Sequence[Trial], students: Sequence[Student], model: str, stack: bool | None) -> int:
    """How many students, all of one kind, are trained side by side; where it is one at a time, the log says why."""
    like, count = trials[students[0].trial], len(students)
    if count == 1 or not _stacks(model, like.images.device, stack):
        return 1
    network = _fresh(like, model, students[0].own)
    if reason := stacked.hindrance(network):
        log.warning("%s: trained one at a time: %s", model, reason)
        return 1
    chunks = math.ceil(count / stacked.fitting(network, like.images, like.protocol.batch))
    size = math.ceil(count / chunks)
    unsure = stack is None and size > 1 and pace.unknown(like.images.device)
    return size if not unsure or _quicker(network, like, model, size) else 1


def _quicker(network: nn.Module, trial: Trial, model: str, size: int) -> bool:
    """Whether so many networks are better trained side by side on this device, as measured there."""
    short = replace(trial, protocol=pace.brief(trial.protocol, len(trial.images)))

    def seconds(count: int) -> float:
        copies = [copy.deepcopy(network) for _ in range(count)]
        return pace.seconds(functools.partial(_trained, copies, [short] * count, range(count)), short) / count

    return pace.pays(model, size, seconds)


def _trained(networks: Sequence[nn.Module], trials: Sequence[Trial], seeds: Sequence[int], on_epoch: Tell) -> None:
    """Train networks in place, each on its trial, by the shuffles and the augmentation of its own seed."""
    like, count = trials[0], len(networks)
    # On the CPU whatever the device, so that every device sees the same order and the same augmentation.
    generators = [torch.Generator().manual_seed(_hash(own, "training")) for own in seeds]
    orders = [shuffled(len(like.images), like.protocol, generator) for generator in generators]
    if count == 1:
        network = cpu.quick_pools(networks[0]) if like.images.device.type == "cpu" else networks[0]
        augment = make(like.protocol.augment, generators[0])
        train(network, like.images, like.labels, like.protocol, orders[0], augment, on_epoch)
        return
    targets = {id(trial): targets_of(trial.labels) for trial in trials}
    members = [
        stacked.Member(network, trial.images, targets[id(trial)], trial.protocol.lr, order)
        for network, trial, order in zip(networks, trials, orders, strict=True)
    ]
    stacked.train(members, like.protocol, side_by_side(like.protocol.augment, generators), on_epoch)


def _hash(*parts: object) -> int:
    """48 bits: few enough to survive any JSON reader's floating point."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])
