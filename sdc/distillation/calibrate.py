"""Calibration: the weight at which the term's image gradient is as long as the matching loss's.

Measured over the first updates of the real run, by two processes of the patched script with the same seed: one at
weight 0, as it is, and one at a weight w that is led through the first one's states. At each update both see the same
images, networks and draws, so that their image gradients differ by w times the term's.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import safe_open
from torch import Tensor

from sdc.distillation import experts, jobs, needed, process
from sdc.ground import hardware, storage
from sdc.ground.errors import FatalError
from sdc.ground.files import made, write_text
from sdc.ground.watch import Watch
from sdc.patching import trees
from sdc.plan import needs
from sdc.plan.cell import Cell, in_the_clear
from sdc.plan.request import Plan

UPDATES = 20
"""Updates that are looked at, if not said: at ten images a class, DC and DSA see two networks in as many."""
FRACTIONS = (0.1, 0.3, 1.0)
_FOLDER = "calibrations"
_LATER = ("networks", "epochs", "snapshot_every", "history")
"""Settings that reach no gradient."""
_FAR = 100.0
"""A gradient so many times longer or shorter than the other is measured again nearer: float32 has seven digits."""
_TRIES = 4


@dataclass(frozen=True)
class Calibration:
    """How long the matching loss's image gradient g_m is beside the term's, g_p, at weight 1; an entry an update.

    `balance` is the median of the ratios: the weight at which the term's is the longer one as often as not. Single
    updates that are far off do not move it, nor does it matter which of the two lengths is divided by the other.
    """

    balance: float
    ratios: tuple[float, ...]
    """|g_m| / |g_p|, over all pixels."""
    cosines: tuple[float, ...]
    """Of the angle between g_m and g_p: above 0 the matching loss lowers the term by itself."""
    seed: int
    measured_at: float
    """The weight of the second process."""

    @property
    def updates(self) -> int:
        """How many updates were looked at: as many as asked, or all that the run makes."""
        return len(self.ratios)

    def weight(self, fraction: float) -> float:
        """The weight at which the term's image gradient has `fraction` times the other's length, to three digits."""
        _check(fraction)
        return float(f"{fraction * self.balance:.3g}")


def file(plan: Plan, runs: Path, updates: int = UPDATES) -> Path:
    """Where a calibration is kept: below `runs`, under a key of the cell at weight 0 and the number of updates."""
    cell = _cell(plan)
    facts = cell.facts() | {"settings": {name: cell.settings[name] for name in cell.settings if name not in _LATER}}
    key = hashlib.sha256(json.dumps([facts, updates], sort_keys=True).encode()).hexdigest()[:10]
    return runs.resolve() / _FOLDER / f"{cell.method}-{cell.dataset}-ipc{cell.ipc}-{key}.json"


def known(plan: Plan, runs: Path, updates: int = UPDATES) -> Calibration | None:
    """The calibration of a plan if it was measured already."""
    where = file(plan, runs, updates)
    if not where.is_file():
        return None
    kept = json.loads(where.read_text())["calibration"]
    return Calibration(**kept | {name: tuple(kept[name]) for name in ("ratios", "cosines")})


def measure(plan: Plan, runs: Path, watch: Watch, updates: int = UPDATES) -> Calibration:
    """Find the calibration of a plan, or measure it: the first `updates` of its run, twice. Leaves no run folder.

    Raises FatalError where there is nothing to compare: a gradient that is zero or not finite.
    """
    if updates < 1:
        raise FatalError(f"--updates {updates}: at least one")
    where = file(plan, runs, updates)
    if found := known(plan, runs, updates):  # looked at without a lock, which takes the right to write
        watch.say(f"measured already: {where}")
        return found
    needs.check(needed.scripts(plan))
    with storage.at(where.parent), FileLock(made(where.parent) / f".{where.stem}.lock"):
        if found := known(plan, runs, updates):
            watch.say(f"measured already: {where}")
            return found
        log = where.with_suffix(".log")
        process.wait_for_orphan(log, watch)
        for left in where.parent.glob(f".{where.stem}.work.*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=f".{where.stem}.work.", dir=where.parent) as name:
            found = _measured(plan, Path(name), log, watch, updates)
        write_text(where, _text(plan, found, updates))
        log.unlink()
        return found


def weights(plan: Plan, fractions: Sequence[float], runs: Path, watch: Watch, updates: int = UPDATES) -> dict[str, Any]:
    """What `sdc calibrate` prints: the calibration in the clear, the weight of each fraction, and the file."""
    for fraction in fractions:
        _check(fraction)
    found = measure(plan, runs, watch, updates)
    return {
        **{name: getattr(plan.cell, name) for name in ("method", "dataset", "ipc", "model", "recipe")},
        **({"fork": plan.cell.fork.told()} if plan.cell.fork else {}),
        **asdict(found),
        "updates": found.updates,
        "weights": [{"fraction": fraction, "weight": found.weight(fraction)} for fraction in fractions],
        "file": str(file(plan, runs, updates)),
    }


def gradients(first: Path, second: Path, weight: float) -> Iterator[tuple[Tensor, Tensor]]:
    """g_m and g_p of each update, float64 [N, C, H, W], from the folders of two processes, at weight 0 and at `weight`.

    Raises FatalError if the two were not in the same state.
    """
    for number, file in enumerate(sorted(first.glob("images-*")), start=1):
        (matching, state), (both, other) = _read(file), _read(second / file.name)
        if state != other:
            raise FatalError(
                f"update {number}: with the term the script is not where it is without, so its two gradients cannot be "
                "compared: it draws other random numbers, or takes fewer steps. Does it repeat its bits? "
                "sdc verify METHOD --behaviour"
            )
        yield matching, (both - matching) / weight


def watched(
    plan: Plan, weight: float, updates: int, work: Path, log: Path, watch: Watch, leader: Path | None = None
) -> Path:
    """Run the first updates of a plan at a weight, in the new folder `work`; the folder of their gradients is returned.

    With a `leader`, such a folder of another process, its states are gone through.
    """
    work.mkdir()
    if trained := experts.ready(plan, watch):
        (work / "buffers").symlink_to(trained.folder)
    job = jobs.distillation(replace(plan, cell=replace(_cell(plan), weight=weight)), work, work)
    found = work / "gradients"
    job = replace(
        job,
        makes="gradients",
        output=str(found),
        updates=updates,
        leader=str(leader or ""),
        loop="",  # it is never gone on with
    )
    watch.stage(f"calibrating {plan.adapter.method}: weight {weight:g}", min(updates, plan.steps()))
    process.launch(job, work, log, watch, plan.adapter.advice)
    return found


def compared(plan: Plan, first: Path, second: Path, weight: float) -> Calibration:
    """What the gradients in two such folders come to. Raises FatalError as `measure` and `gradients` do."""
    ratios, cosines = [], []
    for number, (matching, term) in enumerate(gradients(first, second, weight), start=1):
        lengths = float(matching.norm()), float(term.norm())
        if not all(math.isfinite(length) and length > 0 for length in lengths):
            raise FatalError(
                f"update {number}: the image gradient of the matching loss is {lengths[0]:.4g} long and that of the "
                f"SDC term {lengths[1]:.4g}, so no weight balances them. Does {plan.adapter.method} run, and does the "
                f"term act? sdc verify {plan.adapter.method} --behaviour"
            )
        ratios.append(lengths[0] / lengths[1])
        cosines.append(float((matching * term).sum()) / (lengths[0] * lengths[1]))
    return Calibration(statistics.median(ratios), tuple(ratios), tuple(cosines), plan.cell.seed, weight)


def _measured(plan: Plan, work: Path, log: Path, watch: Watch, updates: int) -> Calibration:
    trees.prepared(plan.adapter, plan.cell.fork)
    watch.say(f"computing on {hardware.said()}")
    first = watched(plan, 0.0, updates, work / "without", log, watch)
    weight = 1.0
    for number in range(_TRIES):
        second = watched(plan, weight, updates, work / f"with{number}", log, watch, first)
        trees.unchanged(plan.adapter, plan.cell.fork)
        found = compared(plan, first, second, weight)
        if 1 / _FAR <= weight / found.balance <= _FAR:
            return found
        watch.say(f"at weight {weight:g} one gradient drowns the other; once more at {found.balance:.3g}")
        weight = found.balance
        shutil.rmtree(second.parent)
    raise FatalError(
        f"{plan.adapter.method}: the length of the term's image gradient does not grow with its weight: after {_TRIES} "
        f"weights it is still not within {_FAR:g} times the matching loss's"
    )


def _check(fraction: float) -> None:
    if not (math.isfinite(fraction) and fraction > 0):
        raise FatalError(f"a fraction of the matching loss's gradient is a number above 0, such as 0.1, not {fraction}")


def _read(path: Path) -> tuple[Tensor, str]:
    """The gradient of an update as float64, and a digest of the state that it was taken at; none if there is none."""
    if not path.is_file():
        return torch.zeros(()), ""
    with safe_open(path, framework="pt") as kept:
        return kept.get_tensor("gradient").double(), kept.metadata()["state"]


def _cell(plan: Plan) -> Cell:
    """The cell that is calibrated: a ramp of the weight would hide the term at first."""
    return replace(plan.cell, weight=0.0, schedule="constant")


def _text(plan: Plan, found: Calibration, updates: int) -> str:
    device, threads = hardware.device(), jobs.threads(plan)
    asked = json.loads(in_the_clear(_cell(plan), device, threads, plan.data, plan.settings.init_from, plan.about()))
    return json.dumps({"calibration": asdict(found), "asked_updates": updates, "cell": asked}, indent=1) + "\n"
