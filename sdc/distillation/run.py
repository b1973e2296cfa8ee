"""A run: prepare, distil, collect, evaluate, record. Each stage is done when its file is there, whole."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from sdc.distillation import experts, history, jobs, needed, process
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.scoring import Result, Subject, evaluate_sets
from sdc.evaluation.shown import Scale
from sdc.evaluation.training import Score
from sdc.evaluation.view import View, Whitening
from sdc.ground import hardware, storage
from sdc.ground.files import made, write_text
from sdc.ground.watch import Watch
from sdc.launcher.job import Job
from sdc.patching import trees
from sdc.plan import needs
from sdc.plan.cell import in_the_clear
from sdc.plan.request import Plan


def run(plan: Plan, runs: Path, watch: Watch, *, again: bool = False) -> Result:
    """Carry a plan out in its folder under `runs`; a complete run is read, not repeated, unless `again`.

    One that was cut short, however hard, goes on from what it left, and its result says where.
    """
    return run_together([plan], runs, watch, again=again)[0]


def run_together(
    plans: Sequence[Plan], runs: Path, watch: Watch, *, again: bool = False, stack: bool | None = None
) -> list[Result]:
    """Carry several plans out; what they distil is scored by one `evaluate_sets`, which is told `stack`."""
    wanted = {_folder(plan, runs): plan for plan in plans}
    _check_needs(wanted, again=again)
    with ExitStack() as held:
        done = {} if again else _complete(wanted)  # a run that is not locked: there is nothing to write in its folder
        for folder in sorted(wanted.keys() - done.keys()):  # in one order, or two commands may wait for each other
            held.enter_context(_begun(folder, watch))
        done |= {} if again else _complete(wanted.keys() - done.keys())
        for folder in done:
            watch.say(f"complete already: {folder}")
        if len(done) < len(wanted):
            watch.say(f"computing on {hardware.said()}")
        waiting = {folder: plan for folder, plan in wanted.items() if folder not in done}
        for folder, plan in waiting.items():
            _distilled(plan, folder, watch, again=again)
        done |= _evaluated(waiting, watch, stack)
    return [done[_folder(plan, runs)] for plan in plans]


def distil(plan: Plan, runs: Path, watch: Watch) -> None:
    """Carry a plan out but for its evaluation, with which `run` and `run_together` go on."""
    if complete(_folder(plan, runs)):
        return
    _check_needs({_folder(plan, runs): plan})
    with _begun(_folder(plan, runs), watch) as folder:
        if not complete(folder):
            _distilled(plan, folder, watch)


def _check_needs(wanted: Mapping[Path, Plan], *, again: bool = False) -> None:
    """Refuse, before anything is written, to run a script that lacks a package; what is distilled runs none."""
    coming = [plan for folder, plan in wanted.items() if again or not (_is_distilled(folder) or complete(folder))]
    needs.check({adapter.method: adapter for plan in coming for adapter in needed.scripts(plan)}.values())


def _is_distilled(folder: Path) -> bool:
    return (folder / "distilled.safetensors").is_file() and (folder / "distil.json").is_file()


def _complete(folders: Iterable[Path]) -> dict[Path, Result]:
    """The results of those that are complete."""
    return {folder: result for folder in folders if (result := complete(folder))}


def _folder(plan: Plan, runs: Path) -> Path:
    return runs.resolve() / plan.cell.folder()


@contextmanager
def _begun(folder: Path, watch: Watch) -> Iterator[Path]:
    """Within, a run's folder is there, and nobody else is at work in it."""
    with storage.at(folder), FileLock(made(folder) / ".lock"):
        process.wait_for_orphan(folder / "log.txt", watch)
        yield folder


def _distilled(plan: Plan, folder: Path, watch: Watch, *, again: bool = False) -> None:
    """Bring an unfinished run to where only its evaluation is missing."""
    _forget(folder, distilled_too=again)
    trees.prepared(plan.adapter, plan.cell.fork)
    _write_cell(plan, folder)
    _distil(plan, folder, watch)
    scale = Scale.of(distilled.load(folder).view)
    watch.say(f"images as the script showed them: {scale.words()}")
    _write_cell(plan, folder, scale)
    trees.unchanged(plan.adapter, plan.cell.fork)


def _write_cell(plan: Plan, folder: Path, scale: Scale | None = None) -> None:
    """Write cell.json; `scale` is known once the script has run."""
    about = plan.about(scale)
    device, threads = hardware.device(), jobs.threads(plan)
    text = in_the_clear(plan.cell, device, threads, plan.data, plan.settings.init_from, about)
    write_text(folder / "cell.json", text)


def complete(folder: Path) -> Result | None:
    """The result of a finished run, or None."""
    file = folder / "result.json"
    if not file.is_file():
        return None
    result: Result = json.loads(file.read_text())
    return result | {"run": str(folder)} if result["state"] == "complete" else None


def _distil(plan: Plan, folder: Path, watch: Watch) -> None:
    """Make distilled.safetensors unless it is there, and distil.json, which says what it took."""
    record, snapshot = folder / "distil.json", folder / "snapshot.safetensors"
    if _is_distilled(folder):
        watch.say("distilled already; evaluating")
        return
    trained = experts.ready(plan, watch, lambda done: _resumed(folder, "experts", expert=done))
    trees.unchanged(plan.adapter, plan.cell.fork)
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
        stages: Result = {"distil": {"seconds": round(seconds, 2), **asdict(ended)}}
        if trained:
            told = ("key", "seconds", "peak_memory_mib", "imported_from")
            stages["experts"] = {name: trained.facts[name] for name in told if name in trained.facts}
        write_text(record, json.dumps(stages))
        _collect(plan, job, folder)
    snapshot.unlink(missing_ok=True)


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
        about=_about(plan),
    )
    distilled.save_picture(found, folder / "images.png")
    distilled.save(found, folder / "distilled.safetensors")


def _about(plan: Plan) -> dict[str, str]:
    """Where a set comes from, in its metadata."""
    fork = {"fork": plan.cell.fork.name} if plan.cell.fork else {}
    return {"method": plan.cell.method, "key": plan.cell.key(), "data_sha256": plan.dataset.sha256, **fork}


def _evaluated(plans: Mapping[Path, Plan], watch: Watch, stack: bool | None) -> dict[Path, Result]:
    """Score what was distilled in these folders, and complete the runs."""
    subjects = [_subject(plan, folder, watch) for folder, plan in plans.items()]
    scores = evaluate_sets(subjects, watch, stack)
    each = zip(plans.items(), subjects, scores, strict=True)
    return {folder: _recorded(plan, folder, of, Scale.of(subject.found.view)) for (folder, plan), subject, of in each}


def _subject(plan: Plan, folder: Path, watch: Watch) -> Subject:
    """A run's set, to be scored behind the networks that have been; each other is kept as soon as it is scored."""
    found, kept = distilled.load(folder), folder / "scores.json"
    known = [Score(**score) for score in _list(kept)]
    if known:
        watch.say(f"going on behind {len(known)} evaluated networks")
        _resumed(folder, "evaluate", network=len(known))

    def keep(score: Score) -> None:
        write_text(kept, json.dumps([*_list(kept), asdict(score)]))

    return Subject(found, plan.dataset, [plan.settings.model], found.protocol, plan.cell.seed, known, keep)


def _recorded(plan: Plan, folder: Path, scores: Result, scale: Scale) -> Result:
    """Write a run's result, and take away what led there."""
    facts = {name: value for name, value in plan.cell.told().items() if name != "settings"}
    earlier = json.loads((folder / "distil.json").read_text())
    about = {"stages": earlier | scores["stages"], "resumed": _list(folder / "resumed.json")}
    result: Result = {"state": "complete", **facts, "key": plan.cell.key(), **scores, **plan.about(scale), **about}
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
