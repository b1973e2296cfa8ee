"""A run: prepare, distil, collect, evaluate, record. Each stage is done when its file is there, whole."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load_file

from runner import distilled, experts, jobs, patching, process
from runner.cell import in_the_clear
from runner.data.sets import Dataset
from runner.distilled import DistilledSet
from runner.errors import FatalError
from runner.evaluate import Score, evaluate, summary
from runner.files import no_space_is_fatal, write_text
from runner.launcher import memory
from runner.launcher.job import Job
from runner.plan import Plan
from runner.protocol import Protocol, to_dict
from runner.view import View, Whitening, normalised
from runner.watch import Watch

Result = dict[str, Any]


def run(plan: Plan, runs: Path, watch: Watch, *, again: bool = False) -> Result:
    """Carry a plan out in its folder under `runs`; a complete run is read, not repeated, unless `again`."""
    folder = runs.resolve() / plan.cell.folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), no_space_is_fatal(folder):
        if not again and (done := complete(folder)):
            watch.say(f"complete already: {folder}")
            return done
        _forget(folder, distilled_too=again)
        patching.apply(plan.adapter)
        write_text(folder / "cell.json", in_the_clear(plan.cell, jobs.device(), plan.data))
        stages = _distil(plan, folder, watch)
        return _evaluate(plan, folder, stages, watch)


def complete(folder: Path) -> Result | None:
    """The result of a finished run, or None."""
    file = folder / "result.json"
    if not file.is_file():
        return None
    result: Result = json.loads(file.read_text())
    return result | {"run": str(folder)} if result["state"] == "complete" else None


def evaluate_set(
    found: DistilledSet, data: Dataset, models: Sequence[str], protocol: Protocol, seed: int, watch: Watch
) -> Result:
    """Train networks of each model on a distilled set and test them on `data`'s test images."""
    if len(data.classes) != len(found.view.classes):
        raise FatalError(
            f"the set has {len(found.view.classes)} classes and {data.name} has {len(data.classes)}: "
            "name the data it was made of (--dataset NAME or --data PATH)"
        )
    memory.reset()
    began = time.monotonic()
    test = normalised(data.test.images, found.view)
    scores: list[Score] = []
    for model in models:
        watch.stage(f"evaluating with {protocol.networks} {model}", protocol.networks * (protocol.epochs + 1))
        scores += evaluate(
            found.images,
            found.labels,
            test,
            data.test.labels,
            model,
            protocol,
            seed,
            on_progress=lambda done, _: watch.progress(done),
        )
    return {
        "accuracy": [{"model": s.model, "seed": s.seed, "accuracy": s.accuracy} for s in scores],
        **summary(scores),
        "by_model": {model: summary([s for s in scores if s.model == model]) for model in models},
        "protocol": to_dict(protocol),
        "stages": {"evaluate": {"seconds": round(time.monotonic() - began, 2), "peak_memory_mib": memory.peak_mib()}},
    }


def _distil(plan: Plan, folder: Path, watch: Watch) -> Result:
    """Make distilled.safetensors unless it is there; say what it took."""
    record, snapshot = folder / "distil.json", folder / "snapshot.safetensors"
    if (folder / "distilled.safetensors").is_file() and record.is_file():
        watch.say("distilled already; evaluating")
        stages: Result = json.loads(record.read_text())
        return stages
    trained = experts.ready(plan, watch)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".work.", dir=folder) as name:  # whatever the script itself leaves goes too
        work = Path(name)
        if trained:
            (work / "buffers").symlink_to(trained.folder)
        job = jobs.distillation(plan, work, folder)
        watch.stage(f"distilling with {plan.adapter.method}", plan.steps())
        try:
            ended = process.launch(job, work, folder / "log.txt", watch, plan.adapter.advice)
        except BaseException:
            if snapshot.is_file():
                watch.say(f"the last good snapshot of the distilled set is {snapshot}")
            raise
        stages = {"distil": {"seconds": round(time.monotonic() - began, 2), **asdict(ended)}}
        if trained:
            stages["experts"] = {name: trained.facts[name] for name in ("key", "seconds", "peak_memory_mib")}
        write_text(record, json.dumps(stages))
        _collect(plan, job, folder)
    snapshot.unlink(missing_ok=True)
    return stages


def _collect(plan: Plan, job: Job, folder: Path) -> None:
    """Turn what the tap kept into the distilled set and its picture."""
    shown, kept = json.loads(Path(job.view).read_text()), load_file(job.output)
    lr = float(kept["lr"]) if "lr" in kept else None
    fitted = load_file(job.whitening) if job.whiten else {}
    found = DistilledSet(
        images=kept["images"],
        labels=kept.get("labels", distilled.hard_labels(len(plan.dataset.classes), plan.cell.ipc)),
        view=View(
            dataset=plan.cell.dataset,
            classes=plan.dataset.classes,
            channels=shown["channels"],
            size=shown["size"],
            mean=tuple(shown["mean"]),
            std=tuple(shown["std"]),
            whitening=Whitening(**fitted) if fitted else None,
        ),
        protocol=plan.protocol(lr),
        lr=lr,
        about={"method": plan.cell.method, "key": plan.cell.key(), "data_sha256": plan.dataset.sha256},
    )
    distilled.save_picture(found, folder / "images.png")
    distilled.save(found, folder / "distilled.safetensors")


def _evaluate(plan: Plan, folder: Path, earlier: Result, watch: Watch) -> Result:
    found = distilled.load(folder)
    scores = evaluate_set(found, plan.dataset, [plan.settings.model], found.protocol, plan.cell.seed, watch)
    facts = {name: value for name, value in asdict(plan.cell).items() if name != "settings"}
    stages = earlier | scores["stages"]
    result: Result = {"state": "complete", **facts, "key": plan.cell.key(), **scores, "stages": stages}
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")
    (folder / "distil.json").unlink(missing_ok=True)
    return result | {"run": str(folder)}


def _forget(folder: Path, *, distilled_too: bool) -> None:
    """Take away what an earlier, unfinished run left and this one makes anew."""
    distilled_files = ["distilled.safetensors", "distil.json", "images.png", "snapshot.safetensors"]
    for name in ["result.json", *(distilled_files if distilled_too else [])]:
        (folder / name).unlink(missing_ok=True)
    for work in folder.glob(".work.*"):
        shutil.rmtree(work)
