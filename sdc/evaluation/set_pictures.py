"""A distilled set as images, a folder a class: in a folder or an archive, below train/ or one top folder or neither."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch

from sdc.data.images import bombs_are_errors, pixels, shape
from sdc.data.members import members
from sdc.evaluation.file_kinds import LAYOUTS
from sdc.evaluation.held import PICTURES, Held
from sdc.ground.errors import FatalError

BUDGET = 2**32
"""More bytes of pixels than any distilled set has."""
_OTHERS = {"test", "val", "train"}


def read(path: Path) -> Held:
    """The images below the folders of `path`, sorted by folder and name; labels number the folders.

    Raises FatalError if there are none, if one lies outside of `path`, or if they differ in size.
    """
    found = _encoded(path)
    if not found:
        held = f" and folders {', '.join(_inside(path))}" if path.is_dir() and _inside(path) else ""
        raise FatalError(f"{path} holds no distilled set of a layout known here: no images{held}. {LAYOUTS}")
    base, train = _base(found)
    classes = sorted({name.parts[base] for name in found if len(name.parts) > base + 1})
    loose = [name for name in found if len(name.parts) <= base + 1]
    if loose or not classes:
        raise FatalError(f"{path} holds images in no folder of a class ({loose[0]}): give each class a folder")
    ordered = sorted(found, key=lambda name: (name.parts[base], str(name)))
    images = decoded({f"{path}: {name}": found[name] for name in ordered})
    labels = torch.tensor([classes.index(name.parts[base]) for name in ordered])
    counts = sorted({int(count) for count in labels.bincount()})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    notes = (f"{len(images)} {'/'.join(_endings(ordered))} images{train}, {each} in each of {len(classes)} folders",)
    return Held(path, PICTURES, [(images, labels)], notes=notes, folders=tuple(classes))


def _encoded(path: Path) -> dict[PurePosixPath, bytes]:
    """Every image file, by its path."""
    found: dict[PurePosixPath, bytes] = {}
    size = 0
    for member in members(path):
        if member.data is None:
            continue
        if path.is_dir():
            _refuse_outside(path, member.path)
        found[member.path] = member.data
        size += len(member.data)
        if size > BUDGET:
            raise FatalError(f"{path} holds more than {BUDGET >> 30} GiB of images, which is no distilled set")
    return found


def _refuse_outside(top: Path, name: PurePosixPath) -> None:
    if not (top / name).resolve().is_relative_to(top.resolve()):
        raise FatalError(f"{top / name} is a link that leads out of {top}, so it is not read. Copy the images there")


def _base(found: dict[PurePosixPath, bytes]) -> tuple[int, str]:
    """How many folders stand above those of the classes, and the words for it."""
    base, depth = 0, min(len(name.parts) for name in found)
    while len(tops := {name.parts[base] for name in found}) == 1 and depth > base + 2:
        base += 1
    if tops <= _OTHERS and "train" in tops and depth > base + 2:
        for name in [name for name in found if name.parts[base] != "train"]:
            del found[name]
        left_out = f", not those of {'/, '.join(sorted(tops - {'train'}))}/" if len(tops) > 1 else ""
        return base + 1, f" of train/{left_out}"
    return base, ""


def decoded(encoded: dict[str, bytes]) -> torch.Tensor:
    """Images uint8 [N,C,S,S] by where they are from, grey if all are. Raises FatalError if they are not all S x S."""
    with bombs_are_errors():
        shapes = {where: shape(data, where) for where, data in encoded.items()}
        sizes = {each[:2]: where for where, each in shapes.items()}
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            raise FatalError(
                f"images of a set are of one size, but {one} is {first[0]}x{first[1]} and {other} is "
                f"{second[0]}x{second[1]}: make them alike"
            )
        ((width, height), where) = next(iter(sizes.items()))
        if width != height:
            raise FatalError(f"{where} is {width}x{height}, and networks here take square images: crop or pad them")
        channels = 1 if all(each[2] for each in shapes.values()) else 3
        if len(encoded) * channels * width * height > BUDGET:
            raise FatalError(f"{where} and the other {len(encoded) - 1} are more pixels than any distilled set has")
        made = np.stack([pixels(data, width, channels, where) for where, data in encoded.items()])
    return torch.from_numpy(made)


def _endings(names: list[PurePosixPath]) -> list[str]:
    return sorted({name.suffix.lower().removeprefix(".") for name in names})


def _inside(path: Path) -> list[str]:
    """Folders in a folder that hold files of tensors, or anything."""
    return sorted(f"{child.name}/" for child in path.iterdir() if child.is_dir())[:5]
