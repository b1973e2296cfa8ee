"""Fields of JSON files that others may have written: what is not as it should be is an error, never a number."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a file raises that is not what it should be (a JSON or Unicode error is a ValueError)."""


def read(file: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise TypeError(f"{file.name} is no JSON object")
    return found


def finite(value: Any) -> float:  # noqa: ANN401 - whatever the file holds
    """A number."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return number


def whole(value: Any) -> int:  # noqa: ANN401
    """The number of images per class."""
    if (number := int(value)) < 1:
        raise ValueError(f"ipc {value} is below 1")
    return number


def scalars(found: Any) -> dict[str, Any]:  # noqa: ANN401
    """A JSON object of numbers and texts."""
    if strange := [name for name, value in found.items() if not isinstance(value, int | float | str)]:
        raise TypeError(f"{strange[0]} is neither a number nor a text")
    return dict(found)


def flat(found: Any) -> dict[str, Any]:  # noqa: ANN401
    """A JSON object of numbers, texts and objects of such, their names joined by a space."""
    parts = {name: flat(value) if isinstance(value, dict) else {"": value} for name, value in found.items()}
    return scalars({f"{name} {inner}".strip(): one for name, part in parts.items() for inner, one in part.items()})


def texts(found: Any) -> tuple[str, ...]:  # noqa: ANN401
    """A JSON list of texts."""
    if not isinstance(found, list):
        raise TypeError(f"{found!r} is no list")
    return tuple(map(str, found))


def said(error: Exception) -> str:
    """What is wrong, for people."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)
