"""CIFAR's batches, which are pickles, read without any code that a pickle can name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sdc.ground.errors import FatalError

Array = np.ndarray[Any, np.dtype[Any]]
INTEGERS = ("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8")


def load(path: Path) -> dict[str, Any]:
    """The dict in a pickle: its keys as text, arrays as `array` takes them.

    A pickle names the functions that make its objects, and could name any. Here none that it names is ever called: the
    few that pickled arrays and bytes name are replaced by stand-ins, and all others are refused. So files need not be
    those whose MD5 is published (a cut or re-made copy does), and hostile ones do nothing. Raises FatalError naming
    the file if it holds anything else.
    """
    try:
        found = _Restricted(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FileNotFoundError as error:
        raise FatalError(f"{path} is missing\nUnpack the archive again.") from error
    except Exception as error:  # damaged pickles raise nearly everything
        raise FatalError(
            f"{path} is not one of CIFAR's batches: {error or type(error).__name__}\nUnpack the archive again."
        ) from error
    if not isinstance(found, dict):
        raise FatalError(f"{path} is not one of CIFAR's batches: it holds a {type(found).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}


def array(value: Any) -> Array:  # noqa: ANN401
    """A pickled array or list of integers. Raises ValueError or TypeError if it is neither."""
    if isinstance(value, _Array):
        return value.array()
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return np.array(value, dtype=np.int64)
    raise TypeError(f"a {type(value).__name__} where integers should be")


class _Kind:
    """Stands in for numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        if self.code not in INTEGERS or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array of {self.code!r}, where integers should be")
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array:
    """Stands in for numpy.ndarray: what is pickled of an array, made into one when it is asked for."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> Array:
        _, shape, kind, columns_first, data = self.state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray | str):
            raise TypeError("an array without plain numbers")
        plain = data.encode("latin1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(plain, kind.dtype()).reshape(shape, order="F" if columns_first else "C")


def _from_buffer(data: object, kind: object, shape: object, order: object) -> _Array:
    made = _Array()
    made.state = (1, shape, kind, order == "F", data)
    return made


def _encoded(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, with which newer Pythons write bytes in older pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is never called")
        made = _STAND_INS[module, name]
        return made if isinstance(made, type) else lambda *given: made(*given)  # so that a pickle changes none of ours
