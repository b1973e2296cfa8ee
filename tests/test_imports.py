"""Who may import whom: the rooms of the house form a strict order, and each says which rooms it imports."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sdc
from sdc.adapters.registry import ADAPTERS
from sdc.ground.paths import ROOT

ORDER = [
    "plugins",
    "adapters",
    "ground",
    "launcher",
    "patching",
    "data",
    "evaluation",
    "plan",
    "distillation",
    "report",
    "export",
    "analysis.theory",
    "analysis.difficulty",
    "analysis",
    "bench",
    "cli",
]
"""The rooms, lowest first: one imports from those before it alone."""
ALONE = {"plugins", "adapters", "ground", "launcher"}
"""They import no other room."""
BLIND = {"data", "evaluation"}
"""They know no methods, no upstreams, no git and no processes."""
FOLDERS = {"patches"}
"""In the package, and no code."""
LONGEST = 330
SHARED_NAMES = {"figures", "sdc", "difficulty", "theory"}
"""Names that several files have, for one thing: a room's figures, the term under the package's name, a room's commands."""


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package below `root` by its dotted name, through the links to the folders beside it."""
    found = {}
    for folder, _, files in os.walk(root / "sdc", followlinks=True):
        for path in (Path(folder) / name for name in files if name.endswith(".py")):
            dotted = ".".join(path.relative_to(root).with_suffix("").parts)
            found[dotted.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports anywhere; `from a import b` counts as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    """The room of a module; empty for the package itself and what stands alone in it."""
    parts = name.split(".")[1:]
    two = ".".join(parts[:2])
    return two if two in ORDER else parts[0] if parts and parts[0] in ORDER else ""


def graph(root: Path) -> dict[str, set[str]]:
    """The modules of ours that each module of ours imports."""
    known = modules(root)
    edges: dict[str, set[str]] = {}
    for name, path in known.items():
        asked = imports(path)
        files = {other for word in asked for other in (word, word.rpartition(".")[0]) if other in known}
        edges[name] = {other for other in files if known[other].name != "__init__.py"} - {name}
    return edges


def rooms(root: Path) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    edges: dict[str, set[str]] = {name: set() for name in ORDER}
    for name, path in modules(root).items():
        found = {room(word) for word in imports(path) if word.split(".")[0] == "sdc"}
        if own := room(name):
            edges[own] |= found - {own, ""}
    return edges


def stated(root: Path) -> dict[str, set[str]]:
    """The rooms that each room's `__init__` says it imports; `analysis` stands for both of its parts."""
    found: dict[str, set[str]] = {}
    for name in ORDER:
        text = (root / "sdc" / name.replace(".", "/") / "__init__.py").read_text()
        (line,) = re.findall(r"^Imports: (.*?)\.(?:\s|$)", text, re.MULTILINE)
        words = set() if line.startswith("nothing") else set(re.sub(r" \(.*?\)", "", line).split(", "))
        found[name] = words
    return found


def foreign(path: Path) -> set[str]:
    """The top-level names outside the standard library that a file imports."""
    return {word.split(".")[0] for word in imports(path)} - set(sys.stdlib_module_names)


def breaches(root: Path) -> Iterator[str]:
    """Imports that the order of the rooms forbids."""
    for name, path in modules(root).items():
        own = room(name)
        if own == "plugins" and (more := foreign(path) - {"torch"}):
            yield f"{name} imports {more}"
        if own == "adapters" and (more := foreign(path) - {"sdc"}):
            yield f"{name} imports {more}"
        yield from (f"{name} imports {word}" for word in sorted(imports(path)) if _forbidden(name, own, word))


def _forbidden(name: str, own: str, word: str) -> bool:
    top, theirs = word.split(".")[0], room(word)
    methods = {f"sdc.adapters.{method}" for method in ADAPTERS}
    rules = [
        top in {"plugins", "adapters", "patches", "runner", "analysis"},
        own and theirs and theirs != own and ORDER.index(theirs) > ORDER.index(own),
        own in ALONE and theirs not in ("", own),
        own in BLIND and theirs in {"adapters", "patching", "plan", "distillation"},
        own.startswith("analysis") and theirs in {"adapters", "patching", "distillation", "launcher"},
        own.startswith("analysis.") and theirs.startswith("analysis.") and theirs != own,
        theirs == "plugins" and own != "plugins" and name != "sdc",
        own and word in {f"sdc.{term}" for term in sdc.__all__},
        top == "git" and name != "sdc.patching.git",
        top == "subprocess" and name not in ("sdc.distillation.process", "sdc.ground.crew", "sdc.cli.demo"),
        name in methods and any(word == other or word.startswith(f"{other}.") for other in methods),
    ]
    return any(rules)


def test_the_rooms_keep_their_order() -> None:
    assert len(modules(ROOT)) > 150
    assert list(breaches(ROOT)) == []


def test_every_folder_is_a_room_and_no_file_is_loose() -> None:
    folders = {path.name for path in (ROOT / "sdc").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {name.split(".")[0] for name in ORDER} | FOLDERS
    assert {path.name for path in (ROOT / "sdc").glob("*.py")} == {"__init__.py", "__main__.py"}
    tops = {path.name for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert tops == {"sdc", "plugins", "adapters", "tests", "benchmarks"}


def test_each_room_says_which_rooms_it_imports() -> None:
    seen = {name: {other.split(".")[0] for other in others} - {name} for name, others in rooms(ROOT).items()}
    seen["analysis"] = seen["analysis.difficulty"] | seen["analysis.theory"]  # its `__init__` speaks for both
    assert stated(ROOT) == seen


def test_the_page_on_architecture_has_the_rooms_in_their_order_with_what_they_import() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == [name for name in ORDER if "." not in name]
    told = {name: set(re.findall(r"\w+", words)) - {"nothing", "torch"} for name, words in rows}
    assert told == {name: words for name, words in stated(ROOT).items() if "." not in name}
    files = re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)`", page)
    assert [name for name in files if not any((ROOT / top / name).exists() for top in ("", "sdc"))] == []


def test_no_room_and_no_module_imports_itself_by_a_detour() -> None:
    list(TopologicalSorter(rooms(ROOT)).static_order())
    order = list(TopologicalSorter(graph(ROOT)).static_order())
    below = ["sdc.ground.errors", "sdc.ground.files", "sdc.distillation.run", "sdc.cli.runs"]
    assert sorted(below, key=order.index) == below


def test_a_name_means_one_thing_and_a_file_can_be_read_at_once() -> None:
    found = modules(ROOT)
    names = Counter(name.rpartition(".")[2] for name in found)
    assert {name for name, count in names.items() if count > 1} - {"__main__"} == SHARED_NAMES
    lengths = {name: len(path.read_text().splitlines()) for name, path in found.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_nobody_imports_rooms_by_their_bare_names(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert not {word.split(".")[0] for word in imports(path)} & {"plugins", "adapters", "patches"}, path


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("plugins/sdc.py", "import numpy"),
        ("plugins/sdc.py", "from sdc.ground import errors"),
        ("adapters/dc.py", "import torch"),
        ("adapters/dc.py", "from sdc.adapters import dm"),
        ("adapters/dc.py", "from sdc.ground.errors import FatalError"),
        ("adapters/dc.py", "from adapters import base"),
        ("ground/files.py", "from sdc.adapters.base import Adapter"),
        ("patching/apply.py", "from sdc.data import sets"),
        ("distillation/run.py", "def f():\n    from sdc.plugins import sdc"),
        ("distillation/run.py", "from sdc import corrected"),
        ("distillation/run.py", "import sdc.analysis.theory.saddle"),
        ("distillation/run.py", "import git"),
        ("distillation/run.py", "import subprocess"),
        ("report/make.py", "from sdc.bench import spec"),
        ("evaluation/training.py", "from sdc.adapters.registry import ADAPTERS"),
        ("evaluation/training.py", "from sdc.patching.methods import find"),
        ("launcher/tap.py", "from sdc.ground import errors"),
        ("analysis/difficulty/measure.py", "from sdc.distillation import process"),
        ("analysis/difficulty/measure.py", "import sdc.adapters.dc"),
        ("analysis/theory/saddle.py", "from sdc.analysis.difficulty import gradn"),
        ("analysis/difficulty/gradn.py", "from sdc.analysis.theory import saddle"),
    ],
)
def test_a_breach_is_seen(file: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "sdc" / file
    path.parent.mkdir(parents=True)
    path.write_text("import torch\n" if file.startswith("plugins") else "import json\n")
    assert list(breaches(tmp_path)) == []
    path.write_text(line)
    assert list(breaches(tmp_path)) != []


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "sdc" / "ground"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("from sdc.ground.b import x")
    (folder / "b.py").write_text("def f():\n    from sdc.ground import a")
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(tmp_path)).static_order())
