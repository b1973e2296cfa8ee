"""What made an upstream script end, read off the end of its log, where that is one thing with one remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sdc.ground import packages

_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|Warning))(?:: (.*))?$")
_ABSENT = re.compile(r"No module named '([\w.]+)'(; '[\w.]+' is not a package)?")
_OTHER = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
_LACKING = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_LIBRARY = re.compile(r"^(\S+\.so[\w.]*): cannot open shared object file")

_REMOVED = {"asynchat", "asyncore", "cgi", "crypt", "imghdr", "imp", "nntplib", "pipes", "sndhdr", "telnetlib", "uu"}
"""Modules that Python itself once had."""


def missing_import(lines: Sequence[str], tree: Path) -> str:
    """Why a script of `tree` did not find what it imports, or not in it, and what mends it; empty: another reason."""
    name, message = _last_raised(lines)
    if name == "AttributeError" and (found := _LACKING.search(message)):
        return _lacking(found[1], found[2], tree)
    if name not in ("ImportError", "ModuleNotFoundError"):
        return ""
    if found := _ABSENT.search(message):
        return _absent(found[1], tree)
    if found := _OTHER.search(message):
        return _of_another_version(f"no {found[1]} in {found[2]}", found[2], tree)
    if found := _LIBRARY.match(message):
        headless = ". For cv2: pip install opencv-python-headless" if any("cv2" in line for line in lines) else ""
        return f"the upstream script needs {found[1]}, a library that this system lacks. Install it{headless}"
    return f"the upstream script could not import what it needs: {message}"


def of_term(lines: Sequence[str]) -> str:
    """What the term was given by mistake, in its own words; empty: a script ended for another reason."""
    name, message = _last_raised(lines)
    if name == "TypeError" and re.match(r"sdc\.\w+ wants ", message):
        return f"a line of SDC is not right: {message}"
    return ""


def _last_raised(lines: Sequence[str]) -> tuple[str, str]:
    """The name and the message of the last exception that a log tells of; both empty if there is none."""
    for line in reversed(lines):
        if found := _RAISED.match(line):
            return found[1], found[2] or ""
    return "", ""


def _absent(module: str, tree: Path) -> str:
    top = module.partition(".")[0]
    if _is_of(tree, top):
        return f"the upstream script imports {module} of its own tree, and {tree} has none, or not where it looks"
    known, package = packages.named(module)
    if "." in module and known == top and packages.is_there(package, top):
        return _of_another_version(f"no {module}", module, tree)
    if top in _REMOVED or (top in sys.stdlib_module_names and package == top):
        here = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        return f"the upstream script imports {module}, which {here} has not: it was written for an older one"
    told = module if known.replace("_", "-") == package else f"{module} (of {package})"
    return f"the upstream script imports {told}, which is not installed here. Install it: {packages.pip([package])}"


def _lacking(module: str, what: str, tree: Path) -> str:
    """The same of a module that was imported; empty: it is the tree's own, or has datasets, which are told a script."""
    top = module.partition(".")[0]
    if top in ("sdc", "wandb") or module.startswith("torchvision.datasets") or _is_of(tree, top):
        return ""
    if top in sys.stdlib_module_names:
        return f"the upstream script was written for an older Python: {module} has no {what} here"
    return _of_another_version(f"no {what} in {module}", module, tree)


def _of_another_version(what: str, module: str, tree: Path) -> str:
    """A package is there, and has not what the script wants of it."""
    top = module.partition(".")[0]
    if _is_of(tree, top):
        return f"the upstream script imports of its own tree what that has not: {what}"
    package = packages.named(module)[1]
    return (
        f"the upstream script was written for another version of {package}: {packages.installed(package) or 'the one'} "
        f"that is installed here has {what}. Install the version it names, in an environment of its own: "
        f"{packages.pip([f'{package}==VERSION'])}"
    )


def _is_of(tree: Path, top: str) -> bool:
    """Whether a module of that name is among the files of an upstream's tree."""
    return any(tree.rglob(f"{top}.py")) or any(path.is_dir() and any(path.glob("*.py")) for path in tree.rglob(top))
