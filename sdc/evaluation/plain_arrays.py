"""Arrays in .npz and .safetensors files, as tensors; sizes that a file claims are checked before they are made."""

from __future__ import annotations

import ast
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sdc.evaluation.file_kinds import unlike
from sdc.ground.errors import FatalError

PLAIN = 2**28
GROWTH = 100
"""An .npz file may hold this many bytes, or so many times its own size, whichever is more."""


DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, struct.error),
    *(ValueError, TypeError, SyntaxError, RecursionError, MemoryError),
)
"""What reading an .npz file raises where it is damaged, or its arrays have headers that are none."""


def of_npz(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor | None]:
    """The arrays of an .npz file by name; None in place of those that are not wanted.

    Raises FatalError for pickled ones, and for more than a file can mean.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if (total := sum(part.file_size for part in parts)) > max(PLAIN, GROWTH * path.stat().st_size):
                raise FatalError(f"{path} holds {total} bytes, far more than its size, so it is not read")
            names = {part.filename.removesuffix(".npy"): part for part in parts}
            return {name: _array(archive, part, path) if wanted(name) else None for name, part in names.items()}
    except DAMAGE as error:
        raise FatalError(f"{path} is no distilled set: it is damaged or cut short ({error})") from error


def _array(archive: zipfile.ZipFile, part: zipfile.ZipInfo, path: Path) -> Tensor:
    with archive.open(part) as file:
        shape, columns_first, kind = _header(file)
        data = file.read()
    if kind.hasobject:
        raise FatalError(
            f"{path} holds pickled objects under {part.filename.removesuffix('.npy')!r}, which could run code; only "
            "numbers are read. Save them as such: np.savez(FILE, images=np.stack(images), labels=np.array(labels))"
        )
    if kind.kind not in "biuf" or len(data) != kind.itemsize * int(np.prod(shape, dtype=object)):
        raise unlike(path, f"an array {part.filename} of {kind} {list(shape)}, in {len(data)} bytes")
    array = np.frombuffer(data, kind).reshape(shape, order="F" if columns_first else "C")
    return torch.from_numpy(array.astype(kind.newbyteorder("="), order="C"))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    length = struct.unpack("<H", file.read(2))[0] if version == (1, 0) else struct.unpack("<I", file.read(4))[0]
    if length > 10_000:
        raise ValueError(f"the header of an array is {length} bytes long")
    told = ast.literal_eval(file.read(length).decode("latin1"))
    shape = told["shape"] if isinstance(told, dict) and isinstance(told.get("shape"), tuple) else ()
    if not isinstance(told, dict) or not all(type(side) is int and side >= 0 for side in shape) or "descr" not in told:
        raise ValueError("the header of an array is none")
    return shape, bool(told.get("fortran_order")), np.dtype(str(told["descr"]))


def of_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise FatalError(f"{path} is no distilled set: it is damaged or cut short ({error})") from error
