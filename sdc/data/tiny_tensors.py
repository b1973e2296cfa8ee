"""Tiny ImageNet as the scripts of DC, DSA and DM read it: one torch file of tensors, with its own order of classes."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc.data import canonical
from sdc.data.sets import Content, Split
from sdc.ground.errors import FatalError

ENDING = ".pt"
FILE = "tinyimagenet.pt"
KEYS = ("images_train", "labels_train", "images_val", "labels_val", "classes")
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def read(path: Path) -> Content:
    """The images and labels of the file, val as the test set; no object but tensors, numbers and text is read.

    Labels become those of wnids.txt, by the names of the classes; classes of other names keep their own order. Raises
    FatalError if it does not hold `KEYS`, images that are no uint8, or labels outside the classes.
    """
    held = _loaded(path)
    if missing := [key for key in KEYS if not isinstance(held, dict) or key not in held]:
        raise _unlike(path, f"it does not hold {', '.join(missing)}")
    classes = _names(path, held["classes"])
    train, test = (_split(path, held, part, len(classes)) for part in ("train", "val"))
    labels = canonical.labels("tinyimagenet", classes, numbers=False)
    if labels is None:
        return Content(classes, train, test, ("it is a torch file of images, its classes in an order of its own",))
    train, test = (Split(split.images, torch.tensor(labels)[split.labels]) for split in (train, test))
    in_order = tuple(name for _, name in sorted(zip(labels, classes, strict=True)))
    note = f"it is tinyimagenet, where {canonical.told(classes)}, renumbered as wnids.txt does"
    return Content(in_order, train, test, (note,), numbered=classes)


def _loaded(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        if zipped := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise _unlike(path, "it is compressed, which torch.save never does")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, zipfile.BadZipFile) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unlike(path, f"it is no torch file of tensors, numbers and text alone: {first}") from error


def _names(path: Path, classes: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever the file holds
    names = tuple(classes) if isinstance(classes, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise _unlike(path, "its classes are no list of names, each once")
    return names


def _split(path: Path, held: dict[str, Any], part: str, classes: int) -> Split:
    images, labels = held[f"images_{part}"], held[f"labels_{part}"]
    for key, tensor in ((f"images_{part}", images), (f"labels_{part}", labels)):
        if not isinstance(tensor, Tensor) or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise _unlike(path, f"{key} is no tensor with a number of its own for each element")
    square = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[2] == images.shape[3]
    if images.dtype != torch.uint8 or not square or not len(images):
        raise _unlike(path, f"images_{part} is {images.dtype} {list(images.shape)}, not uint8 [N,3,64,64]")
    if labels.dtype not in _INTEGERS or labels.shape != images.shape[:1]:
        raise _unlike(path, f"labels_{part} is {labels.dtype} {list(labels.shape)} for {len(images)} images")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise _unlike(path, f"labels_{part} are {labels.min()} to {labels.max()}, but it has {classes} classes")
    return Split(images.contiguous(), labels.long())


def _unlike(path: Path, why: str) -> FatalError:
    return FatalError(
        f"{path} is not {FILE} as the DC repository reads it: {why}\nGive that file, or images by --data FOLDER."
    )
