"""Packages that a script imports beyond what sdc requires: asked for before it runs, with the line that installs them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.base import Need
from sdc.adapters.registry import ADAPTERS
from sdc.distillation import endings
from tests import fake
from tests.benches import spec
from tests.conftest import Outcome, Sdc

ABSENT = Need("opencv-none", "cv2_none")
SETTINGS = ("--set", "limit_per_class=3", "--set", "networks=1")
RUN = ("run", "fake", "--weight", "0.1", "--dataset", "digits", *SETTINGS)
INSTALL = "pip install opencv-none 'numpy>=99'"


@pytest.fixture
def in_need(fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods `fake`, and `matcher` whose experts its clone trains, where two packages are lacking."""
    needs = (ABSENT, Need("numpy", version=">=99"), Need("torch"))
    monkeypatch.setitem(ADAPTERS, "fake", dataclasses.replace(fake_upstream.adapter, needs=needs))
    monkeypatch.setitem(ADAPTERS, "matcher", fake.matcher(fake_upstream.adapter))


@pytest.mark.usefixtures("in_need")
@pytest.mark.parametrize(
    "command",
    [
        RUN,
        ("run", "matcher", "--weight", "0", "--dataset", "digits", *SETTINGS),
        ("calibrate", "fake", "--dataset", "digits", *SETTINGS),
        ("experts", "train", "matcher", "--dataset", "digits", *SETTINGS),
        ("bench", "spec.toml"),
    ],
    ids=["run", "run with experts of its clone", "calibrate", "experts", "bench"],
)
def test_it_is_told_once_before_anything_is_run_or_written(
    command: tuple[str, ...], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    spec(tmp_path, weights="[0, 1]").rename("spec.toml")
    outcome = sdc(*command)

    assert outcome.code == 1, outcome
    assert f"Install what is lacking: {INSTALL}" in outcome.err
    assert outcome.err.count("opencv-none (imported as cv2_none), which is not installed here") == 1
    assert re.search(r"numpy>=99, and \d[\w.]* is installed here", outcome.err)
    assert "torch" not in outcome.err
    assert not Path("runs").exists()
    assert not list((tmp_path / "cache").rglob("*plain*"))
    assert not (tmp_path / "upstream" / "fake").exists()


@pytest.mark.usefixtures("in_need")
def test_verify_says_it_in_one_line_and_runs_no_script(sdc: Sdc, tmp_path: Path) -> None:
    assert sdc("apply", "fake").code == 0
    report = tmp_path / "proof.md"
    outcome = sdc("verify", "fake", "--behaviour", "--report", report)

    assert outcome.code == 1
    assert outcome.err.count(INSTALL) == 1
    assert outcome.err.count("fake: weight 0, weight 0.1, options unchecked: the scripts of fake need") == 1
    assert "Traceback" not in outcome.out + outcome.err
    assert report.read_text().count(INSTALL) == 2  # in the table, and among what does not hold


@pytest.mark.usefixtures("fake_upstream")
def test_a_run_that_is_complete_is_read_without_what_its_script_needs(
    sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*RUN, "--set", "epochs=1", "--runs", tmp_path / "runs", "--json")
    first = sdc(*command)
    assert first.code == 0, first
    monkeypatch.setitem(ADAPTERS, "fake", dataclasses.replace(ADAPTERS["fake"], needs=(ABSENT,)))

    again = sdc(*command)

    assert (again.code, again.json["mean"]) == (0, first.json["mean"]), again
    assert "pip install" in sdc(*command, "--again").err


@pytest.mark.usefixtures("in_need")
def test_doctor_and_list_name_it(sdc: Sdc) -> None:
    found = [f for f in sdc("doctor", "--json").json["findings"] if f["section"] == "methods" and f["name"] == "fake"]
    assert [(f["level"], f["remedy"]) for f in found] == [("note", INSTALL)]
    rows = {row["method"]: row["needs"] for row in sdc("list", "--json").json["methods"]}
    assert rows["fake"] == ["opencv-none", "numpy>=99", "torch"]
    assert rows["dm"] == []


@pytest.fixture
def importing(sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The method `fake` with a script that says more behind its imports, applied."""

    def make(more: str) -> None:
        text = fake.SCRIPT.replace("from helpers import shrink", f"from helpers import shrink\n{more}")
        made = fake.build(tmp_path / "fake", text)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.git_config))
        monkeypatch.setitem(ADAPTERS, "fake", made.adapter)
        assert sdc("apply", "fake").code == 0

    return make


def test_what_no_adapter_names_is_one_cause_too(importing: Callable[..., None], sdc: Sdc, tmp_path: Path) -> None:
    importing("import none_such.parts")
    said = "the upstream script imports none_such, which is not installed here. Install it: pip install none-such"

    ran = sdc(*RUN, "--runs", tmp_path / "runs")
    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err

    verified = sdc("verify", "fake", "--behaviour", "--json")
    details = {claim["detail"] for claim in verified.json["methods"][0]["claims"]}
    assert (verified.code, len(details)) == (1, 1)
    assert "pip install none-such" in details.pop()
    assert verified.err.count("pip install") <= 1


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("ModuleNotFoundError: No module named 'cv2'", "Install it: pip install opencv-python"),
        ("ModuleNotFoundError: No module named 'skimage.metrics'", "Install it: pip install scikit-image"),
        ("ModuleNotFoundError: No module named 'google.protobuf'", "Install it: pip install protobuf"),
        ("ModuleNotFoundError: No module named 'imp'", "imports imp, which Python 3."),
        ("ModuleNotFoundError: No module named 'torch._six'", "written for another version of torch"),
        ("ImportError: cannot import name 'rotate' from 'scipy.none' (/x/scipy/none.py)", "no rotate in scipy.none"),
        ("ModuleNotFoundError: No module named 'helpers.more'; 'helpers' is not a package", "of its own tree"),
        ("ImportError: cannot import name 'f' from 'helpers' (/x/helpers.py)", "of its own tree"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file", "libGL.so.1, a library"),
        ("ImportError: numpy.core.multiarray failed to import", "could not import what it needs: numpy.core"),
    ],
)
def test_an_import_that_fails_has_its_cause_and_remedy(last: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "helpers.py").touch()
    assert said in endings.missing_import(["Traceback (most recent call last):", "  import x", last, ""], tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["ValueError: told to"],
        ["ModuleNotFoundError: No module named 'cv2'", "ValueError: it goes on, and then"],
        ["    ModuleNotFoundError: No module named 'cv2'", "KeyError: 'it was printed by the script'"],
    ],
)
def test_another_end_is_none_of_that(lines: list[str], tmp_path: Path) -> None:
    assert endings.missing_import(lines, tmp_path) == ""


def test_a_dry_run_of_a_bench_says_what_is_lacking(in_need: None, sdc: Sdc, tmp_path: Path) -> None:
    outcome: Outcome = sdc("bench", spec(tmp_path), "--dry-run", "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["cells"]
    assert INSTALL in outcome.err
