"""`sdc calibrate`: the two image gradients at the same states, against what the path of a run says of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import calibrate
from sdc.distillation.calibrate import Calibration
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.watch import Quiet
from sdc.plan.request import Plan, Request, plan
from tests import fake
from tests.conftest import Sdc

ASKED = ("fake", "--dataset", "digits", "--set", "limit_per_class=3")
LOSS = "    loss = ((images - goal - jitter) ** 2).mean()"
RATE, MOMENTUM = 100.0, 0.5


def planned(**changes: Any) -> Plan:
    request = Request("fake", 0.0, dataset="digits", changes=("limit_per_class=3",))
    return plan(replace(request, **changes), Quiet())


def with_term(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake upstream, with another line for its term."""
    made = fake.build(folder / "fake", added=fake.ADDED | {LOSS: line})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.git_config))
    monkeypatch.setitem(ADAPTERS, "fake", made.adapter)


def cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()))


def test_both_gradients_are_those_of_the_path_that_the_images_take_without_the_term(
    fake_upstream: fake.Fake, sdc: Sdc, shared: Path, tmp_path: Path
) -> None:
    run = sdc(
        "run", *ASKED, "--runs", tmp_path / "runs", "--json", "--weight", 0, "--set", "history=6", "--set", "networks=1"
    ).json
    states = [load_file(file)["images"].double() for file in sorted((Path(run["run"]) / "history").iterdir())]
    assert len(states) == 7

    outcome = sdc("calibrate", *ASKED, "--runs", shared / "calibrated", "--json", "--fraction", 0.5, "--fraction", 2)

    assert outcome.code == 0, outcome
    found = outcome.json
    velocities = [(before - after) / RATE for before, after in itertools.pairwise(states)]
    matching = [now - MOMENTUM * last for now, last in zip(velocities, [torch.zeros(()), *velocities], strict=False)]
    # The fake's term is the length of the images, so its gradient is one long, and points where they do.
    assert found["ratios"] == pytest.approx([float(g.norm()) for g in matching], rel=1e-3)
    cosines = [cosine(g, images) for g, images in zip(matching, states, strict=False)]
    assert found["cosines"] == pytest.approx(cosines, abs=1e-3)
    assert found["balance"] == pytest.approx(float(torch.tensor(found["ratios"]).quantile(0.5)))
    assert found["updates"] == 6  # fewer than asked for: all that there are
    assert [each["fraction"] for each in found["weights"]] == [0.5, 2]
    for each in found["weights"]:
        assert each["weight"] == pytest.approx(each["fraction"] * found["balance"], rel=5e-3)


def test_a_calibration_is_kept_in_one_file_found_again_and_leaves_nothing_else(
    fake_upstream: fake.Fake, sdc: Sdc, shared: Path
) -> None:
    runs = shared / "calibrated"
    asked = ("calibrate", *ASKED, "--runs", runs)
    outcome = sdc(*asked, "--json")
    assert outcome.code == 0, outcome
    file = Path(outcome.json["file"])
    made = file.stat().st_mtime_ns

    assert [path.name for path in runs.iterdir()] == ["calibrations"]
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".lock"] == [file.name]
    kept = json.loads(file.read_text())
    assert kept["calibration"] == {name: outcome.json[name] for name in kept["calibration"]}
    assert kept["cell"] | {"method": "fake", "weight": 0.0, "schedule": "constant", "seed": 0} == kept["cell"]

    again = sdc(*asked, "--json")
    assert again.json == outcome.json
    assert "measured already" in again.err
    assert file.stat().st_mtime_ns == made
    assert f"equal at {outcome.json['balance']:.3g}" in sdc(*asked).out
    found = calibrate.known(planned(), runs)
    assert found is not None
    assert list(found.ratios) == outcome.json["ratios"]
    assert calibrate.known(planned(seed=1), runs) is None


def test_its_key_is_of_what_shapes_the_gradients(fake_upstream: fake.Fake, tmp_path: Path) -> None:
    def name(updates: int = calibrate.UPDATES, **changes: Any) -> str:
        return calibrate.file(planned(**changes), tmp_path, updates).name

    few = ("limit_per_class=3",)
    assert name() == name(schedule="log") == name(weight=2.0)
    assert name() == name(changes=(*few, "networks=9", "epochs=2", "history=0", "snapshot_every=3"))
    others = {name(), name(updates=3), name(seed=1), name(ipc=2), name(changes=(*few, "rate=1")), name(changes=())}
    assert len(others) == 6


def test_a_term_whose_gradient_is_lost_beside_the_others_is_measured_again_nearer(
    sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "    loss = sdc.corrected(loss, [1e-6 * images], args, step, args.steps - 1)"
    with_term(line, tmp_path, monkeypatch)
    outcome = sdc("calibrate", *ASKED, "--updates", 2, "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 0, outcome
    assert "at weight 1 one gradient drowns the other" in outcome.err
    assert outcome.json["measured_at"] == pytest.approx(outcome.json["balance"], rel=0.1)
    # Two updates of mean squared distance: 2 |images - goal - jitter| / their number.
    expected = 2 * 30720**0.5 / 30720 * 1e6
    assert outcome.json["ratios"] == pytest.approx([expected] * 2, rel=0.2)


def test_a_term_that_draws_random_numbers_is_refused(sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    term = "sdc.corrected(loss, [images], args, step, args.steps - 1)"
    with_term(f"    loss = {term} + (args.sdc_lambda and 0 * torch.rand(()))", tmp_path, monkeypatch)
    outcome = sdc("calibrate", *ASKED, "--updates", 3, "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 1, outcome
    assert "update 1: with the term the script is not where it is without" in outcome.json["error"]
    assert not list((tmp_path / "runs").rglob("*.json"))
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
    tree = paths.upstream() / "fake"
    assert sorted(path.name for path in (tree / "train").iterdir()) == ["distil.py", "helpers.py"]
    assert sdc("status", "fake", "--json").json["methods"][0]["state"] == "patched"


def test_a_script_that_fails_leaves_its_log(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> None:
    outcome = sdc("calibrate", *ASKED, "--set", "end=error", "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 1, outcome
    assert "ValueError: the fake script was told to fail" in outcome.json["error"]
    (log,) = (tmp_path / "runs" / "calibrations").glob("*.log")
    assert str(log) in outcome.json["error"]
    assert "ValueError" in log.read_text()


@pytest.mark.parametrize(
    ("without", "both", "said"),
    [
        ([3.0, 4.0], [3.0, float("nan")], "that of the SDC term nan"),
        ([3.0, 4.0], [3.0, 4.0], "that of the SDC term 0, so no weight balances them"),
        ([0.0, 0.0], [1.0, 1.0], "the matching loss is 0 long"),
    ],
)
def test_gradients_that_cannot_be_compared_are_refused(
    without: list[float], both: list[float], said: str, fake_upstream: fake.Fake, tmp_path: Path
) -> None:
    for name, values in (("without", without), ("both", both)):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "images-000001.safetensors"
        save_file({"gradient": torch.tensor(values)}, file, {"state": "the same"})

    with pytest.raises(FatalError, match=said):
        calibrate.compared(planned(), tmp_path / "without", tmp_path / "both", 1.0)


def test_a_weight_has_three_digits() -> None:
    found = Calibration(balance=4.73561, ratios=(4.0, 5.0), cosines=(0.0, 0.0), seed=0, measured_at=1.0)
    assert [found.weight(fraction) for fraction in (0.1, 0.3, 1, 100)] == [0.474, 1.42, 4.74, 474.0]


@pytest.mark.parametrize(("word", "value"), [("--fraction", "0"), ("--fraction", "nan"), ("--updates", "-1")])
def test_what_cannot_be_asked_is_refused_before_anything_runs(
    word: str, value: str, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    outcome = sdc("calibrate", *ASKED, word, value, "--runs", tmp_path / "runs")

    assert outcome.code == 1, outcome
    assert value in outcome.err
    assert not (tmp_path / "runs").exists()
