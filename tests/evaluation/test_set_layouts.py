"""Distilled sets in the layouts that people have: equal to those read rightly to the last bit, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sdc.data import canonical, store
from sdc.data.sets import Dataset, Split
from sdc.data.tiny_classes import WNIDS, WORDS
from sdc.evaluation import distilled, foreign
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.foreign import Found, Stated
from sdc.evaluation.protocol import UNIFORM
from sdc.evaluation.view import View
from sdc.ground.errors import FatalError
from tests.conftest import Sdc

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 8, 7])
BRIEF = ("--networks", 1, "--model", "ConvNetD1", "--set", "epochs=0", "--json")


def pixels(count: int = 10, size: int = 32, channels: int = 3) -> Tensor:
    """Images as bytes."""
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=drawn)


def right(shown: Tensor, constants: tuple[tuple[float, ...], ...] = CIFAR) -> Tensor:
    """Pixels as a network sees them: what torchvision's ToTensor and Normalize give."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in constants)
    return (shown.float() / 255 - mean) / std


def known(name: str, channels: int = 3, size: int = 32) -> Dataset:
    """Data of a dataset's name and classes."""
    classes = {"tinyimagenet": WORDS, "mine": ("owl", "elk", "bat")}.get(name) or tuple(
        each[0] for each in canonical.SPELLINGS[name]
    )
    some = Split(pixels(len(classes), size, channels), torch.arange(len(classes)))
    return Dataset(name, classes, some, some, "0", Path("none"))


def read(path: Path, data: Dataset | None = None, **stated: Any) -> Found:
    data = data or store.load("digits", None)
    (found,) = foreign.load(path, data, data.name, Stated(**stated))
    return found


def refused(path: Path, data: Dataset | None = None, **stated: Any) -> str:
    with pytest.raises(FatalError) as caught:
        read(path, data, **stated)
    assert str(path) in str(caught.value)
    return str(caught.value)


# Images and labels in one file.

IMAGES = right(pixels())


@pytest.mark.parametrize(
    "content",
    [
        [IMAGES, LABELS],
        (IMAGES, LABELS),
        [LABELS, IMAGES],
        (IMAGES, LABELS.tolist()),
        {"images": IMAGES, "labels": LABELS},
        {"x": IMAGES, "y": LABELS.int()},
        {"X": IMAGES, "Y": LABELS.view(-1, 1)},
        {"data": IMAGES, "target": LABELS},
        {"data": IMAGES, "targets": LABELS.tolist()},
        {"data": IMAGES, "targets": torch.eye(10)[LABELS].tolist()},
        {"data": IMAGES.permute(0, 2, 3, 1), "label": LABELS.float()},
        {"x_train": IMAGES.double(), "y_train": torch.eye(10)[LABELS]},
        {"image_syn": IMAGES.clone().requires_grad_(), "label_syn": LABELS, "epoch": 7, "args": {"lr": 0.1}},
        {"data": [[IMAGES, LABELS]]},
    ],
    ids=lambda content: "-".join(content) if isinstance(content, dict) else type(content).__name__,
)
@pytest.mark.parametrize("old", [False, True], ids=["", "before torch 1.6"])
def test_images_and_labels_in_one_torch_file(content: Any, old: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "any.pth", _use_new_zipfile_serialization=not old)
    found = read(tmp_path / "any.pth")
    assert found.made.images.equal(IMAGES)
    assert found.made.labels.equal(LABELS)
    assert found.assumptions["labels"]["kind"] == "hard"


def test_the_rate_under_its_name(tmp_path: Path) -> None:
    for number, rate in enumerate((0.25, torch.tensor(0.25), torch.tensor([0.25]))):
        torch.save({"images": IMAGES, "labels": LABELS, "syn_lr": rate}, tmp_path / f"{number}.pt")
        found = read(tmp_path / f"{number}.pt")
        assert (found.made.lr, found.made.protocol.lr) == (0.25, 0.25)
        assert "under 'images', labels under 'labels', the rate under 'syn_lr'" in found.said
    torch.save({"images": IMAGES, "labels": LABELS, "lr": torch.tensor(-1.0)}, tmp_path / "a.pt")
    assert "a learning rate that is no positive number" in refused(tmp_path / "a.pt")


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("data", "targets")])
@pytest.mark.parametrize("packed", [False, True])
def test_npz(names: tuple[str, str], packed: bool, tmp_path: Path) -> None:
    save = np.savez_compressed if packed else np.savez
    held = {names[0]: pixels().permute(0, 2, 3, 1).numpy(), names[1]: LABELS.numpy().astype(np.uint8)}
    with (tmp_path / "set.bin").open("wb") as file:  # by content, not by the name's end
        save(file, **held)
    found = read(tmp_path / "set.bin")
    assert found.made.images.equal(right(pixels()))
    assert found.made.labels.equal(LABELS)
    order = {
        "classes of it": np.array(["a", None]),
        names[0]: np.asfortranarray(IMAGES.numpy()).astype(">f4"),
        names[1]: LABELS.numpy(),
    }
    save(tmp_path / "set.npz", **order)
    assert read(tmp_path / "set.npz").made.images.equal(IMAGES)


def test_soft_labels_in_an_npz(tmp_path: Path) -> None:
    rows = torch.softmax(torch.randn(10, 10, generator=torch.Generator().manual_seed(1)), 1)
    np.savez(tmp_path / "a.npz", images=IMAGES.numpy(), labels=rows.numpy())
    found = read(tmp_path / "a.npz")
    assert found.assumptions["labels"]["kind"] == "probabilities"
    torch.testing.assert_close(torch.softmax(found.made.labels, 1), rows)
    assert found.made.protocol.batch == 128


def test_safetensors_of_others(tmp_path: Path) -> None:
    save_file({"images": IMAGES, "labels": LABELS}, tmp_path / "a.safetensors", {"format": "pt"})
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        found = read(tmp_path / name)
        assert found.made.images.equal(IMAGES)
        assert found.made.labels.equal(LABELS)


def test_our_own_file_under_another_name(sdc: Sdc, tmp_path: Path) -> None:
    digits = store.load("digits", None)
    view = View("digits", digits.classes, 3, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    distilled.save(DistilledSet(IMAGES, LABELS, view, UNIFORM), tmp_path / "distilled.safetensors")
    shutil.copy(tmp_path / "distilled.safetensors", tmp_path / "renamed.pt")
    one, other = (sdc("evaluate", tmp_path / name, *BRIEF) for name in ("distilled.safetensors", "renamed.pt"))
    assert (one.code, other.code) == (0, 0), other
    assert other.json["accuracy"] == one.json["accuracy"]
    assert "assumed" not in other.json


def test_pixels_of_idc_are_normalised(tmp_path: Path) -> None:
    shown = pixels().float() / 255
    torch.save([shown, LABELS], tmp_path / "data.pt")
    ten = known("cifar10")
    found = read(tmp_path / "data.pt", ten)
    assert found.made.images.equal(right(pixels()))
    assert "taken for IDC's, whose values are pixels from 0 to 1" in found.said
    assert read(tmp_path / "data.pt", ten, range="normalised").made.images.equal(shown)
    torch.save([IMAGES, LABELS], tmp_path / "data.pt")
    assert read(tmp_path / "data.pt", ten).made.images.equal(IMAGES)
    beyond = shown * 1.2 - 0.1
    torch.save([beyond, LABELS], tmp_path / "data.pt")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in CIFAR)
    assert read(tmp_path / "data.pt", ten).made.images.equal((beyond - mean) / std)
    torch.save([shown, LABELS], tmp_path / "other.pt")
    assert "as pixels in [0, 1] do" in refused(tmp_path / "other.pt", ten)


@pytest.mark.parametrize("factor", [2, 3])
def test_several_images_in_one_as_idc_stores_them(factor: int, tmp_path: Path) -> None:
    stored = pixels(size=8).float() / 255
    side, padded = -(-8 // factor), torch.full((10, 3, 9, 9), 0.5)
    padded[:, :, :8, :8] = stored
    parts = []
    for row in range(factor):
        for column in range(factor):
            part = padded[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            parts.append(torch.nn.functional.interpolate(part, (8, 8), mode="bilinear", align_corners=False))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in CIFAR)
    expected = (torch.cat(parts) - mean) / std
    for content in (stored, pixels(size=8)):
        torch.save([content, LABELS], tmp_path / "data.pt")
        found = read(tmp_path / "data.pt", known("cifar10", size=8), factor=factor)
        assert found.made.images.equal(expected)
        assert found.made.labels.equal(torch.cat([LABELS] * factor**2))
        assert f"{factor} x {factor} images in each, enlarged" in found.said
        assert found.assumptions["stated"] == ["factor"]


def test_constants_are_those_of_the_dataset_or_of_the_size(tmp_path: Path) -> None:
    grey = pixels(channels=1)
    for data, shown, constants in (
        (known("svhn"), pixels(), ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))),
        (known("mnist", 1), grey, ((0.1307,), (0.3081,))),
        (known("mnist", 1), pixels(), ((0.1307,) * 3, (0.3081,) * 3)),
        (known("mine"), pixels(6), CIFAR),
        (known("mine"), pixels(6, 64), IMAGENET),
        (known("mine"), grey[:6], ((0.0,), (1.0,))),
    ):
        labels = torch.arange(len(shown)) % len(data.classes)
        torch.save({"images": shown, "labels": labels}, tmp_path / "a.pt")
        assert read(tmp_path / "a.pt", data).made.images.equal(right(shown, constants))


# Images without labels.


def test_images_without_labels_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    images = right(pixels(30))
    expected = torch.tensor([label for label in range(10) for _ in range(3)])
    named = {"images_best.pt": images, "images_40.pt": images, "x.pt": images, "y.pt": {"x": images}}
    for name, content in named.items():
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        torch.save(content, folder / name)
        found = read(folder / name)
        assert found.made.images.equal(images)
        assert found.made.labels.equal(expected)
        assert "labels hard, in the order of the classes, 3 of each: assumed, as" in found.said
        assert found.assumptions["labels"]["words"] in found.said
    assert "it holds no labels, and 30 images are not as many of each of the 7 classes" in refused(
        tmp_path / "x" / "x.pt", Dataset("seven", tuple("abcdefg"), *[known("mine").train] * 2, "0", Path("none"))
    )
    assert "so its labels are no logits" in refused(tmp_path / "x" / "x.pt", labels="logits")

    best = tmp_path / "images_best" / "images_best.pt"
    torch.save(expected.flip(0), best.with_name("labels_best.pt"))
    assert read(best).made.labels.equal(expected.flip(0))


def test_labels_of_other_steps_speak_against_the_order_of_the_classes(tmp_path: Path) -> None:
    torch.save(IMAGES, tmp_path / "images_20.pt")
    torch.save(LABELS, tmp_path / "labels_10.pt")
    with pytest.raises(FatalError, match=r"labels_20.pt does not exist, and labels of other steps do \(labels_10.pt\)"):
        read(tmp_path / "images_20.pt")


# Save folders.


def steps(folder: Path, *names: str) -> Path:
    """Images and labels of steps that can be told apart."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        torch.save(IMAGES + number, folder / f"images_{name}.pt")
        torch.save(LABELS.roll(number), folder / f"labels_{name}.pt")
    return folder


def test_of_a_save_folder_the_last_step_is_taken(tmp_path: Path) -> None:
    folder = steps(tmp_path / "logged", "100", "9", "1000", "999")
    for number, name in enumerate(("100", "9", "1000", "999")):
        torch.save(torch.tensor(0.01 * (number + 1)), folder / f"lr_{name}.pt")
    found = read(folder)
    assert found.made.images.equal(IMAGES + 2)
    assert found.made.labels.equal(LABELS.roll(2))
    assert found.made.lr == pytest.approx(0.03)
    assert f"images_1000.pt, the last of 4 steps in {folder} (9, 100, 999 before it)" in found.said

    torch.save(IMAGES - 5, folder / "images_best.pt")
    again = read(folder)
    assert again.made.images.equal(IMAGES + 2)
    assert "images_best.pt, which was chosen by test accuracy, is left out: give it itself" in again.said
    torch.save(IMAGES, folder / "images_zca_1000.pt")
    assert "images_zca_1000.pt beside" in refused(folder)
    assert read(folder, zca=False).made.images.equal(IMAGES + 2)


def test_the_only_set_of_a_folder_is_taken(tmp_path: Path) -> None:
    best = read(steps(tmp_path / "a", "best"))
    assert best.made.images.equal(IMAGES)
    assert "images_best.pt is the only set" in best.said
    assert "its script saved it for its accuracy on test images" in best.said
    (tmp_path / "b").mkdir()
    torch.save({"data": [[IMAGES, LABELS]] * 2}, tmp_path / "b" / "res_DM_X.pt")
    (tmp_path / "b" / "log.txt").write_text("")
    sets = foreign.load(tmp_path / "b", store.load("digits", None), "digits", Stated())
    assert [each.made.images.equal(IMAGES) for each in sets] == [True, True]
    assert "res_DM_X.pt is the only set" in sets[0].said


def test_the_name_of_the_only_file_tells_the_data_and_the_network(sdc: Sdc, tmp_path: Path) -> None:
    torch.save(
        {"data": [[right(pixels(channels=1)[:, :, 2:30, 2:30], ((0.1307,), (0.3081,))), LABELS]]},
        tmp_path / "res_DM_MNIST_LeNet_1ipc.pt",
    )
    for split in ("train", "test"):
        folders(tmp_path / "data" / split, pixels(10, 28, 1), [str(label) for label in range(10)])
    outcome = sdc("evaluate", tmp_path, "--data", tmp_path / "data", *BRIEF[:2], *BRIEF[4:])
    assert outcome.code == 0, outcome
    assert outcome.json["dataset"] == "mnist"
    assert list(outcome.json["by_model"]) == ["LeNet"]


@pytest.mark.parametrize(
    "others", [("res_DC_a.pt",), ("res_DC_a.pt", "res_DC_b.pt"), ("ema_images_7.pt",), ("data.pth",), ("x.npz",)]
)
def test_several_sets_are_listed_with_their_commands(others: tuple[str, ...], tmp_path: Path) -> None:
    folder = steps(tmp_path / "my logs", "7", "8") if len(others) == 1 else tmp_path
    for other in others:
        torch.save([IMAGES, LABELS], folder / other)
    error = refused(folder)
    assert "holds several sets" in error
    expected = [*others, *(["images_8.pt"] if len(others) == 1 else [])]
    quote = "'" if " " in str(folder) else ""
    for name in expected:
        assert f"sdc evaluate {quote}{folder}/{name}{quote}" in error
    assert "images_7.pt'" not in error.replace("ema_images_7.pt'", "")


def test_of_the_folder_above_save_folders_those_are_named(tmp_path: Path) -> None:
    steps(tmp_path / "Normal", "7")
    (tmp_path / "imgs").mkdir()
    assert f"no set itself, but folders in it may\nSay which: sdc evaluate {tmp_path}/Normal" in refused(tmp_path)


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Normal").mkdir()
    assert "holds no distilled set of a layout known here: no images and folders Normal/" in refused(tmp_path)


# Folders of images.


def folders(top: Path, shown: Tensor, names: list[str], ending: str = "png") -> Path:
    """The images, so many in each folder, in order."""
    each = len(shown) // len(names)
    for number, image in enumerate(shown):
        place = top / names[number // each]
        place.mkdir(parents=True, exist_ok=True)
        last = image.permute(1, 2, 0).numpy()
        made = Image.fromarray(last[:, :, 0] if len(image) == 1 else last)
        made.save(place / f"{place.name}_id{number % each:05d}.{ending}")
    return top


WORDS_OF_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("cifar10", list(canonical.CIFAR10)),
        ("cifar10", [name.upper() for name in canonical.CIFAR10]),
        ("cifar10", [f"{number}" for number in range(10)]),
        ("cifar10", [f"{number:05d}" for number in range(10)]),
        ("cifar10", [f"new{number:03d}" for number in range(10)]),
        ("cifar10", [f"class_{number}" for number in range(10)]),
        ("cifar100", [f"new{number:03d}" for number in range(100)]),
        ("cifar100", [name.replace("_", " ") for name in canonical.CIFAR100]),
        ("fashionmnist", [name.replace("/", "_") for name in canonical.FASHION]),
        ("fashionmnist", [f"{number} - {name.replace('/', '_')}" for number, name in enumerate(canonical.FASHION)]),
        ("digits", WORDS_OF_DIGITS),
        ("svhn", [f"class{number}" for number in range(10)]),
        ("mine", ["owl", "elk", "bat"]),
        ("mine", ["Owl", "2 elk", "BAT"]),
        ("tinyimagenet", list(WNIDS)),
        ("tinyimagenet", [words[:60].replace("/", "_") for words in WORDS]),
    ],
)
@pytest.mark.parametrize("below", ["", "train", "syn/train"])
def test_folders_by_their_names(dataset: str, names: list[str], below: str, tmp_path: Path) -> None:
    data, count = known(dataset, size=8), len(names)
    shown = pixels(2 * count, 8)
    folders(tmp_path / "set" / below, shown, names)
    found = read(tmp_path / "set", data)
    by_label = found.made.labels.sort(stable=True)
    assert by_label.values.equal(torch.arange(count).repeat_interleave(2))
    mean, std = found.made.view.mean, found.made.view.std
    assert found.made.images[by_label.indices].equal(right(shown, (mean, std)))
    assert f"{2 * count} png images" in found.said
    assert f"2 in each of {count} folders" in found.said
    assert "pixels 0..255, scaled to [0, 1] and normalised" in found.said


def test_numbered_folders_of_tiny_imagenet_are_in_the_order_of_sorted_wnids(tmp_path: Path) -> None:
    shown = pixels(200, 64)
    folders(tmp_path / "set", shown, [f"{number:05d}" for number in range(200)], "bmp")
    found = read(tmp_path / "set", known("tinyimagenet", size=64))
    for number, (image, label) in enumerate(zip(found.made.images, found.made.labels, strict=True)):
        assert WNIDS[label] == sorted(WNIDS)[number]
        assert image.equal(right(shown[number], IMAGENET))
    assert "assumed to be wnids sorted, as ImageFolder numbers Tiny ImageNet" in found.said


def test_constants_and_sizes_of_pictures(tmp_path: Path) -> None:
    for number, (data, shown, constants) in enumerate(
        (
            (known("cifar10"), pixels(), CIFAR),
            (known("mine"), pixels(3, 64), IMAGENET),
            (known("mnist", 1), pixels(channels=1), ((0.1307,), (0.3081,))),
        )
    ):
        top = folders(tmp_path / f"{number}", shown, [str(label) for label in range(len(data.classes))])
        found = read(top, data)
        assert found.made.images.equal(right(shown, constants))
        half = read(top, data, mean=(0.5,), std=(0.5,))
        assert half.made.images.equal(right(shown, ((0.5,) * shown.shape[1],) * 2))
    assert found.made.view.channels == 1


@pytest.mark.parametrize(("ending", "how"), [("bmp", {}), ("webp", {"lossless": True}), ("ppm", {}), ("tif", {})])
def test_pictures_of_other_formats(ending: str, how: dict[str, Any], tmp_path: Path) -> None:
    for name, image in zip(canonical.CIFAR10, pixels(), strict=True):
        (tmp_path / "set" / name).mkdir(parents=True)
        made = Image.fromarray(image.permute(1, 2, 0).numpy())
        made.save(tmp_path / "set" / name / f"0.{ending}", **how)
    found = read(tmp_path / "set", known("cifar10")).made
    assert found.images[found.labels.argsort()].equal(right(pixels()))


def test_jpegs_are_what_they_decode_to(tmp_path: Path) -> None:
    top = folders(tmp_path / "set", pixels(20), list(canonical.CIFAR10), "jpg")
    decoded = torch.stack(
        [
            torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
            for name in canonical.CIFAR10
            for file in sorted((top / name).iterdir())
        ]
    )
    assert read(top, known("cifar10")).made.images.equal(right(decoded))
    shutil.make_archive(str(tmp_path / "packed"), "zip", top)
    assert read(tmp_path / "packed.zip", known("cifar10")).made.images.equal(right(decoded))


def test_only_train_is_read_where_there_is_a_test(tmp_path: Path) -> None:
    top = folders(tmp_path / "train", pixels(), list(canonical.CIFAR10)).parent
    folders(tmp_path / "test", pixels(20), list(canonical.CIFAR10))
    found = read(top, known("cifar10"))
    assert found.made.images.equal(right(pixels()))
    assert "10 png images of train/, not those of test/" in found.said


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["owl", "elk", "cow"], "found 'cow', expected 'owl', 'elk', 'bat'"),
        (["1", "2", "3"], "found folders numbered 1 to 3, 3 of them, expected numbers 0 to 2"),
        (["0", "1"], "found folders numbered 0 to 1, 2 of them, expected numbers 0 to 2"),
        (["owl", "Owl", "bat"], "folders 'Owl' and 'owl' of"),
        (["a0", "b1", "c2"], "found 'a0', 'b1', 'c2'"),
        (["n01440764", "n01443537", "n01484850"], "found 'n01440764', 'n01443537', 'n01484850', expected 'owl'"),
    ],
)
def test_folders_of_other_names_are_refused(names: list[str], why: str, tmp_path: Path) -> None:
    assert why in refused(folders(tmp_path / "set", pixels(len(names), 8), names), known("mine", size=8))


def test_pictures_that_are_no_set_are_refused(tmp_path: Path) -> None:
    names, data = ["owl", "elk", "bat"], known("mine", size=8)
    top = folders(tmp_path / "set", pixels(3, 8), names)
    extra = top / "owl" / "extra.png"
    Image.new("RGB", (9, 9)).save(extra)
    assert "images of a set are of one size" in refused(top, data)
    extra.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "unreadable image" in refused(top, data)
    extra.unlink()
    extra.symlink_to(next((top / "elk").iterdir()))
    assert len(read(top, data).made.images) == 4
    extra.unlink()
    outside = tmp_path / "outside.png"
    Image.new("RGB", (8, 8)).save(outside)
    extra.symlink_to(outside)
    assert "is a link that leads out of" in refused(top, data)
    extra.unlink()
    shutil.copy(outside, top / "loose.png")
    assert "images in no folder of a class (loose.png)" in refused(top, data)
    wide = tmp_path / "wide"
    for name in names:
        (wide / name).mkdir(parents=True)
        Image.new("RGB", (9, 8)).save(wide / name / "0.png")
    assert "is 9x8, and networks here take square images" in refused(wide, data)


def test_pictures_by_the_command_line(sdc: Sdc, tmp_path: Path) -> None:
    top = folders(tmp_path / "set", pixels(), WORDS_OF_DIGITS)
    outcome = sdc("evaluate", top, "--dataset", "digits", *BRIEF)
    assert outcome.code == 0, outcome
    assert "10 png images, 1 in each of 10 folders; values pixels 0..255" in outcome.json["assumed"]
    assert "by the names of the folders: eight = 8, five = 5, four = 4, ..." in outcome.json["assumed"]
    assert outcome.json["assumptions"]["labels"]["order"] == list("0123456789")
    unnamed = sdc("evaluate", top, *BRIEF)
    assert "give --dataset NAME or --data PATH" in unnamed.json["error"]
