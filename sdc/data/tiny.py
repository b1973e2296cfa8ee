"""Tiny ImageNet as published: one zip of 64x64 JPEGs, read in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sdc.data.download import Published
from sdc.data.images import bombs_are_errors, pixels
from sdc.data.members import damage_is_fatal
from sdc.data.sets import Content, Progress, Split

SIDE = 64
ZIP = Published(
    "tiny-imagenet-200.zip",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    "90528d7ca1a48142e341f4ef8d21d0de",
)


def read(path: Path, on_progress: Progress | None = None) -> Content:
    """The published train and val images, val as the test set: its own test set has no labels.

    Labels follow wnids.txt; a class is called as in words.txt. Train images are sorted by class and file name, val
    images stand as in val_annotations.txt.
    """
    with bombs_are_errors(), damage_is_fatal(path), zipfile.ZipFile(path) as archive:
        wnids = _lines(archive, "wnids.txt")
        words = dict(line.split("\t", 1) for line in _lines(archive, "words.txt"))
        train, test = list(_train(archive, wnids)), list(_val(archive, wnids))
        classes = tuple(words.get(wnid, wnid) for wnid in wnids)
        return Content(classes, *_decoded(archive, (train, test), on_progress))


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
    text = archive.read(f"tiny-imagenet-200/{name}").decode()
    return [line for line in text.splitlines() if line.strip()]


def _train(archive: zipfile.ZipFile, wnids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The (member, label) of each training image: tiny-imagenet-200/train/<wnid>/images/<file>.JPEG."""
    label = {wnid: place for place, wnid in enumerate(wnids)}
    split = [(name, name.split("/")) for name in archive.namelist() if name.endswith(".JPEG")]
    found = [(label[parts[2]], name) for name, parts in split if parts[1] == "train" and len(parts) == 5]
    return ((name, place) for place, name in sorted(found))


def _val(archive: zipfile.ZipFile, wnids: Sequence[str]) -> Iterator[tuple[str, int]]:
    label = {wnid: place for place, wnid in enumerate(wnids)}
    for line in _lines(archive, "val/val_annotations.txt"):
        file, wnid = line.split("\t")[:2]
        yield f"tiny-imagenet-200/val/images/{file}", label[wnid]


def _decoded(
    archive: zipfile.ZipFile, splits: tuple[list[tuple[str, int]], ...], on_progress: Progress | None
) -> tuple[Split, Split]:
    done, total, result = 0, sum(map(len, splits)), []
    for members in splits:
        images = torch.zeros(len(members), 3, SIDE, SIDE, dtype=torch.uint8)
        for place, (name, _) in enumerate(members):
            images.numpy()[place] = pixels(archive.read(name), SIDE, 3, f"{archive.filename}: {name}")
            done += 1
            if on_progress:
                on_progress(done, total)
        result.append(Split(images, torch.tensor([label for _, label in members])))
    return result[0], result[1]
