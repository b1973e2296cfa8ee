"""Torch files of tensors and numbers, read so that nothing in them runs and none fills the memory."""

from __future__ import annotations

import mmap
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from sdc.evaluation import declared, file_kinds
from sdc.evaluation.file_kinds import LAYOUTS
from sdc.ground.errors import FatalError

DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
)
"""What unpickling raises on damaged files, and on such as are none."""


def stored(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A torch file of tensors, numbers and containers; numpy's numbers are taken as such."""
    if not path.is_file():
        raise FatalError(f"{path} does not exist. {LAYOUTS}")
    found = file_kinds.kind(path)
    if found not in (file_kinds.TORCH, file_kinds.OLD):
        raise file_kinds.unlike(path, f"a {found} file, and not a torch file")
    try:
        claims = _claims_of_zip(path) if found == file_kinds.TORCH else _claims_of_old(path)
    except (*DAMAGED, zipfile.BadZipFile, OSError) as error:
        raise _unread(path, error) from error
    if claims > path.stat().st_size:
        raise FatalError(f"{path} holds more than its size, which torch.save never does, so it is not read")
    scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
    kinds: list[Callable[..., Any]] = [np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i8")}]
    try:
        with torch.serialization.safe_globals([*kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise _unread(path, error) from error


def _claims_of_old(path: Path) -> int:
    """The same of a file of before torch 1.6, which is one after the other."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return sum(declared.of_old_file(cast("IO[bytes]", mapped)).values())


def _claims_of_zip(path: Path) -> int:
    """How many bytes a file claims to hold: torch.save packs without compression, so that is never more than its size.

    No storage is larger than the part that holds it, either.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        size = path.stat().st_size
        total = sum(part.file_size for part in parts.values())
        if total > size or any(part.compress_type != zipfile.ZIP_STORED for part in parts.values()):
            return max(total, size + 1)
        (content,) = (name for name in parts if name.split("/", 1)[-1] == "data.pkl")
        top = content.removesuffix("data.pkl")
        for key, claimed in declared.of_pickle(archive.read(content)).items():
            if claimed > parts[f"{top}data/{key}"].file_size:
                return size + claimed
    return total


def _unread(path: Path, error: BaseException) -> FatalError:
    """The error for a file that holds something else, or is damaged; torch's own advice is to read it all the same."""
    text = str(error)
    what = f"{path} is not a torch file of tensors and numbers alone, so it is not read"
    if named := re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"got <class '([\w.]+)'>", text):
        return FatalError(f"{what}: {_object(named.group(1), path)}")
    if "Unsupported operand" in text:
        return FatalError(f"{what}: it was saved by another pickle protocol than torch.save's own: save it by that")
    first = text.splitlines()[0] if text and "eights" not in text else type(error).__name__
    return FatalError(f"{what}: it is damaged or cut short ({first})")


def _object(whole: str, path: Path) -> str:
    kind, turned = f"an object of type {whole.rpartition('.')[2]} ({whole}), which could run code", "{}"
    if "numpy" in whole:
        kind, turned = f"a numpy array ({whole})", "torch.as_tensor({})"
    images, labels = (turned.format(f"held[{name!r}]") for name in ("images", "labels"))
    return (
        f"it holds {kind}; only tensors and numbers are read. Convert it where you trust it (by the names that its "
        f"images and labels have there): python -c \"import pickle, torch; held = torch.load('{path}', 'cpu', pickle); "
        f"torch.save({{'images': {images}, 'labels': {labels}}}, 'plain.pt')\""
    )


def solid(content: Any, path: Path) -> Tensor:  # noqa: ANN401 - whatever the file holds
    """A tensor of the file that has an element of its own for each of its numbers."""
    if not isinstance(content, Tensor):
        raise FatalError(f"{path} is no distilled set of a layout known here. {LAYOUTS}")
    if content.layout != torch.strided or content.numel() * content.element_size() > content.untyped_storage().nbytes():
        raise FatalError(
            f"{path} holds a tensor of {list(content.shape)} that repeats a few numbers (expand), so it is not read. "
            f"Save it whole where it is made: torch.save(images.contiguous(), ...)"
        )
    return content
