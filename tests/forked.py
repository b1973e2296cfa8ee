"""Forks of upstreams in tests: a clone of somebody's own at the pin, with a change that is committed there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import Sdc
from tests.fake import Fake

CHANGE = {"train/distil.py": ("momentum=0.5", "momentum=0.25")}
"""A change of the fake's script, away from the patch's lines."""


def fork(made: Fake, folder: Path, change: Mapping[str, tuple[str, str]] = CHANGE) -> Path:
    """A fork of the fake, with texts of its files replaced by others, committed."""
    git(folder.parent, "clone", "--quiet", made.path, folder)
    git(folder, "checkout", "--quiet", "--detach", made.adapter.upstream.commit)
    for name, (old, new) in change.items():
        edit(folder / name, old, new)
    commit(folder)
    return folder


def patched(made: Fake, sdc: Sdc, folder: Path) -> Path:
    """The same, with the patch, which is not committed."""
    fork(made, folder)
    assert sdc("apply", "fake", "--to", folder).code == 0
    return folder


def edit(file: Path, old: str, new: str) -> None:
    """Replace a text of a file that has it."""
    content = file.read_bytes()
    assert old.encode() in content, file
    file.write_bytes(content.replace(old.encode(), new.encode()))


def commit(folder: Path) -> str:
    """Commit whatever was changed, and return the commit."""
    who = ("-c", "user.name=fork", "-c", "user.email=fork@invalid")
    git(folder, "add", "--all")
    git(folder, *who, "commit", "--quiet", "--allow-empty", "--message=fork")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: object) -> str:
    command = ["git", "-C", str(folder), "-c", "core.autocrlf=false", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout.strip()


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder, with its content and when it was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
