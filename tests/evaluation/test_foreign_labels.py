"""Labels of sets made elsewhere: taken for what their maker meant, or refused with the true reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdc.data import store
from sdc.evaluation import distilled, foreign
from sdc.evaluation.foreign import Found, Stated
from sdc.evaluation.learning import targets_of
from sdc.ground.errors import FatalError
from tests.conftest import Sdc

HARD = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 0, 7])
LOGITS = 3 * torch.randn(10, 10, generator=torch.Generator().manual_seed(1))


def read(folder: Path, told: Tensor, **stated: Any) -> Found:
    torch.save(torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0)), folder / "images_1.pt")
    torch.save(told, folder / "labels_1.pt")
    (found,) = foreign.load(folder / "images_1.pt", store.load("digits", None), "digits", Stated(**stated))
    return found


def refused(folder: Path, told: Tensor, **stated: Any) -> str:
    with pytest.raises(FatalError) as caught:
        read(folder, told, **stated)
    return str(caught.value)


@pytest.mark.parametrize(
    "stored",
    [
        HARD,
        HARD.float(),
        HARD.double()[:, None],
        HARD[:, None],
        HARD[None],
        HARD[:, None, None],
        HARD.to(torch.uint8),
        HARD.int(),
        torch.eye(10)[HARD],
        torch.eye(10, dtype=torch.int64)[HARD],
        torch.eye(10).bool()[HARD],
    ],
    ids=[
        "int64",
        "float",
        "double column",
        "column",
        "row",
        "column of columns",
        "uint8",
        "int32",
        "one-hot",
        "whole one-hot",
        "bool one-hot",
    ],
)
def test_hard_labels_in_any_form(stored: Tensor, tmp_path: Path) -> None:
    found = read(tmp_path, stored)
    assert found.made.labels.dtype == torch.int64
    assert found.made.labels.equal(HARD)
    assert found.assumptions["labels"]["kind"] == "hard"
    assert found.made.protocol.batch == 256


def test_rows_that_are_no_probabilities_are_logits(tmp_path: Path) -> None:
    found = read(tmp_path, LOGITS)
    assert found.made.labels.equal(LOGITS)
    assert found.made.protocol.batch == 128
    assert "labels logits (their rows are no probabilities)" in found.said


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])
def test_probabilities_are_learned_as_they_are(kind: torch.dtype, tmp_path: Path) -> None:
    stored = LOGITS.double().softmax(1).to(kind)
    found = read(tmp_path, stored)
    exact = stored.double() / stored.double().sum(1, keepdim=True)
    torch.testing.assert_close(targets_of(found.made.labels).double(), exact, rtol=3e-6, atol=0)
    assert found.assumptions["labels"]["kind"] == "probabilities"
    assert "labels probabilities (each row is 0 or more and sums to 1)" in found.said
    as_logits = read(tmp_path, stored, labels="logits")
    assert as_logits.made.labels.equal(stored.float())
    assert "labels logits, by --labels logits" in as_logits.said


@pytest.mark.parametrize("form", ["two decimals", "8 bit", "a little below 0"])
def test_rounded_probabilities_are_not_taken_for_logits(form: str, tmp_path: Path) -> None:
    exact = LOGITS.softmax(1)
    stored = {
        "two decimals": (exact * 100).round() / 100,
        "8 bit": (exact * 255).floor() / 255,
        "a little below 0": exact - 0.001,
    }[form]
    error = refused(tmp_path, stored)
    assert "labels are rows of nearly probabilities: that of image " in error
    assert "Give --labels probabilities to have each divided by its sum, or --labels logits" in error
    found = read(tmp_path, stored, labels="probabilities")
    whole = stored.clamp_min(0)
    torch.testing.assert_close(targets_of(found.made.labels), whole / whole.sum(1, keepdim=True), rtol=1e-5, atol=1e-8)
    assert "each row divided by its sum" in found.said
    assert read(tmp_path, stored, labels="logits").made.labels.equal(stored)


def test_a_probability_of_0_stays_0_and_its_loss_finite(tmp_path: Path) -> None:
    stored = torch.zeros(10, 10)
    stored[:, 0], stored[:, 1] = 0.75, 0.25
    found = read(tmp_path, stored)
    targets = targets_of(found.made.labels)
    assert targets[:, 2:].eq(0).all()
    torch.testing.assert_close(targets, stored, rtol=1e-6, atol=0)
    assert found.made.labels.isfinite().all()
    certain = read(tmp_path, torch.eye(10)[HARD], labels="probabilities")
    assert targets_of(certain.made.labels).equal(torch.eye(10)[HARD])


def test_what_is_said_of_labels_overrides_what_they_look_like(tmp_path: Path) -> None:
    assert read(tmp_path, LOGITS, labels="hard").made.labels.equal(LOGITS.argmax(1))
    assert read(tmp_path, torch.eye(10)[HARD], labels="logits").made.labels.equal(torch.eye(10)[HARD])
    assert "give --labels logits" in refused(tmp_path, LOGITS, labels="probabilities")
    assert "so they are no logits" in refused(tmp_path, HARD, labels="logits")
    assert "unknown kind of labels 'soft'. Known: hard, probabilities, logits" in refused(
        tmp_path, LOGITS, labels="soft"
    )


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (torch.where(HARD == 4, 90, HARD), "image 2 has label 90, but digits has 0..9"),
        (torch.where(HARD == 4, -1, HARD), "image 2 has label -1, but digits has 0..9"),
        (torch.arange(1, 11), "image 9 has label 10, but digits has 0..9. They seem to count from 1"),
        (HARD + 0.5, "image 0 has label 3.5, which is no whole number"),
        (torch.where(HARD == 4, torch.nan, HARD), "image 2 has label nan"),
        (HARD[:9], "10 images come with 9 labels"),
        (LOGITS[:, :5], "labels are rows of 5 numbers, but digits has 10 classes"),
        (LOGITS.where(LOGITS < 5, torch.nan), "is not finite"),
        (torch.eye(10, dtype=torch.int64) * 2, "labels are rows of whole numbers, not all of one 1 and zeros"),
        (LOGITS[None], "neither [N] nor [N, 10]"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused_with_the_true_reason(stored: Tensor, why: str, tmp_path: Path) -> None:
    error = refused(tmp_path, stored)
    assert why in error
    assert str(tmp_path / "images_1.pt") in error


def test_the_order_of_the_labels_is_printed_and_kept(sdc: Sdc, tmp_path: Path) -> None:
    read(tmp_path, HARD)
    brief = ("--networks", 1, "--model", "ConvNetD1", "--set", "epochs=0", "--json")
    outcome = sdc("evaluate", tmp_path / "images_1.pt", "--dataset", "digits", *brief)
    assert outcome.json["assumptions"]["labels"]["order"] == [str(digit) for digit in range(10)]
    assert "label 0 = 0, 1 = 1, 2 = 2, 3 = 3, 4 = 4," in " ".join(outcome.err.split())


def test_sets_that_say_it_themselves_take_no_word_for_it(sdc: Sdc, tmp_path: Path) -> None:
    distilled.save(read(tmp_path, HARD).made, tmp_path / "mine.safetensors")
    error = sdc("evaluate", tmp_path / "mine.safetensors", "--labels", "logits", "--json").json["error"]
    assert "says itself what it holds: " in error
