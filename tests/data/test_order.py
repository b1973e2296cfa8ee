"""Which class is which label: folders named like a dataset's classes, `val/` for `test/`, and the orders of Tiny ImageNet."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST

from sdc.data import canonical, class_names, image_folder, tiny_classes
from sdc.data.reading import reader
from sdc.data.store import Dataset, load
from sdc.ground.errors import FatalError
from tests.data.test_store import Files, as_folder, as_tar, as_zip, plain, two_classes, values

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))


def folder(path: Path, names: list[str], test: str = "test") -> Path:
    """The image of the k-th class has the value k in train/ and 100 + k in test/: the order given is the true one."""
    content = {}
    for value, name in enumerate(names):
        content |= {
            f"train/{name}/0.png": plain(value, (4, 4)),
            f"{test}/{name}/0.png": plain((100 + value) % 256, (4, 4)),
        }
    return as_folder(path, content)


def in_order(dataset: Dataset, count: int = 10) -> bool:
    """Whether label k is the k-th class of `folder`, and the images are stored in that order, too."""
    expected = list(range(count))
    return values(dataset) == {
        "train": expected,
        "train labels": expected,
        "test": [100 + value for value in expected],
        "test labels": expected,
    }


# Folders that have the names of a known dataset's classes.


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("fashionmnist", [name.replace("/", "_") for name in FASHION]),
        ("fashionmnist", ["tshirt-top", "TROUSER", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                          "ankle_boot"]),
        ("mnist", [f"{n} - {word}" for n, word in enumerate(WORDS)]),
        ("svhn", WORDS),
        ("digits", list("0123456789")),
        ("cifar10", ["Airplane", "AUTOMOBILE", *CIFAR[2:]]),
        ("fashionmnist", class_names.ordered(FASHION)),
        ("cifar10", [f"{n:03}" for n in range(10)]),
    ],
)  # fmt: skip
def test_the_order_of_the_dataset_rules_where_the_names_are_its_own(
    tmp_path: Path, dataset: str, names: list[str]
) -> None:
    found = load(dataset, folder(tmp_path / "d", names))
    assert in_order(found)
    assert found.classes == tuple(names)


def test_without_the_name_folders_are_sorted_as_ever(tmp_path: Path) -> None:
    names = [name.replace("/", "_") for name in FASHION]
    found = load("clothes", folder(tmp_path / "d", names))
    assert found.classes == tuple(sorted(names))
    assert values(found)["train"] == [names.index(name) for name in sorted(names)]
    assert found.notes == ("its classes are sorted by the names of their folders",)


def test_names_that_sort_as_they_should_keep_their_hash(tmp_path: Path) -> None:
    names = CIFAR
    path = folder(tmp_path / "d", names)
    known, unknown = load("cifar10", path), load("mine", path)
    assert (known.sha256, known.classes) == (unknown.sha256, unknown.classes)
    assert known.file != unknown.file


def test_a_file_that_was_prepared_in_another_order_is_not_taken(tmp_path: Path) -> None:
    """The hash that names the prepared file differs from the one of before this rule, which said nothing of it."""
    path = folder(tmp_path / "d", class_names.folder_names(FASHION))
    old = hashlib.sha256(f"1 fashionmnist {image_folder.fingerprint(path)}".encode()).hexdigest()[:16]
    assert old not in load("fashionmnist", path).file.name
    old = hashlib.sha256(f"1 mine {image_folder.fingerprint(path)}".encode()).hexdigest()[:16]
    assert old in load("mine", path).file.name


def test_other_names_are_refused_with_what_was_found_and_expected(tmp_path: Path) -> None:
    names = ["plane", *CIFAR[1:-1], "lorry"]
    path = folder(tmp_path / "d", names)
    with pytest.raises(FatalError) as caught:
        load("cifar10", path)
    first, second = str(caught.value).splitlines()
    assert first == (
        f"the classes of {path} are not those of cifar10: found 'lorry', 'plane', where cifar10 has 'airplane', 'truck'"
    )
    assert second.startswith("Rename the folders, or give the images a name of their own: --dataset NAME, any but ")
    assert load("vehicles", path).classes == tuple(sorted(names))


@pytest.mark.parametrize("names", [[str(n) for n in range(1, 11)], ["zero", "0", *list("23456789")]])
def test_numbers_that_are_not_the_labels_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(FatalError, match="are not those of mnist"):
        load("mnist", folder(tmp_path / "d", names))


def test_another_number_of_classes_is_nobody_s_order(tmp_path: Path) -> None:
    found = load("cifar10", as_zip(tmp_path / "d.zip", two_classes()))
    assert found.classes == ("cat", "dog")
    assert found.notes == ("its classes are sorted by the names of their folders",)


class _Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, total: int | None) -> None: ...

    def progress(self, done: int, note: str = "") -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


def test_which_class_is_which_label_is_told_each_time(tmp_path: Path) -> None:
    path = folder(tmp_path / "d", class_names.folder_names(FASHION), test="val")
    for _ in range(2):  # made, and read back
        heard = _Heard()
        reader(heard)("fashionmnist", path, 0, 0)
        assert heard.said == [
            "val/ is taken as the test set: no test/ holds its classes; "
            "its classes are those of fashionmnist, in the order of fashionmnist; "
            "label 0 = T-shirt_top, 1 = Trouser, 2 = Pullover, 3 = Dress, 4 = Coat, 5 = Sandal, 6 = Shirt, "
            "7 = Sneaker, 8 = Bag, 9 = Ankle boot"
        ]
    assert canonical.told([f"c{n}" for n in range(100)]) == (
        "label 0 = c0, 1 = c1, 2 = c2, 3 = c3, 4 = c4, 5 = c5, 6 = c6, 7 = c7, ..., 99 = c99"
    )


def test_numbers_are_said_to_be_taken_for_labels(tmp_path: Path) -> None:
    (note,) = load("cifar10", folder(tmp_path / "d", list("0123456789"))).notes
    assert note == "the names of its folders are taken for the labels of cifar10, where 0 is airplane"


# The tables of classes.


def test_each_name_means_one_class_and_folders_that_we_write_are_read_back() -> None:
    for dataset, classes in canonical.SPELLINGS.items():
        names = [spellings[0] for spellings in classes]
        assert len(set(names)) == {"cifar100": 100, "tinyimagenet": 200}.get(dataset, 10)
        for written in (class_names.folder_names(names), class_names.ordered(names)):
            mixed = random.Random(0).sample(written, len(written))
            assert canonical.arranged(dataset, mixed, "x") == written
    assert list(canonical.CIFAR100) == sorted(canonical.CIFAR100)
    assert list(canonical.FASHION) == FashionMNIST.classes == FASHION


# val/ in test's place.


def renamed(content: Files, old: str, new: str) -> Files:
    return {
        name.replace(f"{old}/", f"{new}/", 1) if name.startswith(f"{old}/") else name: data
        for name, data in content.items()
    }


@pytest.mark.parametrize("name", ["d", "d.zip", "d.tar"])
@pytest.mark.parametrize("top", ["", "top/"])
def test_val_is_the_test_set_where_there_is_no_other(tmp_path: Path, name: str, top: str) -> None:
    make = {"d": as_folder, "d.zip": as_zip, "d.tar": as_tar}[name]
    content = {top + path: data for path, data in renamed(two_classes(), "test", "val").items()}
    found = load("mine", make(tmp_path / name, content))
    same = load("mine", as_folder(tmp_path / "with-test", two_classes()))
    assert found.sha256 == same.sha256
    assert found.notes[0] == "val/ is taken as the test set: no test/ holds its classes"
    assert len(same.notes) == 1


def test_val_is_the_test_set_where_that_has_no_labels(tmp_path: Path) -> None:
    content = renamed(two_classes(), "test", "val") | {"test/images/0.png": plain(77)}
    assert values(load("mine", as_zip(tmp_path / "d.zip", content)))["test"] == [15, 25]


def test_val_is_left_alone_beside_a_test_set(tmp_path: Path) -> None:
    content = two_classes() | {"val/cat/0.png": plain(77), "val/dog/0.png": b"no image"}
    assert values(load("mine", as_zip(tmp_path / "d.zip", content)))["test"] == [15, 25]


def test_a_damaged_image_of_val_is_named_where_val_is_needed(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "d.zip", renamed(two_classes(), "test", "val") | {"val/cat/x.png": b"no image"})
    with pytest.raises(FatalError, match=re.escape(f"unreadable image: {path}: val/cat/x.png")):
        load("mine", path)


def test_classes_of_one_side_alone_are_listed_with_those_of_the_other(tmp_path: Path) -> None:
    content = renamed(two_classes(), "test", "val") | {"val/owl/0.png": plain(1)}
    with pytest.raises(FatalError) as caught:
        load("mine", as_zip(tmp_path / "d.zip", content))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("class 'owl' of " + str(tmp_path / "d.zip") + " is in val/ but not in train/")
    assert lines[1] == "train/ holds 2 classes: 'cat', 'dog'; val/ holds 3 classes: 'cat', 'dog', 'owl'"


# The orders of Tiny ImageNet.


def test_a_folder_of_wnids_or_words_is_in_the_order_of_wnids_txt(tmp_path: Path) -> None:
    names = list(tiny_classes.WNIDS)
    found = load("tinyimagenet", folder(tmp_path / "d", names, test="val"))
    assert found.classes == tiny_classes.WNIDS
    assert found.train.images[:, 0, 0, 0].tolist() == list(range(200))
    assert (found.train.labels == torch.arange(200)).all()
    words = [name.split(",")[0].replace(" ", "_") for name in tiny_classes.WORDS]
    assert canonical.arranged("tinyimagenet", sorted(words), "x") == words
