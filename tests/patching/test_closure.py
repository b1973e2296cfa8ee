"""What a script imports from its tree: found by reading it, wherever the import stands, as Python would find it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sdc.patching import closure

TREE = {
    "buffer/train.py": "import sys\nimport torch\nfrom utils.nets import build\ndef f():\n    import late\n",
    "buffer/late.py": "from opt import step, sam\n",
    "buffer/opt/__init__.py": "from . import step\nfrom .sam import SAM\n",
    "buffer/opt/step.py": "",
    "buffer/opt/sam.py": "from ..opt.deep import x\n",
    "buffer/opt/deep/x.py": "",
    "buffer/never.py": "",
    "utils/nets.py": "import reparam as r\n",
    "utils/never.py": "",
    "reparam.py": "def broken(:\n",
    "distil.py": "import late",
    "late.py": "the one beside the script comes first",
}


def tree(folder: Path, files: Mapping[str, str] = TREE) -> dict[str, bytes]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return closure.files(folder / "buffer" / "train.py", folder)


def test_all_that_it_imports_is_found_and_nothing_else(tmp_path: Path) -> None:
    assert set(tree(tmp_path)) == {
        *("buffer/train.py", "utils/nets.py", "reparam.py", "buffer/late.py"),
        *("buffer/opt/__init__.py", "buffer/opt/step.py", "buffer/opt/sam.py", "buffer/opt/deep/x.py"),
    }


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("buffer/opt/step.py", "RATE = 1", False),
        ("torch.py", "", False),
        ("buffer/train.py", TREE["buffer/train.py"].replace("late", "never"), False),
        ("reparam.py", "def other(:\n", False),
        ("buffer/never.py", "RATE = 1", True),
        ("distil.py", "RATE = 1", True),
        ("buffer/train.py", "# mine\r\n" + TREE["buffer/train.py"].replace("\n", "\r\n").replace("    ", "\t"), True),
        ("buffer/late.py", "from opt import (\n    step,\n    sam,\n)\n", True),
    ],
)
def test_two_trees_are_the_same_if_what_is_imported_does_the_same(
    name: str, text: str, same: bool, tmp_path: Path
) -> None:
    mine, theirs = tree(tmp_path / "mine"), tree(tmp_path / "theirs", TREE | {name: text})
    assert closure.same(mine, theirs) is same
    if not same:
        assert closure.digest(mine) != closure.digest(theirs)
