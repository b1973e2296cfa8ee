"""What is installed: one package, `sdc`, from a wheel and from an sdist; nobody else's files are in its way or it in theirs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from sdc.ground import paths

THEIRS = ("plugins/__init__.py", "adapters/__init__.py", "patches/__init__.py", "runner.py", "analysis.py", "term.py")
"""Modules of a user, in the folder that the user works in."""


@dataclass(frozen=True)
class Installed:
    """A fresh environment with sdc in it, and what its installation added to site-packages."""

    folder: Path
    added: frozenset[str]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *words: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; its output is shown if it fails."""
        command = [str(self.folder / "bin" / str(words[0])), *map(str, words[1:])]
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, env=_environ(variables), timeout=300
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done


def _environ(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables


@pytest.fixture(scope="module")
def archives_of_the_project(shared: Path) -> dict[str, Path]:
    """An sdist, the wheel that is built of it, and the wheel that is built of the checkout; once for all workers."""
    folder = shared / "dist"
    with FileLock(shared / "dist.lock"):
        if not folder.is_dir():
            build = [sys.executable, "-m", "build", "--no-isolation"]
            subprocess.run([*build, "--outdir", folder, paths.ROOT], check=True, capture_output=True)
            subprocess.run(
                [*build, "--wheel", "--outdir", folder / "direct", paths.ROOT], check=True, capture_output=True
            )
    (sdist,), (wheel,), (direct,) = (folder.glob(name) for name in ("*.tar.gz", "*.whl", "direct/*.whl"))
    return {"sdist": sdist, "wheel": wheel, "direct": direct}


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    request: pytest.FixtureRequest, archives_of_the_project: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """The archive in a fresh environment, beside a package `adapters` of somebody else's; dependencies are the test's."""
    folder = tmp_path_factory.mktemp("environment") / request.param
    site = fresh(folder)
    (site / "adapters").mkdir()
    (site / "adapters" / "__init__.py").write_text("STAND_IN = 'somebody else\\'s'\n")
    before = {path.name for path in site.iterdir()}
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check", "install"]
    alone = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    subprocess.run([*pip, *alone, archives_of_the_project[request.param]], check=True, env=_environ({}))
    return Installed(folder, frozenset({path.name for path in site.iterdir()} - before))


def fresh(folder: Path) -> Path:
    """An environment that has this one's packages, but for sdc; its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # .pth files there are not followed
    return site


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A user's folder, in which modules lie that are called as folders of this project; none may be run."""
    for name in THEIRS:
        file = tmp_path / "work" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"raise SystemExit('the user\\'s own {name} was run')\n")
    return tmp_path / "work"


def test_archives_hold_one_package_with_all_that_it_needs(archives_of_the_project: dict[str, Path]) -> None:
    with (
        zipfile.ZipFile(archives_of_the_project["wheel"]) as wheel,
        zipfile.ZipFile(archives_of_the_project["direct"]) as other,
    ):
        names = set(wheel.namelist())
        assert {name: wheel.read(name) for name in names} == {name: other.read(name) for name in other.namelist()}
    assert {name.split("/")[0] for name in names} == {"sdc", "sdc-0.1.0.dist-info"}
    tracked = subprocess.run(
        ["git", "-C", paths.ROOT, "ls-files", "-coz", "--exclude-standard", "sdc", "plugins", "adapters", "patches"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    files = {name for name in tracked.split("\0") if name and not (paths.ROOT / name).is_symlink()}
    expected = {name if name.startswith("sdc/") else f"sdc/{name}" for name in files}
    assert {name for name in names if name.startswith("sdc/")} == expected
    with tarfile.open(archives_of_the_project["sdist"]) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist}
    assert expected <= members.keys()
    assert all(member.isfile() for member in members.values())
    assert {name.split("/")[0] for name in members if name.endswith(".py")} == {"sdc", "tests", "examples"}


def test_nothing_but_sdc_is_installed_and_what_was_there_keeps_working(installed: Installed, workplace: Path) -> None:
    assert installed.added == {"sdc", "sdc-0.1.0.dist-info"}

    theirs = installed.run("python", "-P", "-c", "import adapters; print(adapters.STAND_IN)", cwd=workplace)
    assert theirs.stdout == "somebody else's\n"
    listed = json.loads(installed.run("sdc", "list", "--json", cwd=workplace, PYTHONPATH=".").stdout)
    assert {row["method"] for row in listed["methods"]} >= {"dc", "dm", "mtt", "datm"}
    term = "import sdc, torch; print(float(sdc.gradient_norm(torch.tensor([3.0, 4.0]))))"
    assert installed.run("python", "-c", term, cwd=workplace, PYTHONPATH=".").stdout == "5.0\n"
    version = installed.run("python", "-P", "-m", "sdc", "--version", cwd=workplace).stdout
    assert version.startswith("sdc 0.1.0, commit unknown\nPython 3.")
    assert "torch" in version
    assert "\ndevice " in version
    ask = "from sdc.cli import machine; print([(f.level, f.value) for f in machine.software()])"
    found = ast.literal_eval(installed.run("python", "-P", "-c", ask, cwd=workplace).stdout)
    assert {level for level, _ in found} == {"ok"}
    assert (found[0][1], found[1][1].endswith(" (installed)")) == ("0.1.0, commit unknown", True)
    assert ", torch 2." in found[-1][1]  # read from what the archive says it needs


@pytest.mark.upstream
@pytest.mark.slow
def test_an_installation_works_where_the_users_own_modules_lie(
    installed: Installed, workplace: Path, true_upstream: None
) -> None:
    def sdc(*words: object) -> str:
        return installed.run("sdc", *words, cwd=workplace, PYTHONPATH=".").stdout

    assert "+ import sdc" in sdc("apply", "dm")
    proof = json.loads(sdc("verify", "dm", "--json"))
    assert (proof["ok"], proof["methods"][0]["added"]) == (True, 3)
    few = ("--set", "Iteration=2", "--set", "networks=1", "--set", "epochs=2", "--set", "limit_per_class=20")
    result = json.loads(sdc("run", "dm", "--dataset", "digits", "--weight", 0.1, *few, "--runs", "runs", "--json"))
    assert result["state"] == "complete"
    sdc("report", "runs", "--html", "page.html")
    assert "dm" in (workplace / "page.html").read_text()
    assert json.loads(sdc("status", "dm", "--json"))["methods"][0]["state"] == "patched"


def test_a_child_process_has_nothing_before_the_standard_library_but_what_the_user_put_there(
    installed: Installed, workplace: Path
) -> None:
    ask = "from sdc.ground import paths; print(repr(paths.python_path()))"
    for theirs in ("", ".", f".{os.pathsep}/nowhere"):
        told = installed.run("python", "-c", ask, cwd=workplace, PYTHONPATH=theirs).stdout
        assert told.strip() == repr(theirs)


def test_a_checkout_that_is_not_installed_is_what_its_child_processes_import(tmp_path: Path) -> None:
    fresh(tmp_path / "environment")
    environment = Installed(tmp_path / "environment", frozenset())
    ask = "from sdc.ground import paths; print(paths.python_path())"

    told = environment.run("python", "-c", ask, cwd=paths.ROOT, PYTHONPATH="/theirs").stdout
    assert told.strip() == os.pathsep.join([str(paths.ROOT), "/theirs"])
    assert environment.run("python", "-m", "sdc", "--version", cwd=paths.ROOT).stdout.startswith("sdc ")


def test_the_lowest_versions_that_are_promised_are_those_that_are_tried() -> None:
    promised = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = re.findall(r"^([\w-]+)==(.+)$", (paths.ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE)
    tried = {name.lower(): version for name, version in pins}

    for each in promised:
        name, lowest = re.split(">=|,", each)[:2]
        assert f"{tried[name]}.".startswith(f"{lowest}."), f"{each}, but tried is {tried[name]}"
