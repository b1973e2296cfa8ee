"""Which class each label of a set made elsewhere means: the set in the data's order is the same to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.datasets import ImageFolder

from sdc.data import store
from sdc.data.canonical import FASHION
from sdc.data.imagenet_subsets import SUBSETS
from sdc.data.tiny_classes import WNIDS, WORDS
from sdc.evaluation import distilled, foreign, label_order
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.foreign import Found, Stated
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, normalised
from sdc.ground.errors import FatalError
from tests.conftest import Sdc
from tests.data.test_store import as_folder, encoded

CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


def tiny(path: Path, names: tuple[str, ...] = WNIDS) -> Path:
    """A folder with an image of its own for each class of Tiny ImageNet, the same to train and to test on."""
    pictures = torch.randint(0, 256, (200, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    encodings = [encoded(picture) for picture in pictures]
    return as_folder(
        path,
        {f"{part}/{name}/0.png": encodings[k] for k, name in enumerate(names) for part in ("train", "val")},
    )


def image_folder_s(path: Path) -> list[str]:
    """The wnids in the order in which torchvision, which MTT and its successors read Tiny ImageNet by, numbers them."""
    return ImageFolder(str(path / "train")).classes


def images_of(data: store.Dataset) -> Tensor:
    """The first training image of each class of the data, as a network sees it."""
    first = torch.stack([(data.train.labels == label).nonzero()[0, 0] for label in range(len(data.classes))])
    return normalised(data.train.images[first], View(data.name, data.classes, 3, 8, **CIFAR))


def save(folder: Path, images: Tensor, labels: Tensor, name: str = "images_1.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if name.startswith("res_"):
        torch.save({"data": [[images, labels]]}, folder / name)
    else:
        torch.save(images, folder / name)
        torch.save(labels, folder / name.replace("images", "labels"))
    return folder / name


def read(file: Path, data: store.Dataset, name: str = "tinyimagenet", **stated: Any) -> Found:
    (found,) = foreign.load(file, data, name, Stated(**stated))
    return found


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return tiny(tmp_path / "tiny-folder")


def test_the_sets_of_mtt_and_its_successors_number_tiny_imagenet_as_image_folder(
    given: Path, sdc: Sdc, tmp_path: Path
) -> None:
    data = store.load("tinyimagenet", given)
    theirs = image_folder_s(given)
    assert data.classes == WNIDS
    assert theirs != list(WNIDS)
    images = images_of(data)
    mtt = save(tmp_path / "mtt", images, torch.tensor([theirs.index(wnid) for wnid in WNIDS]))
    ours = save(tmp_path / "ours", images, torch.arange(200))
    brief = ("--data", given, "--dataset", "tinyimagenet", "--networks", 1, "--model", "ConvNetD1")
    fast = ("--set", "epochs=40", "--set", "lr=0.1", "--set", "augment=", "--json")
    right = sdc("evaluate", ours, *brief, *fast, "--label-order", "data")
    found = sdc("evaluate", mtt, *brief, *fast)
    wrong = sdc("evaluate", mtt, *brief, *fast, "--label-order", "wnids")

    assert (right.code, found.code, wrong.code) == (0, 0, 0), found
    assert found.json["accuracy"] == right.json["accuracy"]
    assert found.json["mean"] > 0.5  # the test images are those of the set
    assert wrong.json["mean"] < 0.1
    assert found.json["assumptions"]["labels"]["order"] == theirs
    assert found.json["assumptions"]["labels"]["mapped"] is True
    said = " ".join(found.err.split())
    assert f"label 0 = n01443537, 1 = {theirs[1]}, " in said
    assert "wnids sorted, as MTT, TESLA, FTD and DATM number Tiny ImageNet" in said


@pytest.mark.parametrize("kind", ["logits", "probabilities", "one-hot"])
def test_soft_labels_have_their_columns_put_in_order(given: Path, tmp_path: Path, kind: str) -> None:
    data = store.load("tinyimagenet", given)
    ours = torch.randn(200, 200, generator=torch.Generator().manual_seed(1))
    ours = {"logits": ours, "probabilities": ours.softmax(1), "one-hot": torch.eye(200)[ours.argmax(1)]}[kind]
    theirs = torch.stack([ours[:, WNIDS.index(wnid)] for wnid in image_folder_s(given)], 1)
    found = read(save(tmp_path, images_of(data), theirs), data)
    right = read(save(tmp_path, images_of(data), ours), data, order="data")
    assert found.made.labels.equal(right.made.labels)
    assert found.made.labels.dtype == (torch.int64 if kind == "one-hot" else torch.float32)


def test_the_order_follows_the_names_of_the_data_whatever_its_own_name_and_order(tmp_path: Path) -> None:
    words = tuple(name.split(",")[0].replace(" ", "_") for name in WORDS)
    given = tiny(tmp_path / "by-words", words)
    data = store.load("pictures", given)  # no known name: folders are sorted by theirs
    assert list(data.classes) == sorted(words)
    theirs = sorted(WNIDS)
    labels = torch.tensor([theirs.index(WNIDS[words.index(name)]) for name in data.classes])
    found = read(save(tmp_path, images_of(data), labels), data, "pictures")
    assert found.made.labels.equal(torch.arange(200))
    assert found.assumptions["labels"]["order"][0] == "goldfish"
    by_wnid = store.load("pictures", tiny(tmp_path / "by-wnid"))  # sorted, as theirs
    found = read(save(tmp_path, images_of(by_wnid), torch.arange(200)), by_wnid, "pictures")
    assert found.made.labels.equal(torch.arange(200))
    assert found.assumptions["labels"]["mapped"] is False


def test_fewer_classes_are_no_tiny_imagenet(tmp_path: Path) -> None:
    few = ("n04540053", "n01443537", "n02124075")
    picture = encoded(torch.zeros(8, 8, 3).byte().numpy())
    given = as_folder(tmp_path / "few", {f"{part}/{w}/0.png": picture for w in few for part in ("train", "test")})
    data = store.load("tinyimagenet", given)
    images = images_of(data)
    found = read(save(tmp_path, images, torch.tensor([2, 0, 1])), data)
    assert found.made.labels.tolist() == [2, 0, 1]
    assert found.assumptions["labels"]["order"] == sorted(few)
    with pytest.raises(FatalError, match=r"image 1 has label 120, but tinyimagenet has 0\.\.2"):
        read(save(tmp_path, images, torch.tensor([2, 120, 1])), data)
    with pytest.raises(FatalError, match="rows of 200 numbers, but tinyimagenet has 3 classes"):
        read(save(tmp_path, images, torch.randn(3, 200)), data)
    with pytest.raises(FatalError, match="is for the 200 classes of Tiny ImageNet"):
        read(save(tmp_path, images, torch.tensor([2, 0, 1])), data, order="wnids")


def test_the_order_of_dc_s_tinyimagenet_pt_is_assumed_and_can_be_told(given: Path, tmp_path: Path) -> None:
    data = store.load("tinyimagenet", given)
    theirs = sorted(WNIDS)
    file = save(tmp_path, images_of(data), torch.arange(200), "res_DM_TinyImageNet_ConvNet_1ipc.pt")
    found = read(file, data)
    assert found.made.labels.tolist() == [WNIDS.index(wnid) for wnid in theirs]
    assert "assumed to be wnids sorted" in found.said
    assert read(file, data, order="wnids").made.labels.tolist() == list(range(200))
    backwards = tmp_path / "classes.txt"
    backwards.write_text("".join(f"{wnid}\tsome words\n" for wnid in reversed(theirs)))
    told = read(file, data, order=str(backwards))
    assert told.made.labels.tolist() == [WNIDS.index(wnid) for wnid in reversed(theirs)]
    assert told.assumptions["stated"] == ["order"]
    assert "classes.txt; mapped" in told.said


# Subsets of ImageNet, which MTT and its successors do not number by wnid.

WOOF = (
    *("n02096294", "n02093754", "n02111889", "n02088364", "n02086240", "n02089973", "n02087394", "n02115641"),
    *("n02099601", "n02105641"),
)


@pytest.mark.parametrize(
    "names",
    [
        WOOF,
        ("australian_terrier", "border_terrier", "samoyed", "beagle", "shih-tzu", "english_foxhound",
         "rhodesian_ridgeback", "dingo", "golden_retriever", "english_sheepdog"),
    ],
    ids=["wnids", "words"],
)  # fmt: skip
def test_a_subset_of_imagenet_is_numbered_as_by_the_scripts_that_distil_it(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    picture = encoded(torch.zeros(8, 8, 3).byte().numpy())
    given = as_folder(tmp_path / "dogs", {f"{part}/{n}/0.png": picture for n in names for part in ("train", "val")})
    data = store.load("dogs", given)
    assert list(data.classes) == sorted(names)
    found = read(save(tmp_path, images_of(data), torch.arange(10)), data, "dogs")
    assert [data.classes[label] for label in found.made.labels] == list(names)
    assert found.assumptions["labels"]["order"] == list(names)
    assert "as MTT and its successors number imagewoof; else: --label-order" in found.said
    by_name = read(tmp_path / "images_1.pt", data, "dogs", order="sorted")
    assert by_name.made.labels.tolist() == list(range(10))


def test_each_subset_has_the_wnids_of_its_names() -> None:
    """ImageNet numbers its classes by sorted wnid, and torchvision lists their names by number."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    words = dict(zip(WNIDS, WORDS, strict=True))
    numbered = {}
    for wnid, *names in (known for subset in SUBSETS.values() for known in subset):
        numbered[wnid] = CATEGORIES.index(names[0])
        assert wnid not in words or set(names) & set(words[wnid].split(", "))
    assert sorted(numbered, key=numbered.__getitem__) == sorted(numbered)
    assert len(numbered) == 10 * len(SUBSETS) - 3  # banana, lemon and lion are in two


# --label-order for any data.


def digits(tmp_path: Path, labels: Tensor, **stated: Any) -> Found:
    images = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return read(save(tmp_path, images, labels), store.load("digits"), "digits", **stated)


def test_a_file_tells_the_order_of_any_data(tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.write_text("Nine\n\n8\nseven\n 6\nfive\n4\n3\n2\n1\nzero\n")
    assert digits(tmp_path, torch.arange(10), order=str(order)).made.labels.tolist() == list(range(9, -1, -1))
    same = digits(tmp_path, torch.arange(10), order="sorted")
    assert same.made.labels.tolist() == list(range(10))
    assert "(by --label-order sorted)" in same.said


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("0 1 2 3 4 5 6 7 8", "names 9 classes, which are not the 10 of digits (missing: '9')"),
        ("0 1 2 3 4 5 6 7 8 8", "(named twice: '8', '8'; missing: '9')"),
        ("0 1 2 3 4 5 6 7 8 ten", "(not a class of the data: 'ten'; missing: '9')"),
        ("", "names 0 classes"),
    ],
)
def test_a_file_that_is_no_order_of_the_classes_is_refused(tmp_path: Path, lines: str, why: str) -> None:
    (tmp_path / "order").write_text("\n".join(lines.split()))
    with pytest.raises(FatalError) as caught:
        digits(tmp_path, torch.arange(10), order=str(tmp_path / "order"))
    assert why in str(caught.value)
    with pytest.raises(FatalError, match=r"there is no such file\nGive wnids, sorted, data, or a file"):
        digits(tmp_path, torch.arange(10), order="alphabet")


def test_sets_that_say_it_themselves_take_no_order(sdc: Sdc, tmp_path: Path) -> None:
    distilled.save(digits(tmp_path, torch.arange(10)).made, tmp_path / "mine.safetensors")
    error = sdc("evaluate", tmp_path / "mine.safetensors", "--label-order", "sorted", "--json").json["error"]
    assert "says itself what it holds" in error


# What lies around a file tells its order.


def test_what_a_run_of_ours_saved_is_in_the_order_of_the_run(given: Path, tmp_path: Path) -> None:
    data = store.load("tinyimagenet", given)
    run = tmp_path / "runs" / "mtt-tinyimagenet-ipc1-0123456789"
    file = save(run / ".work.abc" / "logged_files" / "Tiny" / "x", images_of(data), torch.arange(200))
    (run / "cell.json").write_text(json.dumps({"dataset": "tinyimagenet"}))
    found = read(file, data)
    assert found.made.labels.tolist() == list(range(200))
    assert f"as in the run that it lies in, {run.name}" in found.said
    sorted_by_name = store.load("pictures", given)
    found = read(file, sorted_by_name, "pictures")
    assert found.made.labels.tolist() == [sorted(WNIDS).index(wnid) for wnid in WNIDS]


def test_an_export_says_itself_in_which_order_it_is(given: Path, tmp_path: Path) -> None:
    data = store.load("tinyimagenet", given)
    file = save(tmp_path / "out", images_of(data), torch.arange(200))
    (tmp_path / "out" / "metadata.json").write_text(json.dumps({"classes": list(WORDS)}))
    found = read(file, data)
    assert found.made.labels.tolist() == list(range(200))
    assert "as metadata.json beside it says" in found.said


def test_a_set_that_names_its_classes_is_judged_by_data_in_another_order(sdc: Sdc, tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (10, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    names = [name.replace("/", "_") for name in FASHION]
    given = as_folder(
        tmp_path / "clothes",
        {f"{part}/{name}/0.png": encoded(pictures[k]) for k, name in enumerate(names) for part in ("train", "test")},
    )
    in_order, by_name = store.load("fashionmnist", given), store.load("clothes", given)
    assert (list(in_order.classes), list(by_name.classes)) == (names, sorted(names))
    soft = torch.randn(10, 10, generator=torch.Generator().manual_seed(1)) + 6 * torch.eye(10)
    for kind, labels in (("hard", torch.arange(10)), ("soft", soft)):
        view = View("fashionmnist", FASHION, 3, 8, **CIFAR)
        made = DistilledSet(images_of(in_order), labels, view, Protocol(lr=0.1, epochs=30, networks=1))
        distilled.save(made, tmp_path / f"{kind}.safetensors")
        brief = ("evaluate", tmp_path / f"{kind}.safetensors", "--data", given, "--model", "ConvNetD1", "--json")
        right, found = sdc(*brief, "--dataset", "fashionmnist"), sdc(*brief, "--dataset", "clothes")
        assert found.code == 0, found
        assert "mapped" not in right.err
        assert "label 0 = T-shirt_top, 1 = Trouser," in " ".join(found.err.split())
        assert "(as the set itself says; mapped to the order of the data)" in " ".join(found.err.split())
        assert right.json["mean"] > 0.8
        assert found.json["mean"] > 0.8
    renumbered, _ = label_order.of_set(made, by_name, "clothes")
    assert [sorted(names).index(name) for name in names] == [
        int(row.argmax()) for row in renumbered.labels
    ]  # each row is highest where its own class is
    assert label_order.of_set(made, in_order, "fashionmnist") == (made, "")
