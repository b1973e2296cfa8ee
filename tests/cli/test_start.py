"""How commands start: what they load, what they need on the machine, and what they say of themselves."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import sdc
from sdc.ground import paths
from tests import fake, runs
from tests.conftest import Sdc


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_version_says_which_code_runs_on_what(sdc: Sdc) -> None:
    told = sdc("--version")
    commit = subprocess.run(
        ["git", "-C", paths.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()

    assert told.code == 0, told
    first, second, third = told.out.splitlines()
    assert first.removesuffix("-dirty") == f"sdc {version('sdc')}, commit {commit}"
    assert second == f"Python {platform.python_version()}, torch {torch.__version__}"
    assert third.split(" (")[0] == ("device cuda" if torch.cuda.is_available() else "device cpu")


def test_help_lists_the_commands_as_people_come_to_need_them(sdc: Sdc) -> None:
    rows = sdc("--help").out.partition("Commands:")[2].splitlines()
    names = [row.split()[0] for row in rows if row.startswith("  ") and row[2] != " "]
    assert names[:6] == ["list", "doctor", "apply", "revert", "status", "verify"]
    assert len(names) == 17


def test_python_dash_m_is_the_command() -> None:
    done = [
        subprocess.run([sys.executable, *words, "list", "--json"], capture_output=True, text=True, check=True).stdout
        for words in (["-m", "sdc"], ["-c", "from sdc.cli import main; main()"])
    ]
    assert done[0] == done[1] != ""


def test_help_loads_neither_torch_nor_git() -> None:
    code = "import sys; from sdc import cli; cli.call(['--help']); print([m for m in ('torch', 'git') if m in sys.modules])"
    assert alone(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["run", "dm", "--weight", "0"], ["list", "--json"], ["--help"]])
def test_where_files_cannot_be_locked_one_line_says_where_it_runs(words: list[str]) -> None:
    """As on Windows, which has no fcntl; filelock, which has a way of its own there, would warn here."""
    missing = "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['fcntl'] = None"
    told = alone(f"{missing}; sys.argv[1:] = {words}; from sdc.cli import main; main()")
    line = "sdc runs on Linux, macOS or WSL; this system has no fcntl, with which it locks files"
    assert (told.returncode, told.stderr) == (1, f"error: {line}\n")
    assert (json.loads(told.stdout) if "--json" in words else told.stdout) in ({"error": line}, "")


def test_the_package_hands_on_the_term_when_it_is_asked_for_it() -> None:
    from sdc.plugins import sdc as term

    public = {name for name, value in vars(term).items() if getattr(value, "__module__", "") == term.__name__}
    assert set(sdc.__all__) == {name for name in public if not name.startswith("_")} | {"SCHEDULES"}
    assert all(getattr(sdc, name) is getattr(term, name) for name in sdc.__all__)
    assert set(sdc.__all__) <= set(dir(sdc))
    with pytest.raises(AttributeError, match="module 'sdc' has no attribute 'nothing'"):
        sdc.nothing  # noqa: B018
    told = alone("import sys, sdc; print('torch' in sys.modules); sdc.corrected; print('torch' in sys.modules)")
    assert told.stdout.split() == ["False", "True"]


@pytest.fixture
def no_git(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without git."""
    (tmp_path / "empty").mkdir()
    return os.environ | {"PATH": str(tmp_path / "empty"), "SDC_CACHE": str(tmp_path / "cache")}


def test_what_needs_no_git_works_without(no_git: dict[str, str], tmp_path: Path) -> None:
    for weight in (0.0, 2.0):
        runs.make(tmp_path / "runs", runs.Made("dm", "digits", [0.5, 0.6], weight=weight))
    torch.save(torch.randn(10, 3, 32, 32), tmp_path / "images_1.pt")
    torch.save(torch.arange(10), tmp_path / "labels_1.pt")
    brief = "--dataset digits --networks 1 --model ConvNetD1 --set epochs=1"
    for asked in (
        "--help",
        "--version",
        "list --json",
        "theory point --alpha-tot 4 --fraction 0.5 --theta 10 --keep hard",
        "report runs",
        f"evaluate images_1.pt {brief}",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sdc", *asked.split()],
            capture_output=True,
            text=True,
            env=no_git,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done
        assert done.stdout


def test_what_needs_git_says_how_to_get_it(
    fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path, no_git: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sdc("apply", "fake").code == 0
    for words in (["apply", "dm"], ["run", "dm", "--dataset", "digits", "--weight", "0"]):
        done = subprocess.run(
            [sys.executable, "-m", "sdc", *words], capture_output=True, text=True, env=no_git, check=False, cwd=tmp_path
        )
        assert done.returncode == 1, done
        assert done.stderr.splitlines()[-1] == "error: git was not found. Install it, for example: apt-get install git"
    monkeypatch.setenv("PATH", no_git["PATH"])  # and where it is gone in the middle
    gone = sdc("status", "fake")
    assert (gone.code, "git was not found" in gone.err) == (1, True), gone
