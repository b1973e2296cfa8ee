"""Nothing is resized, cropped or coloured without a word: one line, cell.json and result.json say what was shown."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdc.data import store
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View
from sdc.plan.cell import Cell
from tests.conftest import Outcome, Sdc

pytestmark = pytest.mark.usefixtures("fake_upstream")
SHORT = ("--weight", 0, "--set", "steps=1", "--set", "networks=1", "--set", "epochs=1", "--set", "model=ConvNetD1")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def distil(sdc: Sdc, tmp_path: Path) -> Any:
    """A run of the fake, whose script normalises with mean 0.5 and std 0.25 and is shown images as CIFAR-10's."""

    def short(*more: object) -> Outcome:
        outcome = sdc("run", "fake", *SHORT, "--runs", tmp_path / "runs", "--json", *more)
        assert outcome.code == 0, outcome
        return outcome

    return short


def photos(folder: Path, *images: Image.Image, classes: int = 10) -> Path:
    """These images in each class, to train on; the first of them to test on."""
    for label in range(classes):
        for split, part in (("train", images), ("test", images[:1])):
            (folder / split / f"kind{label}").mkdir(parents=True)
            for number, image in enumerate(part):
                image.save(folder / split / f"kind{label}" / f"{number}.png")
    return folder


def photo(mode: str, width: int, height: int) -> Image.Image:
    return Image.new(mode, (width, height))


def kept(outcome: Outcome, name: str = "cell.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(outcome.json["run"]) / name).read_text())
    return found


def told(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("images of ")]


def test_large_photos_that_a_script_is_shown_small_are_told_once_and_recorded(distil: Any, tmp_path: Path) -> None:
    outcome = distil("--data", photos(tmp_path / "photos", photo("RGB", 128, 128)))
    shown = kept(outcome)["shown"]
    line = "images of photos (128x128 RGB) are shown as 32x32 RGB: not cropped, reduced to 32x32"
    assert told(outcome) == [line]
    scale = "normalised with mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25"
    assert f"images as the script showed them: {scale}" in outcome.err.splitlines()
    assert shown["words"] == f"{line}, {scale}"
    assert (shown["source"]["width"], shown["source"]["height"], shown["crop"]) == ([128, 128], [128, 128], "none")
    assert (shown["prepared"], shown["shown"]) == ([3, 128, 128], [3, 32, 32])
    assert (shown["mean"], shown["std"], shown["whitening"]) == ([0.5] * 3, [0.25] * 3, "none")
    assert kept(outcome, "result.json")["shown"] == outcome.json["shown"] == shown
    is_recorded_beside_the_key(outcome)


def is_recorded_beside_the_key(outcome: Outcome) -> None:
    """Classes, labels and notes are in cell.json and result.json; the key is a hash over the cell's fields alone."""
    cell = kept(outcome)
    assert cell["classes"] == [f"kind{label}" for label in range(10)]
    assert cell["labels"].startswith("label 0 = kind0, 1 = kind1, ")
    assert cell["notes"] == ["its classes are sorted by the names of their folders"]
    shaping = {field.name: cell[field.name] for field in fields(Cell) if field.name in cell}
    assert hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:10] == cell["key"]
    result = kept(outcome, "result.json")
    assert [result[name] for name in ("classes", "labels", "notes")] == [
        cell[name] for name in ("classes", "labels", "notes")
    ]


def test_photos_of_several_shapes_and_kinds(distil: Any, tmp_path: Path) -> None:
    """Three images of a class are to train on and one is to test on: 30 + 10 in all."""
    parts = (photo("L", 20, 20), photo("RGBA", 40, 50), photo("RGB", 90, 24))
    outcome = distil("--data", photos(tmp_path / "mixed", *parts))
    shown = kept(outcome)["shown"]
    assert told(outcome) == [
        "images of mixed (20..90 x 20..50 RGB, 20 of 40 grey) are shown as 32x32 RGB: cropped to the square at the "
        "centre (20 of 40), 20..40 pixels a side, resized to 32x32, grey repeated in all three channels (20 of 40), "
        "transparency dropped (10 of 40)"
    ]
    source = {"width": [20, 90], "height": [20, 50], "side": [20, 40], "cropped": 20, "images": 40}
    assert shown["source"] == source | {"modes": {"L": 20, "RGBA": 10, "RGB": 10}}
    assert shown["crop"] == "centre"


def test_the_images_that_a_run_begins_from_are_told_of_too(distil: Any, tmp_path: Path) -> None:
    first = photos(tmp_path / "first", photo("RGB", 32, 40))
    data = photos(tmp_path / "small", photo("RGB", 32, 32))
    outcome = distil("--data", data, "--set", f"init_from={first}")
    assert told(outcome) == [
        "images of first (32x40 RGB) are shown as 32x32 RGB: cropped to the square at the centre, 32 pixels a side, "
        "not resized"
    ]
    assert kept(outcome)["init_shown"]["crop"] == "centre"
    assert kept(outcome)["shown"]["changed"] is False
    assert kept(outcome)["shown"]["words"].startswith(
        "images of small (32x32 RGB) are shown as 32x32 RGB: not cropped, not resized, normalised with"
    )


def _forget_original(file: Path) -> None:
    with safe_open(file, framework="pt") as stored:
        metadata = dict(stored.metadata())
    assert metadata.pop("original")
    save_file(load_file(file), file, metadata)


def test_test_images_of_another_size_than_the_sets_are_told_of(sdc: Sdc, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", photo("RGB", 48, 36))
    view = View("photos", tuple(f"kind{n}" for n in range(10)), 1, 16, (0.25,), (0.5,))
    made = DistilledSet(torch.randn(10, 1, 16, 16), torch.arange(10), view, Protocol(0.01, 1))
    distilled.save(made, tmp_path / "set.safetensors")
    asked = ("--data", folder, "--networks", 1, "--model", "ConvNetD1", "--json")
    outcome = sdc("evaluate", tmp_path / "set.safetensors", *asked)
    line = (
        "images of photos (48x36 RGB) are shown as 16x16 grey: cropped to the square at the centre, 36 pixels a side, "
        "reduced to 16x16, colours made grey, normalised with mean 0.25, std 0.5"
    )
    assert told(outcome) == [line]
    assert outcome.json["shown"]["words"] == line
    assert outcome.json["labels"].startswith("label 0 = kind0, ")
    assert outcome.json["notes"] == ["its classes are sorted by the names of their folders"]


# --- what is told before anything is run, by a benchmark that is only planned


@pytest.fixture
def planned(sdc: Sdc, tmp_path: Path) -> Any:
    """The lines about images of a benchmark of four cells on one dataset."""

    def lines(dataset: str, data: Path | None = None, keys: list[str] | None = None) -> list[str]:
        spec = tmp_path / "spec.toml"
        text = f'methods = ["fake"]\ndatasets = ["{dataset}"]\nipc = [1]\nweights = [0, 1]\nseeds = [0, 1]\n'
        spec.write_text(text + (f'[data]\n{dataset} = "{data}"\n' if data else ""))
        outcome = sdc("bench", spec, "--runs", tmp_path / "runs", "--dry-run", "--json")
        assert outcome.code == 0, outcome
        assert len(outcome.json["cells"]) == 4
        if keys is not None:
            keys += [cell["folder"] for cell in outcome.json["cells"]]
        return told(outcome)

    return lines


def test_photos_of_two_sizes_are_resized_twice(planned: Any, tmp_path: Path) -> None:
    assert planned("photos", photos(tmp_path / "a", photo("RGB", 128, 128), photo("RGB", 100, 80))) == [
        "images of photos (100..128 x 80..128 RGB) are shown as 32x32 RGB: cropped to the square at the centre "
        "(10 of 30), 80..128 pixels a side, reduced to 64x64 and then reduced to 32x32"
    ]


def test_sixteen_bit_grey(planned: Any, tmp_path: Path) -> None:
    assert planned("deep", photos(tmp_path / "a", photo("I;16", 32, 32))) == [
        "images of deep (32x32 grey) are shown as 32x32 RGB: not cropped, not resized, grey repeated in all three "
        "channels, 16-bit values cut to their upper 8 bits"
    ]


def test_digits_are_enlarged_when_they_are_prepared_whenever_that_was(planned: Any) -> None:
    line = (
        "images of digits (8x8 grey) are shown as 32x32 RGB: not cropped, enlarged to 32x32, "
        "grey repeated in all three channels"
    )
    assert planned("digits") == [line]
    _forget_original(store.load("digits").file)
    assert planned("digits") == [line]


def test_mnist_is_enlarged_when_it_is_served(planned: Any, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 10, 28, 28) + bytes(7840))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 10) + bytes(range(10)))
    assert planned("mnist", tmp_path) == [
        "images of mnist (28x28 grey) are shown as 32x32 RGB: not cropped, enlarged to 32x32, "
        "grey repeated in all three channels"
    ]


def test_images_that_are_shown_as_they_are_need_no_word(planned: Any, tmp_path: Path) -> None:
    assert planned("small", photos(tmp_path / "small", photo("RGB", 32, 32))) == []


def test_a_file_that_was_prepared_before_is_read_and_its_source_is_said_to_be_unknown(
    planned: Any, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", photo("RGB", 48, 36))
    new = store.load("photos", folder)
    keys: tuple[list[str], list[str]] = ([], [])
    _forget_original(new.file)
    assert planned("photos", folder, keys[0]) == [
        "images of photos (of unknown size, prepared as 36x36 RGB by an earlier version; "
        f"delete {new.file} to have them read again) are shown as 32x32 RGB: reduced to 32x32"
    ]
    assert store.load("photos", folder).sha256 == new.sha256
    new.file.unlink()
    (line,) = planned("photos", folder, keys[1])
    assert "(48x36 RGB)" in line
    assert keys[0] == keys[1], "what was known of the source is no part of a key"
