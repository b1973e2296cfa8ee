"""Runs that begin from given images: `--set init_from=PATH`, and `init_from` of a benchmark's spec."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sdc.adapters.base import Job as Asked
from sdc.adapters.registry import ADAPTERS
from sdc.bench import cells, planning, spec
from sdc.data import sets, store
from sdc.evaluation.view import View, Whitening, normalised
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from sdc.launcher import first_images
from sdc.launcher.job import Job
from sdc.plan.cell import Cell
from sdc.plan.request import Request, plan
from sdc.report import commands, compare, load, places
from tests import fake, runs
from tests.conftest import Outcome, Sdc
from tests.runs import Made

USUAL = ("--dataset", "digits", "--weight", 0, "--set", "limit_per_class=5", "--set", "steps=3", "--set", "history=3")
BRIEF = ("--set", "networks=1", "--set", "epochs=1", "--set", "model=ConvNetD1")


def part(folder: Path, first: int = 700, classes: int = 10, side: int = 32, count: int = 4) -> Path:
    """Digits from the `first` on as an image folder, `count` of each class."""
    digits = store.load("digits")
    for label in range(classes):
        of_class = [n for n in range(first, len(digits.train.labels)) if digits.train.labels[n] == label][:count]
        for split in ("train", "test"):
            (folder / split / str(label)).mkdir(parents=True)
            for n in of_class:
                picture = Image.fromarray(digits.train.images[n, 0].numpy()).resize((side, side))
                picture.save(folder / split / str(label) / f"{n:04}.png")
    return folder


def begun(sdc: Sdc, tmp_path: Path, *more: object) -> Outcome:
    return sdc("run", "fake", *USUAL, *BRIEF, "--runs", tmp_path / "runs", "--json", *more)


def first_state(outcome: Outcome) -> torch.Tensor:
    assert outcome.code == 0, outcome
    return load_file(Path(outcome.json["run"]) / "history" / "000000.safetensors")["images"]


@pytest.mark.usefixtures("fake_upstream")
def test_the_first_images_are_drawn_from_the_part_by_the_seed_and_the_cell_says_so(sdc: Sdc, tmp_path: Path) -> None:
    folder = part(tmp_path / "easiest")
    given, other = (begun(sdc, tmp_path, "--set", f"init_from={folder}", "--seed", seed) for seed in (0, 1))

    shown = View("digits", tuple("0123456789"), 3, 32, (0.5,) * 3, (0.25,) * 3)
    of_part = normalised(store.load("easiest", folder).train.images, shown)
    for outcome in (given, other):
        for label, image in enumerate(first_state(outcome)):
            assert any(image.equal(each) for each in of_part[4 * label : 4 * label + 4]), "of its class, to the bit"
    assert not first_state(given).equal(first_state(other))

    cell = json.loads((Path(given.json["run"]) / "cell.json").read_text())
    assert cell["init_sha256"] == store.load("easiest", folder).sha256
    assert cell["init_from"] == str(folder)
    plain = plan(Request("fake", 0.0, "digits", changes=("limit_per_class=5", "steps=3", *BRIEF[1::2])), Quiet()).cell
    assert cell["settings"] == plain.settings | {"history": 3}
    assert cell["key"] != plain.key()
    result = json.loads((Path(given.json["run"]) / "result.json").read_text())
    assert result["init_sha256"] == cell["init_sha256"]


@pytest.mark.usefixtures("fake_upstream")
def test_a_cell_without_it_keeps_the_key_that_it_had() -> None:
    cell = plan(Request("fake", 0.3, "digits", changes=("limit_per_class=3",)), Quiet()).cell
    facts = {name: value for name, value in asdict(cell).items() if name not in ("init_sha256", "fork")}
    assert cell.key() == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    assert "init_from" not in cell.settings
    # Of the version before there was such a setting.
    frozen = Cell("dm", "digits", 1, 0.0, "constant", "ConvNet", 0, "quick", {"a": 1}, "u", "c", "p", "d", "")
    assert frozen.key() == "58aff8bb9f"


@pytest.mark.usefixtures("fake_upstream")
def test_what_does_not_fit_is_refused(sdc: Sdc, tmp_path: Path) -> None:
    for name, made, more, says in (
        (
            "two",
            part(tmp_path / "two", classes=2),
            (),
            "its classes are 0, 1, those of digits 0, 1, 2, 3, 4 and 5 more",
        ),
        ("small", part(tmp_path / "small", side=16), (), "its images are 1x16x16, those of digits 1x32x32"),
        ("few", part(tmp_path / "few", count=1), ("--ipc", 2), "has 1 training images there, and --ipc 2 needs"),
        ("none", tmp_path / "none", (), str(tmp_path / "none")),
    ):
        outcome = begun(sdc, tmp_path, "--set", f"init_from={made}", *more)
        assert outcome.code == 1, name
        assert says in outcome.json["error"]
    assert not (tmp_path / "runs").exists()


def test_images_that_a_run_is_tested_on_are_not_given_to_it(tmp_path: Path) -> None:
    digits = store.load("digits")
    apart = sets.held_out(digits, 20)
    left = sets.without(digits, apart.test.images)
    kept = {image.numpy().tobytes() for image in left.train.images}
    assert kept.isdisjoint({image.numpy().tobytes() for image in apart.test.images})
    assert kept == {image.numpy().tobytes() for image in apart.train.images} - {
        image.numpy().tobytes() for image in apart.test.images
    }


def test_datm_is_not_given_images_that_no_expert_may_know() -> None:
    adapter = ADAPTERS["datm"]
    options = {name: option.default for name, option in adapter.options.items()}
    trained = {name: option.default for name, option in (adapter.experts.options if adapter.experts else {}).items()}

    def refused(**more: Any) -> str | None:
        return adapter.refuse(Asked(adapter.slots[0], 1, "ConvNet", options | more, trained, given=True))

    assert "--set pix_init=real" in (refused() or "")
    assert refused(pix_init="real") is None


def test_whitened_images_are_given_whitened(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 4, 4), dtype=torch.uint8)
    matrix = torch.randn(48, 48)
    whitening = Whitening(torch.rand(48), matrix + matrix.T)
    save_file({"images": images}, tmp_path / "start.safetensors")
    (tmp_path / "view.json").write_text(json.dumps({"channels": 3, "size": 4, "mean": [0.0] * 3, "std": [1.0] * 3}))
    job = Job(
        *("script", (), 0, "cpu", "CIFAR10", "data", (), "out", "snapshot", "metrics"),
        view=str(tmp_path / "view.json"),
        snapshot_every=1,
        tree="",
        whiten=True,
        start=str(tmp_path / "start.safetensors"),
    )
    save_file({"mean": whitening.mean, "matrix": whitening.matrix}, job.whitening)
    view = View("x", ("a",), 3, 4, (0.0,) * 3, (1.0,) * 3, whitening)
    assert first_images.shown(job).equal(normalised(images, view))


# Benchmarks

SPEC = """\
methods = ["fake"]
datasets = {datasets}
init_from = {starts}
[set]
limit_per_class = 3
steps = 3
{more}
"""


def planned(tmp_path: Path, **fields: Any) -> cells.Bench:
    words = {"datasets": '["digits"]', "starts": '[""]', "more": ""} | fields
    (tmp_path / "spec.toml").write_text(SPEC.format(**words))
    return planning.of(spec.read(tmp_path / "spec.toml"), tmp_path / "runs", Quiet())


def test_a_spec_compares_runs_that_begin_from_parts(fake_upstream: fake.Fake, tmp_path: Path) -> None:
    for name, first in (("easiest", 0), ("hardest", 700)):
        part(tmp_path / name, first)
    found = planned(tmp_path, starts='["", "easiest", "hardest"]').cells
    assert [cell.name() for cell in found] == [
        "fake digits ipc 1 weight 0 seed 0",
        "fake digits ipc 1 weight 0 seed 0 from easiest",
        "fake digits ipc 1 weight 0 seed 0 from hardest",
    ]
    assert len({cell.folder for cell in found}) == 3
    assert found[0].folder == planned(tmp_path).cells[0].folder
    with pytest.raises(FatalError, match="init_from is a list of the spec, not a setting"):
        planned(tmp_path, more='init_from = "easiest"')


def test_a_spec_compares_distillations_of_parts(fake_upstream: fake.Fake, tmp_path: Path) -> None:
    for name, first in (("easiest", 0), ("hardest", 700)):
        part(tmp_path / name, first)
    found = planned(
        tmp_path, datasets='["digits", "easy", "hard"]', more='[data]\neasy = "easiest"\nhard = "hardest"'
    ).cells
    assert [cell.request.dataset for cell in found] == ["digits", "easy", "hard"]
    hashes = [plan(cell.request, Quiet()).cell.data_sha256 for cell in found]
    assert len(set(hashes)) == 3


def test_a_report_tells_them_apart_and_says_how_to_repeat_them(sdc: Sdc, tmp_path: Path) -> None:
    own = {"init_from": "/somewhere/parts/easiest", "init_sha256": "e" * 64}
    for weight in (0.0, 0.5):
        runs.make(tmp_path / "runs", Made("dm", "digits", [0.5], weight=weight))
        runs.make(tmp_path / "runs", Made("dm", "digits", [0.6], weight=weight, more=own))
    compared = compare.compare(load.load(tmp_path / "runs"))
    assert [row.difference.mean for row in compared.test if row.difference] == [0.0, 0.0], "each with its like"
    (place,) = places.places(compared.test)
    assert sorted(label for label, _ in place.groups) == ["dm", "dm (from easiest)"]
    (given,) = (row for row in compared.test if row.group.init_sha256)
    assert given.base
    assert "--set init_from=/somewhere/parts/easiest" in commands.again(given.base.runs[0])
