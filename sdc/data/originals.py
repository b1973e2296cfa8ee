"""What the images of a dataset are in its source, before they are made square, of one size and of one kind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from torch import Tensor

from sdc.data.images import Header

Ends = tuple[int, int]
"""The least and the greatest of a number of pixels."""


@dataclass(frozen=True)
class Original:
    """The sizes and kinds of a source's images, train and test together."""

    width: Ends
    height: Ends
    side: Ends
    """Of the square that is kept of an image: its shorter side."""
    cropped: int
    """How many are not square, and lose what is beside the square at their centre."""
    modes: tuple[tuple[str, int], ...]
    """How many are of each mode, in PIL's words, the most frequent first: RGB, L (grey), RGBA, P (palette), ..."""

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(count for _, count in self.modes)

    def text(self) -> str:
        """It as JSON, for the file of a prepared dataset."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` gave. Raises ValueError, KeyError or TypeError for anything else."""
        found = json.loads(text)
        width, height, side = (tuple(map(int, found[name])) for name in ("width", "height", "side"))
        modes = tuple((str(mode), int(count)) for mode, count in found["modes"])
        return cls(_ends(width), _ends(height), _ends(side), int(found["cropped"]), modes)


def surveyed(headers: Iterable[Header]) -> Original:
    """What these images are, one at least."""
    found = list(headers)
    return Original(
        width=_ends(header.width for header in found),
        height=_ends(header.height for header in found),
        side=_ends(header.side for header in found),
        cropped=sum(header.width != header.height for header in found),
        modes=tuple(Counter(header.mode for header in found).most_common()),
    )


def stored(*parts: Tensor) -> Original:
    """The same of images [N,C,H,W], as files hold them that hold tensors."""
    shapes = [(part.shape[3], part.shape[2], "L" if part.shape[1] == 1 else "RGB", len(part)) for part in parts]
    modes = Counter[str]()
    for _, _, mode, count in shapes:
        modes[mode] += count
    return Original(
        width=_ends(width for width, *_ in shapes),
        height=_ends(height for _, height, *_ in shapes),
        side=_ends(min(width, height) for width, height, *_ in shapes),
        cropped=0,
        modes=tuple(modes.most_common()),
    )


def _ends(numbers: Iterable[int]) -> Ends:
    known = list(numbers)
    return min(known), max(known)
