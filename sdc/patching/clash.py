"""Whether `import sdc` in a script of somebody's tree means the plugin, and hides nothing that the tree needs.

A module of theirs called `sdc` would be run in the plugin's place, or a copy of the plugin in its.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sdc import __all__ as _TERM
from sdc.ground.errors import FatalError
from sdc.patching import vendor


def check(script: Path, tree: Path, *, edited: bool = False) -> None:
    """Raise FatalError where `found` finds something."""
    if clash := found(script, tree, edited=edited):
        raise FatalError(f"nothing was changed: {clash}")


def found(script: Path, tree: Path, *, edited: bool = False) -> str:
    """What else answers to the name `sdc` for a script of a tree, or needs another, and what to do; empty: nothing.

    `edited`: the script is being written, with a plugin that may be, too, so it is not asked what it needs.
    """
    for path in _in_the_way(script, tree):
        older = f"If it is an older copy: rm {path}, then the same command again. " if path.is_file() else ""
        return (
            f"{path} is not the plugin's copy of this version, and `import sdc` in {script} would find it.\n"
            f"{older}If it is a module of yours: rename it"
        )
    for path, line in _needing(tree):
        if edited and path == script:
            continue
        return (
            f"{path} imports, in line {line}, an `sdc` that is not the plugin, and to {script} that name means the "
            "plugin.\nRename that module, and what imports it"
        )
    return ""


def _in_the_way(script: Path, tree: Path) -> Iterator[Path]:
    """Modules `sdc` that are not ours: in the folder of a script, above it in its tree, or where a path may lead to.

    Elsewhere: a folder without `__init__.py` is no package, so that what lies in it is imported by its bare name.
    """
    around = {folder for folder in (script.parent, *script.parent.parents) if folder.is_relative_to(tree)}
    for folder, _ in walk(tree):
        for path in vendor.modules(folder):
            module = path.is_file() or (path / "__init__.py").is_file()
            reached = folder in around or (module and not (folder / "__init__.py").is_file())
            if reached and not vendor.is_ours(path):
                yield path


def _needing(tree: Path) -> Iterator[tuple[Path, int]]:
    """Python files of a tree, each with a line, that want of `sdc` what the plugin has not."""
    for folder, files in walk(tree):
        for path in (folder / name for name in files if name.endswith(".py")):
            if path.is_file() and vendor.NAME.encode() in (text := path.read_bytes()):
                yield from ((path, line) for line, name in _wanted(text) if name not in _TERM)


def walk(tree: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders of a tree that are part of its code, with the names of their files, in order."""
    for top, folders, files in os.walk(tree):
        folders[:] = sorted(name for name in folders if not _apart(Path(top) / name))
        yield Path(top), sorted(files)


def _apart(folder: Path) -> bool:
    """Whether a folder is no part of the code around it: hidden, an environment, or a repository of its own."""
    apart = folder.name.startswith(".") or folder.name == "site-packages"
    return apart or (folder / "pyvenv.cfg").is_file() or (folder / ".git").exists()


def _wanted(text: bytes) -> Iterator[tuple[int, str]]:
    """What a module imports, or takes, of `sdc`, with the lines; `*` is a name, too."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # nobody can run it
        return
    bound = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == vendor.NAME and rest:
                    yield node.lineno, rest
                elif top == vendor.NAME:
                    bound.add(alias.asname or top)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, name) for name in _imported(node))
    yield from _attributes(nodes, bound)


def _imported(node: ast.ImportFrom) -> Iterator[str]:
    top, _, rest = (node.module or "").partition(".")
    if top == vendor.NAME:
        yield from [rest] if rest else (alias.name for alias in node.names)


def _attributes(nodes: Sequence[ast.AST], bound: set[str]) -> Iterator[tuple[int, str]]:
    for node in (node for node in nodes if isinstance(node, ast.Attribute)):
        if isinstance(node.value, ast.Name) and node.value.id in bound and not node.attr.startswith("__"):
            yield node.lineno, node.attr
