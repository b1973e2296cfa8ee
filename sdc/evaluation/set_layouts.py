"""Which layout a distilled set made elsewhere has: told by the content of a file, and by the names in a folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from sdc.data.members import is_image
from sdc.evaluation import file_kinds, own_exports, plain_arrays, set_pictures
from sdc.evaluation.file_kinds import LAYOUTS
from sdc.evaluation.held import APART, PAIR, TOGETHER, Held, beside
from sdc.evaluation.tensor_files import solid, stored
from sdc.ground.errors import FatalError

IMAGES = (
    *("images", "image", "imgs", "img", "x", "xs", "data", "x_train", "train_images", "inputs", "pixels", "samples"),
    *("images_syn", "image_syn", "data_syn", "x_syn", "syn_images", "syn_data", "images_train", "synthetic_images"),
)
LABELS = (
    *("labels", "label", "y", "ys", "target", "targets", "y_train", "train_labels", "labels_train", "classes"),
    *("labels_syn", "label_syn", "target_syn", "targets_syn", "y_syn", "syn_labels", "syn_targets"),
    *("soft_labels", "logits", "probabilities", "synthetic_labels"),
)
RATES = ("lr", "syn_lr", "learning_rate", "lr_syn")
"""What images, labels and the rate are called in a file that holds them under names, in any case."""
TENSORS = (".pt", ".pth", ".npz", ".safetensors", ".parquet")
_STEP = re.compile(r"(?P<kind>(?:ema_)?images)_(?P<step>\d+)\.(?:pt|pth)")


def held(path: Path) -> Held:
    """The images and labels at `path`. Raises FatalError that says what is there if that is no layout known here."""
    if not path.exists():
        raise FatalError(f"{path} does not exist. {LAYOUTS}")
    if path.is_dir():
        return _folder(path)
    return own_exports.found(path) or _file(path)


def _file(path: Path) -> Held:
    kind = file_kinds.kind(path)
    if kind == file_kinds.PICTURES:
        return set_pictures.read(path)
    if kind == file_kinds.NPZ:
        return _named(path, plain_arrays.of_npz(path, _is_known))
    if kind == file_kinds.SAFETENSORS:
        return _named(path, plain_arrays.of_safetensors(path))
    if kind == file_kinds.PARQUET:
        raise file_kinds.unlike(path, "a parquet file that sdc export did not write")
    return _torch(path, stored(path))


def _torch(path: Path, content: Any) -> Held:  # noqa: ANN401 - whatever the file holds
    if isinstance(content, Mapping):
        data = content.get("data")
        if isinstance(data, list | tuple) and data and not _plain(data):
            return Held(path, TOGETHER, [_pair(each, path) for each in data])
        return _named(path, content)
    if isinstance(content, list | tuple) and len(content) == 2:
        return _two(path, *content)
    if isinstance(content, Tensor) and "images" in path.name:
        return _apart(path, content)
    if isinstance(content, Tensor) and content.ndim == 4:
        return Held(path, PAIR, [(solid(content, path), None)], notes=("images alone",))
    raise file_kinds.unlike(path, _shape(content))


def _pair(value: Any, path: Path) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    images, labels = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    return solid(images, path), solid(labels, path)


def _two(path: Path, first: Any, second: Any) -> Held:  # noqa: ANN401
    """Images and labels as a pair; which of the two is which, their dimensions tell."""
    if not isinstance(first, Tensor) or first.ndim < 3:
        first, second = second, first
    if not isinstance(first, Tensor):
        raise file_kinds.unlike(path, "a pair that holds no tensor of images")
    images = solid(first, path)
    note, of_pixels = "a pair of images and labels", None
    if path.name == "data.pt" and images.is_floating_point() and images.numel() and _is_pixels(images):
        note, of_pixels = f"{note}, taken for IDC's, whose values are pixels from 0 to 1", "1"
    return Held(path, PAIR, [(images, _labels(second, path))], notes=(note,), range=of_pixels)


def _is_pixels(images: Tensor) -> bool:
    """Whether nearly all values lie in [0, 1], as learned pixels do that nothing kept there."""
    return float(((images >= 0) & (images <= 1)).float().mean()) > 0.8


def _named(path: Path, content: Mapping[Any, Any]) -> Held:
    """Images and labels under names."""
    named = {str(name): value for name, value in content.items()}
    image, label, rate = (_called(named, known, path) for known in (IMAGES, LABELS, RATES))
    if image is None:
        raise file_kinds.unlike(path, f"entries {_few(named)}, none of them called {', '.join(IMAGES[:7])}")
    labels = None if label is None else _labels(named[label], path)
    lr = None if rate is None else _rate(named[rate], path)
    others = [name for name in named if name not in (image, label, rate)]
    note = f"images under {image!r}, {f'labels under {label!r}' if label else 'no labels'}"
    note += f", the rate under {rate!r}" if rate else ""
    note += f"; not read: {_few(others)}" if others else ""
    return Held(path, PAIR, [(solid(named[image], path), labels)], lr, (note,))


def _called(named: Mapping[str, Any], known: tuple[str, ...], path: Path) -> str | None:
    """The one entry whose name is known."""
    found = [name for name in named if name.lower() in known]
    if len(found) > 1:
        raise file_kinds.unlike(path, f"entries {_few(named)}, of which {_few(found)} may each be meant: keep one")
    return found[0] if found else None


def _is_known(name: str) -> bool:
    return name.lower() in (*IMAGES, *LABELS, *RATES)


def _labels(value: Any, path: Path) -> Tensor:  # noqa: ANN401
    """Labels as a tensor; a list of numbers, or of rows of them, is as good."""
    if isinstance(value, Tensor):
        return solid(value, path)
    rows = isinstance(value, list | tuple) and all(isinstance(row, list | tuple) and _plain(row) for row in value)
    if not isinstance(value, list | tuple) or not (_plain(value) or (rows and len({len(row) for row in value}) == 1)):
        raise file_kinds.unlike(path, f"images with labels that are {_shape(value)}")
    return torch.tensor(value)


def _plain(value: list[Any] | tuple[Any, ...]) -> bool:
    return bool(value) and all(type(each) in (int, float) for each in value)


def _rate(value: Any, path: Path) -> float:  # noqa: ANN401
    number = solid(value, path) if isinstance(value, Tensor) else torch.tensor(value if type(value) is float else -1.0)
    if number.numel() != 1 or not 0 < float(number) < float("inf"):
        raise FatalError(f"{path} holds a learning rate that is no positive number: {_shape(value)}")
    return float(number)


def _apart(path: Path, content: Tensor) -> Held:
    """Images, with labels and the rate of the same step in files of their own."""
    labels, rate = (beside(path, what) for what in ("labels", "lr"))
    images = solid(content, path)
    lr = _rate(stored(rate), rate) if rate.is_file() else None
    notes = ("its script saved it for its accuracy on test images",) if "images_best." in path.name else ()
    if labels.is_file():
        return Held(path, APART, [(images, solid(stored(labels), labels))], lr, notes)
    start = path.name.partition("images")[0] + "labels_"
    if others := sorted(other.name for other in path.parent.iterdir() if other.name.startswith(start)):
        raise FatalError(
            f"{labels} does not exist, and labels of other steps do ({_few(others)}): give the images of one of those "
            "steps. If this set's images are in the order of their classes, keep them in a folder of their own"
        )
    return Held(path, APART, [(images, None)], lr, notes)


def _folder(path: Path) -> Held:
    """An export of ours, a script's save folder, or a folder of images a class."""
    if exported := own_exports.found(path):
        return exported
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    sets = [file for file in files if file.suffix.lower() in TENSORS and not _companion(file.name)]
    if not sets:
        _refuse_above(path)
        return set_pictures.read(path)
    steps = [file for file in sets if _STEP.fullmatch(file.name)]
    best = [file for file in sets if file not in steps and re.fullmatch(r"(ema_)?images_best\.(pt|pth)", file.name)]
    rest = [file for file in sets if file not in steps and file not in best]
    kinds = {_STEP.fullmatch(file.name)["kind"] for file in steps}  # type: ignore[index]
    if len(rest) + len(kinds) > 1 or (not rest and not steps and len(best) > 1) or (rest and best):
        raise FatalError(
            f"{path} holds several sets: {_few([file.name for file in sets])}\nSay which: "
            + "\n".join(shlex.join(["sdc", "evaluate", str(file)]) for file in _each(steps, rest, best))
        )
    if steps:
        return _last(path, steps, best)
    only = (rest or best)[0]
    return _noted(held(only), f"{only.name} is the only set in {path}")


def _refuse_above(path: Path) -> None:
    """Where sets lie in folders further down, as DATM keeps them, they are named."""
    below = [child for child in sorted(path.iterdir()) if child.is_dir()]
    held = {child: [file for file in child.iterdir() if file.is_file()] for child in below}
    pictures = any(is_image(PurePosixPath(file.name)) for files in held.values() for file in files)
    with_sets = [child for child, files in held.items() if any(file.suffix.lower() in TENSORS for file in files)]
    if with_sets and not pictures:
        commands = "\n".join(shlex.join(["sdc", "evaluate", str(child)]) for child in with_sets[:10])
        raise FatalError(f"{path} holds no set itself, but folders in it may\nSay which: {commands}")


def _each(steps: list[Path], rest: list[Path], best: list[Path]) -> list[Path]:
    """A set of each kind: the last of the steps, and all others, as far as they can be listed."""
    kinds = {_STEP.fullmatch(file.name)["kind"]: file for file in sorted(steps, key=_number)}  # type: ignore[index]
    return [*kinds.values(), *rest, *best][:10]


def _last(folder: Path, steps: list[Path], best: list[Path]) -> Held:
    """The last step of a save folder, by number; never the one that was best on test images."""
    ordered = sorted(steps, key=_number)
    last = ordered[-1]
    words = f"{last.name}, the last of {len(ordered)} steps in {folder}"
    words += f" ({', '.join(str(_number(file)) for file in ordered[:-1][-5:])} before it)" if len(ordered) > 1 else ""
    if best:
        words += f"; {best[0].name}, which was chosen by test accuracy, is left out: give it itself to take it"
    return _noted(held(last), words)


def _number(file: Path) -> int:
    return int(_STEP.fullmatch(file.name)["step"])  # type: ignore[index]


def _companion(name: str) -> bool:
    """Whether a file belongs to another: labels, rates, the un-whitened copy of images."""
    return bool(re.match(r"(ema_)?(labels|lr|syn_lr|images_zca)_", name))


def _noted(chosen: Held, words: str) -> Held:
    return replace(chosen, notes=(words, *chosen.notes))


def _shape(content: Any) -> str:  # noqa: ANN401
    if isinstance(content, Tensor):
        return f"a tensor of shape {list(content.shape)}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    return f"a {type(content).__name__}"


def _few(names: Any) -> str:  # noqa: ANN401
    listed = list(map(str, names))
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
