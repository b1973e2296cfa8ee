"""Images of sets made elsewhere: equal to those read rightly to the last bit, or refused with the reason."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdc.data import store
from sdc.data.sets import Dataset
from sdc.evaluation import foreign
from sdc.evaluation.foreign import Found, Stated
from sdc.evaluation.view import resized
from sdc.ground.errors import FatalError
from tests.conftest import Sdc

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BRIEF = ("--dataset", "digits", "--networks", 1, "--model", "ConvNetD1", "--set", "epochs=0", "--json")


def pixels() -> Tensor:
    """Ten images as bytes."""
    return torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def right(mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    """The same as a network sees them: what torchvision's ToTensor and Normalize give."""
    return (pixels().float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def save(folder: Path, images: Tensor, step: str = "1") -> Path:
    torch.save(images, folder / f"images_{step}.pt")
    torch.save(torch.arange(10), folder / f"labels_{step}.pt")
    return folder / f"images_{step}.pt"


@functools.cache  # the same images, whose transform, once fitted, is known
def digits() -> Dataset:
    return store.load("digits", None)


def read(path: Path, **stated: Any) -> Found:
    (found,) = foreign.load(path, digits(), "digits", Stated(**stated))
    return found


def refused(path: Path, **stated: Any) -> str:
    with pytest.raises(FatalError) as caught:
        read(path, **stated)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("stored", "stated", "said"),
    [
        (right(), {}, "values as the network sees them"),
        (right().double(), {}, "values as the network sees them"),
        (pixels(), {}, "values pixels 0..255, scaled to [0, 1] and normalised"),
        (pixels().int(), {}, "values pixels 0..255, scaled to [0, 1] and normalised"),
        (right().permute(0, 2, 3, 1), {}, "channels last, so permuted to [N, C, H, W]; values as"),
        (pixels().permute(0, 2, 3, 1).contiguous(), {}, "channels last, so permuted to [N, C, H, W]; values pixels"),
        (pixels().float(), {"range": "255"}, "values pixels in [0, 255] as stated, normalised"),
        (pixels().float() / 255, {"range": "1"}, "values pixels in [0, 1] as stated, normalised"),
    ],
)
def test_images_are_what_they_are_to_the_last_bit(
    stored: Tensor, stated: dict[str, Any], said: str, tmp_path: Path
) -> None:
    found = read(save(tmp_path, stored), **stated)
    assert found.made.images.equal(right())
    assert said in found.said
    assert found.assumptions["range"] in found.said
    assert found.assumptions["stated"] == list(stated)


def test_mean_and_deviation_as_stated(sdc: Sdc, tmp_path: Path) -> None:
    half = (0.5, 0.5, 0.5)
    path = save(tmp_path, pixels())
    for stated in ({"mean": half, "std": half}, {"mean": (0.5,), "std": (0.5,)}):
        found = read(path, **stated)
        assert found.made.images.equal(right(half, half))
        assert (found.made.view.mean, found.made.view.std) == (half, half)
    outcome = sdc("evaluate", path, *BRIEF, "--set", "mean=0.5,0.5,0.5", "--set", "std=0.25")
    told = outcome.json["assumptions"]
    assert (told["mean"], told["std"], told["stated"]) == ([0.5] * 3, [0.25] * 3, ["mean", "std"])
    assert (told["size"], told["channels"], told["network"], told["whitening"]) == (32, 3, "ConvNet", "none")
    assert told["rate"] == {"value": 0.01, "learned": False}
    assert told["protocol"]["epochs"] == 1000
    assert outcome.json["protocol"]["epochs"] == 0
    assert "mean (0.5, 0.5, 0.5), std (0.25, 0.25, 0.25)" in outcome.json["assumed"]
    for wrong in ("std=0", "std=half", "mean=", "mean=nan"):
        assert f"--set {wrong}: give" in sdc("evaluate", path, *BRIEF, "--set", wrong).json["error"]
    few = sdc("evaluate", path, *BRIEF, "--set", "mean=0,0").json["error"]
    assert f"{path} is no distilled set of digits: 2 numbers are given for 3 channels" in few
    other = sdc("evaluate", path, *BRIEF, "--set", "range=7").json["error"]
    assert other == "unknown range '7'. Known: normalised, 1, 255"


def with_one(value: float) -> Tensor:
    images = right()
    images[3, 2, 5, 7] = value
    return images


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (with_one(float("nan")), "image 3 has nan in channel 2, row 5, column 7, and 1 values in all are not finite"),
        (with_one(float("-inf")), "image 3 has -inf in channel 2, row 5, column 7"),
        (right()[..., :30], "its images are 32x30, and networks here take square ones"),
        (right()[:, :2], "[10, 2, 32, 32], which has 1 or 3 channels neither way"),
        (right()[:, 0], "its images are of shape [10, 32, 32], not [N, C, H, W]"),
        (pixels().int() * 2, "whole numbers from 0 to 510, not pixels 0..255"),
        (pixels() > 7, "its images are of type torch.bool"),
        (pixels().float(), "its values go from 0 to 255, as pixels in [0, 255] do"),
        (pixels().float() / 255, "its values go from 0 to 1, as pixels in [0, 1] do, not as images normalised with"),
    ],
)
def test_what_no_network_saw_is_refused_with_the_reason(stored: Tensor, why: str, tmp_path: Path) -> None:
    assert why in refused(save(tmp_path, stored.clone()))


def test_what_is_stated_of_values_settles_the_doubt(tmp_path: Path) -> None:
    plain = pixels().float() / 255
    path = save(tmp_path, plain)
    assert "--set mean=0 --set std=1 if networks saw them in [0, 1]" in refused(path)
    assert read(path, mean=(0.0,), std=(1.0,)).made.images.equal(plain)
    assert read(path, range="normalised").made.images.equal(plain)
    assert "cannot be of range 1" in refused(save(tmp_path, pixels()), range="1")
    bright = save(tmp_path, pixels().float())
    assert "--set mean=0 --set std=1 --set range=255" in refused(bright)
    assert read(bright, mean=(0.0,), std=(1.0,), range="255").made.images.equal(plain)


def test_values_far_beyond_pixels_are_told_where_none_were_normalised(tmp_path: Path) -> None:
    torch.save({"data": [[right(), torch.arange(10)]]}, tmp_path / "res_DM_X.pt")
    found = read(tmp_path / "res_DM_X.pt")
    assert found.made.images.equal(right())
    assert "far beyond [0, 1]: if they were normalised, give --set mean=" in found.said


def test_a_whitened_set_is_known_by_its_un_whitened_copy(tmp_path: Path) -> None:
    path = save(tmp_path, right(), "20")
    copy = tmp_path / "images_zca_20.pt"
    torch.save(pixels().float() / 255, copy)
    assert f"images_zca_20.pt beside {path} means that the set is whitened: give --zca" in refused(path)
    assert f"give {path} and --zca instead" in refused(copy)
    assert f"give {path} and --zca instead" in refused(copy, zca=True)

    as_whitened = read(path, zca=True).made
    assert as_whitened.images.equal(right())
    assert as_whitened.view.whitening is not None
    assert read(path, zca=False).made.view.whitening is None
    as_pixels = read(copy, zca=False).made
    assert as_pixels.images.equal(pixels().float() / 255)
    assert (as_pixels.view.mean, as_pixels.view.std) == ((0.0,) * 3, (1.0,) * 3)
    assert as_pixels.labels.equal(torch.arange(10))
    assert "leave out --zca, or --set mean and std" in refused(path, zca=True, mean=(0.5,))


@pytest.mark.parametrize("copy", ["images_zca_1.pt", "ema_images_zca_1.pt"])  # FTD's script leaves ema_ out
def test_the_moving_averages_of_whitened_sets_have_copies_too(copy: str, tmp_path: Path) -> None:
    path = save(tmp_path, right()).rename(tmp_path / "ema_images_1.pt")
    torch.save(right(), tmp_path / copy)
    assert f"{copy} beside {path} means that the set is whitened" in refused(path)
    assert f"give {path} and --zca instead" in refused(tmp_path / copy)
    assert read(path, zca=True).made.view.whitening is not None


@pytest.mark.parametrize("name", ["best", "20"])
def test_a_copy_of_one_step_tells_it_of_all_steps(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, right(), name)
    copy = tmp_path / "images_zca_10.pt"
    torch.save(right(), copy)
    torch.save(torch.arange(10), tmp_path / "labels_10.pt")
    assert f"{copy.name} beside {path} means that the set is whitened" in refused(path)
    assert read(path, zca=False).made.view.whitening is None
    assert "give images_10.pt, which its script saved with it and which is not beside it" in refused(copy)


def test_pixels_of_a_whitened_set_are_whitened_as_the_test_images_are(tmp_path: Path) -> None:
    flat = (resized(digits().train.images, 1, 32).float() / 255).flatten(1).double()
    values, vectors = torch.linalg.eigh((flat - flat.mean(0)).T @ (flat - flat.mean(0)) / (len(flat) - 1))
    matrix = vectors @ torch.diag((values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
    shown = resized(digits().test.images[:10], 1, 32)
    expected = ((shown.double() / 255).flatten(1) - flat.mean(0)) @ matrix
    found = read(save(tmp_path, shown), zca=True)
    torch.testing.assert_close(found.made.images.flatten(1).double(), expected, atol=2e-3, rtol=0)
    assert "values pixels 0..255, scaled to [0, 1] and whitened" in found.said
    assert "not as images whitened do" in refused(save(tmp_path, shown.float() / 255), zca=True)


def test_the_command_takes_and_refuses_whitening(sdc: Sdc, tmp_path: Path) -> None:
    path = save(tmp_path, right()[:, :1])
    torch.save(right()[:, :1], tmp_path / "images_zca_1.pt")
    assert "means that the set is whitened" in sdc("evaluate", path, *BRIEF).json["error"]
    assert sdc("evaluate", path, *BRIEF, "--zca").json["assumptions"]["whitening"] == "zca"
    assert sdc("evaluate", path, *BRIEF, "--no-zca").json["assumptions"]["whitening"] == "none"
