"""`--device`: the commands that compute say on what, and refuse what is not there before they begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import fake
from tests.conftest import Sdc

SPEC = 'methods = ["fake"]\ndatasets = ["digits"]\nweights = [0]\n[set]\nnetworks = 1\nsteps = 1\n'
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
@pytest.mark.parametrize(
    "asked",
    [
        "run fake --dataset digits --weight 0 --set limit_per_class=3",
        "evaluate images_1.pt --dataset digits",
        "bench spec.toml",
        "difficulty --dataset digits",
        "calibrate fake --dataset digits --set limit_per_class=3",
    ],
    ids=lambda asked: asked.split()[0],
)
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(
    asked: str, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    torch.save(torch.randn(10, 3, 32, 32), "images_1.pt")
    torch.save(torch.arange(10), "labels_1.pt")
    outcome = sdc(*asked.split(), "--device", "cuda")

    assert outcome.code == 1, outcome
    assert "torch sees no GPU" in outcome.err
    assert not list(Path("runs").glob("*/distilled.safetensors"))


def test_a_word_that_is_no_device_is_wrong_usage(sdc: Sdc) -> None:
    assert sdc("run", "dm", "--dataset", "digits", "--weight", 0, "--device", "tpu").code == 2


def test_what_is_computed_on_is_said_first(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> None:
    brief = ("--set", "limit_per_class=3", "--set", "networks=1", "--set", "steps=2", "--runs", tmp_path)
    outcome = sdc("run", "fake", "--dataset", "digits", "--weight", 0, *brief, "--device", "cpu")
    assert outcome.code == 0, outcome
    lines = outcome.err.splitlines()
    said = next(number for number, line in enumerate(lines) if line.startswith("computing on cpu ("))
    assert said < next(number for number, line in enumerate(lines) if line.startswith("distilling with fake"))
