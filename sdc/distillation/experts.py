"""Experts: networks trained on real data by an upstream's own script, kept under a key of all that shapes them.

They are trained by one command at a time, shared by every run that needs them, and complete where a run looks for
them. Training that is cut short leaves those that it has finished beside, and goes on with the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from sdc.adapters.base import Adapter
from sdc.adapters.registry import ADAPTERS
from sdc.distillation import jobs, lanes, process, training_time
from sdc.distillation.buffers import file_of
from sdc.distillation.lanes import Lanes
from sdc.distillation.training_time import Estimate
from sdc.ground import paths, storage
from sdc.ground.errors import FatalError, unknown
from sdc.ground.files import read_json, replacing, write_text
from sdc.ground.watch import Watch
from sdc.patching import clones, trees
from sdc.plan import needs
from sdc.plan.request import Plan

RECORD = "experts.json"
"""Experts' own facts; without it in their folder they are absent."""
_FREE = 1.15


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
    if not are_ready(where):  # looked at without a lock, which takes the right to write
        if owner := jobs.owner(plan.adapter):
            needs.check([owner])
        with storage.at(where.parent), alone(where, watch):
            if not are_ready(where):
                _train(plan, where, watch, on_resumed)
    with contextlib.suppress(OSError):  # another user's experts may be used, and not marked so
        os.utime(where / RECORD)
    return read(where)


def are_ready(where: Path) -> bool:
    """Whether the experts in this folder are complete."""
    return (where / RECORD).is_file()


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
    with storage.at(paths.experts()), alone(paths.experts() / _name(gone.folder), None):
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
        **({"fork": plan.cell.fork.told()} if plan.cell.fork and jobs.has_own_experts(plan) else {}),
        **plan.about(),
        "seconds": 0.0,
        "peak_memory_mib": 0,
    }


def _train(plan: Plan, where: Path, watch: Watch, on_resumed: Callable[[int], None]) -> None:
    experts, owner = plan.adapter.experts, jobs.owner(plan.adapter)
    if experts is None or owner is None:
        raise ValueError(f"{plan.adapter.method} needs no experts")
    _prepare(plan, owner)
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
    expected = training_time.estimate(plan, threads)
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
        if jobs.has_own_experts(plan):
            trees.unchanged(plan.adapter, plan.cell.fork)
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


def _prepare(plan: Plan, owner: Adapter) -> None:
    """Have the script there that trains them: the pin's, or a fork's own, as it was looked at."""
    if jobs.has_own_experts(plan):
        trees.unchanged(plan.adapter, plan.cell.fork)
    else:
        clones.present(owner)


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


def read(where: Path) -> Trained:
    """The experts in this folder, complete or not."""
    record = where / RECORD
    facts = json.loads(record.read_text())
    size = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    unfinished = _name(where) != where.name
    whole = (file for file in where.rglob("replay_buffer_*.pt") if not lanes.is_ours(file, where))
    facts |= {"done": sum(1 for _ in whole)} if unfinished else {}
    return Trained(facts["key"], where, facts, size, record.stat().st_mtime, unfinished)


@contextlib.contextmanager
def alone(where: Path, watch: Watch | None) -> Iterator[None]:
    """One process at a time works on these experts."""
    where.parent.mkdir(parents=True, exist_ok=True)
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
