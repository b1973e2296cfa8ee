"""A download of an upstream, without a repository: what of it is not the pin's, and what a renamed script is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sdc.adapters.base import Adapter
from sdc.ground.errors import FatalError
from sdc.patching import clash, clones, fetching, git, syntax
from sdc.patching.additive import with_line_feeds
from sdc.patching.git import Clone
from sdc.patching.syntax import UnreadableError

_MOST = 5
"""So many differences are named."""
_FILES, _LARGEST = 500, 1_000_000
"""So many files are looked into for a renamed script, of at most so many bytes."""
_ALIKE = 0.5
"""A script that says this share of what the pinned one says may be that one, renamed."""


def told(content: bytes, pinned: bytes) -> str:
    """How a script differs from the pin's, in words."""
    mine, theirs = with_line_feeds(content), with_line_feeds(pinned)
    if mine == theirs:
        return "only its line ends differ"
    steps = difflib.SequenceMatcher(None, theirs.split(b"\n"), mine.split(b"\n"), autojunk=False).get_opcodes()
    spans = [(first + 1, max(first + 1, last)) for kind, _, _, first, last in steps if kind != "equal"]
    return f"it differs in {_few([f'line {a}' if a == b else f'lines {a} to {b}' for a, b in spans])}"


def differences(adapter: Adapter, folder: Path, script: Path) -> Iterator[str]:
    """The upstream's other files that a folder whose script is in no commit has differently, or lacks, in one line.

    Such a folder may lie within a repository that has nothing to do with it.
    """
    if (folder / ".git").exists() or git.committed(script.resolve()) is not None:
        return
    found = []
    for name, blob in Clone(clones.clone_path(adapter)).tree().items():
        if name != adapter.patch.script and fetching.selected(name, adapter.upstream.files):
            actual = clones.hash_of(folder / name)
            found += [] if actual == blob else [f"{name} ({_how(folder / name, blob)})"]
    if found:
        yield f"no repository holds {folder}, and not all of it is the pin's: {_few(found)}"


def _how(path: Path, blob: str) -> str:
    """In what a file is not one of the pin's."""
    if not path.is_file():
        return "missing"
    text = with_line_feeds(path.read_bytes())
    same = blob in (git.blob_hash(text), git.blob_hash(text.replace(b"\n", b"\r\n")))
    return "only its line ends" if same else "changed"


def renamed(adapter: Adapter, folder: Path) -> list[str]:
    """The paths of scripts in a folder that say what the method's script says, the likeliest first."""
    try:
        clones.present(adapter)
        wanted = _said(clones.pinned_script(adapter))
    except FatalError:  # without the pin's nothing can be compared, and that is not what was asked
        return []
    scores = []
    files = (top / name for top, names in clash.walk(folder) for name in names if name.endswith(".py"))
    for path in islice((path for path in files if path.is_file() and not path.is_symlink()), _FILES):
        share = len(wanted & _said(path.read_bytes())) / max(len(wanted), 1)
        scores.append((share, path.relative_to(folder).as_posix()))
    return [name for share, name in sorted(scores, reverse=True)[:3] if share >= _ALIKE]


def _said(content: bytes) -> set[str]:
    try:
        return (
            {each.said for each in syntax.read(with_line_feeds(content)).statements}
            if len(content) < _LARGEST
            else set()
        )
    except UnreadableError:
        return set()


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
