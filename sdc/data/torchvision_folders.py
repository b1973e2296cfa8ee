"""Folders as torchvision leaves them, and Tiny ImageNet's: which datasets a path holds, and how they are read."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from sdc.data import archived, canonical, pickled, tiny, tiny_tensors
from sdc.data.members import damage_is_fatal, folder_files
from sdc.data.sets import Content, Progress, Split
from sdc.ground import files
from sdc.ground.errors import FatalError

CHILDREN = (
    *("", "raw", "MNIST", "MNIST/raw", "FashionMNIST", "FashionMNIST/raw", "cifar-10-batches-py", "cifar-100-python"),
    *("svhn", "SVHN", "tiny-imagenet-200"),
)
"""Where a dataset may be below the path that is given."""
IDX = {
    split: (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    for split, stem in (("train", "train"), ("test", "t10k"))
}
MAT = {split: f"{split}_32x32.mat" for split in ("train", "test")}
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10, CIFAR100 = (*BATCHES, "test_batch", "batches.meta"), ("train", "test", "meta")
IDX_FILES = {
    f"{spelled}{ending}"
    for pair in IDX.values()
    for file in pair
    for spelled in (file, file.replace("-idx", ".idx"))
    for ending in ("", ".gz")
}
_FILES = {*CIFAR10, *CIFAR100, *IDX_FILES}
"""What the files of datasets are called that may come in an archive."""


@dataclass(frozen=True)
class Layout:
    """A dataset found in its published form: its name, where, the files that its fingerprint is over, its reader."""

    dataset: str
    where: Path
    files: Callable[[], list[Path]]
    read: Callable[[Progress | None], Content]
    doubt: str = ""
    """What its files do not say, and how to say it."""

    def fingerprint(self) -> str:
        """A hash that changes with the files: over an archive's bytes, or over the others' names, sizes and times."""
        with damage_is_fatal(self.where):
            if self.where.is_file():
                return files.sha256(self.where)
            stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(self.files())]
        return hashlib.sha256(f"{self.dataset} {stamps}".encode(errors="surrogateescape")).hexdigest()


def choose(path: Path, name: str) -> Layout | None:
    """The dataset in its published form at `path`, or in a folder there; None if there is none.

    Raises FatalError if there are several and none is called `name`, or if `name` is another with other classes.
    """
    with damage_is_fatal(path):
        found = list(_found(path, name))
    fitting = [layout for layout in found if layout.dataset == name] or found
    if len(fitting) > 1:
        said = " or ".join(f"--dataset {layout.dataset}" for layout in found)
        held = ", ".join(f"{layout.dataset} ({layout.where})" for layout in found)
        raise FatalError(f"{path} holds several datasets: {held}\nSay which: {said}")
    for layout in fitting:
        if name in canonical.SPELLINGS and not canonical.same(name, layout.dataset):
            raise FatalError(f"{layout.where} holds {layout.dataset}, not {name}\nSay --dataset {layout.dataset}")
        return layout
    return None


def _found(path: Path, name: str) -> Iterator[Layout]:
    if path.is_file():
        if path.suffix.lower() == tiny_tensors.ENDING:
            yield _tiny_tensors(path)
        elif tiny.is_zip(path):
            yield _tiny(path)
        elif (file := archived.first(path, _FILES)) is not None:
            yield _packed(path, file, name)
        return
    if tiny.is_folder(path):
        yield _tiny(path)
    elif not (path / "train").is_dir():
        folders = {(path / child).resolve(): path / child for child in CHILDREN if (path / child).is_dir()}
        yield from (layout for folder in folders.values() for layout in _in(folder, name))


def _packed(path: Path, first: PurePosixPath, name: str) -> Layout:
    """A dataset in an archive, which one of its files tells; unpacked whenever it is read."""
    if first.name in IDX_FILES:
        folder = path.parent / path.name.split(".")[0] / first.parent
        layout = _mnist(folder, name)
        dataset, doubt = layout.dataset, layout.doubt
    else:
        dataset, doubt = ("cifar100" if first.name in ("train", "test", "meta") else "cifar10"), ""

    def read(on_progress: Progress | None) -> Content:
        with archived.unpacked(path, _FILES) as top:
            folders = [top, *(folder for folder in sorted(top.rglob("*")) if folder.is_dir())]
            found = [layout for folder in folders for layout in _in(folder, dataset) if layout.dataset == dataset]
            if len(found) != 1:
                raise FatalError(f"{path} holds {len(found)} whole copies of {dataset}, not one\nDownload it again.")
            return found[0].read(on_progress)

    return Layout(dataset, path, list, read, doubt)


def _in(folder: Path, name: str) -> Iterator[Layout]:
    if tiny.is_folder(folder):
        yield _tiny(folder)
    elif (folder / tiny_tensors.FILE).is_file():
        yield _tiny_tensors(folder / tiny_tensors.FILE)
    if (folder / BATCHES[0]).is_file():
        yield _cifar(folder, "cifar10", BATCHES, ("test_batch",), "batches.meta", ("labels", "label_names"))
    if all((folder / file).is_file() for file in ("train", "test", "meta")):
        yield _cifar(folder, "cifar100", ("train",), ("test",), "meta", ("fine_labels", "fine_label_names"))
    if (folder / MAT["train"]).is_file():
        yield Layout("svhn", folder, lambda: [folder / file for file in MAT.values()], lambda _: _svhn(folder))
    if _idx_path(folder, IDX["train"][0]) is not None:
        yield _mnist(folder, name)


def _tiny(path: Path) -> Layout:
    def used() -> list[Path]:
        return [real for _, real, is_folder in folder_files(path) if not is_folder]

    return Layout("tinyimagenet", path, used, lambda on_progress: tiny.read(path, on_progress))


def _tiny_tensors(path: Path) -> Layout:
    return Layout("tinyimagenet", path, lambda: [path], lambda _: tiny_tensors.read(path))


def _cifar(
    folder: Path, dataset: str, train: tuple[str, ...], test: tuple[str, ...], meta: str, keys: tuple[str, str]
) -> Layout:
    def read(_: Progress | None) -> Content:
        names = pickled.load(folder / meta).get(keys[1])
        if not isinstance(names, list) or not names:
            raise FatalError(f"{folder / meta} does not name the classes as {keys[1]}\nUnpack the archive again.")
        classes = [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names]
        parts = [[_batch(folder / file, keys[0]) for file in some] for some in (train, test)]
        joined = [tuple(np.concatenate(pair) for pair in zip(*part, strict=True)) for part in parts]
        return _content(folder, classes, *joined)

    return Layout(dataset, folder, lambda: [folder / file for file in (*train, *test, meta)], read)


def _batch(path: Path, key: str) -> tuple[pickled.Array, pickled.Array]:
    found = pickled.load(path)
    try:
        return pickled.array(found["data"]).reshape(-1, 3, 32, 32), pickled.array(found[key])
    except (KeyError, ValueError, TypeError) as error:
        raise FatalError(f"{path} is not one of CIFAR's batches: {error}\nUnpack the archive again.") from error


def _svhn(folder: Path) -> Content:
    """The published files hold [32, 32, 3, N] images, and call the digit 0 ten."""
    parts = []
    for file in MAT.values():
        images, labels = _mat(folder / file)
        parts.append((images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels.astype(np.int64)).reshape(-1)))
    return _content(folder, canonical.DIGITS, *parts)


def _mat(path: Path) -> tuple[pickled.Array, pickled.Array]:
    from scipy.io import loadmat  # here, because it takes long to import

    try:
        found: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        images, labels = found["X"], found["y"]
    except Exception as error:  # scipy raises nearly everything on damaged files
        raise FatalError(f"cannot read {path}: {error or type(error).__name__}\nDownload it again.") from error
    if images.ndim != 4 or images.dtype.kind not in "ui" or labels.dtype.kind not in "uif":
        raise FatalError(f"{path} is not one of SVHN's: X is {images.dtype} {list(images.shape)}\nDownload it again.")
    return images, labels


def _mnist(folder: Path, name: str) -> Layout:
    """MNIST and FashionMNIST have the same files: which it is, the names of the folders say, else `--dataset`."""
    parts = [part.casefold().replace("-", "").replace("_", "") for part in folder.resolve().parts[-2:]]
    told = [dataset for dataset in ("fashionmnist", "mnist") if dataset in parts]
    dataset = told[0] if told else name if name in ("fashionmnist", "mnist") else "mnist"
    classes = canonical.FASHION if dataset == "fashionmnist" else canonical.DIGITS

    def read(_: Progress | None) -> Content:
        parts = [tuple(_idx(_idx_needed(folder, file)) for file in pair) for pair in IDX.values()]
        return _content(folder, classes, *((images[:, None], labels) for images, labels in parts))

    def used() -> list[Path]:
        return [_idx_needed(folder, file) for pair in IDX.values() for file in pair]

    doubt = "" if told or name == dataset else "; if it is FashionMNIST, say --dataset fashionmnist"
    return Layout(dataset, folder, used, read, doubt)


def _idx_path(folder: Path, name: str) -> Path | None:
    spelled = (name, name.replace("-idx", ".idx"))
    paths = (folder / f"{word}{ending}" for word in spelled for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _idx_needed(folder: Path, name: str) -> Path:
    if path := _idx_path(folder, name):
        return path
    raise FatalError(f"{folder / name} is missing, and {name}.gz, too\nPut it there.")


def _idx(path: Path) -> pickled.Array:
    """The bytes in the format of MNIST's files: 0, 0, type 8, dimensions, big-endian lengths, bytes."""
    with damage_is_fatal(path):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data[:3] != b"\0\0\x08" or len(data) < 4:
            raise ValueError("it does not begin as a file of bytes in the IDX format does")
        shape = np.frombuffer(data, ">u4", data[3], 4).tolist()
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _content(folder: Path, classes: tuple[str, ...] | list[str], *parts: tuple[pickled.Array, ...]) -> Content:
    """Raises FatalError unless there is one label among the classes for each image, on both sides."""
    splits = []
    for images, labels in parts:
        if not len(labels) or len(images) != len(labels):
            raise FatalError(f"{folder} has {len(images)} images and {len(labels)} labels\nMake or download it again.")
        if labels.min() < 0 or labels.max() >= len(classes):
            wrong = labels.max() if labels.max() >= len(classes) else labels.min()
            raise FatalError(f"{folder} has a label {wrong}, but classes 0 to {len(classes) - 1}: {classes[0]}, ...")
        splits.append(
            Split(torch.tensor(np.ascontiguousarray(images), dtype=torch.uint8), torch.tensor(labels.astype(np.int64)))
        )
    return Content(tuple(classes), splits[0], splits[1])
