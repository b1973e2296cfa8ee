"""Which layout a distilled set made elsewhere has: told by the content of a file, and by the names in a folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdc.data.members import is_image
from sdc.evaluation import companions, file_kinds, own_exports, plain_arrays, set_pictures
from sdc.evaluation.file_kinds import LAYOUTS
from sdc.evaluation.foreign_images import is_copy
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
        if isinstance(data, list | tuple) and data and not _plain(data) and not _stacked(data):
            return _experiments(path, data)
        return _named(path, data if isinstance(data, Mapping) else content)
    if isinstance(content, list | tuple) and (len(content) == 2 or _is_with_rate(content)):
        return _two(path, *content)
    if isinstance(content, Tensor) and "images" in path.name.lower():
        return _apart(path, content)
    if isinstance(content, Tensor) and content.ndim == 4:
        return _alone(path, PAIR, solid(content, path), None, ("images alone",))
    if what := companions.kind(path):
        raise FatalError(f"{path} holds the {what} of a set, by its name: give the file of its images instead")
    raise file_kinds.unlike(path, _shape(content))


def _experiments(path: Path, data: list[Any] | tuple[Any, ...]) -> Held:
    """Images and labels of each, or those of the only one themselves."""
    if len(data) == 2 and isinstance(data[0], Tensor) and data[0].ndim > 3:
        return _two(path, *data)
    return Held(path, TOGETHER, [_pair(each, path) for each in data])


def _pair(value: Any, path: Path) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise file_kinds.unlike(path, f"experiments under 'data', of which one is {_shape(value)}, and no pair")
    return _images(value[0], path), _labels(value[1], path)


def _is_with_rate(content: list[Any] | tuple[Any, ...]) -> bool:
    """Whether these are images, labels and a rate."""
    has_images = (bool(_stacked(each)) or (isinstance(each, Tensor) and each.ndim > 2) for each in content[:2])
    return len(content) == 3 and _is_one(content[2]) and any(has_images)


def _is_one(value: Any) -> bool:  # noqa: ANN401
    """Whether it is one number."""
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float | np.number)


def _two(path: Path, first: Any, second: Any, rate: Any = None) -> Held:  # noqa: ANN401
    """Images and labels as a pair, and perhaps a rate; which of the two is which, their dimensions tell."""
    first, second = _stacked(first) or [first], _stacked(second) or [second]
    if not isinstance(first[0], Tensor) or first[0].ndim < 3:
        first, second = second, first
    if not isinstance(first[0], Tensor):
        raise file_kinds.unlike(path, "a pair that holds no tensor of images")
    images = solid(first[0], path)
    note, of_pixels = "a pair of images and labels", None
    if rate is not None:
        note = "images, labels and a rate"
    if path.name == "data.pt" and images.is_floating_point() and images.numel() and _is_pixels(images):
        note, of_pixels = f"{note}, taken for IDC's, whose values are pixels from 0 to 1", "1"
    lr = None if rate is None else _rate(rate, path)
    return Held(path, PAIR, [(images, _labels(second[0], path))], lr, (note,), range=of_pixels)


def _is_pixels(images: Tensor) -> bool:
    """Whether nearly all values lie in [0, 1], as learned pixels do that nothing kept there."""
    return float(((images >= 0) & (images <= 1)).float().mean()) > 0.8


def _named(path: Path, content: Mapping[Any, Any]) -> Held:
    """Images and labels under names."""
    named = {str(name): value for name, value in content.items()}
    image, label, rate = (_called(named, known, path) for known in (IMAGES, LABELS, RATES))
    if image is None:
        raise file_kinds.unlike(path, f"entries {_few(named)}, none of them called {', '.join(IMAGES[:7])}")
    images, labels = _images(named[image], path), None if label is None else _labels(named[label], path)
    lr = None if rate is None else _rate(named[rate], path)
    others = [name for name in named if name not in (image, label, rate)]
    note = f"images under {image!r}, {'no labels' if labels is None else f'labels under {label!r}'}"
    note += f", the rate under {rate!r}" if rate else ""
    note += f"; not read: {_few(others)}" if others else ""
    return (
        _alone(path, PAIR, images, lr, (note,)) if labels is None else Held(path, PAIR, [(images, labels)], lr, (note,))
    )


def _called(named: Mapping[str, Any], known: tuple[str, ...], path: Path) -> str | None:
    """The one entry whose name is known."""
    found = [name for name in named if name.lower() in known]
    if len(found) > 1:
        raise file_kinds.unlike(path, f"entries {_few(named)}, of which {_few(found)} may each be meant: keep one")
    return found[0] if found else None


def _is_known(name: str) -> bool:
    return name.lower() in (*IMAGES, *LABELS, *RATES)


def _images(value: Any, path: Path) -> Tensor:  # noqa: ANN401
    """Images as a tensor; a list of them is as good."""
    return solid((_stacked(value) or [value])[0], path)


def _labels(value: Any, path: Path) -> Tensor | None:  # noqa: ANN401
    """Labels as a tensor; a list of numbers, or of rows of them, is as good. None stands for no labels."""
    value = (_stacked(value) or [value])[0]
    if value is None or isinstance(value, Tensor):
        return value if value is None else solid(value, path)
    rows = isinstance(value, list | tuple) and all(isinstance(row, list | tuple) and _plain(row) for row in value)
    if not isinstance(value, list | tuple) or not (_plain(value) or (rows and len({len(row) for row in value}) == 1)):
        kinds = sorted({type(each).__name__ for each in value})[:3] if isinstance(value, list | tuple) else []
        of = f" ({', '.join(kinds)}), and no numbers" if kinds else ""
        raise file_kinds.unlike(path, f"images with labels that are {_shape(value)}{of}")
    return torch.tensor(value)


def _stacked(value: Any) -> list[Tensor]:  # noqa: ANN401
    """A list of tensors of one shape, or of numbers as numpy's, as the one tensor that it means; else nothing."""
    parts = list(value) if isinstance(value, list | tuple) else []
    parts = [torch.tensor(each.item()) if isinstance(each, np.generic) else each for each in parts]
    if not parts or not all(isinstance(each, Tensor) for each in parts):
        return []
    return [torch.stack(parts)] if len({(each.shape, each.dtype) for each in parts}) == 1 else []


def _plain(value: list[Any] | tuple[Any, ...]) -> bool:
    return bool(value) and all(type(each) in (int, float) for each in value)


def _rate(value: Any, path: Path) -> float:  # noqa: ANN401
    if not _is_one(value) or isinstance(value, bool) or not 0 < float(value) < float("inf"):
        told = f"{float(value):g}" if _is_one(value) else _shape(value)
        raise FatalError(f"{path} holds a learning rate that is no positive number: {told}")
    return float(value)


def _apart(path: Path, content: Tensor) -> Held:
    """Images, with labels and the rate of the same step in files of their own."""
    rate = companions.of(path, companions.RATE)
    lr = _rate(stored(rate), rate) if rate else None
    notes = ("its script saved it for its accuracy on test images",) if "images_best." in path.name else ()
    return _alone(path, APART, solid(content, path), lr, notes)


def _alone(path: Path, layout: str, images: Tensor, lr: float | None, notes: tuple[str, ...]) -> Held:
    """Images of a file that holds no labels, with those of a file beside it if there is one."""
    if labels := companions.of(path, companions.LABELS):
        usual = labels == beside(path, companions.LABELS)
        named = notes if usual else (*notes, f"labels of {labels.name} beside it")
        return Held(path, layout, [(images, _labels(stored(labels), labels))], lr, named)
    if others := [other.name for other in companions.all_of(path, companions.LABELS)]:
        missing = f"{beside(path, companions.LABELS)} does not exist, and labels of other steps do"
        raise FatalError(
            f"{missing if layout == APART else f'{path} holds no labels, and files beside it do'} ({_few(others)}): "
            "give the images of one of those steps, or both in one file. If this set's images are in the order of "
            "their classes, keep them in a folder of their own"
        )
    return Held(path, layout, [(images, None)], lr, notes)


def _folder(path: Path) -> Held:
    """An export of ours, a script's save folder, or a folder of images a class."""
    if exported := own_exports.found(path):
        return exported
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    tensors = [file for file in files if file.suffix.lower() in TENSORS]
    sets = [file for file in tensors if not _companion(file.name)]
    if not all(companions.kind(file) for file in sets):
        sets = [file for file in sets if not companions.kind(file)]
    elif copies := [file for file in tensors if is_copy(file)]:
        return held(copies[-1])
    elif sets and any(is_image(PurePosixPath(file.name)) for file in path.glob("*/*")):
        raise FatalError(
            f"{path} holds images a class, and {_few([file.name for file in sets])} beside their folders. To have the "
            "names of those for labels, move that elsewhere; other labels belong into one file with the images"
        )
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
