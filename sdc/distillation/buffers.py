"""Files of experts as the buffer scripts of MTT and FTD save them, and what they hold; no object is unpickled."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc.ground.errors import FatalError
from sdc.ground.watch import Watch

_SCRIPTS = "the buffer scripts of MTT and FTD save lists of experts, each a list of states, each a list of tensors"
State = Sequence[Tensor]
"""The parameters of a network after an epoch, in the order of its modules."""
Trajectory = Sequence[State]
"""An expert: its states before training and after each epoch."""


@dataclass(frozen=True)
class Found:
    """What a folder holds: files in the order of their numbers, and how many experts each has, all of one kind."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    epochs: int
    shapes: tuple[torch.Size, ...]


def files_in(folder: Path) -> list[Path]:
    """The one set of experts in a folder or below it, in the order of their numbers."""
    root, sets = folder.expanduser(), dict[Path, dict[int, Path]]()
    if not root.is_dir():
        raise FatalError(
            f"{folder} {'is a file' if root.exists() else 'does not exist'}. Name the folder of the experts"
        )
    for file in root.rglob("replay_buffer_*.pt"):
        if number := re.fullmatch(r"replay_buffer_(\d+)\.pt", file.name):
            sets.setdefault(file.parent, {})[int(number[1])] = file
    if not sets:
        raise FatalError(f"{folder} holds no replay_buffer_*.pt: {_SCRIPTS}. Name the folder where those files are")
    if len(sets) > 1:
        names = ", ".join(str(parent) for parent in sorted(sets))
        raise FatalError(f"{folder} holds several sets of experts; name one of them: {names}")
    ((_, numbered),) = sets.items()
    return [numbered[number] for number in sorted(numbered)]


def file_of(folder: Path, number: int | str) -> Path:
    """Where the buffer scripts save their file of this number, and the distillation scripts look for it."""
    return folder / f"replay_buffer_{number}.pt"


def is_sound(file: Path) -> bool:
    """Whether what torch.save wrote there is all there: it is a zip file, with a checksum of every part."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read_all(files: Sequence[Path], watch: Watch) -> Found:
    """What the files hold; every byte is looked at. Raises FatalError if one is damaged, or unlike the others."""
    watch.stage("reading experts", len(files))
    counts, kinds = list[int](), dict[tuple[int, tuple[torch.Size, ...]], Path]()
    for number, file in enumerate(files):
        trajectories = _sound(file)
        counts.append(len(trajectories))
        for one in trajectories:
            kinds.setdefault((len(one) - 1, _one_shape(one, file)), file)
        watch.progress(number + 1)
    if len(kinds) > 1:
        (first, file), (second, other) = list(kinds.items())[:2]
        what = f"{first[0]} and {second[0]} epochs" if first[0] != second[0] else "networks of different shapes"
        raise FatalError(f"experts of one set are alike, and these are not: {file} and {other} hold {what}")
    ((epochs, shapes),) = kinds
    return Found(tuple(files), tuple(counts), epochs, shapes)


def _sound(file: Path) -> list[Trajectory]:
    """The experts in a file, once all of its bytes are found to be as they were saved, and the last states finite."""
    try:
        with zipfile.ZipFile(file) as archive:
            whole = not _is_packed(archive) and archive.testzip() is None
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise FatalError(f"{file} is half-written, or no file of torch.save: {error}. Copy it again") from error
    if not whole:
        raise FatalError(f"{file} is damaged: what it holds is not what was saved. Copy it again")
    trajectories = trajectories_in(file)
    for number, one in enumerate(trajectories):
        if not all(bool(part.isfinite().all()) for part in one[-1]):
            raise FatalError(
                f"{file}: expert {number} diverged, its last state is not finite. Train another in its place"
            )
    return trajectories


def _is_packed(archive: zipfile.ZipFile) -> bool:
    """torch.save never compresses, so what a file claims to hold is no more than its size."""
    return any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())


def trajectories_in(file: Path) -> list[Trajectory]:
    """The experts in a file, read where they lie. Nothing but tensors in lists is read."""
    try:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, pickle.UnpicklingError) as error:
        raise FatalError(f"{file} holds more than tensors in lists, so it is not read: {_SCRIPTS}") from error
    if not (_is_list(content) and all(_is_list(one) and len(one) > 1 and all(map(_is_state, one)) for one in content)):
        raise FatalError(f"{file} holds no experts: {_SCRIPTS}")
    return list(content)


def _is_list(value: Any) -> bool:  # noqa: ANN401 - whatever the file holds
    return isinstance(value, list | tuple) and len(value) > 0


def _is_state(value: Any) -> bool:  # noqa: ANN401
    return _is_list(value) and all(isinstance(part, Tensor) and _is_plain(part) for part in value)


def _is_plain(part: Tensor) -> bool:
    """Whether a tensor is of float32, and has an element of its own for each of its numbers."""
    if part.dtype != torch.float32 or part.layout != torch.strided or part.device.type != "cpu":
        return False
    return part.numel() * part.element_size() <= part.untyped_storage().nbytes()


def _one_shape(trajectory: Trajectory, file: Path) -> tuple[torch.Size, ...]:
    kinds = {tuple(part.shape for part in state) for state in trajectory}
    if len(kinds) > 1:
        raise FatalError(f"{file}: the states of an expert are of one network, and these are of different shapes")
    return kinds.pop()


def one_by_one(files: Sequence[Path]) -> Iterator[list[list[Tensor]]]:
    """All experts, in memory of their own."""
    for file in files:
        for trajectory in trajectories_in(file):
            yield [[part.clone() for part in state] for state in trajectory]
