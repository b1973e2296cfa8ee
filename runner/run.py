"""A run: prepare, distil, collect, evaluate, record. Each stage is done when its file is there, whole."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from runner import distilled, experts, history, jobs, patching, process
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
    """Carry a plan out in its folder under `runs`; a complete run is read, not repeated, unless `again`.

    One that was cut short, however hard, goes on from what it left, and its result says where.
    """
    folder = runs.resolve() / plan.cell.folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"), no_space_is_fatal(folder):
        process.wait_for_orphan(folder / "log.txt", watch)
        if not again and (done := complete(folder)):
            watch.say(f"complete already: {folder}")
            return done
        _forget(folder, distilled_too=again)
        patching.apply(plan.adapter)
        write_text(folder / "cell.json", in_the_clear(plan.cell, jobs.device(), plan.data, plan.settings.init_from))
        stages = _distil(plan, folder, watch)
        patching.unchanged(plan.adapter)
        return _evaluate(plan, folder, stages, watch)


def complete(folder: Path) -> Result | None:
    """The result of a finished run, or None."""
    file = folder / "result.json"
    if not file.is_file():
        return None
    result: Result = json.loads(file.read_text())
    return result | {"run": str(folder)} if result["state"] == "complete" else None


def evaluate_set(
    found: DistilledSet,
    data: Dataset,
    models: Sequence[str],
    protocol: Protocol,
    seed: int,
    watch: Watch,
    scored: Sequence[Score] = (),
    on_score: Callable[[Score], None] | None = None,
) -> Result:
    """Train networks of each model on a distilled set and test them on `data`'s test images.

    Those in `scored` are not trained again; `on_score` is told of each other when it is scored.
    """
    if len(data.classes) != len(found.view.classes):
        raise FatalError(
            f"the set has {len(found.view.classes)} classes and {data.name} has {len(data.classes)}: "
            "name the data it was made of (--dataset NAME or --data PATH)"
        )
    memory.reset()
    began = time.monotonic()
    scores: list[Score] = []
    with _memory_is_fatal():
        test = normalised(data.test.images, found.view)
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
                scored=scored,
                on_score=on_score,
            )
    seconds = time.monotonic() - began + sum(score.seconds for score in scored)
    return {
        "accuracy": [{"model": s.model, "seed": s.seed, "accuracy": s.accuracy} for s in scores],
        **summary(scores),
        "by_model": {model: summary([s for s in scores if s.model == model]) for model in models},
        "protocol": to_dict(protocol),
        "stages": {"evaluate": {"seconds": round(seconds, 2), "peak_memory_mib": memory.peak_mib()}},
    }


@contextmanager
def _memory_is_fatal() -> Iterator[None]:
    """Turn the end of the GPU's or the machine's memory into a FatalError that says what takes less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own are RuntimeErrors
        if not process.out_of_memory(f"{type(error).__name__}: {error}"):
            raise
        raise FatalError(
            f"memory ran out while networks were evaluated: {error}\n"
            "Evaluate with less: sdc evaluate PATH --set batch=64, or a narrower network (--model ConvNetW64)"
        ) from error


def _distil(plan: Plan, folder: Path, watch: Watch) -> Result:
    """Make distilled.safetensors unless it is there; say what it took."""
    record, snapshot = folder / "distil.json", folder / "snapshot.safetensors"
    if (folder / "distilled.safetensors").is_file() and record.is_file():
        watch.say("distilled already; evaluating")
        stages: Result = json.loads(record.read_text())
        return stages
    trained = experts.ready(plan, watch, lambda done: _resumed(folder, "experts", expert=done))
    patching.unchanged(plan.adapter)
    if (done := _done(snapshot)).iterations:
        watch.say(f"going on from step {done.steps}")
        _resumed(folder, "distil", step=done.steps, iteration=done.iterations)
    history.forget(folder, behind=done.steps)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".work.", dir=folder) as name:  # whatever the script itself leaves goes too
        work = Path(name)
        if trained:
            (work / "buffers").symlink_to(trained.folder)
        job = history.kept(jobs.distillation(plan, work, folder, done), plan, folder, watch)
        watch.stage(f"distilling with {plan.adapter.method}", plan.steps())
        try:
            ended = process.launch(job, work, folder / "log.txt", watch, plan.adapter.advice)
        except BaseException:
            if snapshot.is_file():
                watch.say(f"the last good snapshot of the distilled set is {snapshot}")
            raise
        seconds = time.monotonic() - began + done.seconds
        stages = {"distil": {"seconds": round(seconds, 2), **asdict(ended)}}
        if trained:
            stages["experts"] = {name: trained.facts[name] for name in ("key", "seconds", "peak_memory_mib")}
        write_text(record, json.dumps(stages))
        _collect(plan, job, folder)
    snapshot.unlink(missing_ok=True)
    return stages


def _done(snapshot: Path) -> jobs.Done:
    """What a snapshot holds of a run that was cut short; nothing if there is none to go on from."""
    try:
        with safe_open(snapshot, framework="pt") as kept:
            facts = kept.metadata()
        return jobs.Done(*(json.loads(facts[name]) for name in ("iteration", "steps", "seconds")))
    except (OSError, SafetensorError, KeyError, TypeError):
        return jobs.Done()


def _resumed(folder: Path, stage: str, **where: int) -> None:
    """Keep in mind for the result that a stage went on from here."""
    file = folder / "resumed.json"
    write_text(file, json.dumps([*_list(file), {"stage": stage, **where}]))


def _list(file: Path) -> list[Any]:
    return list(json.loads(file.read_text())) if file.is_file() else []


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
    found, kept = distilled.load(folder), folder / "scores.json"
    known = [Score(**score) for score in _list(kept)]
    if known:
        watch.say(f"going on behind {len(known)} evaluated networks")
        _resumed(folder, "evaluate", network=len(known))

    def keep(score: Score) -> None:
        write_text(kept, json.dumps([*_list(kept), asdict(score)]))

    models, seed = [plan.settings.model], plan.cell.seed
    scores = evaluate_set(found, plan.dataset, models, found.protocol, seed, watch, known, keep)
    facts = {name: value for name, value in plan.cell.facts().items() if name != "settings"}
    about = {"stages": earlier | scores["stages"], "resumed": _list(folder / "resumed.json")}
    result: Result = {"state": "complete", **facts, "key": plan.cell.key(), **scores, **about}
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")
    for name in ("distil.json", "resumed.json", "scores.json"):
        (folder / name).unlink(missing_ok=True)
    return result | {"run": str(folder)}


def _forget(folder: Path, *, distilled_too: bool) -> None:
    """Take away what an earlier, unfinished run left and this one cannot use; `distilled_too`: all of it."""
    unfinished = ["distil.json", "snapshot.safetensors", "scores.json", "resumed.json"]
    for name in ["result.json", *(["distilled.safetensors", "images.png", *unfinished] if distilled_too else [])]:
        (folder / name).unlink(missing_ok=True)
    if distilled_too:
        history.forget(folder)
    for left in (*folder.glob(".*.partial"), *folder.glob("*.partial")):
        left.unlink()
    for work in folder.glob(".work.*"):
        shutil.rmtree(work)
