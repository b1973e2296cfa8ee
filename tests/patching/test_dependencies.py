"""Which packages a script needs beyond those that sdc requires, read off it and the files of its tree that it imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sdc.adapters.base import Need
from sdc.patching import arguments, dependencies, loops
from sdc.patching.loops import Loop

TREES: dict[str, tuple[Mapping[str, str], list[Need]]] = {
    "Python's and sdc's own": (
        {"s.py": "import os, sys, sdc, wandb\nimport torch.nn as nn\nfrom PIL import Image\nimport sklearn.svm, git"},
        [],
    ),
    "names that differ": (
        {"s.py": "import cv2\nfrom skimage import io\nimport yaml\nfrom torch.utils.tensorboard import SummaryWriter"},
        [
            Need("opencv-python", "cv2"),
            Need("pyyaml", "yaml"),
            Need("scikit-image", "skimage"),
            Need("tensorboard"),
        ],
    ),
    "an underscore": ({"s.py": "from efficientnet_pytorch import EfficientNet"}, [Need("efficientnet-pytorch")]),
    "files that import files": (
        {"a/s.py": "import one", "a/one.py": "from two import x", "two.py": "import far_away"},
        [Need("far-away")],
    ),
    "files in a circle": ({"s.py": "import t", "t.py": "import s\nimport far"}, [Need("far")]),
    "a package": (
        {"s.py": "from p.q import r", "p/__init__.py": "import first", "p/q/r.py": "from .. import other\nimport last"},
        [Need("first"), Need("last")],
    ),
    "a relative one": (
        {
            "s.py": "import p.q",
            "p/__init__.py": "",
            "p/q.py": "from . import r",
            "p/r.py": "from .t import *",
            "p/t.py": "import far",
        },
        [Need("far")],
    ),
    "a folder that is no package": ({"s.py": "from utils.more import x", "utils/more.py": "import far"}, [Need("far")]),
    "a path that the script adds": (
        {"a/s.py": "import sys\nsys.path.append('../lib')\nimport mine", "lib/mine.py": "import far"},
        [Need("far")],
    ),
    "its own module before another's": ({"s.py": "import timm", "timm.py": "x = 1"}, []),
    "what may be lacking": (
        {
            "s.py": "try:\n    import far\nexcept ImportError:\n    far = None\ntry:\n    import near\nexcept:\n    near = 0"
        },
        [],
    ),
    "what may not": (
        {"s.py": "try:\n    import far\nexcept ImportError:\n    raise SystemExit('get far')"},
        [Need("far")],
    ),
    "for checkers of types": ({"s.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import far"}, []),
    "in a function of the script": ({"s.py": "def main():\n    import far"}, [Need("far")]),
    "in a function of another file": ({"s.py": "import t", "t.py": "def f():\n    import far"}, []),
    "in a class": ({"s.py": "import t", "t.py": "class A:\n    import far"}, [Need("far")]),
    "where another file is run alone": (
        {"s.py": "import t", "t.py": "if __name__ == '__main__':\n    import far\nelse:\n    import near"},
        [Need("near")],
    ),
    "a file of another Python": ({"s.py": "import t\nimport far", "t.py": "print 'two'"}, [Need("far")]),
    "hidden folders": ({"s.py": "import sys\nsys.path\nimport far", ".x/far.py": ""}, [Need("far")]),
}


@pytest.mark.parametrize(("files", "needs"), TREES.values(), ids=TREES)
def test_what_a_script_needs(files: Mapping[str, str], needs: list[Need], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    script = next(name for name in files if name.endswith("s.py"))
    assert list(dependencies.reached(tmp_path, script).needs()) == needs


LINE = "sdc.corrected(loss, g, args, it, 9)"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"for it in range(args.Iteration + 1):\n    {LINE}", Loop("it", "Iteration", 1)),
        (f"for it in range(0, args.Iteration):\n    {LINE}", Loop("it", "Iteration", 0)),
        (f"for it in range(1, args.Iteration + 1):\n    {LINE}", Loop("it", "Iteration", 0)),
        (f"for e in range(args.num_exp):\n  for it in range(args.Iteration):\n    {LINE}", Loop("it", "Iteration", 0)),
        (
            f"for it in range(args.Iteration):\n  for ol in range(args.outer_loop):\n    for c in range(10): {LINE}",
            Loop("it", "Iteration", 0),
        ),
        (f"for it in range(args.Iteration): f()\ndef f(): {LINE}", Loop("it", "Iteration", 0)),
        (f"for i in range(args.Iteration): {LINE}\nfor i in range(3): pass", Loop("", "Iteration", 0)),
        (f"for it in tqdm(range(args.Iteration)): {LINE}", Loop()),
        (f"while True: {LINE}", Loop()),
        (f"for it in range(n):\n  for ot in range(args.outer_loop):\n    {LINE}", Loop()),
        (f"while True:\n  for it in range(args.Iteration): {LINE}", Loop()),
        (f"for it in range(args.Iteration): f()\nfor j in range(args.outer_loop): {LINE}", Loop("j", "outer_loop", 0)),
    ],
)
def test_the_loop_over_iterations(script: str, found: Loop) -> None:
    assert loops.found(script.encode(), ["Iteration", "outer_loop"], ["num_exp"]) == found


def test_options_are_those_of_the_first_file_that_has_any() -> None:
    texts = [b"import t", b"p.add_argument('-b', '--batch', type=int, default=4)", b"p.add_argument('--no')"]
    assert [option.name for option in arguments.of_first(texts)] == ["batch"]
