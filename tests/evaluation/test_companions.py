"""Images, labels and the rate in files of their own, under the names that people give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdc.data import store
from sdc.evaluation import foreign
from sdc.evaluation.foreign import Found, Stated
from sdc.ground.errors import FatalError
from tests.conftest import Sdc

IMAGES = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 8, 7])
SOFT = torch.softmax(torch.randn(10, 10, generator=torch.Generator().manual_seed(1)), 1)


def files(folder: Path, **content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in content.items():
        torch.save(value, folder / f"{name}.pt")
    return folder


def read(path: Path) -> Found:
    (found,) = foreign.load(path, store.load("digits", None), "digits", Stated())
    return found


def refused(path: Path) -> str:
    with pytest.raises(FatalError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "rate"),
    [
        ("images", "soft_labels", "syn_lr"),  # as DD-Ranking's folders have them
        ("images_best", "labels_best", "lr_best"),
        ("images_10", "labels_10", "lr_10"),
        ("Images_10", "Labels_10", "LR_10"),
        ("x_syn", "y_syn", "lr_syn"),
        ("data", "label", "lr"),
        ("syn_images_7", "soft_labels_7", "syn_lr_7"),
        ("cifar10_ipc1", "cifar10_ipc1_targets", "cifar10_ipc1_lr"),
    ],
)
@pytest.mark.parametrize("where", ["folder", "file"])
def test_labels_and_rate_are_found_by_their_names(
    images: str, labels: str, rate: str, where: str, tmp_path: Path
) -> None:
    folder = files(tmp_path / "set", **{images: IMAGES, labels: LABELS, rate: torch.tensor(0.25)})
    found = read(folder if where == "folder" else folder / f"{images}.pt")
    assert found.made.images.equal(IMAGES)
    assert found.made.labels.equal(LABELS)
    if "images" in images.lower():  # that a rate lies beside others' images is not known
        assert found.made.lr == 0.25


def test_a_folder_as_dd_ranking_has_it_is_evaluated_with_its_soft_labels(sdc: Sdc, tmp_path: Path) -> None:
    ranked = files(tmp_path / "datm", images=IMAGES, soft_labels=SOFT, syn_lr=torch.tensor(0.25))
    usual = files(tmp_path / "usual", images_1=IMAGES, labels_1=SOFT, lr_1=torch.tensor(0.25))
    brief = ("--dataset", "digits", "--networks", 1, "--model", "ConvNetD1", "--set", "epochs=3", "--json")
    one, other = (sdc("evaluate", folder, *brief).json for folder in (ranked, usual))
    assert one["accuracy"] == other["accuracy"]
    assert one["assumptions"]["labels"]["kind"] == "probabilities"
    assert one["assumptions"]["rate"] == {"value": 0.25, "learned": True}
    assert "labels of soft_labels.pt beside it" in one["assumed"]


def test_labels_that_may_belong_to_images_speak_against_the_order_of_the_classes(tmp_path: Path) -> None:
    two = files(tmp_path / "two", images=IMAGES, hard_labels=LABELS, soft_labels=SOFT)
    error = refused(two)
    assert "may have its labels in hard_labels.pt or soft_labels.pt: move all but the one" in error
    (two / "soft_labels.pt").rename(tmp_path / "soft_labels.pt")
    assert read(two).made.labels.equal(LABELS)

    other = files(tmp_path / "other", x_train=IMAGES, y_test=LABELS)
    assert "x_train.pt holds no labels, and files beside it do (y_test.pt)" in refused(other / "x_train.pt")
    named = files(tmp_path / "named", state={"images": IMAGES}, y_old=LABELS)
    assert "state.pt holds no labels, and files beside it do (y_old.pt)" in refused(named / "state.pt")
    np.savez(tmp_path / "named" / "state.npz", images=IMAGES.numpy())
    assert "state.npz holds no labels" in refused(named / "state.npz")


def test_files_of_labels_and_rates_given_themselves_are_told(tmp_path: Path) -> None:
    folder = files(tmp_path / "set", labels_3=LABELS, lr_3=torch.tensor(0.1))
    assert "labels_3.pt holds the labels of a set, by its name: give the file of its images" in refused(
        folder / "labels_3.pt"
    )
    assert "lr_3.pt holds the lr of a set" in refused(folder / "lr_3.pt")


def test_a_whole_set_that_is_called_labels_is_one(tmp_path: Path) -> None:
    folder = files(tmp_path / "set", y=[IMAGES, LABELS])
    assert read(folder).made.labels.equal(LABELS)


def test_a_folder_of_un_whitened_copies_alone_is_told(tmp_path: Path) -> None:
    folder = files(tmp_path / "set", images_zca_5=IMAGES, labels_5=LABELS)
    assert "images_zca_5.pt is the un-whitened copy of a whitened set" in refused(folder)


@pytest.mark.parametrize("rate", [0.25, np.float64(0.25), np.float32(0.25), torch.tensor([0.25]), torch.tensor(0.25)])
def test_a_rate_of_any_kind_of_number(rate: Any, tmp_path: Path) -> None:
    assert read(files(tmp_path / "set", images_1=IMAGES, labels_1=LABELS, lr_1=rate)).made.lr == 0.25


@pytest.mark.parametrize(("rate", "told"), [(-0.5, "-0.5"), (torch.tensor(float("inf")), "inf"), ("a", "a str")])
def test_a_rate_that_is_none_is_named(rate: Any, told: str, tmp_path: Path) -> None:
    folder = files(tmp_path / "set", images_1=IMAGES, labels_1=LABELS, lr_1=rate)
    assert f"lr_1.pt holds a learning rate that is no positive number: {told}" in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"data": [IMAGES, LABELS]},
        {"data": (IMAGES, LABELS.tolist())},
        {"data": {"images": IMAGES, "labels": LABELS}},
        {"data": [[list(IMAGES), list(LABELS)]]},
        {"images": list(IMAGES), "labels": list(LABELS)},
        {"images": IMAGES, "labels": [np.int64(label) for label in LABELS.tolist()]},
        {"images": IMAGES, "labels": LABELS[None]},
        (IMAGES, LABELS, torch.tensor(0.25)),
        (LABELS, list(IMAGES), 0.25),
    ],
)
def test_images_and_labels_as_lists_and_one_level_down(content: Any, tmp_path: Path) -> None:
    found = read(files(tmp_path / "set", any=content))
    assert found.made.images.equal(IMAGES)
    assert found.made.labels.equal(LABELS)
    assert found.made.lr == (0.25 if isinstance(content, tuple) else None)


def test_labels_of_none_are_none(tmp_path: Path) -> None:
    found = read(files(tmp_path / "set", any={"images": IMAGES, "labels": None}))
    assert found.made.labels.equal(torch.arange(10))
    assert "no labels" in found.said


def test_words_for_labels_and_odd_experiments_are_refused_with_the_reason(tmp_path: Path) -> None:
    words = files(tmp_path / "words", any={"images": IMAGES, "labels": ["cat"] * 10})
    assert "labels that are a list of 10 (str), and no numbers" in refused(words)
    three = files(tmp_path / "three", res_DM_x={"data": [[IMAGES, LABELS, 1]]})
    assert "of which one is a list of 3, and no pair" in refused(three)
    repeated = files(tmp_path / "repeated", any=(IMAGES[:, :1].clone().expand(-1, 3, -1, -1), LABELS))
    assert "Save it whole where it is made: torch.save(images.contiguous(), ...)" in refused(repeated)


def test_labels_beside_a_folder_of_images_are_not_passed_over(tmp_path: Path) -> None:
    from PIL import Image

    for label in range(10):
        (tmp_path / str(label)).mkdir()
        Image.new("L", (32, 32), 20 * label).save(tmp_path / str(label) / "a.png")
    assert read(tmp_path).made.labels.equal(torch.arange(10))
    torch.save(SOFT, tmp_path / "soft_labels.pt")
    assert "holds images a class, and soft_labels.pt beside their folders" in refused(tmp_path)


@pytest.mark.parametrize("given", ["raw", ""])
def test_data_in_their_published_form_are_called_what_they_are(given: str, sdc: Sdc, tmp_path: Path) -> None:
    raw = tmp_path / "my data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        grey = torch.randint(256, (10, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        sizes = b"".join(side.to_bytes(4, "big") for side in grey.shape)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + grey.numpy().tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x0a" + bytes(range(10)))
    folder = files(tmp_path / "set", any=(IMAGES[:, :1, 2:30, 2:30], LABELS))
    brief = ("--networks", 1, "--model", "ConvNetD1", "--set", "epochs=0", "--json")
    told = sdc("evaluate", folder, "--data", raw.parent / given, *brief).json
    assert told["dataset"] == "fashionmnist"
    assert (told["assumptions"]["mean"], told["assumptions"]["std"]) == ([0.2861], [0.3530])
