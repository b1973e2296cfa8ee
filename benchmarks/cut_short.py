"""What cuts patching short: `python -m benchmarks.faults --of patching`.

Each of apply and revert, of the product's own clone and of a fork (`--to`), with and without `--vendor`, is given in a
process that meets one of three faults: files may not grow beyond a random size; the disk has a random room left; kill
-9 at a random moment: of the time that the command takes, or, every other time, right before a random one of the
changes that it makes to files. After it the script has to be pristine or patched, to the byte; the same command, given
again, has to do its work and to leave nothing half made.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdc import cli
from sdc.adapters.base import Adapter
from sdc.ground import paths
from sdc.patching import apply, clones

DEEDS = ("apply", "apply --vendor", "revert", "apply --to", "apply --to --vendor", "revert --to")
FAULTS = ("limit reached", "disk full", "killed")
_DISK = 16 * 2**20
_CHANGES = ("open", "os.chmod", "os.chown", "os.remove", "os.rename")
_MOST = 12
"""So many changes of files, about, does a command make that puts a copy of the plugin beside a script."""


@dataclass(frozen=True)
class _Stage:
    """A folder with a pristine clone in `upstream` and a fork of it in `fork`, and what commands do there."""

    adapter: Adapter
    folder: Path
    pristine: bytes
    patched: bytes

    def command(self, deed: str) -> list[str]:
        """The words of a deed."""
        verb, *options = deed.split()
        to = ["--to", str(self.folder / "fork"), "--uncommitted"] if "--to" in options else []
        return [verb, self.adapter.method, *to, *(["--vendor"] if "--vendor" in options else [])]

    def tree(self, deed: str) -> Path:
        """The folder that a deed changes."""
        return self.folder / ("fork" if "--to" in deed else f"upstream/{self.adapter.method}")

    def script(self, deed: str) -> Path:
        """The script that a deed changes."""
        return self.tree(deed) / self.adapter.patch.script

    def prepare(self, deed: str) -> None:
        """What has to be so before it."""
        copy = self.script(deed).with_name("sdc.py")
        copy.unlink(missing_ok=True)
        self.script(deed).write_bytes(self.patched if deed.startswith("revert") else self.pristine)

    def half_made(self, deed: str) -> list[str]:
        """What lies in the tree and is nobody's: half-made files, a copy of the plugin that is not whole."""
        copy, folder = self.script(deed).with_name("sdc.py"), self.tree(deed)
        left = [str(path) for path in folder.rglob("*.partial")]
        return left + ([str(copy)] if copy.is_file() and copy.read_bytes() != paths.PLUGIN.read_bytes() else [])


@dataclass(frozen=True)
class _Outcome:
    """What one fault came to."""

    fault: str
    code: int
    """Of the command that met it; negative: killed."""
    whole: bool
    mended: bool
    half_made: tuple[str, ...]


def campaign(adapter: Adapter, runs: int, seed: int, *, as_json: bool) -> int:
    """Meet each fault `runs` times and print the counts; the exit code is 0 if every script stayed whole."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cut-short-") as name:
        stage = _stage(adapter, Path(name))
        usual = {deed: _usual(stage, deed) for deed in DEEDS}
        outcomes = []
        for fault in FAULTS:
            for number in range(runs):
                draw = random.Random(f"{seed}/{fault}/{number}")
                outcomes.append(_met(stage, fault, DEEDS[number % len(DEEDS)], usual, draw))
    rows = {fault: [each for each in outcomes if each.fault == fault] for fault in FAULTS}
    found = {
        "method": adapter.method,
        **{
            fault: {
                "runs": len(of),
                "pristine or patched": sum(each.whole for each in of),
                "done by the same command": sum(each.mended for each in of),
                "half files": sum(len(each.half_made) for each in of),
                "ended with": {str(code): count for code, count in sorted(Counter(each.code for each in of).items())},
            }
            for fault, of in rows.items()
        },
        "seconds": round(time.monotonic() - began),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(found) if as_json else "\n".join(f"{name}: {value}" for name, value in found.items()))
    for each in outcomes:
        for path in each.half_made:
            print(f"half-made: {path}", file=sys.stderr)
    return int(not all(each.whole and each.mended and not each.half_made for each in outcomes))


def _stage(adapter: Adapter, folder: Path) -> _Stage:
    os.environ["SDC_UPSTREAM"] = str(folder / "upstream")
    apply.apply(adapter)
    patched = clones.script_path(adapter).read_bytes()
    apply.revert(adapter)
    pristine = clones.script_path(adapter).read_bytes()
    shutil.copytree(clones.clone_path(adapter), folder / "fork")
    return _Stage(adapter, folder, pristine, patched)


def _usual(stage: _Stage, deed: str) -> float:
    """The seconds that a deed takes, in a process of its own that has all imported."""
    taken = []
    for _ in range(3):
        stage.prepare(deed)
        began = time.monotonic()
        if _ended(_begin(stage.command(deed))):
            raise SystemExit(f"{deed} fails without any fault")
        taken.append(time.monotonic() - began)
    return min(taken)


def _met(stage: _Stage, fault: str, deed: str, usual: dict[str, float], draw: random.Random) -> _Outcome:
    """Prepare a deed, do it under a fault, look at what it left, and do it once more."""
    stage.prepare(deed)
    room = draw.randrange(len(stage.patched))
    if fault == "killed":
        code = _killed(stage, deed, usual[deed], draw)
    elif fault == "limit reached":
        code = _ended(_begin(stage.command(deed), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))))
    else:
        code = _on_a_small_disk(stage, deed, room)
    whole = stage.script(deed).read_bytes() in (stage.pristine, stage.patched)
    wanted = stage.pristine if deed.startswith("revert") else stage.patched
    mended = _ended(_begin(stage.command(deed))) == 0 and stage.script(deed).read_bytes() == wanted
    return _Outcome(fault, code, whole, mended, tuple(stage.half_made(deed)))


def _killed(stage: _Stage, deed: str, usual: float, draw: random.Random) -> int:
    if draw.random() < 0.5:
        number = draw.randint(1, _MOST)
        return _ended(_begin(stage.command(deed), lambda: _die_at(number, stage.tree(deed))))
    child = _begin(stage.command(deed))
    time.sleep(draw.uniform(0, usual))
    os.kill(child, signal.SIGKILL)
    return _ended(child)


def _die_at(number: int, below: Path) -> None:
    """From now on this process kills itself right before its `number`-th change of a file below a folder."""
    left = number

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in _CHANGES or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if isinstance(arguments[0], int) or below in Path(arguments[0]).absolute().parents:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _begin(command: Sequence[str], first: Callable[[], None] = lambda: None) -> int:
    """Give a command in a copy of this process, which does something first; the number of that process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        first()
        code = cli.call(command)
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _on_a_small_disk(stage: _Stage, deed: str, room: int) -> int:
    """Do a deed where its tree lies on a disk with so many bytes left; the tree as it is then takes the place of it."""
    tree, left = stage.tree(deed), stage.folder / "left"
    inside = (
        f"cp -a {tree} {tree}.whole && mount -t tmpfs -o size={_DISK} tmpfs {tree} && cp -a {tree}.whole/. {tree} && "
        f"{{ cat /dev/zero > {tree}/filler 2>/dev/null; truncate -s -{room} {tree}/filler; }} && "
        f'{{ "$@"; code=$?; rm {tree}/filler; cp -a {tree} {left}; exit $code; }}'
    )
    command = [sys.executable, "-m", "sdc", *stage.command(deed)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", *command],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
    )
    shutil.rmtree(f"{tree}.whole", ignore_errors=True)
    if not left.is_dir():
        raise SystemExit(f"no small disk could be mounted: {done.stderr.decode()}")
    shutil.rmtree(tree)
    left.rename(tree)
    return done.returncode
