"""What becomes of a source's images on their way to a network, so that nothing is resized or cropped without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sdc.data import canonical
from sdc.data.images import GREY, SIXTEEN_BIT
from sdc.data.originals import Ends, Original
from sdc.data.sets import Dataset
from sdc.evaluation.view import View
from sdc.ground.watch import Watch

_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class Scale:
    """The values that a network sees: pixel/255, less `mean`, by `std`, a number a channel each, whitened or not."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitened: bool = False

    @classmethod
    def of(cls, view: View) -> Self:
        """That of a view."""
        return cls(view.mean, view.std, view.whitening is not None)

    def words(self) -> str:
        """It in words."""
        means, deviations = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        plain = not any(self.mean) and set(self.std) == {1.0}
        told = "values in [0, 1]" if plain else f"normalised with mean {means}, std {deviations}"
        return f"{told}, whitened (ZCA)" if self.whitened else told


@dataclass(frozen=True)
class Shown:
    """Images of `dataset`: as its source has them, as they are prepared, and as `channels` x `size` x `size` are shown.

    `original` is None where it was not kept when `file` was prepared; `scale` is None as long as only the script knows.
    """

    dataset: str
    file: Path
    original: Original | None
    prepared: tuple[int, int, int]
    """Channels, height and width."""
    channels: int
    size: int
    scale: Scale | None = None

    def changed(self) -> bool:
        """Whether they are shown in another size, shape or kind than the source has them in, or that is not known."""
        whole = (self.size, self.size)
        if self.original is None:
            return True
        sizes = {self.original.width, self.original.height, *((side, side) for side in self.prepared[1:])}
        return bool(sizes != {whole} or self._kinds())

    def words(self) -> str:
        """It in one line."""
        steps = [*self._cropped(), *self._resized(), *self._kinds(), *([self.scale.words()] if self.scale else [])]
        shown = f"shown as {self.size}x{self.size} {_COLOURS[self.channels]}{': ' if steps else ''}"
        return f"images of {self.dataset} ({self._source()}) are {shown}{', '.join(steps)}"

    def as_json(self) -> dict[str, Any]:
        """It for a program; `words` are the line."""
        o = self.original
        source = asdict(o) | {"images": o.images, "modes": dict(o.modes)} if o else None
        return {
            "words": self.words(),
            "changed": self.changed(),
            "source": source,
            "crop": None if o is None else "centre" if o.cropped else "none",
            "prepared": list(self.prepared),
            "shown": [self.channels, self.size, self.size],
            "mean": list(self.scale.mean) if self.scale else None,
            "std": list(self.scale.std) if self.scale else None,
            "whitening": None if self.scale is None else "zca" if self.scale.whitened else "none",
        }

    def _source(self) -> str:
        o = self.original
        if o is None:
            channels, height, width = self.prepared
            was = f"of unknown size, prepared as {width}x{height} {_COLOURS[channels]} by an earlier version"
            return f"{was}; delete {self.file} to have them read again"
        grey = sum(count for mode, count in o.modes if mode in GREY)
        if grey == o.images:
            return f"{_sizes(o)} grey"
        return f"{_sizes(o)} RGB" + (f", {grey} of {o.images} grey" if grey else "")

    def _cropped(self) -> list[str]:
        o = self.original
        if o is None:
            return []
        if not o.cropped:
            return ["not cropped"]
        return [f"cropped to the square at the centre{_of(o.cropped, o.images)}, {_range(o.side)} pixels a side"]

    def _resized(self) -> list[str]:
        """What is done to their sizes: when they are prepared, and when they are shown."""
        height, width = self.prepared[1:]
        first = "" if self.original is None or height != width else _change(self.original.side, height)
        second = _change((min(height, width), max(height, width)), self.size)
        if self.original and not first and not second:
            return ["not resized"]
        return [" and then ".join(filter(None, (first, second)))] if first or second else []

    def _kinds(self) -> list[str]:
        """What is done to their channels."""
        modes = self.original.modes if self.original else (("L" if self.prepared[0] == 1 else "RGB", 1),)
        count = sum(number for _, number in modes)
        grey, clear, deep = (sum(n for m, n in modes if m in kind) for kind in (GREY, _TRANSPARENT, SIXTEEN_BIT))
        done = [
            (grey if self.channels == 3 else 0, "grey repeated in all three channels"),
            (count - grey if self.channels == 1 else 0, "colours made grey"),
            (clear, "transparency dropped"),
            (deep, "16-bit values cut to their upper 8 bits"),
        ]
        return [f"{words}{_of(number, count)}" for number, words in done if number]


def served(dataset: Dataset, channels: int, size: int, scale: Scale | None = None) -> Shown:
    """How a dataset's images are shown in this shape; None: in the scale of a script that has not run yet."""
    shape = dataset.train.images.shape
    prepared = (int(shape[1]), int(shape[2]), int(shape[3]))
    return Shown(dataset.name, dataset.file, dataset.original, prepared, channels, size, scale)


def viewed(dataset: Dataset, view: View) -> Shown:
    """How a dataset's images are shown in this view."""
    return served(dataset, view.channels, view.size, Scale.of(view))


def say(watch: Watch, *found: Shown) -> None:
    """Say what is done to images where anything is, each line once."""
    for line in dict.fromkeys(each.words() for each in found if each.changed()):
        watch.say(line)


def about(dataset: Dataset, shown: Shown) -> Mapping[str, Any]:
    """What is recorded of a dataset's images beside what shapes an outcome, of runs and of evaluations alike.

    Its classes by label, how it was read, and how its images are shown.
    """
    return {
        "classes": list(dataset.classes),
        "labels": canonical.told(dataset.classes),
        "notes": list(dataset.notes),
        "shown": shown.as_json(),
    }


def _of(number: int, count: int) -> str:
    return "" if number == count else f" ({number} of {count})"


def _sizes(o: Original) -> str:
    """Width x height, from the least to the greatest where they vary."""
    varied = " " if o.width[0] != o.width[1] or o.height[0] != o.height[1] else ""
    return f"{_range(o.width)}{varied}x{varied}{_range(o.height)}"


def _range(ends: Ends) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}..{ends[1]}"


def _change(ends: Ends, size: int) -> str:
    """What is done to squares of these sides to have this size; empty: nothing."""
    if ends == (size, size):
        return ""
    word = "enlarged" if ends[1] <= size else "reduced" if ends[0] >= size else "resized"
    return f"{word} to {size}x{size}"
