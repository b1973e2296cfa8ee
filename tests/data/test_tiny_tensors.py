"""Tiny ImageNet as one torch file of tensors, as DC's scripts read it: its classes are found by their names."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sdc.data.store import Dataset, load
from sdc.data.tiny_classes import WNIDS, WORDS
from sdc.evaluation import foreign
from sdc.evaluation.foreign import Stated
from sdc.ground.errors import FatalError

ORDER = random.Random(0).sample(range(200), 200)
"""The line of wnids.txt of each of the file's labels."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))


def held(names: tuple[str, ...] = WNIDS, **more: Any) -> dict[str, Any]:
    """Each image has the line of its class in wnids.txt as its value; labels are in the file's own order."""
    labels = torch.arange(200).flip(0)
    images = torch.tensor(ORDER)[labels].byte().view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    return {
        "classes": [names[line] for line in ORDER],
        "images_train": images,
        "labels_train": labels,
        "images_val": images[:50].clone(),
        "labels_val": labels[:50].int(),
    } | more


def saved(path: Path, content: object, **how: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path, **how)
    return path


def is_ours(found: Dataset) -> bool:
    return all(part.images[:, 0, 0, 0].long().equal(part.labels) for part in (found.train, found.test))


@pytest.mark.parametrize("names", [WNIDS, WORDS, tuple(name.split(",")[0] for name in WORDS)])
def test_labels_become_those_of_wnids_txt(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = saved(tmp_path / "tinyimagenet.pt", held(names))
    found = load("tinyimagenet", path)
    assert found.classes == names
    assert (len(found.train.labels), len(found.test.labels)) == (200, 50)
    assert is_ours(found)
    assert found.notes[0].startswith(f"it is tinyimagenet, where label 0 = {names[ORDER[0]]}, 1 = {names[ORDER[1]]}, ")
    again = load("tinyimagenet", path)  # read back as prepared
    assert (again.numbered, again.sha256) == (found.numbered, found.sha256)
    assert list(again.numbered) == [names[line] for line in ORDER]


def test_by_its_folder_by_another_name_and_as_old_torch_wrote_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "data" / "tinyimagenet.pt", held(), _use_new_zipfile_serialization=False)
    for name, given in (("tinyimagenet", path.parent), ("pictures", path)):
        found = load(name, given)
        assert found.classes == WNIDS
        assert is_ours(found)
    with pytest.raises(FatalError, match="holds tinyimagenet, not cifar10"):
        load("cifar10", path)


def test_sets_that_were_made_of_it_are_numbered_as_it_is(tmp_path: Path) -> None:
    data = load("tinyimagenet", saved(tmp_path / "tinyimagenet.pt", held()))
    images = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    file = saved(tmp_path / "res_DM_TinyImageNet_ConvNet_1ipc.pt", {"data": [[images, torch.arange(200)]]})
    (found,) = foreign.load(file, data, "tinyimagenet", Stated())
    assert found.made.labels.tolist() == ORDER
    assert "as the tinyimagenet.pt given numbers them; mapped" in found.said
    assert found.assumptions["labels"]["order"] == [WNIDS[line] for line in ORDER]


def test_classes_of_other_names_keep_their_order_and_are_not_tiny_imagenet(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(200)]
    path = saved(tmp_path / "mine.pt", held(classes=names))
    found = load("mine", path)
    assert list(found.classes) == names
    assert found.train.labels.equal(held()["labels_train"])
    assert found.notes == ("it is a torch file of images, its classes in an order of its own",)
    with pytest.raises(FatalError, match="are not those of tinyimagenet"):
        load("tinyimagenet", path)


class _Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch sprung",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"data": []}, "it does not hold images_train, labels_train, images_val, labels_val, classes"),
        ([1], "it does not hold images_train"),
        (held(images_val=torch.zeros(50, 3, 4, 4)), "images_val is torch.float32 [50, 3, 4, 4], not uint8 [N,3,64,64]"),
        (held(labels_val=torch.full((50,), 200)), "labels_val are 200 to 200, but it has 200 classes"),
        (held(labels_val=torch.zeros(49).long()), "labels_val is torch.int64 [49] for 50 images"),
        (held(images_val=torch.zeros(1, 1, 1, 1).byte().expand(50, 3, 4, 4)), "images_val is no tensor with a number"),
        (held(classes=["a", "a"]), "its classes are no list of names, each once"),
        (_Trap(), "it is no torch file of tensors, numbers and text alone"),
    ],
)
def test_what_it_cannot_be_is_refused_with_the_reason(
    tmp_path: Path, content: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "tinyimagenet.pt", content)
    with pytest.raises(FatalError, match=re.escape(why)) as caught:
        load("tinyimagenet", path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "sprung").exists()
