"""Whose code reads the run's clock: the tree's own, and no library's, wherever its environment lies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from sdc.ground import paths

SCRIPT = """\
import json, sys, time
from pathlib import Path
from sdc.launcher.clock import Clock

Clock(7, Path(sys.argv[1])).install()
def read(file):
    told = {}
    exec(compile("import time; told = time.time()", file, "exec"), told)
    return told["told"]
print(json.dumps([read(file) for file in sys.argv[2:]]))
"""


def test_libraries_in_an_environment_inside_the_tree_keep_the_real_clock() -> None:
    prefix = Path(sys.prefix)
    tree = prefix.parent
    files = [tree / "script.py", prefix / "lib" / "library.py", tree / "package" / "module.py"]
    command = [sys.executable, "-P", "-c", SCRIPT, tree, *files]
    before = time.time()
    done = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, env={"PYTHONPATH": paths.python_path()}
    )
    script, library, module = json.loads(done.stdout)
    assert before <= library <= time.time()
    assert max(script, module) < 10**6
    assert script != module
