"""Tiny ImageNet as published: one zip of 64x64 JPEGs, read in memory, or the folder that it unpacks to."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sdc.data.download import Published
from sdc.data.images import Header, bombs_are_errors, decoded
from sdc.data.members import MEMBER_LIMIT, damage_is_fatal, folder_files
from sdc.data.originals import surveyed
from sdc.data.sets import Content, Progress, Split
from sdc.ground.errors import FatalError

SIDE = 64
WNIDS = "wnids.txt"
VAL = "val/val_annotations.txt"
ZIP = Published(
    "tiny-imagenet-200.zip",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    "90528d7ca1a48142e341f4ef8d21d0de",
)


@dataclass(frozen=True)
class _Tree:
    """A zip or a folder: every file by its path below the folder of wnids.txt, and how one is read."""

    where: Path
    names: tuple[str, ...]
    data: Callable[[str], bytes]

    def lines(self, name: str) -> list[str]:
        """Those of a text file that are not empty."""
        return [line for line in self.data(name).decode().splitlines() if line.strip()]


def is_folder(path: Path) -> bool:
    """Whether this is the unpacked folder, its val images still together in one folder."""
    return (path / WNIDS).is_file() and (path / VAL).is_file() and (path / "val" / "images").is_dir()


def is_zip(path: Path) -> bool:
    """Whether this is a zip laid out like the published one, below any one folder or none."""
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with damage_is_fatal(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        top = _top(names)
        return (
            top is not None and f"{top}{VAL}" in names and any(name.startswith(f"{top}val/images/") for name in names)
        )


def read(path: Path, on_progress: Progress | None = None) -> Content:
    """The train and val images of the zip or the folder, val as the test set: its own test set has no labels.

    Labels follow wnids.txt; a class is called as in words.txt. Train images are sorted by class and file name, val
    images stand as in val_annotations.txt, in whichever folders of val/ they lie. Raises FatalError if a file is
    missing, or a class not in wnids.txt.
    """
    with bombs_are_errors(), damage_is_fatal(path), _opened(path) as tree:
        wnids = tree.lines(WNIDS)
        words = dict(line.split("\t", 1) for line in tree.lines("words.txt"))
        train, test = list(_train(tree, wnids)), list(_val(tree, wnids))
        classes = tuple(words.get(wnid, wnid) for wnid in wnids)
        headers: list[Header] = []
        splits = _decoded(tree, (train, test), headers, on_progress)
        return Content(classes, *splits, original=surveyed(headers))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Tree]:
    if path.is_dir():
        names = tuple(str(below) for below, _, folder in folder_files(path) if not folder)
        yield _Tree(path, names, lambda name: (path / name).read_bytes())
        return
    with zipfile.ZipFile(path) as archive:
        top = _top(archive.namelist()) or ""
        names = tuple(name.removeprefix(top) for name in archive.namelist() if name.startswith(top))
        yield _Tree(path, names, lambda name: _member(archive, top + name))


def _top(names: Sequence[str]) -> str | None:
    """What stands before `wnids.txt` in a zip: nothing, or its one top folder."""
    tops = [name.removesuffix(WNIDS) for name in names if name.split("/")[-1] == WNIDS and name.count("/") < 2]
    return tops[0] if tops else None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise FileNotFoundError(f"{name} is not in it") from error
    if info.file_size > MEMBER_LIMIT:
        raise ValueError(f"{name} is larger than {MEMBER_LIMIT >> 20} MiB")
    return archive.read(info)


def _train(tree: _Tree, wnids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The (file, label) of each training image: train/<wnid>/images/<file>.JPEG."""
    split = [(name, name.split("/")) for name in tree.names if name.startswith("train/") and name.endswith(".JPEG")]
    found = [(_label(tree, wnids, parts[1]), name) for name, parts in split if len(parts) == 4]
    return ((name, place) for place, name in sorted(found))


def _val(tree: _Tree, wnids: Sequence[str]) -> Iterator[tuple[str, int]]:
    below = {name.rsplit("/", 1)[1]: name for name in tree.names if name.startswith("val/")}
    for line in tree.lines(VAL):
        file, wnid = line.split("\t")[:2]
        yield below.get(file, f"val/images/{file}"), _label(tree, wnids, wnid)


def _label(tree: _Tree, wnids: Sequence[str], wnid: str) -> int:
    if wnid in wnids:
        return wnids.index(wnid)
    raise FatalError(f"{tree.where}: class {wnid} is not among the {len(wnids)} of wnids.txt\nUnpack the zip again.")


def _decoded(
    tree: _Tree, splits: tuple[list[tuple[str, int]], ...], headers: list[Header], on_progress: Progress | None
) -> tuple[Split, Split]:
    """The images of each split; their headers are put behind `headers`."""
    total, result = sum(map(len, splits)), []
    for members in splits:
        images = torch.zeros(len(members), 3, SIDE, SIDE, dtype=torch.uint8)
        for place, (name, _) in enumerate(members):
            found, images.numpy()[place] = decoded(tree.data(name), SIDE, 3, f"{tree.where}: {name}")
            headers.append(found)
            if on_progress:
                on_progress(len(headers), total)
        result.append(Split(images, torch.tensor([label for _, label in members])))
    return result[0], result[1]
