"""`[method.NAME] clone = DIR`: the cells of a method are of a fork, and a report holds them apart from the pin's."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.analysis.difficulty import samples
from sdc.bench import conduct
from tests import fake
from tests.benches import in_this_process
from tests.conftest import Outcome, Sdc
from tests.forked import edit, everything, fork, git, patched

SPEC = """\
methods = ["fake", "other"]
datasets = ["digits"]
weights = [0, 0.5]
[set]
limit_per_class = 3
steps = 3
networks = 1
epochs = 1
model = "ConvNetD1"
[evaluate]
floor = false
"""
CLONE = '[method.fake]\nclone = "../own"\n'
Bench = Callable[..., Outcome]


@pytest.fixture
def own(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> Path:
    return patched(fake_upstream, sdc, tmp_path / "own")


@pytest.fixture
def bench(own: Path, sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`bench(text, *options)`: a spec in the folder `specs`, its tasks done in this process."""
    monkeypatch.setitem(ADAPTERS, "other", dataclasses.replace(fake_upstream.adapter, method="other"))
    in_this_process(monkeypatch)
    (tmp_path / "specs").mkdir()

    def call(text: str, *options: object) -> Outcome:
        (tmp_path / "specs" / "spec.toml").write_text(text)
        return sdc("bench", tmp_path / "specs" / "spec.toml", "--runs", tmp_path / "runs", *options, "--json")

    return call


def test_a_fork_and_the_pin_never_share_a_row(bench: Bench, own: Path, sdc: Sdc, tmp_path: Path) -> None:
    before = everything(own)
    first, again = bench(SPEC + CLONE), bench(SPEC + CLONE)
    assert (first.code, first.json["states"], again.json["ran"]) == (0, {"done": 4}, 0), first
    assert bench(SPEC.replace(', "other"', "")).json["ran"] == 2
    assert everything(own) == before
    name = f"fake (fork {git(own, 'rev-parse', 'HEAD')[:7]})"
    assert [cell["name"].partition(" digits")[0] for cell in first.json["cells"]] == [name, name, "other", "other"]

    edit(own / "train" / "helpers.py", "0.5", "0.75")
    assert bench(SPEC.replace(', "other"', "") + CLONE).json["ran"] == 2

    seen = {source.label for source in samples.distilled_sets([tmp_path / "runs"])}
    assert {label.rpartition(", weight")[0].partition(", ")[0] for label in seen} >= {"fake", name, "other"}
    assert len(seen) == 8
    report = sdc("report", tmp_path / "runs", "--json").json
    edited = next(row["method"] for row in report["rows"] if "+" in row["method"])
    assert {row["method"] for row in report["rows"]} == {"fake", name, edited, "other"}
    assert all(row["paired_seeds"] == [0] for row in report["rows"])
    by_name = {row["method"]: row["base_runs"] + row["sdc_runs"] for row in report["rows"]}
    for method, folders in by_name.items():
        cells = [json.loads((tmp_path / "runs" / each / "cell.json").read_text()) for each in folders]
        named = {f"fake ({cell['fork']['name']})" if "fork" in cell else cell["method"] for cell in cells}
        assert (len(folders), named) == (2, {method})
    folder = tmp_path / "runs" / "report"
    assert {line["method"] for line in csv.DictReader((folder / "results.csv").open(newline=""))} == set(by_name)
    for file in ("results.md", "results.tex", "index.html"):
        text = (folder / file).read_text()
        assert all(method in text for method in by_name), file
    assert f"--to {own}" in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[method.fake]\nclone = "../pristine"\n', "Run: sdc apply fake --to"),
        ('[method.fake]\nclone = "../nowhere"\n', "is no folder"),
        ("[method.fake]\nclone = 3\n", "clone is 3; give a path"),
        ('[method.fake]\nscript = "x.py"\n', 'clone = "DIR"'),
        ('[method.fake]\nclone = "../own"\nscript = "x.py"\n', "x.py does not exist"),
    ],
)
def test_a_fork_that_cannot_be_run_is_refused_before_anything_is(
    text: str, said: str, bench: Bench, fake_upstream: fake.Fake, tmp_path: Path
) -> None:
    fork(fake_upstream, tmp_path / "pristine")
    outcome = bench(SPEC + text)
    assert outcome.code == 1
    assert said in outcome.json["error"]
    assert not (tmp_path / "runs").exists()


def test_a_fork_that_is_changed_meanwhile_fails_its_own_cells_alone(
    bench: Bench, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = own / "train" / "helpers.py"
    with monkeypatch.context() as patch:
        patch.setattr(conduct, "_patch", lambda *_: helper.write_text("def shrink(image):\n    return image\n"))
        outcome = bench(SPEC + CLONE)

    assert outcome.code == 1
    assert outcome.json["states"] == {"failed": 2, "done": 2}
    errors = [cell["error"] for cell in outcome.json["cells"] if cell["state"] == "failed"]
    assert all(f"{own} is not what it was when this run of fake (fork" in error for error in errors)

    helper.write_text(fake.HELPERS)
    again = bench(SPEC + CLONE, "--retry-failed")
    assert (again.code, again.json["states"], again.json["ran"]) == (0, {"done": 4}, 2), again


def test_an_exported_task_is_of_the_fork_as_it_was_exported(bench: Bench, own: Path, tmp_path: Path, sdc: Sdc) -> None:
    (tmp_path / "profile.toml").write_text('time = "01:00:00"\ncores = 2\njobs = 2\n')
    jobs = tmp_path / "jobs"
    assert bench(SPEC + CLONE, "--export", jobs, "--profile", tmp_path / "profile.toml").code == 0
    command = (jobs / "cells.sbatch").read_text().splitlines()[-1].partition(" -m sdc ")[2]
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], check=True, capture_output=True, text=True)
    asked = words.stdout.splitlines()[:-1]

    assert sdc(*asked, 0).code == 0
    edit(own / "train" / "helpers.py", "0.5", "0.75")
    changed, other = sdc(*asked, 1, "--json"), sdc(*asked, 2)
    assert changed.code == 1
    assert "is not what it was when these scripts were exported" in changed.json["error"]
    assert other.code == 0
