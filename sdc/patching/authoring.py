"""New patches: from edits in an upstream's clone to a patch under our rules, an adapter and recipes to fill in."""

from __future__ import annotations

import ast
import hashlib
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sdc.adapters.base import Adapter, Patch, Upstream
from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from sdc.ground.errors import FatalError
from sdc.ground.files import rewrite
from sdc.patching import additive, arguments, clash, clones, dependencies, drafts, fetching, git, scaffold
from sdc.patching.additive import ChangedError, Line, with_line_feeds
from sdc.patching.git import Clone

_RESERVED = ("base", "recipes", "registry")


@dataclass(frozen=True)
class Authored:
    """What a command made: the files it wrote, the lines of the patch, and what to do next."""

    method: str
    script: Path
    files: tuple[Path, ...]
    lines: tuple[str, ...]
    after: str
    needs: tuple[str, ...] = ()
    """The packages that its scripts import beyond what sdc requires, in pip's words."""


@dataclass(frozen=True)
class _Edited:
    """An upstream's script with our lines put in, and the pin's."""

    tree: Path
    script: str
    pinned: bytes
    lines: tuple[Line, ...]

    @property
    def content(self) -> bytes:
        return additive.put_in(self.pinned, self.lines)


def new(name: str, url: str, commit: str, script: str) -> Authored:
    """Begin a method: clone its upstream; called again, turn the edits there into patch, adapter and recipes.

    Raises FatalError, before anything is written, where the edits break the rules, with the lines that do.
    """
    _needs_a_checkout()
    upstream = _checked(name, url, commit, script)
    adapter, recipes = paths.ADAPTERS / f"{name}.py", paths.ADAPTERS / "recipes" / f"{name}.toml"
    if name in ADAPTERS or adapter.exists():
        raise FatalError(
            f"{name} is there already: {adapter}. After more edits in its clone: sdc patch refresh {name}"
            + ("" if name in ADAPTERS else f", once adapters/registry.py has it: {scaffold.registered(name)}")
        )
    tree = paths.upstream() / name
    if not tree.exists():
        fetching.clone(upstream.url, upstream.commit, upstream.files, tree)
    edited = _edited(tree, upstream, script)
    if not edited.lines:
        again = f"sdc patch new {name} --upstream {url} --commit {commit} --script {script}"
        after = f"Add the lines of SDC there (docs/adding-a-method.md), then: {again}"
        return Authored(name, tree / script, (), (), after)
    _check_rules(edited)
    upstream = replace(upstream, licence=scaffold.licence(tree))
    content = _patch(scaffold.header(name, upstream, script), edited)
    patch = Patch(
        script=script,
        file=f"{name}-{Path(script).stem}.patch",
        sha256=hashlib.sha256(content).hexdigest(),
        before=git.blob_hash(edited.pinned),
        after=git.blob_hash(edited.content),
    )
    draft = _draft(name, upstream, patch, edited)
    files = {
        paths.PATCHES / patch.file: content,
        adapter: scaffold.adapter(draft),
        recipes: scaffold.recipes(draft),
    }
    _write(edited, files)
    after = (
        f"Fill in {adapter} and {recipes}, and add to adapters/registry.py: {scaffold.registered(name)}\n"
        f"Then: sdc verify {name} --behaviour"
    )
    needs = tuple(need.wanted for need in draft.needs)
    return Authored(name, tree / script, tuple(files), _texts(edited), after, needs)


def _draft(name: str, upstream: Upstream, patch: Patch, edited: _Edited) -> scaffold.Draft:
    """What the files of the clone tell of the method: those that the script imports, and it first of all."""
    found = dependencies.reached(edited.tree, edited.script)
    texts = (edited.pinned, *(file.read_bytes() for file in found.files[1:]))
    readable = tuple(text for text in texts if _is_python(text))
    options = arguments.of_first(readable)
    return scaffold.Draft(name, upstream, patch, edited.content, readable, found.needs(), options)


def _is_python(text: bytes) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):  # of another Python
        return False
    return True


def refresh(name: str) -> Authored:
    """Turn the edits in a method's clone into its patch anew, and name the new hashes in its adapter."""
    _needs_a_checkout()
    with drafts.at_hand(name) as adapter:
        return _refreshed(name, adapter)


def _refreshed(name: str, adapter: Adapter) -> Authored:
    patch, tree = adapter.patch, clones.clone_path(adapter)
    if not tree.exists():
        raise FatalError(
            f"there is no clone to take edits from: {tree}. Make it: sdc apply {name}, then edit its script"
        )
    edited = _edited(tree, adapter.upstream, patch.script)
    if not edited.lines:
        raise FatalError(f"{tree / patch.script} has no added lines. Put them in, or: sdc apply {name}")
    _check_rules(edited)
    file = paths.PATCHES / patch.file
    was = file.read_bytes() if file.is_file() else scaffold.header(name, adapter.upstream, patch.script)
    content = _patch(was.partition(b"--- a/")[0], edited)
    hashes = {patch.sha256: hashlib.sha256(content).hexdigest(), patch.after: git.blob_hash(edited.content)}
    if content == was and all(old == now for old, now in hashes.items()):
        return Authored(name, tree / patch.script, (), _texts(edited), "no change")
    homes = [path for path in sorted(paths.ADAPTERS.glob("*.py")) if patch.sha256 in path.read_text()]
    if not homes:
        raise FatalError(f"no file in {paths.ADAPTERS} names the patch's hash {patch.sha256}")
    written = {file: content}
    for home in homes:
        text = home.read_text()
        for old, now in hashes.items():
            text = text.replace(old, now)
        written[home] = text.encode()
    _write(edited, written)
    return Authored(name, tree / patch.script, tuple(written), _texts(edited), f"Then: sdc verify {name} --behaviour")


def _needs_a_checkout() -> None:
    if not paths.in_checkout():
        raise FatalError(
            f"patches are made in a checkout of sdc, and {paths.ROOT} is an installation. "
            "Clone sdc, and in it: make setup, then .venv/bin/sdc patch ..."
        )


def _checked(name: str, url: str, commit: str, script: str) -> Upstream:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in _RESERVED:
        raise FatalError(f"{name!r} is no name for a method: give small letters and digits, such as dsac")
    path = PurePosixPath(script)
    if (
        path.is_absolute()
        or ".." in path.parts
        or path.suffix != ".py"
        or script.startswith("-")
        or str(path) != script
    ):
        raise FatalError(f"--script {script}: give a Python file by its path in the upstream, such as distill/main.py")
    if not re.fullmatch(r"https://[\w.-]+(:\d+)?/[\w./~-]+", url):
        raise FatalError(f"--upstream {url}: give the https address of a repository")
    try:
        return Upstream(url, commit, licence=None)
    except ValueError as error:
        raise FatalError(f"--commit {commit}: {error}") from error


def _edited(tree: Path, upstream: Upstream, script: str) -> _Edited:
    """The edits in a clone. Raises FatalError where they are elsewhere, or remove or change a line."""
    clone = Clone(tree)
    try:
        head, files = clone.head(), clone.tree()
    except git.GitError as error:
        raise FatalError(f"{tree} is no usable clone: {error}\nTake it away and begin anew: rm -rf {tree}") from error
    if head != upstream.commit:
        raise FatalError(f"{tree} is at commit {head}, not {upstream.commit}. Begin anew: rm -rf {tree}")
    if script not in files:
        scripts = ", ".join(sorted(name for name in files if name.endswith(".py")))
        raise FatalError(f"--script {script} is not in {upstream.url} at {upstream.commit}. There are: {scripts}")
    if others := list(_others(tree, upstream, files, script)):
        listed = "\n".join(f"  {name}" for name in others)
        raise FatalError(
            f"a patch touches one script, and other files of {tree} were changed:\n{listed}\n"
            f"Put them back: git -C {tree} checkout -- FILE, or rm a file that is new"
        )
    if not (tree / script).is_file() or (tree / script).is_symlink():
        raise FatalError(f"{tree / script} is no file any more. Put it back: git -C {tree} checkout -- {script}")
    clash.check(tree / script, tree, edited=True)
    pinned = clone.blob(files[script])
    try:
        lines = additive.between(with_line_feeds(pinned), with_line_feeds((tree / script).read_bytes()))
    except ChangedError as error:
        listed = "\n".join(f"  {offence}" for offence in error.offences)
        raise FatalError(
            f"a patch adds lines only, and lines of {tree / script} were removed or changed:\n{listed}\n"
            "Put them back as they were, and add lines before or behind them"
        ) from error
    return _Edited(tree, script, pinned, lines)


def _others(tree: Path, upstream: Upstream, files: Mapping[str, str], script: str) -> Iterator[str]:
    """Files but the script that are not the pin's."""
    for name, blob in files.items():
        if name != script and fetching.selected(name, upstream.files) and clones.hash_of(tree / name) != blob:
            yield name
    yield from (name for name in clones.strangers(tree, dict(files)))


def _check_rules(edited: _Edited) -> None:
    if len(edited.lines) > additive.MOST:
        listed = "\n".join(f"  behind line {line.place}: {line.text.decode(errors='replace')}" for line in edited.lines)
        raise FatalError(
            f"a patch adds at most {additive.MOST} lines, and {edited.tree / edited.script} has {len(edited.lines)}:\n"
            f"{listed}\nMove what they do into plugins/sdc.py"
        )
    try:
        ast.parse(edited.content)
    except SyntaxError as error:
        where = f"{edited.tree / edited.script}: line {error.lineno}"
        raise FatalError(f"{where}: {error.msg}, with the added lines. Mend them") from error


def _texts(edited: _Edited) -> tuple[str, ...]:
    return tuple(line.text.decode().strip() for line in edited.lines)


def _write(edited: _Edited, files: Mapping[Path, bytes]) -> None:
    """Write all files, each whole; and the script with its own line ends, so that its hash is the adapter's."""
    for path, content in {**files, edited.tree / edited.script: edited.content}.items():
        rewrite(path, content, path.read_bytes() if path.is_file() else None)


def _patch(header: bytes, edited: _Edited) -> bytes:
    return header + additive.written(edited.script, edited.pinned, edited.lines)
