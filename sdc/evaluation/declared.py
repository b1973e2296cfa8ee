"""What a torch file says that it holds, found without making any of it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import IO, Any

_BYTES = {
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage", "UInt64Storage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage", "UInt32Storage", "QInt32Storage"), 4),
    **dict.fromkeys(("HalfStorage", "ShortStorage", "BFloat16Storage", "UInt16Storage"), 2),
    "ComplexDoubleStorage": 16,
}
"""How many bytes an element takes; one where it is not told here."""
START = 5
"""The pickles before the storages of an old torch file: a number, a version, the system, the content, the keys."""


class _Inert:
    """Stands in for whatever a pickle names, and does nothing."""

    name = whole = ""

    def __init__(self, *_: object, **__: object) -> None:
        """Take anything."""

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""

    def __setitem__(self, _: object, __: object) -> None:
        """Keep nothing."""

    def append(self, _: object) -> None:
        """Keep nothing."""

    def extend(self, _: object) -> None:
        """Keep nothing."""

    def add(self, _: object) -> None:
        """Keep nothing."""


class _Scan(pickle._Unpickler):
    """Reads a pickle of tensors: nothing that it names is imported or called, and storages are only noted.

    Python's own unpickler, as the one in C keeps a list of marks as long as the largest number that a file makes up.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return type("Named", (_Inert,), {"name": name, "whole": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Inert:  # noqa: ANN401 - whatever the file says
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            raise pickle.UnpicklingError(f"GLOBAL {getattr(pid[1], 'whole', '')}")  # as torch calls what it refuses
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], type)):
            raise pickle.UnpicklingError("it refers to something else than storages")
        kind, key, _, count = pid[1:5]
        if not (isinstance(key, str) and type(count) is int and count >= 0):
            raise pickle.UnpicklingError("a storage has no key or no size")
        size = count * _BYTES.get(kind.name, 1)
        self.storages[key] = max(size, self.storages.get(key, 0))
        return _Inert()


def of_pickle(content: bytes) -> Mapping[str, int]:
    """The bytes of each storage that the pickle of a torch file refers to, by its key.

    Raises what unpickling does of a pickle that is damaged, or asks for something else.
    """
    scan = _Scan(io.BytesIO(content))
    scan.load()
    return scan.storages


def of_old_file(file: IO[bytes]) -> Mapping[str, int]:
    """The same of a file of torch before 1.6: several pickles, one after the other, then the storages."""
    found: dict[str, int] = {}
    for _ in range(START):
        scan = _Scan(file)
        scan.load()
        found |= scan.storages
    return found
