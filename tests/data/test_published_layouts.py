"""`--data` on datasets as they are published and as torchvision unpacks them, written here in their own formats."""

from __future__ import annotations

import gzip
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import MNIST

from sdc.data import canonical, pickled, tiny
from sdc.data.store import Dataset, load
from sdc.ground.errors import FatalError
from tests.data.test_named import idx, jpeg

RANDOM = np.random.default_rng(1)
IMAGES = RANDOM.integers(0, 256, (12, 3, 32, 32), np.uint8)
GREY = RANDOM.integers(0, 256, (7, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))


def failure(name: str, path: Path) -> str:
    with pytest.raises(FatalError) as caught:
        load(name, path)
    return str(caught.value)


def holds(dataset: Dataset, train: np.ndarray, test: np.ndarray, labels: tuple[list[int], list[int]]) -> bool:
    same = [np.array_equal(part.images.numpy(), want) for part, want in ((dataset.train, train), (dataset.test, test))]
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.labels.dtype == torch.int64
    return same == [True, True] and (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == labels


# CIFAR-10 and CIFAR-100: pickles.


def as_python2(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as the published ones are: protocol 2, written by Python 2, whose texts are bytes (SHORT_BINSTRING)."""

    def text(value: bytes) -> bytes:
        return (
            b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + len(value).to_bytes(4, "little") + value
        )

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")

    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R"
        + b"(K\x03"
        + text(b"|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    shape = number(data.shape[0]) + number(data.shape[1]) + b"\x86"
    state = b"(K\x01" + shape + kind + b"\x89" + text(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + made + state + text(b"labels") + listed + b"u."


def cifar10(folder: Path, protocol: int = 2, python2: bool = False) -> Path:
    folder.mkdir(parents=True)
    for number, file in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pair, labels = IMAGES[2 * number : 2 * number + 2].reshape(2, -1), [number, 9 - number]
        data = as_python2(pair, labels) if python2 else pickle.dumps({b"data": pair, b"labels": labels}, protocol)
        (folder / file).write_bytes(data)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(canonical.CIFAR10)}, protocol))
    return folder


LABELS = ([0, 9, 1, 8, 2, 7, 3, 6, 4, 5], [5, 4])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("given", ["cifar-10-batches-py", ""])
def test_cifar_10(tmp_path: Path, protocol: int, given: str) -> None:
    cifar10(tmp_path / "data" / "cifar-10-batches-py", protocol)
    found = load("cifar10", tmp_path / "data" / given)
    assert holds(found, IMAGES[:10], IMAGES[10:], LABELS)
    assert found.classes == canonical.CIFAR10
    assert found.notes == ("it is cifar10 in its published form and order",)


def test_cifar_10_as_python_2_wrote_it(tmp_path: Path) -> None:
    path = cifar10(tmp_path / "cifar-10-batches-py", python2=True)
    theirs = pickle.loads((path / "test_batch").read_bytes(), encoding="latin1")  # noqa: S301
    assert np.array_equal(theirs["data"].reshape(-1, 3, 32, 32), IMAGES[10:])
    assert holds(load("cifar10", path), IMAGES[:10], IMAGES[10:], LABELS)


def cifar100(folder: Path, labels: list[int], names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for file, part, own in (("train", IMAGES[:3], labels[:3]), ("test", IMAGES[3:5], labels[3:])):
        coarse = [0] * len(own)
        (folder / file).write_bytes(
            pickle.dumps({"data": part.reshape(len(part), -1), "fine_labels": own, "coarse_labels": coarse})
        )
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": ["all"]}))
    return folder


@pytest.mark.parametrize("given", ["cifar-100-python", ""])
def test_cifar_100_by_its_fine_labels(tmp_path: Path, given: str) -> None:
    cifar100(tmp_path / "data" / "cifar-100-python", [7, 99, 0, 50, 1], list(canonical.CIFAR100))
    found = load("cifar100", tmp_path / "data" / given)
    assert holds(found, IMAGES[:3], IMAGES[3:5], ([7, 99, 0], [50, 1]))
    assert found.classes == canonical.CIFAR100


def test_a_label_outside_the_classes_is_refused(tmp_path: Path) -> None:
    path = cifar100(tmp_path / "cifar-100-python", [7, 100, 0, 50, 1], list(canonical.CIFAR100))
    assert failure("cifar100", path) == f"{path} has a label 100, but classes 0 to 99: apple, ..."


def test_classes_in_another_order_than_the_dataset_s_are_refused(tmp_path: Path) -> None:
    path = cifar100(tmp_path / "cifar-100-python", [0, 1, 2, 3, 4], list(reversed(canonical.CIFAR100)))
    assert "its classes are not in the order of cifar100: label 0 = worm, 1 = woman" in failure("cifar100", path)


class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_that_a_pickle_names_is_run(tmp_path: Path, protocol: int) -> None:
    path = cifar10(tmp_path / "cifar-10-batches-py")
    (path / "test_batch").write_bytes(pickle.dumps({"data": _Evil(tmp_path / "ran"), "labels": [0]}, protocol))
    message = failure("cifar10", path)
    assert message.startswith(
        f"{path}/test_batch is not one of CIFAR's batches: it asks for posix.system, which is never"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "hostile",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"P1\n.",
        b"",
        pickle.dumps([1]),
        pickle.dumps({"data": np.array([object()]), "labels": [0]}),
        pickle.dumps({"data": np.array([0.5] * 3072), "labels": [0]}),
        pickle.dumps({"data": "text", "labels": [0]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["0"]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}),
        pickle.dumps({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}),
    ],
)
def test_what_is_no_batch_is_refused_by_name(tmp_path: Path, hostile: bytes) -> None:
    path = cifar10(tmp_path / "cifar-10-batches-py")
    (path / "test_batch").write_bytes(hostile)
    assert failure("cifar10", path).startswith(f"{path}/test_batch is not one of CIFAR's batches: ")


def test_a_pickle_changes_none_of_our_functions(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x02c_codecs\nencode\nN}U\x05cruelK\x01s\x86b0}.")
    assert pickled.load(tmp_path / "x") == {}
    assert not any(hasattr(made, "cruel") for made in pickled._STAND_INS.values())


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    path = cifar10(tmp_path / "cifar-10-batches-py")
    (path / "data_batch_3").unlink()
    assert "data_batch_3" in failure("cifar10", path)


# MNIST and FashionMNIST: IDX files.


def mnist(folder: Path, packed: bool = False, dotted: bool = False) -> Path:
    folder.mkdir(parents=True)
    labels = np.array([3, 1, 9, 0, 2, 7, 7], np.uint8)
    for stem, part in (("train", slice(0, 5)), ("t10k", slice(5, 7))):
        for kind, array in (("images-idx3", GREY[part]), ("labels-idx1", labels[part])):
            name = f"{stem}-{kind}-ubyte".replace("-idx", ".idx" if dotted else "-idx")
            data = gzip.compress(idx(array)) if packed else idx(array)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(data)
    return folder


MNIST_LABELS = ([3, 1, 9, 0, 2], [7, 7])


@pytest.mark.parametrize("given", ["MNIST/raw", "MNIST", ""])
@pytest.mark.parametrize(("packed", "dotted"), [(False, False), (True, False), (False, True)])
def test_mnist(tmp_path: Path, given: str, packed: bool, dotted: bool) -> None:
    mnist(tmp_path / "data" / "MNIST" / "raw", packed, dotted)
    found = load("mnist", tmp_path / "data" / given)
    assert holds(found, GREY[:5, None], GREY[5:, None], MNIST_LABELS)
    assert found.classes == tuple("0123456789")
    if not packed and not dotted:
        theirs = MNIST(str(tmp_path / "data"), train=True)
        assert np.array_equal(theirs.data.numpy(), found.train.images[:, 0].numpy())
        assert theirs.targets.tolist() == found.train.labels.tolist()


def test_fashion_mnist_is_told_from_mnist_by_its_folder_or_by_the_name_given(tmp_path: Path) -> None:
    raw = mnist(tmp_path / "data" / "FashionMNIST" / "raw")
    for name in ("fashionmnist", "clothes"):
        assert load(name, raw).classes == canonical.FASHION
    assert failure("mnist", raw) == f"{raw} holds fashionmnist, not mnist\nSay --dataset fashionmnist"
    loose = mnist(tmp_path / "loose")
    assert load("fashionmnist", loose).classes == canonical.FASHION
    assert load("mnist", loose).classes == tuple("0123456789")
    (note,) = load("loose", loose).notes
    assert note == "it is mnist in its published form and order; if it is FashionMNIST, say --dataset fashionmnist"


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    raw = mnist(tmp_path / "MNIST" / "raw")
    images, labels = raw / "train-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    whole = images.read_bytes()
    for damaged in (whole[:-1], b"\0\0\x0d" + whole[3:], b""):
        images.write_bytes(damaged)
        assert failure("mnist", raw).startswith(f"cannot read {images}: ")
    images.write_bytes(whole)
    labels.write_bytes(idx(np.array([1], np.uint8)))
    assert failure("mnist", raw).startswith(f"{raw} has 2 images and 1 labels")
    labels.unlink()
    assert failure("mnist", raw).startswith(f"{labels} is missing, and t10k-labels-idx1-ubyte.gz, too")


# SVHN: MATLAB files.


@pytest.mark.parametrize("given", ["svhn", ""])
def test_svhn(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "data" / "svhn"
    folder.mkdir(parents=True)
    for split, some, labels in (("train", IMAGES[:3], [10, 1, 9]), ("test", IMAGES[3:5], [2, 10])):
        stored = {"X": some.transpose(2, 3, 1, 0), "y": np.array(labels, np.uint8)[:, None]}
        scipy.io.savemat(folder / f"{split}_32x32.mat", stored)
    found = load("svhn", tmp_path / "data" / given)
    assert holds(found, IMAGES[:3], IMAGES[3:5], ([0, 1, 9], [2, 0]))
    assert found.classes == tuple("0123456789")
    (folder / "test_32x32.mat").write_bytes(b"no such file")
    assert failure("svhn", folder).startswith(f"cannot read {folder}/test_32x32.mat: ")


# Several side by side.


def test_of_several_datasets_the_one_that_is_named_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    cifar10(root / "cifar-10-batches-py")
    mnist(root / "MNIST" / "raw")
    assert load("mnist", root).train.images.shape == (5, 1, 28, 28)
    assert load("cifar10", root).train.images.shape == (10, 3, 32, 32)
    assert failure("mine", root) == (
        f"{root} holds several datasets: mnist ({root}/MNIST/raw), cifar10 ({root}/cifar-10-batches-py)\n"
        "Say which: --dataset mnist or --dataset cifar10"
    )
    assert failure("cifar100", root / "cifar-10-batches-py").splitlines()[0].endswith("holds cifar10, not cifar100")


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    path = cifar10(tmp_path / "cifar-10-batches-py")
    first = load("cifar10", path)
    assert load("cifar10", path).file == first.file
    (path / "test_batch").write_bytes(pickle.dumps({"data": IMAGES[:1].reshape(1, -1), "labels": [3]}))
    assert load("cifar10", path).test.labels.tolist() == [3]


# Tiny ImageNet.

TINY = {
    "wnids.txt": b"n02\nn01\n",
    "words.txt": b"n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\ttailed frog\n",
    **{f"train/{w}/images/{w}_{n}.JPEG": jpeg(np.full((64, 64, 3), level, np.uint8)) for w, n, level in
       (("n01", 0, 60), ("n01", 1, 70), ("n02", 0, 40), ("n02", 1, 50))},
    "train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t0\t63\t63\n",
    **{f"val/images/val_{n}.JPEG": jpeg(np.full((64, 64, 3), 80 + n, np.uint8)) for n in range(2)},
    "val/val_annotations.txt": b"val_1.JPEG\tn01\t0\t0\t9\t9\nval_0.JPEG\tn02\t0\t0\t9\t9\n",
    "test/images/test_0.JPEG": b"no label, never read",
}  # fmt: skip


def tiny_folder(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tiny_zip(path: Path, top: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in TINY.items():
            archive.writestr(f"{top}{name}", data)
    return path


@pytest.mark.parametrize("kind", ["zip", "flat zip", "folder", "its parent"])
def test_tiny_imagenet_zipped_and_unpacked(tmp_path: Path, kind: str) -> None:
    if "zip" in kind:
        path = tiny_zip(tmp_path / "tiny-imagenet-200.zip", "" if "flat" in kind else "tiny-imagenet-200/")
    else:
        path = tiny_folder(tmp_path / "data" / "tiny-imagenet-200", TINY)
        path = path.parent if kind == "its parent" else path
    found = load("tinyimagenet", path)
    assert found.classes == ("tailed frog", "goldfish, Carassius auratus")
    assert found.train.images[:, 0, 5, 5].tolist() == [40, 50, 60, 70]
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert found.test.images[:, 0, 5, 5].tolist() == [81, 80]
    assert found.test.labels.tolist() == [1, 0]


def test_the_unpacked_folder_is_the_dataset_that_is_downloaded(tmp_path: Path) -> None:
    zipped = tiny.read(tiny_zip(tmp_path / "x.zip", "tiny-imagenet-200/"))
    found = load("tinyimagenet", tiny_folder(tmp_path / "d", TINY))
    assert torch.equal(found.train.images, zipped.train.images)
    assert torch.equal(found.test.labels, zipped.test.labels)


def test_val_images_sorted_below_val_images_are_found(tmp_path: Path) -> None:
    """As ImageFolder(val/images) of MTT's scripts needs them."""
    moved = {"val/images/val_1.JPEG": "val/images/n01/val_1.JPEG", "val/images/val_0.JPEG": "val/images/n02/val_0.JPEG"}
    content = {moved.get(name, name): data for name, data in TINY.items()}
    found = load("tinyimagenet", tiny_folder(tmp_path / "d", content))
    assert found.sha256 == load("tinyimagenet", tiny_folder(tmp_path / "same", TINY)).sha256


def test_what_its_images_were_is_kept(tmp_path: Path) -> None:
    """A few of the published images are grey; one of another size is nobody's, and told all the same."""
    odd = {"train/n01/images/n01_0.JPEG": jpeg(np.zeros((64, 64), np.uint8))}
    odd |= {"val/images/val_0.JPEG": jpeg(np.zeros((60, 90, 3), np.uint8))}
    original = load("tinyimagenet", tiny_folder(tmp_path / "d", TINY | odd)).original
    assert original is not None
    assert (original.width, original.height, original.side, original.cropped) == ((64, 90), (60, 64), (60, 64), 1)
    assert dict(original.modes) == {"RGB": 5, "L": 1}


def test_val_images_sorted_into_folders_make_it_a_folder_of_images(tmp_path: Path) -> None:
    """As many scripts rearrange it; its own `test/images` has no labels. Two classes are nobody's order: by name."""
    moved = {"val/images/val_1.JPEG": "val/n01/images/val_1.JPEG", "val/images/val_0.JPEG": "val/n02/images/val_0.JPEG"}
    content = {moved.get(name, name): data for name, data in TINY.items()}
    content["test/images/test_0.JPEG"] = jpeg(np.zeros((64, 64, 3), np.uint8))
    found = load("tinyimagenet", tiny_folder(tmp_path / "d", content))
    assert found.classes == ("n01", "n02")
    assert found.train.images[:, 0, 5, 5].tolist() == [60, 70, 40, 50]
    assert found.test.images[:, 0, 5, 5].tolist() == [81, 80]


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    strange = TINY | {"wnids.txt": b"n02\n"}
    path = tiny_folder(tmp_path / "a", strange)
    assert failure("tinyimagenet", path).startswith(f"{path}: class n01 is not among the 1 of wnids.txt")
    path = tiny_folder(tmp_path / "b", TINY | {"val/val_annotations.txt": b"gone.JPEG\tn01\t0\t0\t9\t9\n"})
    assert "gone.JPEG" in failure("tinyimagenet", path)
