"""`sdc evaluate` on distilled sets in the layouts that the upstream scripts themselves save."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sdc.data import store
from sdc.evaluation.view import View, Whitening, normalised, resized
from tests.conftest import Outcome, Sdc

BRIEF = ("--networks", 2, "--model", "ConvNetD1", "--set", "epochs=20", "--set", "augment=")
CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


def shown(channels: int = 3, **how: Any) -> tuple[Tensor, Tensor]:
    """One digit of each class, as a network would be shown it."""
    digits = store.load("digits", None)
    view = View("digits", digits.classes, channels, 32, **how)
    first = torch.stack([(digits.train.labels == label).nonzero()[0, 0] for label in range(10)])
    return normalised(digits.train.images[first], view), torch.arange(10)


@pytest.fixture
def evaluated(sdc: Sdc) -> Any:
    def evaluate(path: Path, *more: object) -> Outcome:
        return sdc("evaluate", path, "--dataset", "digits", *BRIEF, *more, "--json")

    return evaluate


def test_images_and_labels_in_two_files_and_the_rate_in_a_third(evaluated: Any, tmp_path: Path) -> None:
    images, labels = shown(**CIFAR)
    torch.save(images, tmp_path / "images_20.pt")
    torch.save(labels, tmp_path / "labels_20.pt")
    without = evaluated(tmp_path / "images_20.pt")
    torch.save(torch.tensor(0.02), tmp_path / "lr_20.pt")
    with_rate = evaluated(tmp_path / "images_20.pt")

    assert (without.code, with_rate.code) == (0, 0), without
    assert without.json["protocol"]["lr"] == 0.01
    assert with_rate.json["protocol"]["lr"] == pytest.approx(0.02)
    assert "mean (0.4914, 0.4822, 0.4465), std (0.2023, 0.1994, 0.201)" in without.json["assumed"]
    assert "learning rate 0.01 (assumed" in without.json["assumed"]
    assert "learning rate 0.02 (as stored)" in with_rate.json["assumed"]
    assert without.json["assumed"] in without.err.replace("\n", "") or "assumed images of 3x32x32" in without.err
    assert with_rate.json["mean"] > 0.2  # ten real digits teach something, where all is shown alike


def test_soft_labels_are_logits_learned_in_batches_of_128(evaluated: Any, tmp_path: Path) -> None:
    images, labels = shown(**CIFAR)
    torch.save(images.requires_grad_(), tmp_path / "images_best.pt")
    torch.save(10.0 * torch.nn.functional.one_hot(labels, 10).float(), tmp_path / "labels_best.pt")
    outcome = evaluated(tmp_path / "images_best.pt")

    assert outcome.code == 0, outcome
    assert outcome.json["protocol"]["batch"] == 128
    assert outcome.json["mean"] > 0.2


def test_one_experiment_of_a_file_with_its_scores(evaluated: Any, tmp_path: Path) -> None:
    images, labels = shown(mean=(0.0,) * 3, std=(1.0,) * 3)
    scores = {"ConvNet": [np.float64(0.5), 0.25]}
    torch.save({"data": [[images * 0, labels], [images, labels]], "accs_all_exps": scores}, tmp_path / "res_DC_X.pt")
    outcome = evaluated(tmp_path / "res_DC_X.pt", "--experiment", 1)

    assert outcome.code == 0, outcome
    assert "mean (0.0, 0.0, 0.0), std (1.0, 1.0, 1.0)" in outcome.json["assumed"]
    assert outcome.json["mean"] > 0.2


def test_all_experiments_of_a_file_are_evaluated_each_as_it_would_be_alone(evaluated: Any, tmp_path: Path) -> None:
    images, labels = shown(mean=(0.0,) * 3, std=(1.0,) * 3)
    sets = [[images * 0, labels], [images, labels], [images, labels.flip(0)]]
    torch.save({"data": sets}, tmp_path / "res_DC_X.pt")
    alone = []
    for number, each in enumerate(sets):
        torch.save({"data": [each]}, tmp_path / f"res_DC_{number}.pt")
        alone.append(evaluated(tmp_path / f"res_DC_{number}.pt").json)
    outcome = evaluated(tmp_path / "res_DC_X.pt")

    assert outcome.code == 0, outcome
    expected = [score | {"experiment": k} for k, result in enumerate(alone) for score in result["accuracy"]]
    assert outcome.json["accuracy"] == expected
    reached = [score["accuracy"] for score in expected]
    assert outcome.json["n"] == 6
    assert outcome.json["mean"] == pytest.approx(np.mean(reached))
    assert outcome.json["std"] == pytest.approx(np.std(reached))
    assert outcome.json["by_model"] == {"ConvNetD1": {name: outcome.json[name] for name in ("mean", "std", "n")}}
    own = [(each["experiment"], each["mean"], each["n"]) for each in outcome.json["experiments"]]
    assert own == [(number, result["mean"], 2) for number, result in enumerate(alone)]
    assert "3 experiments, all of them evaluated" in outcome.json["assumed"]
    assert "mean accuracy by experiment: 0: " in outcome.err
    chosen = evaluated(tmp_path / "res_DC_X.pt", "--experiment", 2).json
    assert chosen["accuracy"] == alone[2]["accuracy"]
    assert chosen["assumptions"]["experiment"] == {"asked": "2", "of": 3}
    for wrong in ("3", "-1", "last"):
        error = evaluated(tmp_path / "res_DC_X.pt", "--experiment", wrong).json["error"]
        assert f"holds experiments 0..2, not '{wrong}'" in error


def test_whitened_images_are_tested_against_whitened_ones(evaluated: Any, tmp_path: Path) -> None:
    digits = store.load("digits", None)
    flat = (resized(digits.train.images, 1, 32).float() / 255).flatten(1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / (len(flat) - 1))
    matrix = vectors @ torch.diag((values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
    images, labels = shown(1, mean=(0.0,), std=(1.0,), whitening=Whitening(mean.float(), matrix.float()))
    torch.save(images, tmp_path / "images_0.pt")
    torch.save(labels, tmp_path / "labels_0.pt")
    right, wrong = evaluated(tmp_path / "images_0.pt", "--zca"), evaluated(tmp_path / "images_0.pt")

    assert right.code == 0, right
    assert "whitened (ZCA" in right.json["assumed"]
    assert right.json["mean"] > wrong.json["mean"] + 0.05


class _Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch sprung",)


def test_a_file_that_would_run_code_is_refused_and_runs_none(
    evaluated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"data": [[_Trap(), 0]]}, tmp_path / "res_DC_trap.pt")
    outcome = evaluated(tmp_path / "res_DC_trap.pt")

    assert outcome.code == 1
    assert "tensors and numbers alone" in outcome.json["error"]
    assert not (tmp_path / "sprung").exists()


def test_what_is_missing_or_does_not_fit_is_named(evaluated: Any, sdc: Sdc, tmp_path: Path) -> None:
    images, labels = shown(**CIFAR)
    torch.save(images[:9], tmp_path / "images_1.pt")
    missing = "labels_1.pt does not exist, and 9 images are not as many of each of the 10 classes of digits"
    assert missing in evaluated(tmp_path / "images_1.pt").json["error"]
    torch.save(images, tmp_path / "images_1.pt")
    torch.save(labels + 1, tmp_path / "labels_1.pt")
    assert "image 9 has label 10, but digits has 0..9" in evaluated(tmp_path / "images_1.pt").json["error"]
    torch.save([1, 2], tmp_path / "list.pt")
    assert "no distilled set of a layout known here" in evaluated(tmp_path / "list.pt").json["error"]
    unnamed = sdc("evaluate", tmp_path / "images_1.pt", "--json")
    assert "give --dataset NAME or --data PATH" in unnamed.json["error"]
