"""What the launcher is told: the jobs of the stages that run an upstream's script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sdc.adapters import base
from sdc.adapters.base import Adapter, Slot
from sdc.adapters.registry import ADAPTERS
from sdc.data import sets
from sdc.data.sets import Dataset
from sdc.evaluation import networks
from sdc.evaluation.shown import Scale
from sdc.evaluation.view import resized
from sdc.ground import cores, hardware, paths
from sdc.launcher import loop
from sdc.launcher.job import Job
from sdc.patching import clones
from sdc.plan import schedule
from sdc.plan.cell import Cell
from sdc.plan.request import Plan

SHOWN_TEST_IMAGES = 1
"""Test images of each class that a script is shown. No score of its own is used, so that none can choose a set."""


@dataclass(frozen=True)
class Done:
    """What earlier processes did of a job: iterations, their steps, and the seconds that they took."""

    iterations: int = 0
    steps: int = 0
    seconds: float = 0.0


def distillation(plan: Plan, work: Path, folder: Path, done: Done = Done()) -> Job:
    """The method's own script, in the folder `work`, for a run in `folder`. Writes the files that it reads."""
    adapter, job = plan.adapter, plan.job
    for name, text in adapter.files(job).items():
        (work / name).write_text(text)
    return Job(
        script=str(plan.script),
        argv=(*adapter.argv(job), *_term(plan.cell)),
        seed=plan.cell.seed,
        device=hardware.device(),
        slot=plan.slot.name,
        data=str(_serve(plan.dataset, plan.slot, work)),
        classes=plan.dataset.classes,
        output=str(work / "final.safetensors"),
        snapshot=str(folder / "snapshot.safetensors"),
        metrics=str(folder / "metrics.jsonl"),
        view=str(work / "view.json"),
        snapshot_every=max(1, plan.settings.snapshot_every),
        gpus=max(1, plan.settings.gpus),
        tree=str(plan.tree),
        loss=adapter.loss,
        average=float(job.options[adapter.average]) if adapter.average else 0.0,
        **_whitening(job),
        test_per_class=SHOWN_TEST_IMAGES,
        loop=_loop(plan),
        start=str(_first_images(plan, work) or ""),
        **_behind(done),
        threads=threads(plan),
    )


def threads(plan: Plan) -> int:
    """The threads of the script that distils, by the images of one of its passes; 0 where a GPU computes."""
    options = plan.job.options
    batch = options.get("batch_real") or options.get("batch_syn") or plan.slot.classes * plan.cell.ipc
    return _threads(plan, int(batch), beside=1)


def threads_of_experts(plan: Plan) -> int:
    """The threads of each process that trains experts; 0 where a GPU computes."""
    batch, count = (int(plan.job.experts[name]) for name in ("expert_batch", "num_experts"))
    return _threads(plan, batch, beside=count)


def _threads(plan: Plan, batch: int, beside: int) -> int:
    if hardware.device() != "cpu":
        return 0
    slot = plan.slot
    one = networks.multiply_adds(plan.settings.model, slot.channels, slot.classes, slot.size)
    return cores.threads(batch * one, beside)


def training(plan: Plan, work: Path) -> Job:
    """The script that trains all of a method's experts, one after another, in the folder `work`."""
    experts = plan.adapter.experts
    if experts is None:
        raise ValueError(f"{plan.adapter.method} needs no experts")
    tree = plan.tree if has_own_experts(plan) else clones.clone_path(ADAPTERS[experts.method])
    return Job(
        script=str(tree / experts.script),
        argv=tuple(experts.argv(plan.job)),
        seed=int(plan.job.experts["expert_seed"]),
        device=hardware.device(),
        slot=plan.slot.name,
        data=str(_serve(plan.dataset, plan.slot, work)),
        classes=plan.dataset.classes,
        output="",
        snapshot="",
        metrics=str(work / "metrics.jsonl"),
        view=str(work / "view.json"),
        snapshot_every=1,
        tree=str(tree),
        makes="networks",
        **_whitening(plan.job),
        test_per_class=SHOWN_TEST_IMAGES,
        loop=experts.loop,
    )


def scale(job: Job) -> Scale:
    """The constants that a job's script showed its images with."""
    found = json.loads(Path(job.view).read_text())
    return Scale(tuple(found["mean"]), tuple(found["std"]), job.whiten)


def has_own_experts(plan: Plan) -> bool:
    """Whether a fork's own script trains the experts that its runs match."""
    return bool(plan.cell.fork and plan.cell.fork.experts_sha256)


def owner(adapter: Adapter) -> Adapter | None:
    """The method whose clone holds the script that trains this method's experts, if it needs any."""
    return ADAPTERS[adapter.experts.method] if adapter.experts else None


def _whitening(job: base.Job) -> dict[str, Any]:
    return {"whiten": True, "whitened": str(paths.whitening())} if job.options.get("zca") else {}


def _behind(done: Done) -> dict[str, Any]:
    return {"done": done.iterations, "steps_done": done.steps, "earlier": done.seconds}


def _loop(plan: Plan) -> str:
    """The variable of the script's loop; empty where a fork has another: its runs begin anew if cut short."""
    if plan.cell.fork:
        try:
            loop.line(plan.script, plan.adapter.loop)
        except (ValueError, SyntaxError):
            return ""
    return plan.adapter.loop


def _term(cell: Cell) -> tuple[str, ...]:
    return "--sdc_lambda", repr(cell.weight), *schedule.options(cell.schedule)


def _first_images(plan: Plan, work: Path) -> Path | None:
    """The images that a run is to begin from, as many a class as it distils, drawn by its seed; None: its script's."""
    if plan.start is None:
        return None
    chosen = sets.drawn(plan.start, plan.cell.ipc, f"init/{plan.cell.seed}")
    images = resized(plan.start.train.images[chosen], plan.slot.channels, plan.slot.size)
    save_file({"images": images}, work / "start.safetensors")
    return work / "start.safetensors"


def _serve(dataset: Dataset, slot: Slot, work: Path) -> Path:
    """The images as the script's slot wants them: the prepared file itself if it fits, else a copy that does."""
    shape = tuple(dataset.train.images.shape[1:])
    if shape == (slot.channels, slot.size, slot.size) and dataset.whole:
        return dataset.file
    tensors = {
        name: resized(tensor, slot.channels, slot.size) if name.endswith("_images") else tensor
        for name, tensor in sets.tensors(dataset).items()
    }
    save_file(tensors, work / "served.safetensors")
    return work / "served.safetensors"
