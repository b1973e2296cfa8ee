"""`sdc report` over runs of the pin and of forks: none of them share a row, and each is shown as what it is."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.ground.watch import Quiet
from sdc.report import commands, compare, load, make, records, tables
from sdc.report.places import picked, places
from tests import runs as made_up
from tests.report.test_report import BASE, SDC, pair

A, B = "1a2b3c4", "9f8e7d6"
SHOWN = ["dm", f"dm (fork {A})", f"dm (fork {B})"]


def fork(name: str, files: str = "", script: str = "") -> dict[str, Any]:
    """What a cell says of a fork, among its fields."""
    facts = {"name": f"fork {name}", "path": f"/forks/{name}", "commit": name.partition("+")[0].ljust(40, "0")}
    facts |= {"script": script or ADAPTERS["dm"].patch.script, "script_sha256": "e" * 64}
    return {"fork": facts | {"files_sha256": (files or name[:7]).ljust(64, "f")}}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    pair(folder)
    pair(folder, {0: [0.1], 1: [0.2]}, {0: [0.3], 1: [0.3], 2: [0.9]}, more=fork(A))
    pair(folder, {2: [0.7]}, {0: [0.8]}, more=fork(B))
    return folder


def rows(runs: Path) -> list[dict[str, Any]]:
    return records.records(compare.compare(load.load(runs)))


def test_forks_are_paired_within_themselves_and_the_pins_numbers_stay(runs: Path, tmp_path: Path) -> None:
    pair(tmp_path / "alone")
    (alone,) = rows(tmp_path / "alone")
    pin, first, second = rows(runs)
    assert [pin["method"], first["method"], second["method"]] == SHOWN
    assert pin == alone
    assert (first["paired_seeds"], first["base_n"], first["sdc_n"]) == ([0, 1], 2, 3)
    assert first["difference"] == pytest.approx(0.15)
    assert (second["paired_seeds"], second["claim"]) == ([], "no seed in common")


def test_every_form_shows_the_fork(runs: Path) -> None:
    report = make.make(runs, runs / "report", None, Quiet())
    for file in ("results.md", "results.tex", "index.html"):
        text = (runs / "report" / file).read_text()
        assert all(name in text for name in SHOWN[1:]), file
    with (runs / "report" / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == SHOWN
    assert [line["fork_commit"][:7] for line in lines] == ["", A, B]
    titles = [each.title for each in report.compared.sets]
    assert [title.partition(", digits")[0] for title in titles] == [name for name in SHOWN for _ in range(2)]
    (place,) = places(report.compared.test)
    assert [label for label, _ in place.groups] == SHOWN
    brief = [line for each in tables.brief(report.compared.test, "test") for line in each.rows]
    assert [line[0].partition(")")[0] for line in brief[1:]] == [f"dm (fork {A}", f"dm (fork {B}"]


def test_forks_of_one_name_are_told_apart_and_one_that_moved_is_the_same(tmp_path: Path) -> None:
    for files in ("0" * 7, "1" * 7):
        pair(tmp_path / "two", more=fork(A, files))
    first, second = rows(tmp_path / "two")
    assert first["method"] == second["method"] == f"dm (fork {A})"
    assert first["changes"] != second["changes"]

    moved = fork(A)
    moved["fork"] |= {"path": "/moved"}
    pair(tmp_path / "one", BASE, {}, more=fork(A))
    pair(tmp_path / "one", {}, SDC, more=moved)
    (row,) = rows(tmp_path / "one")
    assert row["paired_seeds"] == [0, 1, 2]


@pytest.mark.parametrize("script", ["", "mine.py"])
def test_the_command_of_a_run_names_its_fork(script: str, tmp_path: Path) -> None:
    made_up.make(tmp_path, made_up.Made("dm", "digits", [0.5], more=fork(A, script=script)))
    (run,) = load.load(tmp_path).runs
    words = shlex.split(commands.again(run))
    assert words[words.index("--to") + 1] == f"/forks/{A}"
    assert ("--script" in words, words[-1]) == ((True, script) if script else (False, f"/forks/{A}"))


def test_a_published_accuracy_is_not_of_a_fork_unmarked(tmp_path: Path) -> None:
    pair(tmp_path, dataset="cifar10", recipe="paper", model="ConvNet", more=fork(A))
    (row,) = rows(tmp_path)
    assert row["published_apart"] == f"recipe paper, fork {A}"


def test_a_choice_is_of_its_fork_alone(runs: Path) -> None:
    for weight in (1.0, 4.0):
        for more in ({}, fork(A)):
            pair(runs, {}, {0: [0.5]}, weight=weight, more=more)
    candidate = {"mean": 0.5, "std": 0.01, "n": 9, "difference": 0.01, "low": -0.005, "high": 0.025, "runs": []}
    choice = {
        "method": "dm",
        "dataset": "digits",
        "ipc": 1,
        "model": "ConvNetW32",
        "schedule": "constant",
        "recipe": "quick",
        "validation": 10,
        "seeds": [0],
        "candidates": [{"asked": "4", "weight": 4.0, **candidate}],
        "chosen": {"asked": "4", "weight": 4.0},
    }
    made_up.choose(runs, "0123456789", choice | fork(A))
    found = load.load(runs)
    assert tables.choice_table(found.choices[0]).title.startswith(f"dm (fork {A}) on digits")
    (place,) = places(compare.compare(found).test)
    assert {label: picked(of, found.choices).weight for label, of in place.groups} == {
        "dm": 2.0,
        f"dm (fork {A})": 4.0,
        f"dm (fork {B})": 2.0,
    }


def test_a_fork_whose_record_is_broken_is_told(runs: Path) -> None:
    broken = fork("7777777")
    del broken["fork"]["script_sha256"]
    folder = made_up.make(runs, made_up.Made("dm", "digits", [0.5], more=broken))
    assert [(gone.folder, gone.state) for gone in load.load(runs).unfinished] == [(folder.name, "unreadable")]
