"""Base and +SDC of a cell are paired: they start from the same images and see the same draws until the end.

Two runs of the patched script, at weight 0 and at another. What differs between them is the term's alone: random numbers
of Python, numpy and torch, and the clock that scripts seed networks and augmentations from, are in the same state behind
every iteration, so both see the same networks and real images. (The evaluation's seeds: tests/distillation/test_run.py.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from sdc.distillation import experts, jobs, process
from sdc.ground.watch import Quiet
from sdc.patching import apply
from sdc.plan.request import Request, plan

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
WEIGHT, ITERATIONS = 0.5, 3


def ran(method: str, weight: float, work: Path, *more: str) -> dict[str, Tensor]:
    """What a run has behind two of its three iterations, the images that it started from, and those that it ends with."""
    work.mkdir()
    changes = (f"Iteration={ITERATIONS - 1}", "snapshot_every=1", *more)
    planned = plan(Request(method, weight, recipe="trial", changes=changes), Quiet())
    if trained := experts.ready(planned, Quiet()):
        (work / "buffers").symlink_to(trained.folder)
    apply.apply(planned.adapter)
    kept = {"history": str(work / "history"), "history_every": 1}
    job = dataclasses.replace(jobs.distillation(planned, work, work), **kept)
    process.launch(job, work, work / "log.txt", Quiet(), {})
    first = load_file(work / "history" / "000000.safetensors")["images"]
    return load_file(job.snapshot) | {"first": first, "last": load_file(job.output)["images"]}


def random(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("random.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.equal(other[name]) or bool((tensor.isnan() & other[name].isnan() | (tensor == other[name])).all())
        for name, tensor in one.items()
    )


@pytest.mark.parametrize("method", ["dc", "dm", "mtt"])
def test_both_start_from_the_same_images_and_draw_the_same_random_numbers(
    method: str, upstream_tree: Callable[[str], Path], tmp_path: Path
) -> None:
    upstream_tree(method)
    without, with_term = ran(method, 0.0, tmp_path / "without"), ran(method, WEIGHT, tmp_path / "with")

    assert without["first"].equal(with_term["first"])
    assert {"random.torch", "random.python", "random.numpy", "random.more"} <= random(without).keys()
    assert same(random(without), random(with_term))
    assert not without["last"].equal(with_term["last"])
    readings = float(without["random.more"][-1])
    assert readings > 0


@pytest.mark.parametrize(("method", "rates"), [("dc", ("lr_img=0",)), ("mtt", ("lr_img=0", "lr_lr=0"))])
def test_images_that_do_not_learn_are_the_same_with_the_term_and_without(
    method: str, rates: tuple[str, ...], upstream_tree: Callable[[str], Path], tmp_path: Path
) -> None:
    upstream_tree(method)
    without, with_term = (ran(method, weight, tmp_path / f"{weight}", *rates) for weight in (0.0, WEIGHT))

    momentum = {name for name in without if name.startswith("momentum.")}
    kept = without.keys() - momentum
    assert same({name: without[name] for name in kept}, {name: with_term[name] for name in kept})
    assert any(not without[name].equal(with_term[name]) for name in momentum)
