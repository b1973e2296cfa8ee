"""Patching that is cut short: a limit, a full disk, a kill at any moment leave a script whole, and nothing half made."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sdc import cli
from sdc.ground import paths
from tests import fake, rights
from tests.conftest import Sdc
from tests.rights import files_of_at_most

LF = fake.SCRIPT.encode()
CRLF = LF.replace(b"\n", b"\r\n")
CHANGES = ("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")
DEEDS = {
    "apply": [("apply", "fake")],
    "apply --vendor": [("apply", "fake", "--vendor")],
    "revert": [("apply", "fake"), ("revert", "fake")],
    "revert of a vendored one": [("apply", "fake", "--vendor"), ("revert", "fake")],
    "apply --to": [("apply", "fake", "--to", "own")],
    "apply --to --vendor": [("apply", "fake", "--to", "own", "--vendor")],
    "revert --to": [("apply", "fake", "--to", "own"), ("revert", "fake", "--to", "own")],
}
"""What is done before the deed, and last the deed itself."""


@pytest.fixture(autouse=True)
def _own(fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdc: Sdc) -> None:
    """A pristine clone, and a fork of the user's own in `own`, below the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "own" / "train"
    folder.mkdir(parents=True)
    (folder / "distil.py").write_bytes(LF)
    (folder / "helpers.py").write_text(fake.HELPERS)
    fake._commit(tmp_path / "own", {})
    assert (sdc("apply", "fake").code, sdc("revert", "fake").code) == (0, 0)


@pytest.fixture(params=DEEDS)
def deed(request: pytest.FixtureRequest, sdc: Sdc) -> tuple[str, ...]:
    """A command, when all that comes before it is done."""
    *before, last = DEEDS[request.param]
    for command in before:
        assert sdc(*command).code == 0
    return last


def script(deed: Sequence[str]) -> Path:
    return (Path("own") if "--to" in deed else paths.upstream() / "fake") / "train" / "distil.py"


def wholes(deed: Sequence[str]) -> set[bytes]:
    """The script without our lines, and with them."""
    if "--to" in deed:
        return {LF, fake.patched(CRLF).replace(b"\r\n", b"\n")}
    return {CRLF, fake.patched(CRLF)}


def half_made(deed: Sequence[str]) -> list[str]:
    """What else lies beside the script than its own files and a whole copy of the plugin."""
    names = {path.name for path in script(deed).parent.iterdir()} - {"distil.py", "helpers.py", "__pycache__"}
    copy = script(deed).with_name("sdc.py")
    return sorted(names - ({"sdc.py"} if copy.is_file() and copy.read_bytes() == paths.PLUGIN.read_bytes() else set()))


def assert_it_is_done_by_the_same_command(deed: Sequence[str], sdc: Sdc) -> None:
    assert sdc(*deed).code == 0
    assert half_made(deed) == []
    wanted = max(wholes(deed), key=len) if deed[0] == "apply" else min(wholes(deed), key=len)
    assert script(deed).read_bytes() == wanted
    assert script(deed).with_name("sdc.py").exists() == ("--vendor" in deed)


@pytest.mark.parametrize("size", [0, 700, 1600])
def test_a_limit_on_the_size_of_files_changes_nothing(size: int, deed: tuple[str, ...], sdc: Sdc) -> None:
    content = script(deed).read_bytes()
    assert len(content) > 1600  # or the limit would be none

    with files_of_at_most(size):
        code, said = rights.quietly([*deed, "--json"])

    assert code == 1, said
    where = "a file" if "--to" in deed else f"{script(deed)}"  # a merge writes passing files first
    assert said["error"].startswith(
        f"{where} cannot be written: the limit on the size of files is reached (ulimit -f)\n"
    )
    assert "--to" in deed or said["error"].endswith("SDC_UPSTREAM=DIR")
    assert script(deed).read_bytes() == content
    assert half_made(deed) == []
    assert_it_is_done_by_the_same_command(deed, sdc)


def test_a_limit_that_only_the_copy_of_the_plugin_reaches(sdc: Sdc) -> None:
    assert paths.PLUGIN.stat().st_size > 4000 > len(fake.patched(CRLF))
    with files_of_at_most(4000):
        code, said = rights.quietly(["apply", "fake", "--vendor", "--json"])
    assert code == 1
    assert said["error"].startswith(f"{paths.upstream()}/fake/train/sdc.py cannot be written: the limit on the size")
    assert script(()).read_bytes() in wholes(())
    assert half_made(()) == []
    assert_it_is_done_by_the_same_command(("apply", "fake", "--vendor"), sdc)


@pytest.mark.parametrize("folder", ["upstream", "own"])
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_a_full_disk_changes_nothing(
    command: str, folder: str, fake_upstream: fake.Fake, tmp_path: Path, sdc: Sdc
) -> None:
    words = ["fake", *(["--to", tmp_path / "own"] if folder == "own" else [])]
    if command == "revert":
        assert sdc("apply", *words).code == 0
    file = f"{folder}/{'train' if folder == 'own' else 'fake/train'}/distil.py"
    content = (tmp_path / file).read_bytes()

    prefix = rights.full(tmp_path / folder, room=0)
    (done,) = rights.give(fake_upstream.patch.parent, [(command, *words, "--json")], prefix)

    assert done.code == 1, done
    assert done.json["error"].startswith(f"no space left on the disk while writing {tmp_path / file}"), done
    assert done.json["error"].endswith("--to DIR" if folder == "own" else "SDC_UPSTREAM=DIR")
    left = tmp_path / f"{folder}.left" / Path(file).relative_to(folder)
    assert left.read_bytes() == content
    assert not list(left.parents[1].rglob("*.partial"))


def test_killed_at_every_change_of_a_file(deed: tuple[str, ...], sdc: Sdc, tmp_path: Path) -> None:
    folder = script(deed).parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    seen = set()
    for number in itertools.count(1):
        for path in folder.iterdir():
            path.unlink()
        for name, content in before.items():
            (folder / name).write_bytes(content)
        if not _was_killed_at(number, deed, tmp_path):
            break
        assert script(deed).read_bytes() in wholes(deed), number
        seen.add((script(deed).read_bytes(), bool(half_made(deed))))
        assert_it_is_done_by_the_same_command(deed, sdc)
    assert {content for content, _ in seen} == wholes(deed)  # before it was moved, and after
    assert any(half for _, half in seen)  # or nothing had to be swept


def _was_killed_at(number: int, command: Sequence[str], below: Path) -> bool:
    """Whether a process of its own, giving the command, came to its `number`-th change `below` a folder: it is killed."""
    child = os.fork()
    if not child:
        left = number

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in CHANGES and not (event == "open" and _to_write(arguments[2])):
                return
            if isinstance(arguments[0], int) or below in Path(arguments[0]).absolute().parents:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        code = 70
        try:
            code = cli.call(command)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _to_write(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
