"""Where the scripts of a run lie: in the pin's clone, or in a fork of the user's own, and that this stays what it was.

A fork is only read. All that Python could import from it shapes a run, so all of that is hashed, committed or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.machinery import all_suffixes
from pathlib import Path

from sdc.adapters.base import Adapter, Value
from sdc.ground.errors import FatalError
from sdc.patching import arguments, clones, closure, fork, vendor
from sdc.patching.additive import with_line_feeds
from sdc.patching.apply import apply
from sdc.patching.git import GitError, blob_hash, repository_of

_SHORT = 7
"""Digits of a hash that people are shown."""


@dataclass(frozen=True)
class Fork:
    """A patched fork, as it was when it was looked at."""

    folder: Path
    script: str
    """The path of its script in it."""
    commit: str
    """The commit that is checked out; empty: its script is in none."""
    script_sha256: str
    files_sha256: str
    """A hash over all that Python could import from it."""
    edited: bool = False
    """Whether that differs from the commit by more than our lines."""
    experts_sha256: str = ""
    """A hash over the script that trains its experts and what that imports; empty: its runs match the pin's experts."""
    remarks: tuple[str, ...] = ()
    """What is to be said of it before it runs."""

    @property
    def name(self) -> str:
        """What tells it from the pin and from other forks, for people: `fork 1a2b3c4`."""
        state = self.files_sha256[:_SHORT]
        if not self.commit:
            return f"fork {state}"
        return f"fork {self.commit[:_SHORT]}" + (f"+{state}" if self.edited else "")

    def facts(self) -> dict[str, str]:
        """What of it shapes a run; where it lies is not among that."""
        return {name: getattr(self, name) for name in ("commit", "script", "script_sha256", "files_sha256")}

    def told(self) -> dict[str, str]:
        """The same with its name and place, for a run's files."""
        return {"name": self.name, "path": str(self.folder), **self.facts()}


def shown(method: str, own: Fork | None) -> str:
    """A method as people are shown it: `dm`, or `dm (fork 1a2b3c4)`."""
    return f"{method} ({own.name})" if own else method


def look(adapter: Adapter, folder: Path, script: str = "") -> Fork:
    """A fork that runs may start from. Raises FatalError unless its script is patched, and `sdc` means our term there.

    `script` is the path of its script, where that is not the upstream's.
    """
    folder = folder.expanduser().resolve()
    name = Path(script or adapter.patch.script).as_posix()
    found = fork.status(adapter, folder, script=script)
    path = folder / name
    if found.state != "patched":
        raise FatalError(_refusal(adapter, path, found, shlex.join(_again(adapter, folder, script))))
    contents, (commit, blobs) = _contents(folder, name), _committed(path, folder)
    bare = fork.originals(adapter, folder, script=script)
    experts, remark = _experts(adapter, folder)
    made = Fork(
        folder=folder,
        script=name,
        commit=commit,
        script_sha256=_sha256(contents[name]),
        files_sha256=_digest(contents),
        edited=bool(commit) and _edited(folder, contents, blobs, bare),
        experts_sha256=experts,
    )
    first = f"{shown(adapter.method, made)}: {path} is run as it is"
    said = (first, *([remark] if remark else []), *_own_options(adapter, contents[name]))
    return replace(made, remarks=said)


def script_path(adapter: Adapter, own: Fork | None) -> Path:
    """The script that a run starts."""
    return own.folder / own.script if own else clones.script_path(adapter)


def tree_path(adapter: Adapter, own: Fork | None) -> Path:
    """The top folder of the tree that it lies in."""
    return own.folder if own else clones.clone_path(adapter)


def prepared(adapter: Adapter, own: Fork | None) -> None:
    """Have the pin's clone there and patched; a fork is never patched, only looked at again."""
    if own:
        unchanged(adapter, own)
    else:
        apply(adapter)


def unchanged(adapter: Adapter, own: Fork | None) -> None:
    """Refuse to go on with a clone or a fork that is not what it was."""
    if own is None:
        clones.unchanged(adapter)
        return
    path = own.folder / own.script
    if not path.is_file():
        raise FatalError(
            f"{path} is not there on {platform.node() or 'this machine'}. Every machine that runs "
            f"{shown(adapter.method, own)} has to see the fork under that path"
        )
    contents = _contents(own.folder, own.script)
    if _digest(contents) == own.files_sha256:
        return
    script = _sha256(contents[own.script]) != own.script_sha256
    what = "its script" if script else "a Python file that its script may import"
    raise FatalError(
        f"{own.folder} is not what it was when this run of {shown(adapter.method, own)} was planned: {what} was "
        "changed. What is done is kept. Put the files back as they were, then the same command goes on (sdc bench with "
        "--retry-failed); with the fork as it is now, it begins a run of its own"
    )


def _own_options(adapter: Adapter, script: bytes) -> Iterator[str]:
    """What is to be said of options that a fork's script alone has, and of its own defaults: it is told others."""
    own, pin = (_defaults(text) for text in (script, clones.pinned_script(adapter)))
    changed = [
        f"{name}={value}"
        for name, value in own.items()
        if name in adapter.options and value not in (None, pin.get(name))
    ]
    if changed:
        to_have_them = shlex.join(word for each in changed for word in ("--set", each))
        yield f"its script's own defaults do not count, the recipe's or the pin's do; to have them: {to_have_them}"
    if new := [name for name in own if name not in pin]:
        yield f"options that its script alone has stay at their defaults there: {', '.join(new)}"


def _defaults(script: bytes) -> dict[str, Value | None]:
    """The options of a script, with the number or text that each has by default."""
    return {option.name: None if option.guessed else option.default for option in arguments.read(script)}


def _refusal(adapter: Adapter, path: Path, found: clones.Status, again: str) -> str:
    if found.state == "pristine":
        return f"{path} is not patched, so nothing was run. A fork is patched by you alone. Run: sdc apply {again}"
    listed = "\n".join(f"  {problem}" for problem in found.problems)
    return (
        f"{path} cannot be run as {adapter.method} with the term, nothing was run:\n{listed}\nSee: sdc verify {again}"
    )


def _again(adapter: Adapter, folder: Path, script: str) -> list[str]:
    return [adapter.method, "--to", str(folder), *(["--script", script] if script else [])]


def _contents(folder: Path, script: str) -> dict[str, bytes]:
    """All that Python could import from a folder, by path, and a script of it."""
    return {**dict(_importable(folder)), script: (folder / script).read_bytes()}


def _importable(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All that Python could import from a folder, by path: linked folders, too. Our plugin's copy is ours, not theirs.

    Caches are no source, and an environment is what the script runs in, not what it is.
    """
    suffixes, seen = tuple(all_suffixes()), set[str]()
    for top, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(top)) in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _apart(Path(top) / name))
        for path in (Path(top) / name for name in sorted(names) if name.endswith(suffixes)):
            if path.is_file() and not vendor.is_ours(path):
                yield path.relative_to(folder).as_posix(), path.read_bytes()


def _apart(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in ("__pycache__", "site-packages")
    return hidden or (folder / "pyvenv.cfg").is_file()


def _digest(contents: Mapping[str, bytes]) -> str:
    each = {name: _sha256(content) for name, content in contents.items()}
    return _sha256(json.dumps(each, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _committed(script: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """The commit that holds a script, and the blobs that it has below a folder, by path; empty: no commit does."""
    around = repository_of(folder / "any")
    if around is None:
        return "", {}
    top = around.path
    try:
        commit, tree = around.head(), around.tree()
    except GitError:  # no commit yet, or a repository that is none
        return "", {}
    if script.relative_to(top).as_posix() not in tree:
        return "", {}
    below = "" if top == folder else f"{folder.relative_to(top).as_posix()}/"
    return commit, {name.removeprefix(below): blob for name, blob in tree.items() if name.startswith(below)}


def _edited(folder: Path, contents: Mapping[str, bytes], blobs: Mapping[str, str], bare: Mapping[str, bytes]) -> bool:
    """Whether files are not what a commit has. `bare` are those without our lines, which may be committed or not."""
    for name, content in contents.items():
        texts = (content, *([bare[name]] if name in bare else []))
        if blobs.get(name) not in {blob_hash(each) for text in texts for each in (text, with_line_feeds(text))}:
            return True
    code = (name for name in blobs if name.endswith(tuple(all_suffixes())))
    return any(not (folder / name).exists() for name in code)


def _experts(adapter: Adapter, folder: Path) -> tuple[str, str]:
    """The hash of what trains a fork's experts, empty where the pin's are matched; and what is to be said of it."""
    if adapter.experts is None:
        return "", ""
    name = adapter.experts.script
    if not (folder / name).is_file():
        return "", f"{folder} has no {name}: its runs match the experts of the pin"
    own, pin = closure.files(folder / name, folder), clones.clone_path(adapter)
    if (pin / name).is_file() and closure.same(own, closure.files(pin / name, pin)):
        return "", ""
    return closure.digest(
        own
    ), f"{folder / name}, or what it imports, is not the pin's: its runs match experts of its own"
