"""Commands given by a user who may not write where they would, and on file systems that nobody may write to.

`python -m tests.rights FAKE COMMANDS`: the command lines (a JSON list of lists of words) one after another in one
process, with the methods `fake` and `matcher`; prints a JSON list of exit codes, outputs and errors.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sdc.ground import paths
from tests.conftest import Outcome

NOBODY = 65534


def another_user() -> list[str]:
    """The words before a command that have a user without rights give it; skips the test where there is none."""
    if os.geteuid():  # who runs the tests is one
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and there is no setpriv to be somebody else by")
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    tried = [*words, sys.executable, "-c", "import sdc, torch"]
    if subprocess.run(tried, check=False, capture_output=True, cwd=paths.ROOT).returncode:
        pytest.skip(f"a user without rights may not read {sys.executable}, or the code in {paths.ROOT}")
    return words


def read_only(*folders: Path) -> list[str]:
    """The words before a command that give it these folders read-only; skips the test where nobody may mount."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a user mount (unshare -rm)")
    mounts = [f"mount --bind {each} {each} && mount -o remount,ro,bind {each}" for each in folders]
    return ["unshare", "-rm", "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', "sh"]


def full(folder: Path, room: int) -> list[str]:
    """The words before a command that give it a folder's files on a disk that has `room` bytes left; skips likewise.

    What is there in the end is copied to `<folder>.left`.
    """
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a user mount (unshare -rm)")
    inside = (
        f"cp -a {folder} {folder}.whole && mount -t tmpfs -o size=8m tmpfs {folder} && cp -a {folder}.whole/. {folder} && "
        f"{{ cat /dev/zero > {folder}/filler 2>/dev/null; truncate -s -{room} {folder}/filler; }} && "
        f'{{ "$@"; code=$?; rm {folder}/filler; cp -a {folder} {folder}.left; exit $code; }}'
    )
    return ["unshare", "-rm", "sh", "-c", inside, "sh"]


def give(made: Path, commands: Sequence[Sequence[object]], before: Sequence[str] = ()) -> list[Outcome]:
    """Give commands in a process of their own, with `before` as its first words; `made`: the fake's folder."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [*before, sys.executable, "-m", "tests.rights", str(made), words],
        check=False,
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done
    return [Outcome(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]


def quietly(words: Sequence[object]) -> tuple[int, Any]:
    """Give a command in this process, which may write no file; its exit code, and the JSON that it printed."""
    from sdc import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.call([str(word) for word in words])
    return code, json.loads(out.getvalue())


def snapshot(*folders: Path) -> dict[str, bytes | int]:
    """Every file with its content, and every folder with the time when something was last put in or taken out."""
    found: dict[str, bytes | int] = {}
    for path in (each for folder in folders for each in (folder, *sorted(folder.rglob("*")))):
        if path.is_file():
            found[str(path)] = path.read_bytes()
        elif path.is_dir():
            found[str(path)] = path.stat().st_mtime_ns
    return found


def main() -> int:
    """Give the commands, and tell what came of each."""
    from sdc import cli
    from sdc.adapters import registry
    from tests import fake

    adapter = fake.opened(Path(sys.argv[1])).adapter
    registry.ADAPTERS |= {"fake": adapter, "matcher": fake.matcher(adapter)}
    found = []
    for command in json.loads(sys.argv[2]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.call(command)
        found.append((code, out.getvalue(), err.getvalue()))
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every file that grows beyond `size` bytes fails to be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


if __name__ == "__main__":
    sys.exit(main())
