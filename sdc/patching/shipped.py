"""The patches as they are shipped: their bytes, which an adapter names by hash, and the lines that they add."""

from __future__ import annotations

from pathlib import Path

from sdc.adapters.base import Patch
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.files import sha256
from sdc.patching import additive


def lines(patch: Patch) -> tuple[additive.Line, ...]:
    """The lines that a patch adds."""
    return additive.read((paths.PATCHES / patch.file).read_bytes())


def checked(patch: Patch) -> Path:
    """The patch file, once its bytes are the ones the adapter names."""
    path = paths.PATCHES / patch.file
    if not path.is_file():
        raise FatalError(f"{path} is missing. {_restore(path)}")
    if (actual := sha256(path)) != patch.sha256:
        raise FatalError(changed(path, patch.sha256, actual))
    return path


def changed(path: Path, expected: str, actual: str) -> str:
    """What is wrong with a patch file whose bytes are others, and what mends it."""
    return f"{path} was changed: expected sha256 {expected}, found {actual}. {_restore(path)}"


def _restore(path: Path) -> str:
    if paths.in_checkout():
        return f"Restore it: git -C {path.parent} checkout -- {path.name}"
    return "Install this package again from where you had it (on PyPI the name sdc is another project's)"


def body(patch: Patch, sign: str) -> str:
    """The lines a patch adds, each behind `sign`, under the script's name."""
    added = (line.text.decode().strip() for line in lines(patch))
    return "\n".join([patch.script, *(f"{sign} {line}" for line in added)])
