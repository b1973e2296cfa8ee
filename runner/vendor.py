"""The plugin's copy beside a patched script, with which the script runs where this package is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from runner import paths
from runner.errors import FatalError
from runner.files import replacing

State = Literal["absent", "ours", "other"]
_FOLDER = "plugins"
_IMPORT = b"from plugins import sdc"


def copies() -> dict[str, bytes]:
    """The files of a copy, by their path beside the script."""
    return {f"{_FOLDER}/{name}": (paths.PLUGINS / name).read_bytes() for name in ("__init__.py", "sdc.py")}


def state(beside: Path) -> State:
    """Whether the folder of a script holds a copy of ours, whole and unchanged, nothing, or something else."""
    folder = beside / _FOLDER
    if not folder.exists() and not folder.is_symlink():
        return "absent"
    if folder.is_symlink() or not folder.is_dir():
        return "other"
    found = {f"{_FOLDER}/{path.name}": path for path in folder.iterdir() if path.name != "__pycache__"}
    if not found:
        return "absent"
    ours = copies()
    same = found.keys() == ours.keys() and all(
        path.is_file() and not path.is_symlink() and path.read_bytes() == ours[name] for name, path in found.items()
    )
    return "ours" if same else "other"


def put(beside: Path) -> bool:
    """Make the copy; False if it is there. Raises FatalError where something else has its name."""
    check(beside)
    if state(beside) == "ours":
        return False
    for name, content in copies().items():
        with replacing(beside / name) as partial:
            partial.write_bytes(content)
    return True


def check(beside: Path) -> None:
    """Raise FatalError where something that is not ours has the copy's name."""
    if state(beside) == "other":
        raise FatalError(
            f"{beside / _FOLDER} is there and is not the plugin's copy of this version, so it is not touched.\n"
            f"If it is an older copy: rm -r {beside / _FOLDER}, then the same command again"
        )


def take(beside: Path) -> bool:
    """Take our copy away, unless another script beside it needs it; whether it is gone now and was there."""
    if state(beside) != "ours" or any(_IMPORT in script.read_bytes() for script in beside.glob("*.py")):
        return False
    for name in copies():
        file = beside / name
        for cached in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            cached.unlink()
        file.unlink()
    for folder in (beside / _FOLDER / "__pycache__", beside / _FOLDER):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return True
