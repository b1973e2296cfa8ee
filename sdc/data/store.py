"""Every dataset, from one place: a name or a path becomes one prepared, verified file of tensors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sdc.data import canonical, image_folder, named, originals, torchvision_folders
from sdc.data.members import KINDS, check
from sdc.data.named import SOURCES, obtain
from sdc.data.originals import Original
from sdc.data.sets import Content, Dataset, Progress, Split, content_hash, held_out, limited, tensors
from sdc.data.torchvision_folders import Layout
from sdc.ground import paths, storage
from sdc.ground.errors import FatalError, unknown
from sdc.ground.files import made, replacing

__all__ = ["Dataset", "Progress", "Split", "held_out", "limited", "load"]

log = logging.getLogger(__name__)
FORMAT = "1"
Stamp = tuple[int, int, int, int]
Source = Stamp | Path
"""An archive's stamp, or the prepared file whose name holds what else the source is like."""


def load(name: str, path: Path | None = None, on_progress: Progress | None = None, least: int = 0) -> Dataset:
    """The dataset called `name`: one of those known by name, or, with `path`, the images there.

    Those are a dataset in its published form (torchvision_folders.py) or folders of images (image_folder.py), which, if
    they differ in size, become no smaller than `least` pixels a side. Where `name` is known by name, too, the classes
    are in the order of that dataset. Prepared once (for each `least`), in
    `paths.data()/prepared`; a damaged file there is made again. Raises FatalError if the name is not known, the source
    cannot be had or read, or the disk is full.
    """
    file, make = _found(name, path, on_progress, least)
    found = _read(file) or _prepared(file, name, make)
    if found.original or path:
        return found
    return replace(found, original=named.originally(name, found.train.images, found.test.images))


def source(name: str, path: Path | None = None, least: int = 0) -> Source:
    """What changes when the source of a dataset does; of an archive, and of a known name, nothing is read for it.

    Raises FatalError as `load` does.
    """
    return archive(path) or _found(name, path, None, least)[0]


def archive(path: Path | None) -> Stamp | None:
    """The stamp of a source that is one file; None for another."""
    return stamp(path.expanduser()) if path and path.expanduser().is_file() else None


def stamp(file: Path) -> Stamp:
    """Which file it is, how large, and when it was written; all 0 for one that is not there."""
    try:
        seen = file.stat()
    except OSError:
        return 0, 0, 0, 0
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _found(
    name: str, path: Path | None, on_progress: Progress | None, least: int
) -> tuple[Path, Callable[[], Content]]:
    """The file of a dataset, prepared or not, and what it is prepared of."""
    if path is None:
        return _known(name, on_progress)
    with storage.at(path.expanduser(), "--data PATH"):
        return _own(name, path.expanduser(), on_progress, least)


def _known(name: str, on_progress: Progress | None) -> tuple[Path, Callable[[], Content]]:
    if name not in SOURCES:
        raise FatalError(f"{unknown('dataset', name, list(SOURCES))}\nFor any other, add --data PATH of {KINDS}.")
    folder = paths.data() / "downloads" / name
    return _file(name, f"v{FORMAT}"), lambda: obtain(SOURCES[name](), folder, on_progress)


def _own(name: str, path: Path, on_progress: Progress | None, least: int) -> tuple[Path, Callable[[], Content]]:
    if layout := torchvision_folders.choose(path, name):
        key = hashlib.sha256(f"{FORMAT} published {name} {layout.fingerprint()}".encode()).hexdigest()
        return _file(name, key[:16]), lambda: _published(layout, name, on_progress)
    check(path)
    rule = f"{FORMAT}, classes in order" if name in canonical.SPELLINGS else FORMAT
    size = f" at least {least}" if least else ""
    key = hashlib.sha256(f"{rule} {name} {image_folder.fingerprint(path)}{size}".encode()).hexdigest()
    return _file(name, key[:16]), lambda: _folder(name, path, on_progress, least)


def _published(layout: Layout, name: str, on_progress: Progress | None) -> Content:
    with storage.at(layout.where):
        content = layout.read(on_progress)
    if canonical.arranged(name, content.classes, str(layout.where)) != list(content.classes):
        told = canonical.told(content.classes)
        raise FatalError(f"{layout.where}: its classes are not in the order of {name}: {told}\nUnpack it again.")
    usual = f"it is {layout.dataset} in its published form and order{layout.doubt}"
    return replace(content, notes=content.notes or (usual,))


def _folder(name: str, path: Path, on_progress: Progress | None, least: int) -> Content:
    content = image_folder.read(path, on_progress, lambda found: canonical.arranged(name, found, str(path)), least)
    return replace(content, notes=(*content.notes, canonical.how(name, content.classes)))


def _file(name: str, key: str) -> Path:
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:80] or "data"
    return paths.data() / "prepared" / f"{plain}-{key}.safetensors"


def _prepared(file: Path, name: str, make: Callable[[], Content]) -> Dataset:
    """Make `file`, unless another process has while this one waited for it."""
    with _locked(file):
        if ready := _read(file):
            return ready
        if file.exists():
            log.warning("%s is damaged, or of an older version: it is made again", file)
        _write(file, name, make())
        if ready := _read(file):
            return ready
    raise FatalError(f"{file} does not hold what was just written to it\nCheck the disk, or set SDC_CACHE=DIR.")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with storage.at(file.parent), FileLock(made(file.parent) / f"{file.stem}.lock"):
        yield


def _write(file: Path, name: str, content: Content) -> None:
    metadata = {
        "format": FORMAT,
        "name": name,
        "classes": json.dumps(content.classes),
        "sha256": content_hash(content),
        "notes": json.dumps(content.notes),
        "numbered": json.dumps(content.numbered),
        "original": (content.original or originals.stored(content.train.images, content.test.images)).text(),
    }
    with replacing(file) as partial:
        save_file(tensors(content), partial, metadata)


def _read(file: Path) -> Dataset | None:
    """The dataset in a prepared file; None if there is none, or it is not what its own hash says."""
    if not file.is_file():
        return None
    try:
        dataset = _unchecked(file)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
    return dataset if content_hash(dataset) == dataset.sha256 else None


def _unchecked(file: Path) -> Dataset:
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
        if metadata["format"] != FORMAT:
            raise ValueError(f"format {metadata['format']}")
        train, test = (
            Split(stored.get_tensor(f"{split}_images"), stored.get_tensor(f"{split}_labels"))
            for split in image_folder.SPLITS
        )
    classes, notes, numbered = (tuple(json.loads(metadata.get(key, "[]"))) for key in ("classes", "notes", "numbered"))
    original = Original.read(metadata["original"]) if "original" in metadata else None
    return Dataset(
        metadata["name"],
        classes,
        train,
        test,
        metadata["sha256"],
        file,
        True,
        notes,
        numbered=numbered,
        original=original,
    )
