"""Any image dataset laid out as train/<class>/* and test/<class>/* (or val/), in a folder or an archive."""

from __future__ import annotations

import hashlib
import shutil
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from sdc.data.images import ENDINGS, Header, bombs_are_errors, header, pixels
from sdc.data.members import KINDS, damage_is_fatal, folder_files, is_image, members
from sdc.data.originals import Original, surveyed
from sdc.data.sets import Content, Progress, Split
from sdc.ground import files, paths
from sdc.ground.errors import FatalError

BUDGET = 16 * 2**30
KEPT = 2**30
"""As many bytes of encoded images are kept from the first pass; of a larger source none are, and it is read twice."""
SPLITS = ("train", "test")
INSTEAD = "val"
"""Is taken in test's place where there is no test/, or none with the classes of train/ (images without labels)."""
Arrange = Callable[[Sequence[str]], list[str]]
"""Puts class names, sorted by name, into the order of their labels."""
Classes = dict[str, list[str]]
"""Class name -> the paths of its images below train/ or test/, sorted."""


@dataclass
class _Survey:
    """What one reading of a source found, by full path: image headers, the images if small enough, every folder."""

    images: dict[PurePosixPath, Header] = field(default_factory=dict)
    unreadable: dict[PurePosixPath, FatalError] = field(default_factory=dict)
    """Images of val/, which may not be needed, and what is wrong with them."""
    encoded: dict[PurePosixPath, bytes] = field(default_factory=dict)
    folders: set[PurePosixPath] = field(default_factory=set)
    size: int = 0

    def add(self, path: PurePosixPath, data: bytes, where: str) -> None:
        try:
            self.images[path] = header(data, where)
        except FatalError as error:
            if INSTEAD not in path.parts[:2]:
                raise
            self.unreadable[path] = error
        self.encoded[path] = data
        self.size += len(data)
        if self.size > KEPT:
            self.encoded.clear()


@dataclass(frozen=True)
class _Plan:
    """The shape of the result, and the place (split, position) of each image in it; `tested` is test's folder."""

    splits: dict[str, Classes]
    side: int
    channels: int
    places: dict[PurePosixPath, tuple[str, int]]
    tested: str
    original: Original


def read(source: Path, on_progress: Progress | None = None, arrange: Arrange = list, least: int = 0) -> Content:
    """Read a folder or archive: first all headers, then the pixels, so that no image is held at its own size.

    The layout may stand below one single top folder. Classes are sorted by name (as numbers if all are), then put in
    order by `arrange`; images within a class are sorted by path. Where there is no test/, val/ takes its place. Images
    become square by cutting out their centre. If their sides then differ, all are resized with antialias: to 64x64 if
    the median of the shorter sides is at least 64, else to 32x32, but to no less than `least`. One channel if all are
    grey, else RGB. Raises FatalError if the source is not of this kind, or exceeds 16 GiB of pixels.
    """
    with bombs_are_errors():
        found = _survey(source, on_progress)
        plan = _plan(source, found, arrange, least)
        images = _decoded(source, plan, _encoded(source, found), on_progress)
    train, test = (Split(images[split], _labels(plan.splits[split])) for split in SPLITS)
    notes = () if plan.tested == SPLITS[1] else (f"{INSTEAD}/ is taken as the test set: no test/ holds its classes",)
    return Content(tuple(plan.splits["train"]), train, test, notes, original=plan.original)


def fingerprint(source: Path) -> str:
    """A hash that changes with the source: over an archive's bytes, or over a folder's image paths, sizes and times."""
    with damage_is_fatal(source):
        return _folder_fingerprint(source) if source.is_dir() else files.sha256(source)


def _folder_fingerprint(source: Path) -> str:
    digest = hashlib.sha256()
    for path, real, folder in sorted(folder_files(source)):
        status = real.stat() if not folder and is_image(path) else None
        stamp = (status.st_size, status.st_mtime_ns) if status else ()
        digest.update(f"{path}\0{stamp}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _survey(source: Path, on_progress: Progress | None) -> _Survey:
    found = _Survey()
    for member in members(source):
        if member.folder:
            found.folders.add(member.path)
        if member.path.parent not in found.folders:
            found.folders.update(member.path.parents)
        if member.data is not None and not {*SPLITS, INSTEAD}.isdisjoint(member.path.parts[:2]):
            found.add(member.path, member.data, f"{source}: {member.path}")
            _report(on_progress, len(found.images), None)
    return found


def _plan(source: Path, found: _Survey, arrange: Arrange, least: int) -> _Plan:
    top = _top(source, found)
    folders = {"train": "train", "test": _tested(found, top)}
    splits = {split: _classes(found, top / folder) for split, folder in folders.items()}
    _check(source, splits, folders)
    order = arrange(list(splits["train"]))
    splits = {split: {name: classes[name] for name in order} for split, classes in splits.items()}
    places = {
        top / folders[split] / path: (split, position)
        for split, classes in splits.items()
        for position, path in enumerate(path for paths in classes.values() for path in paths)
    }
    headers = [found.images[path] for path in places]
    grey = all(item.grey for item in headers)
    plan = _Plan(splits, _side(headers, least), 1 if grey else 3, places, folders["test"], surveyed(headers))
    _check_size(source, plan)
    return plan


def _top(source: Path, found: _Survey) -> PurePosixPath:
    """The folder that holds train/ and test/ (or val/): the source's top, or the only folder there."""
    tops = {path.parts[0] for path in found.folders if path.parts}
    top = PurePosixPath(tops.pop()) if len(tops) == 1 and not tops & {*SPLITS, INSTEAD} else PurePosixPath()
    there = {split for split in (*SPLITS, INSTEAD) if top / split in found.folders}
    missing = [f"{split}/" for split in SPLITS if split not in there]
    if missing and there != {"train", INSTEAD}:
        raise _unlike(f"no {' and no '.join(missing)} in {source}")
    return top


def _tested(found: _Survey, top: PurePosixPath) -> str:
    """The folder of the images to test on. Raises FatalError if it is val/ and an image there cannot be read."""
    train, test, instead = (_classes(found, top / split).keys() for split in (*SPLITS, INSTEAD))
    if train & test or not train & instead:
        return SPLITS[1]
    for path, error in found.unreadable.items():
        if path.is_relative_to(top / INSTEAD):
            raise error
    return INSTEAD


def _classes(found: _Survey, split: PurePosixPath) -> Classes:
    depth = len(split.parts)
    classes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(found.folders | found.images.keys(), key=str):
        below = path.parts[depth:]
        if path.parts[:depth] != split.parts or not below:
            continue
        if path in found.images and len(below) > 1:
            classes[below[0]].append(str(PurePosixPath(*below)))
        elif path in found.folders:
            classes.setdefault(below[0], [])
    numbers = all(name.isascii() and name.isdigit() for name in classes)
    return dict(sorted(classes.items(), key=lambda item: (int(item[0]) if numbers else 0, item[0])))


def _check(source: Path, splits: dict[str, Classes], folders: dict[str, str]) -> None:
    held = "; ".join(f"{folders[split]}/ holds {_few(splits[split])}" for split in SPLITS)
    for split, other in (SPLITS, SPLITS[::-1]):
        here, there = folders[split], folders[other]
        if not splits[split]:
            raise _unlike(f"no class folder in {here}/ of {source}")
        for name, images in splits[split].items():
            if name not in splits[other]:
                raise _unlike(f"class {name!r} of {source} is in {here}/ but not in {there}/\n{held}")
            if not images:
                raise _unlike(f"class {name!r} has no images in {here}/ of {source}")


def _few(classes: Classes) -> str:
    names = [repr(name) for name in classes]
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    return f"{len(names)} classes: {', '.join([*names[:5], *more])}"


def _unlike(what: str) -> FatalError:
    return FatalError(
        f"{what}\nGive --data PATH of {KINDS}, with the same classes in both; images end in {' '.join(ENDINGS)}.\n"
        "docs/data-layouts.md lists what else is read."
    )


def _side(headers: list[Header], least: int) -> int:
    sides = {item.side for item in headers}
    if len(sides) == 1:
        return sides.pop()
    return max(least, 64 if statistics.median(item.side for item in headers) >= 64 else 32)


def _check_size(source: Path, plan: _Plan) -> None:
    needed = len(plan.places) * plan.channels * plan.side**2
    if needed > BUDGET:
        raise FatalError(
            f"{source} is too large: {len(plan.places)} images of {plan.channels}x{plan.side}x{plan.side} are "
            f"{needed / 2**30:.1f} GiB of pixels, at most {BUDGET >> 30} are held.\n"
            f"Shrink its images first, for example to {min(64, plan.side // 2)}x{min(64, plan.side // 2)}."
        )
    there = next(folder for folder in (paths.data(), *paths.data().parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise FatalError(
            f"{source} takes {needed / 2**30:.2f} GiB once prepared, and {there} has {free / 2**30:.2f} GiB free.\n"
            "Free some, or keep it elsewhere: SDC_CACHE=DIR"
        )


def _decoded(
    source: Path, plan: _Plan, encoded: Iterable[tuple[PurePosixPath, bytes]], on_progress: Progress | None
) -> dict[str, Tensor]:
    """The images of each split, in the plan's order whatever the archive's."""
    sizes = {split: sum(map(len, classes.values())) for split, classes in plan.splits.items()}
    images = {
        split: torch.zeros(size, plan.channels, plan.side, plan.side, dtype=torch.uint8)
        for split, size in sizes.items()
    }
    arrays = {split: tensor.numpy() for split, tensor in images.items()}
    missing = set(plan.places)
    for path, data in encoded:
        if path not in plan.places:
            continue
        split, position = plan.places[path]
        arrays[split][position] = pixels(data, plan.side, plan.channels, f"{source}: {path}")
        missing.discard(path)
        _report(on_progress, len(plan.places) - len(missing), len(plan.places))
    if missing:
        raise FatalError(f"{source} changed while it was read: {min(missing)} is gone\nRun the same command again.")
    return images


def _encoded(source: Path, found: _Survey) -> Iterable[tuple[PurePosixPath, bytes]]:
    if found.size <= KEPT:
        return found.encoded.items()
    return ((member.path, member.data) for member in members(source) if member.data is not None)


def _labels(classes: Classes) -> Tensor:
    counts = torch.tensor([len(paths) for paths in classes.values()])
    return torch.arange(len(classes)).repeat_interleave(counts)


def _report(on_progress: Progress | None, done: int, total: int | None) -> None:
    if on_progress:
        on_progress(done, total)
