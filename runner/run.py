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

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from runner import distilled, patching, process
from runner.cell import in_the_clear
from runner.data import sets
from runner.data.sets import Dataset
from runner.distilled import DistilledSet
from runner.errors import FatalError
from runner.evaluate import Score, evaluate, summary
from runner.files import no_space_is_fatal, write_text
from runner.launcher import memory
from runner.launcher.job import Job
from runner.plan import Plan
from runner.protocol import Protocol, to_dict
from runner.view import View, normalised, resized
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
        write_text(folder / "cell.json", in_the_clear(plan.cell, device(), plan.data))
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


def device() -> str:
    """`cuda` where a GPU is there, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _distil(plan: Plan, folder: Path, watch: Watch) -> Result:
    """Make distilled.safetensors unless it is there; say what it took."""
    record, snapshot = folder / "distil.json", folder / "snapshot.safetensors"
    if (folder / "distilled.safetensors").is_file() and record.is_file():
        watch.say("distilled already; evaluating")
        stages: Result = json.loads(record.read_text())
        return stages
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".work.", dir=folder) as name:  # whatever the script itself leaves goes too
        work = Path(name)
        job = _job(plan, work, folder)
        watch.stage(f"distilling with {plan.adapter.method}", plan.steps())
        try:
            peak = process.launch(job, work, folder / "log.txt", watch, plan.adapter.advice)
        except BaseException:
            if snapshot.is_file():
                watch.say(f"the last snapshot of the images is {snapshot}")
            raise
        stages = {"seconds": round(time.monotonic() - began, 2), "peak_memory_mib": peak, "steps": plan.steps()}
        write_text(record, json.dumps(stages))
        _collect(plan, job, folder)
    snapshot.unlink(missing_ok=True)
    return stages


def _serve(plan: Plan, work: Path) -> Path:
    """The images as the script's slot wants them: the prepared file itself if it fits, else a copy that does."""
    slot, shape = plan.slot, tuple(plan.dataset.train.images.shape[1:])
    if shape == (slot.channels, slot.size, slot.size) and not plan.settings.limit_per_class:
        return plan.dataset.file
    tensors = {
        name: resized(tensor, slot.channels, slot.size) if name.endswith("_images") else tensor
        for name, tensor in sets.tensors(plan.dataset).items()
    }
    save_file(tensors, work / "served.safetensors")
    return work / "served.safetensors"


def _job(plan: Plan, work: Path, folder: Path) -> Job:
    term = ["--sdc_lambda", repr(plan.cell.weight), "--sdc_schedule", plan.cell.schedule]
    return Job(
        script=str(patching.script_path(plan.adapter)),
        argv=(*plan.adapter.argv(plan.job), *term),
        seed=plan.cell.seed,
        device=device(),
        slot=plan.slot.name,
        data=str(_serve(plan, work)),
        classes=plan.dataset.classes,
        output=str(work / "final.safetensors"),
        snapshot=str(folder / "snapshot.safetensors"),
        metrics=str(folder / "metrics.jsonl"),
        view=str(work / "view.json"),
        snapshot_every=max(1, plan.settings.snapshot_every),
    )


def _collect(plan: Plan, job: Job, folder: Path) -> None:
    """Turn what the tap kept into the distilled set and its picture."""
    shown = json.loads(Path(job.view).read_text())
    found = DistilledSet(
        images=load_file(job.output)["images"],
        labels=distilled.hard_labels(len(plan.dataset.classes), plan.cell.ipc),
        view=View(
            dataset=plan.cell.dataset,
            classes=plan.dataset.classes,
            channels=shown["channels"],
            size=shown["size"],
            mean=tuple(shown["mean"]),
            std=tuple(shown["std"]),
        ),
        protocol=plan.protocol(),
        about={"method": plan.cell.method, "key": plan.cell.key(), "data_sha256": plan.dataset.sha256},
    )
    distilled.save_picture(found, folder / "images.png")
    distilled.save(found, folder / "distilled.safetensors")


def _evaluate(plan: Plan, folder: Path, distil: Result, watch: Watch) -> Result:
    found = distilled.load(folder)
    scores = evaluate_set(found, plan.dataset, [plan.settings.model], found.protocol, plan.cell.seed, watch)
    facts = {name: value for name, value in asdict(plan.cell).items() if name != "settings"}
    stages = {"distil": distil} | scores["stages"]
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
