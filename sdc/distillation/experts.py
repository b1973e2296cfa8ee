"""Experts: networks trained on real data by an upstream's own script, kept under a key of all that shapes them.

They are trained by one command at a time, shared by every run that needs them, and complete where a run looks for
them. Training that is cut short leaves those that it has finished beside, and goes on with the others.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.nn import functional as F

from sdc.adapters.base import Slot
from sdc.adapters.registry import ADAPTERS
from sdc.distillation import jobs, lanes, process
from sdc.distillation.buffers import file_of
from sdc.distillation.lanes import Lanes
from sdc.evaluation import networks
from sdc.ground import hardware, paths
from sdc.ground.errors import FatalError, unknown
from sdc.ground.files import no_space_is_fatal, read_json, replacing, write_text
from sdc.ground.watch import Watch
from sdc.patching import clones
from sdc.plan import needs
from sdc.plan.request import Plan

RECORD = "experts.json"
"""Experts' own facts; without it in their folder they are absent."""
_FREE = 1.15
_TIMED = 16
"""Images of a batch that are timed on a CPU, at most."""


@dataclass(frozen=True)
class Trained:
    """Experts on the disk: `facts` are what shaped them, and what training them took."""

    key: str
    folder: Path
    facts: Mapping[str, Any]
    bytes: int
    used: float
    """When a run last used them, in seconds since the epoch."""
    unfinished: bool = False
    """Whether training was cut short; `facts` then say how many are `done`."""


@dataclass(frozen=True)
class Estimate:
    """What training will take: steps of an optimizer, bytes on the disk, seconds (from a few steps tried here)."""

    steps: int
    bytes: int
    seconds: float


def folder(plan: Plan, root: Path | None = None) -> Path:
    """Where the experts of a plan are, or will be: below `root`, the cache if not given."""
    experts = plan.adapter.experts
    kind = experts.kind if experts else "none"
    return (root or paths.experts()) / f"{kind}-{plan.dataset.name}-{plan.settings.model}-{plan.cell.experts}"


def ready(
    plan: Plan, watch: Watch, on_resumed: Callable[[int], None] = lambda _: None, root: Path | None = None
) -> Trained | None:
    """The experts that a plan needs (None if none): found, or trained now; another process's are waited for.

    `on_resumed` is told how many were there already, if training goes on.
    """
    if plan.adapter.experts is None:
        return None
    where = folder(plan, root)
    if (owner := jobs.owner(plan.adapter)) and not are_ready(where):
        needs.check([owner])
    where.parent.mkdir(parents=True, exist_ok=True)
    with alone(where, watch), no_space_is_fatal(where):
        if not are_ready(where):
            _train(plan, where, watch, on_resumed)
        os.utime(where / RECORD)
        return read(where)


def are_ready(where: Path) -> bool:
    """Whether the experts in this folder are complete."""
    return (where / RECORD).is_file()


def estimate(plan: Plan, threads: int = 0) -> Estimate:
    """What training a plan's experts takes one after another, with so many threads (0: as now), before it starts."""
    job = plan.job
    count, epochs, batch = (int(job.experts[name]) for name in ("num_experts", "train_epochs", "expert_batch"))
    steps = count * epochs * -(-len(plan.dataset.train.labels) // batch)
    parameters, seconds = _of_network(job.model, job.slot, batch, threads, torch.device(hardware.device()))
    passes = plan.adapter.experts.passes if plan.adapter.experts else 0
    return Estimate(steps, 4 * count * (epochs + 1) * parameters, steps * passes * seconds)


def listed() -> list[Trained]:
    """All experts, the last used first; those whose training was cut short, too."""
    found = [read(path.parent) for path in paths.experts().glob(f"*/{RECORD}")]
    return sorted(found, key=lambda trained: -trained.used)


def none_for(method: str) -> FatalError:
    """The error for a method that matches no experts, listing those that do."""
    known = ", ".join(name for name, adapter in ADAPTERS.items() if adapter.experts)
    return FatalError(f"{method} matches no experts. Methods that do: {known}")


def users(runs: Path) -> dict[str, list[str]]:
    """The names of the run folders in `runs` that match experts, by the experts' key."""
    found: dict[str, list[str]] = {}
    for file in sorted(runs.glob("*/cell.json")):
        if key := json.loads(file.read_text()).get("experts"):
            found.setdefault(key, []).append(file.parent.name)
    return found


def delete(key: str) -> Trained:
    """Take the experts of this key off the disk."""
    known = {trained.key: trained for trained in listed()}
    if key not in known:
        raise unknown("key of experts", key, sorted(known))
    gone = known[key]
    with alone(paths.experts() / _name(gone.folder), None):
        (gone.folder / RECORD).unlink()  # first of all: without it they are absent
        shutil.rmtree(gone.folder)
    return gone


def facts_of(plan: Plan) -> dict[str, Any]:
    """What is kept beside a plan's experts: all that shapes them, and what they took here so far."""
    experts, owner = plan.adapter.experts, jobs.owner(plan.adapter)
    if experts is None or owner is None:
        raise ValueError(f"{plan.adapter.method} needs no experts")
    return {
        "key": plan.cell.experts,
        "kind": experts.kind,
        "dataset": plan.dataset.name,
        "data_sha256": plan.dataset.sha256,
        "model": plan.settings.model,
        "upstream": owner.upstream.url,
        "commit": owner.upstream.commit,
        "script": experts.script,
        "zca": plan.job.options["zca"],
        "settings": dict(plan.job.experts),
        **plan.about(),
        "seconds": 0.0,
        "peak_memory_mib": 0,
    }


def _train(plan: Plan, where: Path, watch: Watch, on_resumed: Callable[[int], None]) -> None:
    experts, owner = plan.adapter.experts, jobs.owner(plan.adapter)
    if experts is None or owner is None:
        raise ValueError(f"{plan.adapter.method} needs no experts")
    clones.present(owner)
    work = unfinished_folder(where)
    for log in lanes.logs(work):
        process.wait_for_orphan(log, watch)
    made, kept, count = work / experts.place(plan.job), work / "kept", int(plan.job.experts["num_experts"])
    grouped = kept / experts.place(plan.job)
    missing = [] if grouped.is_dir() else lanes.missing_in(made, count)
    if len(missing) == count:
        shutil.rmtree(work, ignore_errors=True)
    facts = _begun(plan, work)
    at_once, threads = lanes.side_by_side(len(missing), jobs.threads_of_experts(plan), facts["threads"])
    expected = estimate(plan, threads)
    if len(missing) < count:
        watch.say(f"going on behind {count - len(missing)} of {count} {experts.kind} experts")
        on_resumed(count - len(missing))
    else:
        _check_space(expected, where)
        seconds = expected.seconds * -(-count // at_once) / count
        watch.say(
            f"training {count} {experts.kind} experts, {plan.job.experts['train_epochs']} epochs each: "
            f"about {_minutes(seconds)} and {megabytes(expected.bytes)} in {where}"
            + (f", {at_once} at a time" if at_once > 1 else "")
        )
    work.mkdir(exist_ok=True)
    write_text(work / RECORD, json.dumps(facts | {"threads": threads}))
    watch.stage(f"training {experts.kind} experts", expected.steps)
    if missing:
        job = replace(jobs.training(plan, work), threads=threads)
        steps, seconds = expected.steps // count, float(facts["seconds"])
        task = lanes.Work(job, work, experts.place(plan.job), missing, count, steps, seconds, experts.advice)
        training = Lanes(task, watch)
        training.train(at_once)
        if left := lanes.missing_in(made, count):
            said = ", ".join(map(str, lanes.logs(work)))
            raise FatalError(f"{experts.script} left {count - len(left)} experts, not {count}. What it said: {said}")
        peak = max(training.peak, int(facts["peak_memory_mib"]))
        facts |= {"threads": threads, "seconds": round(training.seconds(), 2), "peak_memory_mib": peak}
        facts |= plan.about(jobs.scale(replace(job, view=str(lanes.view(work)))))
        write_text(work / RECORD, json.dumps(facts))
    _group(made, grouped, count, experts.files(plan.job))
    write_text(kept / RECORD, json.dumps(facts, indent=1) + "\n")
    write_text(kept / "log.txt", lanes.merged(lanes.logs(work), experts.script))
    kept.replace(where)
    shutil.rmtree(work)


def _begun(plan: Plan, work: Path) -> dict[str, Any]:
    """What is kept beside experts, with what an earlier command has written of those in the folder `work`."""
    earlier = read_json(work / RECORD) if (work / RECORD).is_file() else {}
    told = {name: earlier.get(name, 0) for name in ("threads", "peak_memory_mib")}
    return facts_of(plan) | told | {"seconds": process.spent(work / "metrics.jsonl")}


def _group(made: Path, grouped: Path, count: int, files: int) -> None:
    """Turn `count` files of one expert into as few as the distillation is to find; again: go on."""
    size = count // files
    for number in range(files):
        singles = [file_of(made, n) for n in range(number * size, (number + 1) * size)]
        if not file_of(grouped, number).is_file():
            trajectories = [one for single in singles for one in torch.load(single, weights_only=True)]
            with replacing(file_of(grouped, number)) as partial:
                torch.save(trajectories, partial)
        for single in singles:
            single.unlink(missing_ok=True)


def _check_space(expected: Estimate, where: Path) -> None:
    free = shutil.disk_usage(where.parent).free
    if free < _FREE * expected.bytes:
        raise FatalError(
            f"the experts will take {megabytes(expected.bytes)}, and {where.parent} has {megabytes(free)} free. "
            "Free some (sdc experts lists what can go), name another folder (SDC_CACHE=DIR), or train fewer: "
            "--set num_experts=..."
        )


@functools.cache  # methods of one benchmark train the same network, and it is timed once
def _of_network(model: str, slot: Slot, batch: int, threads: int, where: torch.device) -> tuple[int, float]:
    """The numbers that a network has, and the time of a forward and backward pass of a batch here, the quicker of two
    after a first.

    On a CPU, where a part of a batch takes its share of the time, a part is timed.
    """
    network = networks.build(model, slot.channels, slot.classes, slot.size, seed=0)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network = network.to(where)
    timed = min(batch, _TIMED) if where.type == "cpu" else batch
    images = torch.zeros(timed, slot.channels, slot.size, slot.size, device=where)
    labels = torch.zeros(timed, dtype=torch.long, device=where)
    taken, ours = [], torch.get_num_threads()
    torch.set_num_threads(threads or ours)
    for _ in range(3):
        began = time.perf_counter()
        torch.autograd.backward(F.cross_entropy(network(images), labels))
        float(next(network.parameters()).detach().sum())  # waits for the device
        taken.append(time.perf_counter() - began)
    torch.set_num_threads(ours)
    network.cpu()
    del images, labels
    hardware.leave_to_others()
    return parameters, min(taken[1:]) * batch / timed


def read(where: Path) -> Trained:
    """The experts in this folder, complete or not."""
    record = where / RECORD
    facts = json.loads(record.read_text())
    size = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    unfinished = _name(where) != where.name
    whole = (file for file in where.rglob("replay_buffer_*.pt") if not lanes.is_ours(file, where))
    facts |= {"done": sum(1 for _ in whole)} if unfinished else {}
    return Trained(facts["key"], where, facts, size, record.stat().st_mtime, unfinished)


@contextmanager
def alone(where: Path, watch: Watch | None) -> Iterator[None]:
    """One process at a time works on these experts."""
    lock = FileLock(_lock(where))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if watch:
            watch.say(f"another process is at work on {where}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def unfinished_folder(where: Path) -> Path:
    """Where experts are while they are trained."""
    return where.with_name(f".{where.name}.partial")


def _name(folder: Path) -> str:
    """The name of experts' own folder, given that or the one where they are trained."""
    name = folder.name
    return name.removeprefix(".").removesuffix(".partial") if name.startswith(".") else name


def _lock(where: Path) -> Path:
    return where.with_name(f".{where.name}.lock")


def megabytes(size: float) -> str:
    """A size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
