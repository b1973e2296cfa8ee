"""Who may import whom: the rooms of the house form a strict order."""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from adapters.registry import ADAPTERS
from runner.paths import ROOT

ROOMS = ("plugins", "adapters", "runner", "analysis")
LAUNCHER = "runner.launcher"
BLIND = ("evaluate", "stacked", "sgd", "cpu", "protocol", "networks", "augment", "view")


def modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    files = (path for room in ROOMS for path in (root / room).rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


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


def graph(root: Path) -> dict[str, set[str]]:
    """The modules of ours that each module of ours imports."""
    known = modules(root)
    edges: dict[str, set[str]] = {}
    for name, path in known.items():
        asked = imports(path)
        edges[name] = {other for word in asked for other in (word, word.rpartition(".")[0]) if other in known}
        edges[name] -= {
            name,
            *(other for other in edges[name] if not (root / other.replace(".", "/")).with_suffix(".py").is_file()),
        }
    return edges


def foreign(root: Path, room: str) -> set[str]:
    """The top-level names outside the standard library that a room imports."""
    tops = {word.split(".")[0] for name, path in modules(root).items() if inside(name, room) for word in imports(path)}
    return tops - set(sys.stdlib_module_names)


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def breaches(root: Path) -> list[str]:
    """Imports that the order of the rooms forbids."""
    found = [f"plugins import {name}" for name in foreign(root, "plugins") - {"torch"}]
    found += [f"adapters import {name}" for name in foreign(root, "adapters") - {"adapters"}]
    for name, path in modules(root).items():
        for word in sorted(imports(path)):
            if _forbidden(name, word):
                found.append(f"{name} imports {word}")
    return found


def _forbidden(name: str, word: str) -> bool:
    top, ours = word.split(".")[0], word.split(".")[0] in ROOMS
    methods = {f"adapters.{method}" for method in ADAPTERS}
    rules = [
        inside(name, "runner") and top == "plugins",
        inside(name, "runner") and top == "analysis" and not inside(name, "runner.cli"),
        inside(name, "analysis")
        and (top == "adapters" or word.startswith(("runner.git", "runner.process", "runner.patching"))),
        inside(name, LAUNCHER) and ours and not inside(word, LAUNCHER),
        top == "git" and name != "runner.git",
        top == "subprocess" and name != "runner.process",
        name in methods and any(inside(word, other) for other in methods),
        name in {f"runner.{blind}" for blind in BLIND} and top == "adapters",
    ]
    return any(rules)


def test_the_rooms_keep_their_order() -> None:
    assert len(modules(ROOT)) > 30
    assert breaches(ROOT) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    order = list(TopologicalSorter(graph(ROOT)).static_order())
    assert (
        order.index("runner.errors")
        < order.index("runner.files")
        < order.index("runner.run")
        < order.index("runner.cli")
    )


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("plugins/sdc.py", "import numpy"),
        ("plugins/sdc.py", "from runner import run"),
        ("adapters/dc.py", "import torch"),
        ("adapters/dc.py", "from adapters import dm"),
        ("adapters/dc.py", "from runner.errors import FatalError"),
        ("runner/run.py", "def f():\n    from plugins import sdc"),
        ("runner/run.py", "import analysis.theory"),
        ("runner/run.py", "import git"),
        ("runner/run.py", "import subprocess"),
        ("runner/evaluate.py", "from adapters.registry import ADAPTERS"),
        ("runner/launcher/tap.py", "from runner import errors"),
        ("analysis/difficulty.py", "from runner import process"),
        ("analysis/difficulty.py", "import adapters.dc"),
    ],
)
def test_a_breach_is_seen(file: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("import torch\n" if file.startswith("plugins") else "import json\n")
    assert breaches(tmp_path) == []
    path.write_text(line)
    assert breaches(tmp_path) != []


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner" / "a.py").write_text("from runner.b import x")
    (tmp_path / "runner" / "b.py").write_text("def f():\n    from runner import a")
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(tmp_path)).static_order())
