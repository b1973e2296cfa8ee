"""Torch files of tensors and numbers, read so that nothing in them runs and none fills the memory."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdc.ground.errors import FatalError

LAYOUTS = (
    "Known: one file with images and labels under `data` (res_*.pt of DC, DSA, DM); images_*.pt beside labels_*.pt, "
    "with lr_*.pt if there is one (MTT, FTD, TESLA, DATM; FTD's averages begin with ema_)"
)


def stored(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A torch file of tensors, numbers and containers; numpy's numbers are taken as such."""
    if not path.is_file():
        raise FatalError(f"{path} does not exist. {LAYOUTS}")
    _refuse_bombs(path)
    scalar: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
    kinds: list[Callable[..., Any]] = [np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i8")}]
    try:
        with torch.serialization.safe_globals([*kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise FatalError(
            f"{path} is not a torch file of tensors and numbers alone, so it is not read: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def _refuse_bombs(path: Path) -> None:
    """torch.save packs without compression, so what a file claims to hold is never more than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise FatalError(
            f"{path} is not a torch file of tensors and numbers alone, so it is not read: it is no zip archive, as "
            "torch.save has made since torch 1.6"
        ) from error
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise FatalError(f"{path} holds more than its size, which torch.save never does, so it is not read")


def solid(content: Any, path: Path) -> Tensor:  # noqa: ANN401 - whatever the file holds
    """A tensor of the file that has an element of its own for each of its numbers."""
    if not isinstance(content, Tensor):
        raise FatalError(f"{path} is no distilled set of a layout known here. {LAYOUTS}")
    if content.layout != torch.strided or content.numel() * content.element_size() > content.untyped_storage().nbytes():
        raise FatalError(
            f"{path} holds a tensor of {list(content.shape)} that repeats a few numbers, so it is not read"
        )
    return content
