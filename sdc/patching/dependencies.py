"""What a script of an upstream's tree imports: files of the tree, one after another, and packages of others."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from sdc.adapters.base import Need
from sdc.ground import packages, paths

_STOOD_IN_FOR = ("sdc", "wandb")
"""Names that a script finds when it is run here, whatever is installed: the plugin, and the launcher's own."""


@dataclass(frozen=True)
class Reached:
    """The files of a tree that a script runs, itself first, and the names of others' modules that they import."""

    files: tuple[Path, ...]
    foreign: tuple[str, ...]

    def needs(self) -> tuple[Need, ...]:
        """The packages among them that are neither Python's nor required by sdc, in the order of their names."""
        required, found = _required(), {}
        for module in self.foreign:
            part, package = packages.named(module)
            if _plain(package) not in required:
                # What torch brings itself and another package carries is looked for by that package's name.
                own = part == package.replace("-", "_") or part.startswith("torch.")
                found[package] = Need(package, "" if own else part)
        return tuple(found[package] for package in sorted(found))


def reached(tree: Path, script: str) -> Reached:
    """Follow the imports of a script through the files of its tree.

    An import counts that is made whenever its file is: in a function it counts in the script alone, and not where the
    script goes on without it.
    """
    waiting, files, foreign = [tree / script], dict[Path, None](), dict[str, None]()
    while waiting:
        file = waiting.pop(0)
        if file in files:
            continue
        files[file] = None
        text = _text(file)
        everywhere = "sys.path" in text
        for name in _imported(text, whole=file == tree / script, package=_package(file, tree)):
            own = _own(name, file, tree, tree / script, everywhere=everywhere)
            waiting += own or []
            top = name.partition(".")[0]
            if own is None and top not in sys.stdlib_module_names and top not in _STOOD_IN_FOR:
                foreign[name] = None
    return Reached(tuple(files), tuple(foreign))


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="replace")


def _imported(text: str, *, whole: bool, package: str) -> Iterator[str]:
    """Dotted names that a file imports; `whole`: in its functions, too. A relative one is told from the tree's top."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # of another Python; the script itself was checked
        return
    for node in _run(tree, whole=whole):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            base = ".".join([*filter(None, above), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _run(node: ast.AST, *, whole: bool) -> Iterator[ast.AST]:
    """What is run of a file when it is imported, or, of a `whole` script, at some time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not whole:
            continue
        if isinstance(child, ast.If) and (_is_of_checkers(child.test) or (not whole and _is_main(child.test))):
            yield from _run(ast.Module(child.orelse, []), whole=whole)
        elif isinstance(child, ast.Try) and any(_forgives(handler) for handler in child.handlers):
            continue
        else:
            yield child
            yield from _run(child, whole=whole)


def _is_of_checkers(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _is_main(test: ast.expr) -> bool:
    return "__name__" in ast.unparse(test)


def _forgives(handler: ast.ExceptHandler) -> bool:
    """Whether a script goes on without what it could not import."""
    caught = ast.unparse(handler.type) if handler.type else "Exception"
    raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    return not raises and bool(re.search(r"\b(ImportError|ModuleNotFoundError|Exception|BaseException)\b", caught))


def _package(file: Path, tree: Path) -> str:
    """The dotted name of the folder of a file, from the tree's top."""
    return ".".join(file.parent.relative_to(tree).parts)


def _own(name: str, file: Path, tree: Path, script: Path, *, everywhere: bool) -> list[Path] | None:
    """The files of a tree that a dotted name stands for: the module, and the packages it lies in; None: not of it."""
    places = dict.fromkeys([script.parent, tree, file.parent])
    if everywhere:  # the script says where else is looked
        places |= dict.fromkeys(folder for folder in sorted(tree.rglob("*")) if _is_code(folder, tree))
    for place in places:
        if (found := _below(place, name.split("."))) is not None:
            return found
    return None


def _is_code(folder: Path, tree: Path) -> bool:
    return folder.is_dir() and not any(part.startswith(".") for part in folder.relative_to(tree).parts)


def _below(place: Path, parts: list[str]) -> list[Path] | None:
    """The same, where it is looked for in this folder alone."""
    top = place / parts[0]
    if (module := top.with_name(f"{parts[0]}.py")).is_file():
        return [module]
    if not top.is_dir() or not any(top.rglob("*.py")):
        return None
    own = [top / "__init__.py"] if (top / "__init__.py").is_file() else []
    return own + ((_below(top, parts[1:]) or []) if parts[1:] else [])


def _required() -> set[str]:
    """What sdc itself requires, as its checkout says."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    return {_plain(Requirement(line).name) for line in project["dependencies"]}


def _plain(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
