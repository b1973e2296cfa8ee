"""The datasets known by name: offline from files in the published formats, from a server of our own, or unreachable."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as published_sets
from PIL import Image
from sklearn.datasets import load_digits

from sdc.data.download import Published, fetch
from sdc.data.named import SOURCES, cifar_like, mnist_like, obtain, svhn_like, tiny_like
from sdc.data.store import load
from sdc.ground.errors import FatalError

CLOSED = "http://127.0.0.1:9"
RANDOM = np.random.default_rng(0)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a real server, and the folder it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", folder
        running.shutdown()


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, CLOSED)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: 0, 0, type 8 (bytes), dimensions, big-endian lengths, bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Each format, downloaded from a server of our own, checked and read by the same code as the published files.


def test_mnist_format(server: tuple[str, Path], tmp_path: Path) -> None:
    address, served = server
    images = RANDOM.integers(0, 256, (7, 28, 28), np.uint8)
    labels = np.array([3, 1, 9, 0, 2, 7, 7], np.uint8)
    parts = {
        "train-images-idx3-ubyte.gz": images[:5],
        "train-labels-idx1-ubyte.gz": labels[:5],
        "t10k-images-idx3-ubyte.gz": images[5:],
        "t10k-labels-idx1-ubyte.gz": labels[5:],
    }
    packed = {name: gzip.compress(idx(part)) for name, part in parts.items()}
    for name, data in packed.items():
        (served / name).write_bytes(data)

    class Small(published_sets.MNIST):
        mirrors = [f"{CLOSED}/", address]  # noqa: RUF012
        resources = [(name, md5(data)) for name, data in packed.items()]  # noqa: RUF012

    content = obtain(mnist_like(Small), tmp_path / "downloads")
    assert content.train.images.dtype == torch.uint8
    assert np.array_equal(content.train.images.numpy(), images[:5, None])
    assert np.array_equal(content.test.images.numpy(), images[5:, None])
    assert content.train.labels.tolist() == [3, 1, 9, 0, 2]
    assert content.test.labels.tolist() == [7, 7]
    assert content.classes[3] == "3 - three"
    assert mnist_like(Small, tuple("0123456789")).read(tmp_path / "downloads", None).classes == tuple("0123456789")
    assert files_below(tmp_path / "downloads") == set(packed)


def cifar_archive(top: str, parts: dict[str, dict[str, Any]]) -> tuple[bytes, dict[str, str]]:
    """A gzipped tar of pickles, and the MD5 of each."""
    pickled = {name: pickle.dumps(part) for name, part in parts.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in pickled.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue(), {name: md5(data) for name, data in pickled.items()}


@pytest.mark.parametrize("fine", [False, True])
def test_cifar_format(server: tuple[str, Path], tmp_path: Path, fine: bool) -> None:
    address, served = server
    kind, labels, names = (
        (published_sets.CIFAR100, "fine_labels", "fine_label_names")
        if fine
        else (published_sets.CIFAR10, "labels", "label_names")
    )
    images = RANDOM.integers(0, 256, (6, 3, 32, 32), np.uint8)
    data, sums = cifar_archive(
        kind.base_folder,
        {
            "one": {"data": images[:2].reshape(2, -1), labels: [1, 0]},
            "two": {"data": images[2:4].reshape(2, -1), labels: [1, 1]},
            "test": {"data": images[4:].reshape(2, -1), labels: [0, 1]},
            "meta": {names: ["ant", "bee"]},
        },
    )
    (served / "small.tar.gz").write_bytes(data)
    small = type(
        "Small",
        (kind,),
        {
            "url": f"{address}small.tar.gz",
            "filename": "small.tar.gz",
            "tgz_md5": md5(data),
            "train_list": [["one", sums["one"]], ["two", sums["two"]]],
            "test_list": [["test", sums["test"]]],
            "meta": {"filename": "meta", "key": names, "md5": sums["meta"]},
        },
    )
    content = obtain(cifar_like(small), tmp_path / "downloads")
    assert content.classes == ("ant", "bee")
    assert np.array_equal(content.train.images.numpy(), images[:4])
    assert np.array_equal(content.test.images.numpy(), images[4:])
    assert (content.train.labels.tolist(), content.test.labels.tolist()) == ([1, 0, 1, 1], [0, 1])
    assert files_below(tmp_path / "downloads") == {"small.tar.gz"}


def test_svhn_format(server: tuple[str, Path], tmp_path: Path) -> None:
    """The published files hold [32, 32, 3, N] images, and call the digit 0 ten."""
    address, served = server
    images = RANDOM.integers(0, 256, (5, 3, 32, 32), np.uint8)
    parts = {"train": (images[:3], [10, 1, 9]), "test": (images[3:], [2, 10])}
    split_list = {}
    for split, (some, labels) in parts.items():
        scipy.io.savemat(served / f"{split}.mat", {"X": some.transpose(2, 3, 1, 0), "y": np.array(labels)[:, None]})
        split_list[split] = [f"{address}{split}.mat", f"{split}.mat", md5((served / f"{split}.mat").read_bytes())]
    content = obtain(
        svhn_like(type("Small", (published_sets.SVHN,), {"split_list": split_list})), tmp_path / "downloads"
    )
    assert np.array_equal(content.train.images.numpy(), images[:3])
    assert np.array_equal(content.test.images.numpy(), images[3:])
    assert (content.train.labels.tolist(), content.test.labels.tolist()) == ([0, 1, 9], [2, 0])
    assert content.classes == tuple("0123456789")


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_tiny_imagenet_format(server: tuple[str, Path], tmp_path: Path) -> None:
    """wnids.txt gives the order of the classes, a grey JPEG becomes RGB, and val is the test set."""
    address, served = server
    top = "tiny-imagenet-200"
    levels = {"n02/images/n02_0": 40, "n02/images/n02_1": 50, "n01/images/n01_0": 60, "n01/images/n01_1": 70}
    with zipfile.ZipFile(served / "tiny.zip", "w") as archive:
        archive.writestr(f"{top}/wnids.txt", "n02\nn01\n")
        archive.writestr(f"{top}/words.txt", "n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\ttailed frog\n")
        for name, level in levels.items():
            shape = (64, 64) if level == 50 else (64, 64, 3)
            archive.writestr(f"{top}/train/{name}.JPEG", jpeg(np.full(shape, level, np.uint8)))
        archive.writestr(f"{top}/train/n01/n01_boxes.txt", "n01_0.JPEG\t0\t0\t63\t63\n")
        for number in range(2):
            archive.writestr(f"{top}/val/images/val_{number}.JPEG", jpeg(np.full((64, 64, 3), 80 + number, np.uint8)))
            archive.writestr(f"{top}/test/images/test_{number}.JPEG", b"no label, never read")
        archive.writestr(f"{top}/val/val_annotations.txt", "val_1.JPEG\tn01\t0\t0\t9\t9\nval_0.JPEG\tn02\t0\t0\t9\t9\n")
    published = Published("tiny.zip", (f"{address}tiny.zip",), md5((served / "tiny.zip").read_bytes()))
    seen: list[tuple[int, int | None]] = []
    content = obtain(tiny_like(published), tmp_path / "downloads", lambda done, total: seen.append((done, total)))
    assert content.classes == ("tailed frog", "goldfish, Carassius auratus")
    assert content.train.images.shape == (4, 3, 64, 64)
    assert content.train.images[:, :, 5, 5].tolist() == [[level] * 3 for level in (40, 50, 60, 70)]
    assert content.train.labels.tolist() == [0, 0, 1, 1]
    assert content.test.images[:, 0, 0, 0].tolist() == [81, 80]
    assert content.test.labels.tolist() == [1, 0]
    assert seen == [(n, 6) for n in range(1, 7)]
    assert files_below(tmp_path / "downloads") == {"tiny.zip"}


# Downloads.


@pytest.mark.usefixtures("no_network")
def test_a_file_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"here")
    assert fetch(Published("x", ("http://127.0.0.1:9/x",), md5(b"here")), tmp_path).read_bytes() == b"here"


def test_a_wrong_copy_is_replaced(server: tuple[str, Path], tmp_path: Path) -> None:
    address, served = server
    (served / "x").write_bytes(b"right")
    (tmp_path / "x").write_bytes(b"wrong")
    assert fetch(Published("x", (f"{address}x",), md5(b"right")), tmp_path).read_bytes() == b"right"


def test_a_download_with_another_md5_is_thrown_away(server: tuple[str, Path], tmp_path: Path) -> None:
    address, served = server
    (served / "x").write_bytes(b"tampered")
    with pytest.raises(FatalError) as caught:
        fetch(Published("x", (f"{address}x", f"{address}none"), md5(b"right")), tmp_path / "new")
    message = str(caught.value)
    assert f"cannot download {address}x: " in message
    assert f"its MD5 is {md5(b'tampered')}, expected {md5(b'right')}" in message
    assert f"cannot download {address}none: HTTP Error 404" in message
    assert not files_below(tmp_path / "new")


ADDRESSES = {
    "cifar10": ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"],
    "cifar100": ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"],
    "fashionmnist": ["fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz"],
    "mnist": ["https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz", "yann.lecun.com"],
    "svhn": ["http://ufldl.stanford.edu/housenumbers/train_32x32.mat"],
    "tinyimagenet": ["http://cs231n.stanford.edu/tiny-imagenet-200.zip"],
}


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"digits"}))
def test_without_a_network_the_address_and_the_ways_out_are_named(name: str, no_network: Path) -> None:
    with pytest.raises(FatalError) as caught:
        load(name)
    message = str(caught.value)
    first = SOURCES[name]().files[0]
    for address in ADDRESSES[name]:
        assert address in message
    assert "Connection refused" in message
    assert f"put the file (MD5 {first.md5}) at {no_network}/data/downloads/{name}/{first.name}" in message
    assert "--data PATH" in message
    assert {Path(path).suffix for path in files_below(no_network)} == {".lock"}


def test_the_md5_of_tiny_imagenet_is_the_one_commonly_published() -> None:
    assert SOURCES["tinyimagenet"]().files[0].md5 == "90528d7ca1a48142e341f4ef8d21d0de"


# Digits, which need no download.


@pytest.mark.usefixtures("no_network")
def test_digits() -> None:
    dataset = load("digits")
    assert dataset.classes == tuple("0123456789")
    assert dataset.train.images.shape == (1437, 1, 32, 32)
    assert dataset.test.images.shape == (360, 1, 32, 32)
    assert dataset.train.images.dtype == torch.uint8
    per_class = torch.bincount(torch.cat([dataset.train.labels, dataset.test.labels]))
    assert per_class.tolist() == np.bincount(load_digits().target).tolist()
    assert (torch.bincount(dataset.test.labels) - per_class / 5).abs().max() < 1
    assert load("digits").sha256 == dataset.sha256


@pytest.mark.usefixtures("no_network")
def test_digits_are_the_8x8_images_stretched_and_enlarged() -> None:
    """Each original, found again by its own 2x2-fold enlargement, occurs once with its label; 0..16 became 0..255."""
    dataset = load("digits")
    images = torch.cat([dataset.train.images, dataset.test.images]).float()
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    small, targets = load_digits(return_X_y=True)
    original = torch.tensor(small).reshape(-1, 1, 8, 8).float() * 255 / 16
    enlarged = torch.nn.functional.interpolate(original, size=32, mode="bilinear", align_corners=False)
    distance, nearest = torch.cdist(images.flatten(1), enlarged.flatten(1)).min(1)
    assert distance.max() < 32  # half a level of rounding at each of 1,024 pixels, twice
    assert labels.tolist() == targets[nearest].tolist()
    assert len(set(nearest.tolist())) == 1797
