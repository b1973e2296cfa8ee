"""What a script imports out of its own tree, followed by reading it; nothing is run."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import all_suffixes
from pathlib import Path

from sdc.patching.additive import with_line_feeds


def files(script: Path, tree: Path) -> dict[str, bytes]:
    """A script and all that it imports from its tree, directly or not: the contents by their paths there.

    Modules are looked for as the launcher has them found: beside the script, then at the top of the tree.
    """
    found: dict[str, bytes] = {}
    waiting, roots = [script], (script.parent, tree)
    while waiting:
        path = waiting.pop()
        if (name := _name(path, tree)) in found:
            continue
        found[name] = path.read_bytes()
        waiting += _imported(path, found[name], roots) if path.suffix == ".py" else []
    return found


def same(mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> bool:
    """Whether two such sets of files do the same: line ends, layout and comments aside."""
    return mine.keys() == theirs.keys() and all(_alike(text, theirs[name]) for name, text in mine.items())


def digest(found: Mapping[str, bytes]) -> str:
    """A hash over such files, line ends aside."""
    each = {name: hashlib.sha256(with_line_feeds(text)).hexdigest() for name, text in found.items()}
    return hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()


def _name(path: Path, tree: Path) -> str:
    return path.relative_to(tree).as_posix() if path.is_relative_to(tree) else path.as_posix()


def _alike(one: bytes, other: bytes) -> bool:
    if with_line_feeds(one) == with_line_feeds(other):
        return True
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except (SyntaxError, ValueError):  # one that is no Python, as a compiled module, is what its bytes are
        return False


def _imported(path: Path, text: bytes, roots: Sequence[Path]) -> Iterator[Path]:
    """The files that one file's import statements lead to, wherever they stand in it."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # nobody can run it
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _found(alias.name, roots)
        elif isinstance(node, ast.ImportFrom):
            package = [path.parents[node.level - 1]] if node.level else roots
            for alias in node.names:
                yield from _found(".".join(filter(None, (node.module, alias.name))), package)


def _found(dotted: str, roots: Sequence[Path]) -> list[Path]:
    """The files of a module's packages and of itself, in the first root that has any; of a name in it, the module's."""
    for root in roots:
        made, at = [], root
        for part in dotted.split("."):
            at = at / part
            here = [at / "__init__.py", *(at.with_name(f"{part}{suffix}") for suffix in all_suffixes())]
            made += [path for path in here if path.is_file()][:1]
            if not at.is_dir():
                break
        if made:
            return made
    return []
