"""Sets of 64 and 128 pixels are judged by real images of no less, or it is said that those are enlarged."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdc.data import image_folder, store
from sdc.data.reading import reader
from sdc.evaluation import distilled, scoring, view
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.ground.watch import Quiet
from tests.conftest import Outcome, Sdc
from tests.data.test_store import as_folder

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BRIEF = ("--networks", 1, "--set", "epochs=0", "--set", "augment=", "--json")


def photo(seed: int, height: int, width: int) -> bytes:
    held = io.BytesIO()
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(held, "PNG")
    return held.getvalue()


def photos(path: Path, *sides: int) -> Path:
    """Two classes; the k-th test image is (side + 20) x side pixels, as are the training images."""
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(len(sides))]
    pictures = {
        name: photo(seed, side + 20, side) for seed, (name, side) in enumerate(zip(names, sides * 2, strict=True))
    }
    return as_folder(path, {f"{part}/{name}": data for part in ("train", "test") for name, data in pictures.items()})


def at(data: bytes, side: int) -> np.ndarray[Any, Any]:
    """The square at the centre, at this size: [3,side,side]."""
    image = Image.open(io.BytesIO(data))
    left, top = (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
    square = image.crop((left, top, left + min(image.size), top + min(image.size)))
    return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def foreign(folder: Path, side: int) -> Path:
    torch.save(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)), folder / "images_1.pt")
    torch.save(torch.arange(2), folder / "labels_1.pt")
    return folder / "images_1.pt"


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The test images of each evaluation, as they are stored."""
    seen: list[torch.Tensor] = []
    true = view.normalised
    monkeypatch.setattr(scoring, "normalised", lambda images, of: (seen.append(images), true(images, of))[1])
    return seen


@pytest.fixture
def evaluated(sdc: Sdc) -> Any:
    def evaluate(path: Path, data: Path, *more: object) -> Outcome:
        outcome = sdc("evaluate", path, "--data", data, *BRIEF, *more)
        assert outcome.code == 0, outcome
        return outcome

    return evaluate


def test_photos_are_prepared_at_the_size_of_the_set(tested: Any, evaluated: Any, tmp_path: Path) -> None:
    given = photos(tmp_path / "pets", 150, 140)
    outcome = evaluated(foreign(tmp_path, 128), given)
    (images,) = tested
    expected = [at((given / f"test/{name}/{k}.png").read_bytes(), 128) for name in ("cat", "dog") for k in (0, 1)]
    assert np.array_equal(images.numpy(), np.stack(expected))
    assert outcome.json["assumptions"]["size"] == 128
    assert outcome.json["assumptions"]["network"] == "ConvNetD5"
    assert tuple(map(tuple, (outcome.json["assumptions"][key] for key in ("mean", "std")))) == IMAGENET
    line = "cropped to the square at the centre, 140..150 pixels a side, reduced to 128x128, normalised with mean 0.485"
    assert line in outcome.err
    assert line in outcome.json["assumptions"]["test_images"]
    assert "enlarged" not in outcome.err


def test_a_set_of_64_pixels_is_judged_by_a_deeper_network_than_one_of_32(evaluated: Any, tmp_path: Path) -> None:
    outcome = evaluated(foreign(tmp_path, 64), photos(tmp_path / "pets", 150, 140))
    assert outcome.json["by_model"].keys() == {"ConvNetD4"}
    assert "140..150 pixels a side, reduced to 64x64, " in outcome.err


def test_photos_of_one_size_stay_and_are_said_to_be_enlarged(tested: Any, evaluated: Any, tmp_path: Path) -> None:
    outcome = evaluated(foreign(tmp_path, 128), photos(tmp_path / "pets", 50, 50), "--model", "ConvNetD1")
    (images,) = tested
    assert images.shape == (4, 3, 50, 50)
    assert "50 pixels a side, enlarged to 128x128, " in outcome.err
    assert "50 pixels a side, enlarged to 128x128, " in outcome.json["assumptions"]["test_images"]


def test_photos_some_of_which_are_smaller_are_shown_at_the_size_of_the_set_too(
    tested: Any, evaluated: Any, tmp_path: Path
) -> None:
    outcome = evaluated(foreign(tmp_path, 64), photos(tmp_path / "pets", 40, 50, 150), "--model", "ConvNetD1")
    (images,) = tested
    assert images.shape == (6, 3, 64, 64)  # 32x32 is usual for them: more than half are smaller than 64
    assert "40..150 pixels a side, resized to 64x64, " in outcome.err


def test_a_safetensors_file_made_elsewhere_too_unless_a_run_made_it(
    tested: Any, evaluated: Any, tmp_path: Path
) -> None:
    given = photos(tmp_path / "pets", 150, 140)
    shown = view.View("pets", ("cat", "dog"), 3, 128, *IMAGENET)
    made = DistilledSet(torch.randn(2, 3, 128, 128), torch.arange(2), shown, Protocol(lr=0.01, epochs=0))
    distilled.save(made, tmp_path / "elsewhere.safetensors")
    evaluated(tmp_path / "elsewhere.safetensors", given, "--model", "ConvNetD1")
    ours = DistilledSet(made.images, made.labels, shown, made.protocol, about={"data_sha256": "0" * 64})
    distilled.save(ours, tmp_path / "ours.safetensors")
    outcome = evaluated(tmp_path / "ours.safetensors", given, "--model", "ConvNetD1")
    assert [images.shape[-1] for images in tested] == [128, 64]
    assert "140..150 pixels a side, reduced to 64x64 and then enlarged to 128x128, " in outcome.err


def test_the_usual_preparation_keeps_its_file_and_its_hash(tmp_path: Path) -> None:
    given = photos(tmp_path / "pets", 150, 140)
    usual = store.load("pets", given)
    key = hashlib.sha256(f"1 pets {image_folder.fingerprint(given)}".encode()).hexdigest()[:16]
    assert usual.file.name == f"pets-{key}.safetensors"
    expected = [at((given / f"test/{name}/{k}.png").read_bytes(), 64) for name in ("cat", "dog") for k in (0, 1)]
    assert np.array_equal(usual.test.images.numpy(), np.stack(expected))
    read = reader(Quiet())
    assert read("pets", given, 0, 0, 64) is read("pets", given, 0, 0, 32)
    larger = read("pets", given, 0, 0, 96)
    assert larger.test.images.shape[-1] == 96
    assert larger.file != usual.file
    assert larger.test.labels.equal(usual.test.labels)
    assert store.load("pets", given).sha256 == usual.sha256


def test_one_fit_whitens_all_experiments_of_a_file(sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kornia

    fits: list[int] = []
    true = kornia.enhance.ZCAWhitening.fit
    monkeypatch.setattr(
        kornia.enhance.ZCAWhitening, "fit", lambda self, images: (fits.append(len(images)), true(self, images))[1]
    )
    sets = [[torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(k)), torch.arange(10)] for k in range(3)]
    torch.save({"data": sets}, tmp_path / "res_DM_digits_ConvNet_1ipc.pt")
    alone = []
    for number, each in enumerate(sets):
        torch.save({"data": [each]}, tmp_path / f"res_DM_{number}.pt")
        view.fitted.cache_clear()
        found = sdc("evaluate", tmp_path / f"res_DM_{number}.pt", "--dataset", "digits", "--zca", *BRIEF)
        alone += [score["accuracy"] for score in found.json["accuracy"]]
    fits.clear()
    view.fitted.cache_clear()
    outcome = sdc("evaluate", tmp_path / "res_DM_digits_ConvNet_1ipc.pt", "--dataset", "digits", "--zca", *BRIEF)
    assert outcome.code == 0, outcome
    assert fits == [len(store.load("digits").train.images)]
    assert [score["accuracy"] for score in outcome.json["accuracy"]] == alone
