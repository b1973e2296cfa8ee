"""One encoded image: its header, and its pixels as bytes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sdc.ground.errors import FatalError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF")
"""PIL reads MPO, the format of some cameras, as JPEG, and does not know it under a name of its own."""
SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L")
GREY = ("1", "L", "LA", *SIXTEEN_BIT)


@dataclass(frozen=True)
class Header:
    """What is known of an image before its pixels are decoded: its size in pixels, and its mode in PIL's words."""

    width: int
    height: int
    mode: str

    @property
    def side(self) -> int:
        """The shorter one."""
        return min(self.width, self.height)

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return self.mode in GREY


def header(data: bytes, where: str) -> Header:
    """Read the header of an encoded image. Raises FatalError naming `where` if there is none."""
    with _opened(data, where) as image:
        return Header(*image.size, image.mode)


def shape(data: bytes, where: str) -> tuple[int, int, bool]:
    """Width, height, and whether it is grey. Raises FatalError naming `where` if there is no image."""
    with _opened(data, where) as image:
        return *image.size, image.mode in GREY


def pixels(data: bytes, side: int, channels: int, where: str) -> NDArray[np.uint8]:
    """The image as uint8 [channels, side, side]: the square at its centre, resized with antialias if it is not `side`.

    Sixteen-bit grey keeps its upper eight bits; transparency is dropped; of an animation the first frame is taken.
    Raises FatalError naming `where` if it cannot be decoded.
    """
    return decoded(data, side, channels, where)[1]


def decoded(data: bytes, side: int, channels: int, where: str) -> tuple[Header, NDArray[np.uint8]]:
    """The same, and the header."""
    with _opened(data, where) as image:
        found = Header(*image.size, image.mode)
        squared = _square(_eight_bit(image).convert("L" if channels == 1 else "RGB"))
        if squared.width != side:
            squared = squared.resize((side, side), Image.Resampling.BILINEAR)
        return found, np.asarray(squared, dtype=np.uint8).reshape(side, side, channels).transpose(2, 0, 1)


@contextlib.contextmanager
def bombs_are_errors() -> Iterator[None]:
    """Refuse images of more than PIL's limit of pixels (about 90 million) where PIL would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise _unreadable(where, "its content is not that of any image format read here") from error
    except Exception as error:  # PIL raises nearly everything on damaged files: OSError, SyntaxError, struct.error...
        raise _unreadable(where, str(error) or type(error).__name__) from error


def _unreadable(where: str, reason: str) -> FatalError:
    return FatalError(f"unreadable image: {where}\n{reason}\nRepair it, or take it out.")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode not in SIXTEEN_BIT:
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    if image.size == (side, side):
        return image
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
