"""`--data` on CIFAR's and MNIST's files while they are still in an archive."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from sdc.data import archived, canonical
from sdc.data.store import load
from sdc.ground import paths
from sdc.ground.errors import FatalError
from tests.conftest import Sdc
from tests.data.test_published_layouts import (
    GREY,
    IMAGES,
    LABELS,
    MNIST_LABELS,
    _Evil,
    cifar10,
    cifar100,
    failure,
    holds,
    mnist,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))


def packed(folder: Path, archive: Path, below: str) -> Path:
    """The files of a folder as an archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in folder.rglob("*"):
                zipped.write(file, Path(below) / file.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as made:
            made.add(folder, below or ".")
    return archive


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "renamed.tgz", "plain.tar", "zipped.zip"])
def test_cifar_10(tmp_path: Path, name: str) -> None:
    folder = cifar10(tmp_path / "cifar-10-batches-py")
    (folder / "readme.html").write_text("<p>")
    archive = packed(folder, tmp_path / name, folder.name)
    found = load("cifar10", archive)
    assert holds(found, IMAGES[:10], IMAGES[10:], LABELS)
    assert found.classes == canonical.CIFAR10
    assert found.notes == ("it is cifar10 in its published form and order",)
    assert found.sha256 == load("cifar10", folder).sha256
    assert not list(paths.data().glob(".unpacked-*"))
    assert failure("cifar100", archive).splitlines()[0] == f"{archive} holds cifar10, not cifar100"


def test_cifar_100(tmp_path: Path) -> None:
    folder = cifar100(tmp_path / "cifar-100-python", [7, 99, 0, 50, 1], list(canonical.CIFAR100))
    found = load("cifar100", packed(folder, tmp_path / "cifar-100-python.tar.gz", folder.name))
    assert holds(found, IMAGES[:3], IMAGES[3:5], ([7, 99, 0], [50, 1]))


@pytest.mark.parametrize("name", ["mnist.zip", "MNIST.tar.gz"])
@pytest.mark.parametrize("below", ["MNIST/raw", ""])
def test_mnist(tmp_path: Path, name: str, below: str) -> None:
    archive = packed(mnist(tmp_path / "files", packed=name.endswith("gz")), tmp_path / name, below)
    found = load("mnist", archive)
    assert holds(found, GREY[:5, None], GREY[5:, None], MNIST_LABELS)
    assert found.notes == ("it is mnist in its published form and order",)


def test_fashion_mnist_by_a_folder_in_the_archive_or_by_the_name_given(tmp_path: Path) -> None:
    files = mnist(tmp_path / "files")
    assert load("mine", packed(files, tmp_path / "a.zip", "FashionMNIST/raw")).classes == canonical.FASHION
    loose = packed(files, tmp_path / "b.zip", "")
    assert load("fashionmnist", loose).classes == canonical.FASHION
    assert load("b", loose).notes[0].endswith("; if it is FashionMNIST, say --dataset fashionmnist")


def test_the_command_line_takes_it(sdc: Sdc, tmp_path: Path) -> None:
    archive = packed(cifar10(tmp_path / "x"), tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py")
    made = tmp_path / "images_1.pt"
    torch.save(torch.from_numpy(IMAGES[:10]), made)
    torch.save(torch.arange(10), tmp_path / "labels_1.pt")
    brief = ("--networks", 1, "--model", "ConvNetD1", "--set", "epochs=0", "--json")
    outcome = sdc("evaluate", made, "--dataset", "cifar10", "--data", archive, *brief)
    assert outcome.code == 0, outcome
    assert "it is cifar10 in its published form and order; label 0 = airplane" in outcome.err.replace("\n", " ")


def test_hostile_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cifar10(tmp_path / "cifar-10-batches-py")
    whole = packed(folder, tmp_path / "whole.tar.gz", folder.name).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert str(tmp_path / "cut.tar.gz") in failure("cifar10", tmp_path / "cut.tar.gz")

    (folder / "test_batch").write_bytes(pickle.dumps({"data": _Evil(tmp_path / "ran"), "labels": [0]}))
    evil = failure("cifar10", packed(folder, tmp_path / "evil.tar", folder.name))
    assert evil.startswith(f"{tmp_path}/evil.tar/cifar-10-batches-py/test_batch is not one of CIFAR's batches: it asks")
    assert not (tmp_path / "ran").exists()

    (folder / "test_batch").unlink()
    assert "test_batch" in failure("cifar10", packed(folder, tmp_path / "few.tar", folder.name))

    with tarfile.open(tmp_path / "out.tar", "w") as made:
        for name in ("../data_batch_1", "/data_batch_2", "x/data_batch_3"):
            info = tarfile.TarInfo(name)
            info.size = 4
            made.addfile(info, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("x/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, os.fspath(folder / "data_batch_1")
        made.addfile(link)
    assert "holds 0 whole copies of cifar10" in failure("cifar10", tmp_path / "out.tar")
    assert not [file for file in tmp_path.rglob("data_batch_*") if file.parent != folder]

    monkeypatch.setattr(archived, "LIMIT", 1000)
    with pytest.raises(FatalError, match="is larger than 0 MiB, which no published one is"):
        load("cifar10", packed(cifar10(tmp_path / "big"), tmp_path / "big.tar.gz", "big"))
