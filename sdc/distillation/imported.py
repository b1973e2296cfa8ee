"""Experts that were trained elsewhere: taken in under the key of the options that they were trained with.

Groups share what took them days: folders of `replay_buffer_*.pt`, as the buffer scripts of MTT and FTD leave them. What
the files tell (the number of experts and epochs, the network's shapes) is compared with the options, and one expert is
tested on the dataset's test images. The rest (rates, batch, augmentation, seed) is what the user says it is.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sdc.distillation import buffers, experts
from sdc.distillation.buffers import Found, State, Trajectory
from sdc.distillation.experts import Trained
from sdc.evaluation import assumptions, networks, repeatable
from sdc.evaluation.learning import tested
from sdc.evaluation.view import View, fitted, normalised
from sdc.ground import hardware, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import making, write_text
from sdc.ground.watch import Watch
from sdc.patching.methods import find
from sdc.plan.request import Plan, Request, plan


@dataclass(frozen=True)
class Import:
    """What a user asks: a folder of experts, and the options that they were trained with."""

    folder: Path
    request: Request
    link: bool = False
    """Whether the files get a second name on the disk, instead of a copy."""
    unchecked: bool = False
    """Whether they are taken though the tested one is no trained network."""


@dataclass(frozen=True)
class Taken:
    """Experts that are there now; `new` is False where they were there before."""

    trained: Trained
    new: bool


@dataclass(frozen=True)
class _Score:
    """The accuracy of an expert on the test images, before its training and after."""

    before: float
    after: float
    classes: int

    def is_of_a_trained_network(self) -> bool:
        """Whether it is twice as high as by chance, and higher than before."""
        return self.after > max(2 / self.classes, self.before)

    def __str__(self) -> str:
        return f"{self.after:.1%} of the test images right after its training, {self.before:.1%} before"


def take(asked: Import, watch: Watch) -> Taken:
    """Take experts in, whole or not at all; those that are there under the same key stay as they are."""
    planned = plan(asked.request, watch)
    if planned.adapter.experts is None:
        raise experts.none_for(planned.adapter.method)
    where, new = experts.folder(planned), False
    if not experts.are_ready(where):  # looked at without a lock, which takes the right to write
        with storage.at(where.parent), experts.alone(where, watch):
            if new := not experts.are_ready(where):
                _take(asked, planned, where, watch)
    if not new:
        key = planned.cell.experts
        watch.say(f"there already, nothing was changed: {where}. To take others: sdc experts delete {key}, first")
    return Taken(experts.read(where), new)


def _take(asked: Import, planned: Plan, where: Path, watch: Watch) -> None:
    if (experts.unfinished_folder(where) / experts.RECORD).is_file():
        raise FatalError(
            f"experts of these options are half trained here, in {experts.unfinished_folder(where)}. Train the rest "
            f"(sdc experts train), or take them away (sdc experts delete {planned.cell.experts}), then import"
        )
    found = buffers.read_all(buffers.files_in(asked.folder), watch)
    _check_options(asked, planned, found)
    score = _tested(planned, buffers.trajectories_in(found.files[0])[0], watch)
    if not (score.is_of_a_trained_network() or asked.unchecked):
        raise FatalError(_untrained(asked, planned, found.files[0], score))
    facts = experts.facts_of(planned) | {
        "imported_from": str(asked.folder.expanduser().resolve()),
        "accuracy": score.after,
        "accuracy_before": score.before,
        "checked": score.is_of_a_trained_network(),
    }
    _forget_leftovers(where)
    with making(where) as work:
        _place(planned, found, work, watch, link=asked.link)
        write_text(work / experts.RECORD, json.dumps(facts, indent=1) + "\n")
    watch.say(f"{sum(found.counts)} experts of {found.epochs} epochs taken in; the first one gets {score}")


def _forget_leftovers(where: Path) -> None:
    """Take away what a process that was killed left: half a copy, or experts half deleted."""
    for left in (where, *where.parent.glob(f".work.{where.name}.*")):
        shutil.rmtree(left, ignore_errors=True)


def _check_options(asked: Import, planned: Plan, found: Found) -> None:
    """Raises FatalError, with the command for what is there, unless the options say what the files hold."""
    told, fitting = planned.job.experts, _fitting(planned, found)
    counted = {"num_experts": sum(found.counts), "train_epochs": found.epochs}
    if not fitting:
        raise FatalError(_of_no_model(asked, planned, found))
    model = planned.settings.model if planned.settings.model in fitting else fitting[0]
    if model == planned.settings.model and all(told[name] == value for name, value in counted.items()):
        return
    more = planned.adapter.refuse(replace(planned.job, model=model, experts={**told, **counted}))
    raise FatalError(
        f"{asked.folder} holds {counted['num_experts']} experts of {found.epochs} epochs, networks as "
        f"{' or '.join(fitting)}; the options say num_experts={told['num_experts']}, "
        f"train_epochs={told['train_epochs']}, model={planned.settings.model}. If the other options are theirs: "
        + _command(asked, model, counted)
        + (f"\n{planned.adapter.method} needs other options, too: {more}" if more else "")
    )


def _fitting(planned: Plan, found: Found) -> list[str]:
    """The models of the method whose parameters have the shapes found."""
    return [name for name in planned.adapter.models if _shapes(_network(planned, name)) == found.shapes]


def _of_no_model(asked: Import, planned: Plan, found: Found) -> str:
    slot, ends = planned.slot, found.shapes[-1]
    told = f", the last of {ends[0]} numbers" if len(ends) == 1 else ""
    return (
        f"{asked.folder} holds networks of {len(found.shapes)} tensors of parameters, the first of shape "
        f"{list(found.shapes[0])}{told}. No model of {planned.adapter.method} has these shapes for the {slot.classes} "
        f"classes of {planned.dataset.name}, shown as {slot.channels}x{slot.size}x{slot.size} "
        f"(known: {', '.join(planned.adapter.models)}). Name the dataset that they were trained on: --dataset NAME"
    )


def _command(asked: Import, model: str, counted: Mapping[str, int], *more: str) -> str:
    """The command of a user, with the options that the files tell."""
    request, named = asked.request, {"model", *counted}
    kept = [change for change in request.changes if change.partition("=")[0] not in named]
    words = ["sdc", "experts", "import", str(asked.folder), request.method]
    words += ["--dataset", request.dataset] if request.dataset else []
    words += ["--data", str(request.data)] if request.data else []
    words += ["--ipc", str(request.ipc)] if request.ipc != 1 else []
    words += ["--recipe", request.recipe] if request.recipe != "quick" else []
    words += ["--model", model]
    if (fork := request.fork) is not None:
        words += ["--to", str(fork.folder)]
        words += ["--script", fork.script] if fork.script != find(request.method).patch.script else []
    for change in (*kept, *(f"{name}={value}" for name, value in counted.items())):
        words += ["--set", change]
    return shlex.join([*words, *(["--link"] if asked.link else []), *more])


def _untrained(asked: Import, planned: Plan, file: Path, score: _Score) -> str:
    told = {name: int(planned.job.experts[name]) for name in ("num_experts", "train_epochs")}
    return (
        f"{file}: its first expert gets {score}, which is no trained network for {planned.dataset.name} as "
        f"{planned.adapter.method} shows it. Are --dataset, the order of its classes and whitening "
        f"(--set zca={planned.job.options['zca']}) those that it was trained with? To take them all the same: "
        f"{_command(asked, planned.settings.model, told, '--unchecked')}"
    )


def _tested(planned: Plan, trajectory: Trajectory, watch: Watch) -> _Score:
    """The accuracy of an expert on the test images, shown as the script that trains experts shows them."""
    watch.stage("testing an expert", None)
    device, split = torch.device(hardware.device()), planned.dataset.test
    images, labels = normalised(split.images, _view(planned)).to(device), split.labels.to(device)
    network = _network(planned, planned.settings.model).to(device)
    with repeatable.kernels(device):
        before, after = (tested(_in_state(network, state), images, labels) for state in (trajectory[0], trajectory[-1]))
    return _Score(before, after, len(planned.dataset.classes))


def _view(planned: Plan) -> View:
    slot, whitened = planned.slot, bool(planned.job.options["zca"])
    shown = assumptions.apart(
        torch.empty(0, slot.channels, slot.size, slot.size), torch.empty(0, dtype=torch.long), None
    )
    mean, std = (None, None) if whitened else (shown.mean, shown.std)
    return View(
        dataset=planned.dataset.name,
        classes=planned.dataset.classes,
        channels=slot.channels,
        size=slot.size,
        mean=mean or (0.0,) * slot.channels,
        std=std or (1.0,) * slot.channels,
        whitening=fitted(planned.dataset.train.images, slot.channels, slot.size) if whitened else None,
    )


def _network(planned: Plan, model: str) -> nn.Module:
    return networks.build(model, planned.slot.channels, planned.slot.classes, planned.slot.size, seed=0)


def _shapes(network: nn.Module) -> tuple[torch.Size, ...]:
    return tuple(part.shape for part in network.parameters())


def _in_state(network: nn.Module, state: State) -> nn.Module:
    with torch.no_grad():
        for part, value in zip(network.parameters(), state, strict=True):
            part.copy_(value)
    return network


def _place(planned: Plan, found: Found, work: Path, watch: Watch, *, link: bool) -> None:
    """Put the experts where the distillation looks for them, in as many files as it expects."""
    if planned.adapter.experts is None:
        raise ValueError(f"{planned.adapter.method} needs no experts")
    place, files = work / planned.adapter.experts.place(planned.job), planned.adapter.experts.files(planned.job)
    place.mkdir(parents=True)
    size = sum(found.counts) // files
    if set(found.counts) == {size}:
        for number, file in enumerate(found.files):
            _copy(file.resolve(), buffers.file_of(place, number), link=link)
        return
    if link:
        watch.say(f"written anew, not linked: {files} files of {size} experts each are wanted")
    every = buffers.one_by_one(found.files)
    for number in range(files):
        torch.save([next(every) for _ in range(size)], buffers.file_of(place, number))


def _copy(file: Path, target: Path, *, link: bool) -> None:
    if not link:
        shutil.copyfile(file, target)
        return
    try:
        os.link(file, target)
    except OSError as error:
        raise FatalError(f"{file} cannot be linked to {target.parent} ({error.strerror}). Leave out --link") from error
