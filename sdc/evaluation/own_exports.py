"""What `sdc export` writes, read back as the set that it was: nothing of it is assumed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sdc.data.members import MEMBER_LIMIT
from sdc.evaluation import file_kinds, protocol, set_pictures
from sdc.evaluation.held import APART, PICTURES, TOGETHER, Facts, Held, Told
from sdc.evaluation.tensor_files import solid, stored
from sdc.evaluation.view import Whitening
from sdc.ground.errors import FatalError

METADATA = "metadata.json"
WHITENING = "whitening.safetensors"
"""Beside an export of whitened images: tensors zca_mean [d] and zca_matrix [d, d]; of FILE.parquet, FILE.parquet's own
name and a dot stand before it."""
_TRAIN = "train"
_LITTLE = 0.01
"""A share of clipped values that costs next to nothing."""
NEEDED = ("dataset", "classes", "shape", "mean", "std", "labels", "protocol")
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, csv.Error)


def found(path: Path) -> Held | None:
    """The set of an export: its folder, a file of tensors in it, or a parquet file; None if this is none.

    Raises FatalError where an export is not what its own metadata say.
    """
    if path.is_file() and _is_parquet(path):
        return _parquet(path)
    if path.is_dir() and path.resolve().name == _TRAIN and _facts(path.resolve().parent / METADATA):
        return found(path.resolve().parent)
    folder = path if path.is_dir() else path.parent
    facts = _facts(folder / METADATA)
    if facts is None:
        return None
    if path.is_dir() and (folder / _TRAIN).is_dir():
        return _checked(folder, facts, lambda: _pictures(folder, facts))
    files = [path] if path.is_file() else _images(folder)
    if len(files) != 1 or (path.is_file() and path not in _images(folder)):
        return None
    return _checked(files[0], facts, lambda: _tensors(files[0], facts))


def _images(folder: Path) -> list[Path]:
    return [*folder.glob("res_*.pt"), *folder.glob("images_last.pt")]


def _facts(file: Path) -> Facts | None:
    """The metadata of an export; None if there are none, or they are another program's."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= MEMBER_LIMIT else None
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and all(name in facts for name in NEEDED) else None


def _checked(path: Path, facts: Facts, read: Callable[[], Held]) -> Held:
    """What was read, if it has the shape that its metadata tell."""
    try:
        made = read()
    except DAMAGE as error:
        raise FatalError(f"{path} is no whole export: {type(error).__name__}: {error}. Export the set again") from error
    images = made.experiments[0][0]
    if list(images.shape) != facts["shape"]:
        raise FatalError(f"{path} holds images {list(images.shape)}, but its metadata say {facts['shape']}")
    return made


def _told(facts: Facts, whitening: Path) -> Told:
    return Told(
        dataset=str(facts["dataset"]),
        classes=tuple(map(str, facts["classes"])),
        mean=tuple(map(float, facts["mean"])),
        std=tuple(map(float, facts["std"])),
        protocol=protocol.from_dict(facts["protocol"]),
        labels={"hard": "hard", "logits": "logits"}[facts["labels"]],
        whitening=_whitening(whitening, facts) if facts.get("whitened") else None,
        model=str(facts.get("model") or ""),
        data=Path(facts["data"]) if facts.get("data") else None,
        validation=int(facts.get("validation") or 0),
    )


def _whitening(file: Path, facts: Facts) -> Whitening:
    try:
        with safe_open(file, framework="pt") as held:
            made = Whitening(held.get_tensor("zca_mean"), held.get_tensor("zca_matrix"))
    except (SafetensorError, OSError) as error:
        raise FatalError(
            f"the images are whitened, and {file}, which holds the transform, cannot be read: {error}\n"
            "Export the set again, or evaluate the distilled.safetensors that it was made of"
        ) from error
    size = facts["shape"][1] * facts["shape"][2] * facts["shape"][3]
    if made.mean.shape != (size,) or made.matrix.shape != (size, size):
        raise ValueError(f"{file.name} holds a transform of {list(made.matrix.shape)} for images of {size} values")
    return made


def _rate(facts: Facts) -> float | None:
    return None if facts.get("lr") is None else float(facts["lr"])


def _tensors(file: Path, facts: Facts) -> Held:
    """As the upstream scripts save: one file, or images beside labels."""
    told = _told(facts, file.parent / WHITENING)
    if file.name.startswith("res_"):
        ((images, labels),) = stored(file)["data"]
        layout = TOGETHER
    else:
        images, labels = stored(file), stored(file.with_name(file.name.replace("images", "labels")))
        layout = APART
    pair = (solid(images, file), solid(labels, file))
    note = f"an export of sdc, and all of it told by {METADATA} beside it"
    return Held(file, layout, [pair], _rate(facts), (note,), told=told)


def _pictures(folder: Path, facts: Facts) -> Held:
    """PNGs in the order of `files`; exports from before it are in the order of their classes."""
    names = [f"train/{name}" for name in facts["files"]] if "files" in facts else _sorted(folder, facts["folders"])
    encoded = {f"{folder}: {name}": _inside(folder, name).read_bytes() for name in names}
    labels = (
        _logits(folder / "logits.csv", names, len(facts["classes"]))
        if facts["labels"] == "logits"
        else torch.tensor([facts["folders"].index(name.split("/")[1]) for name in names])
    )
    note = f"an export of sdc, all of it told by {METADATA} but for its pixels: {_loss(facts)}"
    told = _told(facts, folder / WHITENING)
    pair = (set_pictures.decoded(encoded), labels)
    return Held(folder, PICTURES, [pair], _rate(facts), (note,), told=told)


def _sorted(folder: Path, folders: Sequence[str]) -> list[str]:
    return [f"train/{name}/{file.name}" for name in folders for file in sorted((folder / "train" / name).glob("*.png"))]


def _inside(folder: Path, name: str) -> Path:
    file = folder / name
    if ".." in Path(name).parts or not file.resolve().is_relative_to(folder.resolve()):
        raise FatalError(f"{folder / METADATA} names {name!r}, which lies outside of {folder}, so it is not read")
    if file.stat().st_size > MEMBER_LIMIT:
        raise FatalError(f"{file} is larger than {MEMBER_LIMIT >> 20} MiB, which is no image of a distilled set")
    return file


def _logits(file: Path, names: Sequence[str], classes: int) -> Tensor:
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    by_name = {row[0]: [float(value) for value in row[1:]] for row in rows[1:]}
    made = torch.tensor([by_name[name] for name in names])
    if made.shape != (len(names), classes):
        raise ValueError(f"{file.name} has rows of {list(made.shape[1:])} logits for {classes} classes")
    return made


def _loss(facts: Facts) -> str:
    """What 8-bit images have lost."""
    share = float(facts.get("clipped", 0))
    outside = f"{100 * share:.3g} % of their values were clipped to [0, 1]"
    differ = "a little from those of the set itself"
    if share > _LITTLE:
        differ = "from those of the set itself: export it --to pt or parquet, which keep it whole"
    return f"they are rounded to 8 bit, and {outside}, so scores differ {differ}"


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet(path: Path) -> Held | None:
    """Images as the network saw them in the column `exact`; the metadata in the schema."""
    import pyarrow as pa  # these two here, because they take a moment to import, which only such a file needs
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        facts = json.loads((file.schema_arrow.metadata or {}).get(b"sdc", b"null"))
        if not isinstance(facts, dict) or not all(name in facts for name in NEEDED):
            return None
        _refuse_larger(path, file)
        soft = facts["labels"] == "logits"
        table = file.read(columns=["exact", "logits" if soft else "label"])
        return _checked(path, facts, lambda: _of_table(path, table, facts, soft))
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OSError) as error:
        raise file_kinds.unlike(path, f"a damaged parquet file ({str(error).splitlines()[0]})") from error


def _refuse_larger(path: Path, file: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    held = file.metadata
    size = sum(held.row_group(number).total_byte_size for number in range(held.num_row_groups))
    if size > max(2**28, 100 * path.stat().st_size):
        raise FatalError(f"{path} holds {size} bytes, far more than its size, so it is not read")


def _of_table(path: Path, table: Any, facts: Facts, soft: bool) -> Held:  # noqa: ANN401
    shape = [int(side) for side in facts["shape"]]
    images = _flat(table.column("exact"), 3).reshape(-1, *shape[1:])
    labels = (
        _flat(table.column("logits"), 1).reshape(-1, len(facts["classes"]))
        if soft
        else _flat(table.column("label"), 0).long()
    )
    whitening = path.with_name(f"{path.name}.{WHITENING}")
    note = "an export of sdc, and all of it told by its own metadata"
    return Held(path, APART, [(images, labels)], _rate(facts), (note,), told=_told(facts, whitening))


def _flat(column: Any, depth: int) -> Tensor:  # noqa: ANN401
    """The numbers in nested lists, one after the other."""
    values = column.combine_chunks()
    for _ in range(depth):
        values = values.flatten()
    return torch.from_numpy(values.to_numpy(zero_copy_only=False).copy())
