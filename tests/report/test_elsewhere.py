"""Sets made elsewhere: what `sdc evaluate FILE --runs DIR` keeps, and that `sdc report DIR` shows what was assumed."""

from __future__ import annotations

import json
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from sdc.data import store
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View, normalised
from tests import runs as made_up
from tests.conftest import Outcome, Sdc
from tests.runs import Made

BRIEF = ("--networks", 2, "--model", "ConvNetD1,MLP", "--set", "epochs=3", "--set", "augment=", "--json")


class Details(HTMLParser):
    """The terms and descriptions of the page's <details> by the set (or run) that they are of, and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.of: dict[str, list[tuple[str, str]]] = {}
        self.links: list[str] = []
        self.ids: dict[str, str] = {}
        self._own, self._tag = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "details" and (own := found.get("data-set") or found.get("data-run")):
            self._own = own
            self.ids[own] = str(found["id"])
            self.of[own] = []
        if tag in ("dt", "dd") and self._own:
            self._tag = tag
            self.of[self._own] += [("", "")] if tag == "dt" else []
        self.links += [str(found["href"])] if tag == "a" else []

    def handle_endtag(self, tag: str) -> None:
        self._tag = "" if tag == self._tag else self._tag
        self._own = "" if tag == "details" else self._own

    def handle_data(self, data: str) -> None:
        if self._own and self._tag:
            term, told = self.of[self._own][-1]
            self.of[self._own][-1] = (term + data, told) if self._tag == "dt" else (term, told + data)


def page(runs: Path) -> Details:
    return Details((runs / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One digit of each class: as images beside labels, and as two experiments in one file, the first of them black."""
    digits = store.load("digits")
    first = torch.stack([(digits.train.labels == label).nonzero()[0, 0] for label in range(10)])
    plain = normalised(digits.train.images[first], View("digits", digits.classes, 3, 32, (0.0,) * 3, (1.0,) * 3))
    torch.save((plain - 0.5) / 0.25, tmp_path / "images_5.pt")
    torch.save(torch.arange(10), tmp_path / "labels_5.pt")
    torch.save({"data": [[0 * plain, torch.arange(10)], [plain, torch.arange(10)]]}, tmp_path / "res_DM_X.pt")
    return tmp_path


@pytest.fixture
def keep(sdc: Sdc, files: Path) -> Any:
    def evaluated(*more: object) -> Outcome:
        names = [files / name if str(name).endswith(".pt") else name for name in more]
        outcome = sdc("evaluate", *names, "--dataset", "digits", "--runs", files / "runs", *BRIEF)
        assert outcome.code == 0, outcome
        return outcome

    return evaluated


def test_a_result_is_kept_whole_and_the_report_shows_what_was_assumed_and_given(
    keep: Any, sdc: Sdc, files: Path
) -> None:
    runs = files / "runs"
    kept = keep("images_5.pt", "--set", "mean=0.5", "--set", "std=0.25").json
    folder = Path(kept["kept"])
    assert folder.parent == runs / "elsewhere"
    result = json.loads((folder / "result.json").read_text())
    assert result == {name: value for name, value in kept.items() if name != "kept"}
    assert result["shown"]["mean"] == [0.5] * 3
    assert result["labels"].startswith("label 0 = 0, 1 = 1, ")

    reported = sdc("report", runs, "--json")
    assert reported.code == 0, reported
    rows = {row["evaluated_model"]: row for row in reported.json["elsewhere"]}
    for model in ("ConvNetD1", "MLP"):
        accuracies = [one["accuracy"] for one in result["accuracy"] if one["model"] == model]
        assert (rows[model]["accuracy_mean"], rows[model]["accuracy_n"]) == (
            pytest.approx(statistics.fmean(accuracies)),
            2,
        )
        assert rows[model]["accuracy_std"] == pytest.approx(statistics.pstdev(accuracies))
    told = dict(page(runs).of[folder.name])
    assert told["given: mean"] == "0.5, 0.5, 0.5"
    assert told["given: std"] == "0.25, 0.25, 0.25"
    assert told["assumed: labels"].startswith("hard")
    assert told["assumed: whitening"] == "none"
    assert told["assumed: network"] == "ConvNet"
    assert told["assumed: protocol"].startswith("lr 0.01, epochs 1000, batch 256, ")
    assert told["protocol taken"].startswith("lr 0.01, epochs 3, batch 256, ")
    assert told["images shown"] == result["shown"]["words"]
    assert told["classes"] == result["labels"]
    assert f"#{page(runs).ids[folder.name]}" in page(runs).links
    text = (runs / "report" / "results.md").read_text(encoding="utf-8")
    mean, std = (f"{100 * rows['MLP'][f'accuracy_{part}']:.2f}" for part in ("mean", "std"))
    assert f"| images_5.pt | digits | 10x3x32x32 | MLP | {mean} ± {std} (2) |" in text
    assert "Sets made elsewhere" in (runs / "report" / "results.tex").read_text(encoding="utf-8")


def test_the_command_that_is_told_gives_it_again_in_the_same_folder(keep: Any, sdc: Sdc, files: Path) -> None:
    import shlex

    kept = keep("res_DM_X.pt", "--experiment", 1, "--labels", "hard", "--set", "std=0.5").json
    command = shlex.split(kept["again"])
    assert command[:2] == ["sdc", "evaluate"]
    again = sdc(*command[1:], "--runs", files / "runs", "--json")
    assert again.code == 0, again
    assert (again.json["kept"], again.json["accuracy"]) == (kept["kept"], kept["accuracy"])
    assert len(list((files / "runs" / "elsewhere").iterdir())) == 1
    other = keep("res_DM_X.pt", "--experiment", 0).json
    assert other["kept"] != kept["kept"]


def test_all_experiments_of_a_file_are_in_one_row_and_each_ones_own_below(keep: Any, sdc: Sdc, files: Path) -> None:
    kept = keep("res_DM_X.pt").json
    assert sdc("report", files / "runs").code == 0
    told = dict(page(files / "runs").of[Path(kept["kept"]).name])
    own = [f"{100 * one['mean']:.2f} ± {100 * one['std']:.2f} ({one['n']})" for one in kept["experiments"]]
    assert told["by experiment (%)"] == f"0: {own[0]}, 1: {own[1]}"
    assert told["assumed: experiment"] == "asked all, of 2"
    assert [one["n"] for one in kept["experiments"]] == [4, 4]


def test_a_set_that_says_all_itself_has_nothing_assumed(sdc: Sdc, tmp_path: Path) -> None:
    view = View("digits", tuple("0123456789"), 1, 32, (0.5,), (0.5,))
    made = DistilledSet(torch.randn(10, 1, 32, 32), torch.arange(10), view, Protocol(0.01, 3))
    distilled.save(made, tmp_path / "theirs.safetensors")
    asked = ("--networks", 1, "--model", "ConvNetD1", "--runs", tmp_path / "runs")
    outcome = sdc("evaluate", tmp_path / "theirs.safetensors", *asked)
    assert outcome.code == 0, outcome
    (folder,) = (tmp_path / "runs" / "elsewhere").iterdir()
    assert str(folder) in outcome.out
    shown = sdc("report", tmp_path / "runs")
    assert "theirs.safetensors" in shown.out
    assert dict(page(tmp_path / "runs").of[folder.name])["assumed"].startswith("nothing")


def test_without_runs_nothing_is_kept(sdc: Sdc, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    assert sdc("evaluate", files / "images_5.pt", "--dataset", "digits", *BRIEF).code == 0
    assert sorted(path for path in files.rglob("*") if path.suffix != ".lock") == before


def test_a_runs_own_set_is_refused_before_anything_is_evaluated(sdc: Sdc, files: Path) -> None:
    run = made_up.make(files / "runs", Made("dm", "digits", [0.5]))
    outcome = sdc("evaluate", files / "images_5.pt", run, "--dataset", "digits", "--runs", files / "runs", *BRIEF)
    assert outcome.code == 1
    assert f"{run} is the set of a run, not one made elsewhere" in outcome.err
    assert "[evaluate]" in outcome.err
    assert not (files / "runs" / "elsewhere").exists()


def test_beside_runs_and_what_cannot_be_read_is_told(keep: Any, sdc: Sdc, files: Path) -> None:
    runs = files / "runs"
    made_up.make(runs, Made("dm", "digits", [0.5, 0.6]))
    folder = Path(keep("images_5.pt").json["kept"])
    broken = runs / "elsewhere" / "broken"
    broken.mkdir()
    (broken / "result.json").write_text((folder / "result.json").read_text().replace('"accuracy": ', '"accuracies": '))
    reported = sdc("report", runs, "--json").json
    assert reported["runs"] == 1
    assert {row["folder"] for row in reported["elsewhere"]} == {folder.name}
    assert reported["missing"] == [
        {"folder": "elsewhere/broken", "state": "unreadable", "reason": "no 'accuracy'"},
    ]


# --- what a run's cell says of its images, on the page


def test_a_runs_page_says_how_its_images_were_shown_and_of_earlier_versions_nothing(sdc: Sdc, tmp_path: Path) -> None:
    new = made_up.make(tmp_path, Made("dm", "digits", [0.5]))
    old = made_up.make(tmp_path, Made("dm", "digits", [0.5], weight=2.0))
    cell = json.loads((new / "cell.json").read_text())
    shown = {"words": "images of digits (8x8 grey) are shown as 32x32 RGB: <b>enlarged</b>"}
    about = {"shown": shown, "labels": "label 0 = zero, 1 = one", "notes": ["read so", "and so"]}
    (new / "cell.json").write_text(json.dumps(cell | about))
    assert sdc("report", tmp_path).code == 0
    told = dict(page(tmp_path).of[new.name])
    assert told["images shown"] == shown["words"]
    assert told["classes"] == "label 0 = zero, 1 = one"
    assert told["how data were read"] == "read so; and so"
    assert not {"images shown", "classes", "how data were read"} & dict(page(tmp_path).of[old.name]).keys()


def test_a_run_on_a_gpu_is_read_with_all_that_decides_its_bits(sdc: Sdc, tmp_path: Path) -> None:
    """As `cell.json` has a GPU's facts: one of them is an object of its own."""
    run = made_up.make(tmp_path, Made("dm", "digits", [0.5]))
    cell = json.loads((run / "cell.json").read_text())
    device = {"kind": "cuda", "name": "A card", "cudnn": 91002, "tf32": {"matmul": False, "cudnn": True}}
    (run / "cell.json").write_text(json.dumps(cell | {"device": device}))
    reported = sdc("report", tmp_path, "--json").json
    assert (reported["runs"], reported["missing"]) == (1, [])
    told = dict(page(tmp_path).of[run.name])["device"]
    assert told == "kind cuda, name A card, cudnn 91002, tf32 matmul False, tf32 cudnn True"
