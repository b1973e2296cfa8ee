"""`sdc report`: what may share a row, what the numbers are, and what is told; on made-up folders of the real formats."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import statistics
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as reference

from sdc.adapters.registry import ADAPTERS
from sdc.ground.files import sha256
from sdc.ground.watch import Quiet
from sdc.plan.settings import resolve
from sdc.report import commands, compare, load, make, records
from sdc.report.compare import Comparison
from tests import runs as made_up
from tests.conftest import Sdc
from tests.runs import Made

BASE = {0: [0.50, 0.54, 0.49], 1: [0.61, 0.58, 0.60], 2: [0.40, 0.47, 0.44]}
SDC = {0: [0.53, 0.55, 0.52], 1: [0.62, 0.61, 0.60], 2: [0.44, 0.46, 0.47]}


def pair(runs: Path, base: dict[int, list[float]] = BASE, sdc: dict[int, list[float]] = SDC, **fields: Any) -> None:
    """A method without and with the term, at weight 2."""
    for weight, accuracies in ((0.0, base), (2.0, sdc)):
        for seed, of_seed in accuracies.items():
            made_up.make(
                runs,
                Made(**{"method": "dm", "dataset": "digits", "weight": weight} | fields, seed=seed, accuracies=of_seed),
            )


def compared(runs: Path) -> Comparison:
    return compare.compare(load.load(runs))


def rows(runs: Path) -> list[dict[str, Any]]:
    return records.records(compared(runs))


# --- the numbers


def test_means_are_of_all_networks_and_the_interval_is_students_over_seeds(tmp_path: Path) -> None:
    pair(tmp_path)
    (row,) = rows(tmp_path)
    networks = [accuracy for of_seed in SDC.values() for accuracy in of_seed]
    assert row["sdc_mean"] == pytest.approx(statistics.fmean(networks))
    assert row["sdc_std"] == pytest.approx(statistics.pstdev(networks))
    assert (row["base_n"], row["sdc_n"], row["paired_seeds"]) == (9, 9, [0, 1, 2])
    each = [[statistics.fmean(accuracies) for accuracies in side.values()] for side in (SDC, BASE)]
    test = reference.ttest_rel(*each)
    interval = test.confidence_interval(0.95)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert row["difference"] == pytest.approx(statistics.fmean(each[0]) - statistics.fmean(each[1]))


def test_an_interval_around_zero_shows_nothing(tmp_path: Path) -> None:
    pair(tmp_path / "unsure", BASE, {0: [0.60], 1: [0.59], 2: [0.40]})
    pair(tmp_path / "higher", BASE, {seed: [a + 0.1 for a in of_seed] for seed, of_seed in BASE.items()})
    pair(tmp_path / "lower", BASE, {0: [0.40], 1: [0.47], 2: [0.33]})
    claims = {folder.name: rows(folder)[0]["claim"] for folder in tmp_path.iterdir()}
    assert claims == {"unsure": "no difference shown", "higher": "higher", "lower": "lower"}


def test_one_seed_gives_no_interval_and_no_common_seed_no_difference(tmp_path: Path) -> None:
    pair(tmp_path / "one", {0: [0.5]}, {0: [0.6]})
    pair(tmp_path / "none", {0: [0.5]}, {1: [0.6]})
    (one,), (none,) = rows(tmp_path / "one"), rows(tmp_path / "none")
    assert one["difference"] == pytest.approx(0.1)
    assert (one["difference_low"], one["difference_high"], one["claim"]) == (None, None, "one seed: no interval")
    assert (none["difference"], none["claim"]) == (None, "no seed in common")


def test_seeds_without_a_partner_are_pooled_but_not_paired_and_told(tmp_path: Path) -> None:
    pair(tmp_path, BASE, {seed: SDC[seed] for seed in (0, 2)})
    (row,) = rows(tmp_path)
    assert (row["base_n"], row["paired_seeds"], row["notes"]) == (9, [0, 2], ["on one side only: seed 1"])
    gains = [statistics.fmean(SDC[seed]) - statistics.fmean(BASE[seed]) for seed in (0, 2)]
    assert row["difference"] == pytest.approx(statistics.fmean(gains))


def test_the_floor_is_pooled_over_the_runs_at_weight_0(tmp_path: Path) -> None:
    pair(tmp_path, floor=[0.2, 0.3])
    (row,) = rows(tmp_path)
    assert (row["floor_mean"], row["floor_n"]) == (pytest.approx(0.25), 6)


# --- what may share a row


@pytest.mark.parametrize(
    "other",
    [
        {"model": "ConvNetW64"},
        {"recipe": "paper", "dataset": "cifar10"},
        {"settings": {"Iteration": 7}},
        {"settings": {"networks": 3}},
        {"more": {"data_sha256": "f" * 64}},
        {"more": {"commit": "f" * 40}},
        {"more": {"patch_sha256": "f" * 64}},
        {"more": {"experts": "0123456789"}},
        {"ipc": 10},
        {"method": "dsa"},
    ],
    ids=str,
)
def test_runs_that_differ_never_share_a_row(other: dict[str, Any], tmp_path: Path) -> None:
    plain = {"dataset": "cifar10"} if "dataset" in other else {}
    pair(tmp_path, {0: [0.5]}, {}, **plain)
    pair(tmp_path, {}, {0: [0.6]}, **other)
    found = rows(tmp_path)
    assert [(row["base_n"], row["sdc_n"], row["difference"]) for row in found].count((1, None, None)) == 1
    assert [row["claim"] for row in found if row["sdc_n"]] == ["no run at weight 0"]
    labels = {(row["method"], row["ipc"], row["model"], row["recipe"], *row["changes"]) for row in found}
    assert len(labels) == 2, "a reader can tell the rows apart"


def test_a_base_is_shared_by_all_weights_and_schedules(tmp_path: Path) -> None:
    pair(tmp_path, BASE, {})
    for weight, schedule in ((2.0, "constant"), (2.0, "linear"), (5.0, "linear")):
        pair(tmp_path, {}, SDC, weight=weight, schedule=schedule)
    found = rows(tmp_path)
    assert [(row["weight"], row["schedule"]) for row in found] == [(2, "constant"), (2, "linear"), (5, "linear")]
    assert {row["base_n"] for row in found} == {9}


def test_weight_0_under_another_schedule_is_the_same_run_again(tmp_path: Path) -> None:
    pair(tmp_path)
    twin = made_up.make(tmp_path, Made("dm", "digits", BASE[0], schedule="linear"))
    found = compared(tmp_path)
    assert records.records(found)[0]["base_n"] == 9, "its networks count once"
    assert [gone.folder for gone in found.repeated] == [twin.name]


def test_runs_on_held_out_training_images_have_a_table_of_their_own(tmp_path: Path) -> None:
    pair(tmp_path)
    pair(tmp_path, settings={"validation": 10})
    assert [(row["section"], row["validation"]) for row in rows(tmp_path)] == [("test", 0), ("validation", 10)]


def test_other_networks_are_compared_in_a_table_of_their_own(tmp_path: Path) -> None:
    pair(tmp_path, others={"ResNet18-uniform-2": [0.3, 0.4], "VGG11-uniform-2": [0.2, 0.3]})
    found = [(row["section"], row["evaluated_model"], row["protocol"]) for row in rows(tmp_path)]
    assert found == [("test", "ConvNetW32", "own"), ("cross", "ResNet18", "uniform"), ("cross", "VGG11", "uniform")]


def test_a_learned_rate_keeps_no_runs_apart(tmp_path: Path) -> None:
    for seed, lr in ((0, 0.01), (1, 0.02)):
        pair(tmp_path, {seed: [0.5]}, {seed: [0.6]}, method="mtt", lr=lr, others={"ResNet18-upstream-1": [0.4]})
    assert [(row["section"], row["paired_seeds"]) for row in rows(tmp_path)] == [("test", [0, 1]), ("cross", [0, 1])]


# --- the published figure


def test_a_published_accuracy_stands_beside_the_published_data_alone(tmp_path: Path) -> None:
    whole = {"dataset": "cifar10", "settings": {"limit_per_class": 0}}
    pair(tmp_path / "same", dataset="cifar10", recipe="paper", model="ConvNet")
    pair(tmp_path / "quick", **whole)
    pair(tmp_path / "archive", **whole, data="/somewhere/cifar10.tar.xz")
    pair(tmp_path / "limited", dataset="cifar10")
    pair(tmp_path / "narrow", dataset="cifar10", recipe="paper", model="ConvNetW64")
    found = {folder.name: rows(folder)[0] for folder in tmp_path.iterdir()}
    assert {name: row["published_mean"] for name, row in found.items()} == {
        "same": pytest.approx(0.26),
        "quick": pytest.approx(0.26),
        "narrow": pytest.approx(0.26),
        "archive": None,
        "limited": None,
    }
    assert {name: row["published_apart"] for name, row in found.items() if row["published_mean"]} == {
        "same": "",
        "quick": "recipe quick, limit_per_class=0",
        "narrow": "recipe paper, ConvNetW64",
    }


# --- the command that makes a run again


@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_the_command_of_a_run_gives_its_settings_back(method: str, tmp_path: Path) -> None:
    made = Made(
        method,
        "my set",
        [0.5],
        weight=1 / 3,
        seed=4,
        model="ConvNetD2",
        data="/my data/a b.zip",
        settings={"Iteration": 7},
    )
    made_up.make(tmp_path, made)
    (run,) = load.load(tmp_path).runs
    words = shlex.split(commands.again(run))
    assert words[:3] == ["sdc", "run", method]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given["--data"] == "/my data/a b.zip"
    assert (float(given["--weight"]), given["--seed"], given["--model"]) == (1 / 3, "4", "ConvNetD2")
    changes = [word for option, word in itertools.pairwise(words) if option == "--set"]
    assert changes == ["Iteration=7"]
    again = resolve(ADAPTERS[method], given["--recipe"], given["--dataset"], 1, changes)
    assert {**again.options, **again.experts}.items() <= run.settings.items()


# --- what is missing


def test_what_is_unfinished_failed_or_unreadable_is_told(tmp_path: Path, sdc: Sdc) -> None:
    pair(tmp_path, {0: [0.5]}, {0: [0.6]})
    cut = made_up.begin(tmp_path, Made("dm", "digits", [0.5], seed=7))
    failed = made_up.fail(tmp_path, Made("dm", "digits", [0.5], seed=8), "the loss is not finite\nLower the rate")
    torn = made_up.make(tmp_path, Made("dm", "digits", [0.5], seed=9))
    (torn / "result.json").write_text('{"state": "comp')
    half = made_up.make(tmp_path, Made("dm", "digits", [0.5], seed=10))
    (half / "failed.json").write_text(json.dumps({"error": "no memory for ResNet18", "request": {}}))
    found = sdc("report", tmp_path, "--json").json
    assert {gone["folder"]: gone["state"] for gone in found["missing"]} == {
        cut.name: "unfinished",
        failed.name: "failed",
        torn.name: "unreadable",
        half.name: "failed",
    }
    assert found["runs"] == 3, "a run that failed in a further evaluation still counts"
    told = sdc("report", tmp_path).out
    assert f"failed: {failed.name}: the loss is not finite" in told


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cell.json", "[]"),
        ("result.json", '{"state": "complete"}'),
        ("result.json", "\ud800"),
        ("floor.json", '{"accuracy": [{"model": "x", "seed": 0, "accuracy": NaN}], "protocol": {}}'),
    ],
    ids=["a list", "no fields", "no text", "not a number"],
)
def test_a_broken_file_spoils_its_run_alone(file: str, text: str, tmp_path: Path) -> None:
    pair(tmp_path, {0: [0.5]}, {0: [0.6]})
    broken = made_up.make(tmp_path, Made("dm", "digits", [0.5], seed=9))
    (broken / file).write_text(text, errors="surrogatepass")
    found = load.load(tmp_path)
    assert len(found.runs) == 2
    assert [(gone.folder, gone.state) for gone in found.unfinished] == [(broken.name, "unreadable")]


def test_nothing_to_report_names_the_command_that_makes_runs(tmp_path: Path, sdc: Sdc) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        outcome = sdc("report", folder, "--json")
        assert outcome.code == 1
        assert outcome.json["error"] == (
            f"no runs in {folder}: nothing to report. Make some: sdc bench examples/quick.toml --runs {folder}, "
            f"or one: sdc run dm --dataset digits --weight 0 --runs {folder}"
        )
    assert not (tmp_path / "report").exists()


# --- the files


HOSTILE = "<script>alert('x')</script> & $x_1$ $\\frac$ \\input{x} | [/red]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with a sweep, floors, other networks, a choice, a validation split, names and errors that mean harm."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("dm", "mtt"):
        for weight in (0.0, 0.5, 2.0):
            for seed in range(3):
                made = Made(
                    method,
                    "digits",
                    [0.5 + 0.013 * seed + 0.01 * weight + 0.001 * n for n in range(3)],
                    weight=weight,
                    seed=seed,
                    floor=[0.31 + 0.01 * seed] if not weight else (),
                    others={"ResNet18-uniform-2": [0.41 + 0.01 * seed, 0.43]},
                )
                run = made_up.make(folder, made)
                if method == "dm":
                    made_up.difficulty(run, [0, 20, 40], [16.0, 15.5, 15.0 - weight])
    pair(folder, settings={"validation": 10})
    for model in ("ConvNetW32", "$\\frac$"):
        made_up.make(folder, Made("dm", HOSTILE.replace("/", ""), [0.5, 0.6], data=HOSTILE, model=model))
    made_up.fail(folder, Made("dm", "digits", [0.5], seed=9), HOSTILE)
    candidate = {"mean": 0.5, "std": 0.01, "n": 9, "difference": 0.01, "low": -0.005, "high": 0.025, "runs": []}
    choice = {
        "method": "dm",
        "dataset": "digits",
        "ipc": 1,
        "model": "ConvNetW32",
        "schedule": "constant",
        "recipe": "quick",
        "validation": 10,
        "seeds": [0, 1, 2],
        "candidates": [
            {"asked": "auto:0.1", "weight": 2.0, **candidate},
            {"asked": "[/red]", "weight": 0.5, **candidate},
        ],
        "chosen": {"asked": "auto:0.1", "weight": 2.0},
    }
    made_up.choose(folder, "0123456789", choice)
    return folder


@pytest.fixture(scope="module")
def report(runs: Path) -> make.Report:
    return make.make(runs, runs / "report", None, Quiet())


class Page(HTMLParser):
    """What a test wants to know of the page: anchors, links, resources, tags, and the numbers where they stand."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.scripts = 0
        self.by_run: dict[str, list[tuple[float, str]]] = {}
        self.in_tables: list[tuple[float, str, bool]] = []
        self._run, self._value, self._linked, self._cell = "", "", False, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(found["href"])] if tag == "a" else []
        self.loaded += [str(found[name]) for name in ("src", "srcset", "data", "poster") if name in found]
        self.loaded += [str(found["href"])] if tag == "link" else []
        self.scripts += tag == "script"
        self._run = str(found["data-run"]) if "data-run" in found else self._run
        self._linked = tag == "a" or (self._linked and tag != "td")
        self._cell = (self._cell or tag == "td") and tag != "details"
        self._value = str(found["value"]) if tag == "data" else ""

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag != "td"
        self._run = "" if tag == "details" else self._run

    def handle_data(self, data: str) -> None:
        if self._value and self._run:
            self.by_run.setdefault(self._run, []).append((float(self._value), data))
        elif self._value:
            self.in_tables.append((float(self._value), data, self._linked))
        self._value = ""


@pytest.fixture(scope="module")
def page(report: make.Report, runs: Path) -> Page:
    assert report.files
    return Page((runs / "report" / "index.html").read_text(encoding="utf-8"))


def test_the_page_has_the_numbers_of_the_result_files(page: Page, runs: Path) -> None:
    for file in runs.glob("*/result.json"):
        networks = [one["accuracy"] for one in json.loads(file.read_text())["accuracy"]]
        shown = page.by_run[file.parent.name][: len(networks)]
        assert [value for value, _ in shown] == networks
        assert [text for _, text in shown] == [f"{100 * accuracy:.2f}" for accuracy in networks]


def test_the_tables_on_the_page_have_the_numbers_of_the_json(page: Page, report: make.Report) -> None:
    found = json.loads(json.dumps(make.as_json(report)))["rows"]
    names = ("base_mean", "base_std", "sdc_mean", "sdc_std", "difference", "difference_low", "difference_high")
    wanted = [row[name] for row in found for name in (*names, "floor_mean", "floor_std") if row[name] is not None]
    shown = [(value, text) for value, text, linked in page.in_tables if linked]
    assert [value for value, _ in shown] == wanted
    assert all(f"{100 * value:+.2f}".lstrip("+") == text.lstrip("+") for value, text in shown)


def test_every_link_has_its_anchor_and_each_anchor_is_one(page: Page) -> None:
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_loads_nothing_and_runs_nothing_of_others(page: Page, runs: Path) -> None:
    assert page.loaded
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.loaded)
    assert page.scripts == 1, "the page's own"
    text = (runs / "report" / "index.html").read_text(encoding="utf-8")
    assert "alert(&#39;x&#39;)" in text
    assert "alert('x')" not in text
    assert not re.search(r"url\(|@import", text)


def test_the_csv_read_back_is_the_json(report: make.Report, runs: Path) -> None:
    with (runs / "report" / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    wanted = make.as_json(report)["rows"]
    assert len(found) == len(wanted)
    for line, row in zip(found, wanted, strict=True):
        for name, value in row.items():
            assert line[name] == _as_text(value), name


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else str(value)


def test_the_latex_has_even_rows_and_nothing_that_means_something_to_tex(report: make.Report, runs: Path) -> None:
    text = (runs / "report" / "results.tex").read_text(encoding="utf-8")
    for table in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.search(r"\{([lr]+)\}", table)[1])  # type: ignore[index]
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert r"\textbackslash{}input\{x\}" in text
    assert not re.search(r"(?<!\\)[#_^]", text.replace("\\textasciicircum{}", ""))


def test_the_markdown_says_what_was_chosen_how_and_what_is_missing(report: make.Report, runs: Path) -> None:
    text = (runs / "report" / "results.md").read_text(encoding="utf-8")
    assert "chosen on 10% of the training images, held out; seeds 0, 1, 2" in text
    assert "| auto:0.1 | 2 | 50.00 ± 1.00 (9) | +1.00 [-0.50, +2.50] | chosen |" in text
    assert "## Runs that are not in these tables, or not in all (1)" in text
    rows = [line for line in text.splitlines() if line.startswith("| dm | digits | 1 | 2 |")]
    assert len(rows) == 3, "on test images, by another network, on the validation split"


def test_every_kind_of_figure_is_there_as_svg_and_png_and_what_is_not_says_why(report: make.Report, runs: Path) -> None:
    names = {path.name for path in (runs / "report" / "figures").iterdir()}
    kinds = ("accuracy", "weights", "loss", "difficulty", "cost", "images")
    assert {f"{kind}-digits-ipc1.{form}" for kind in kinds for form in ("svg", "png")} <= names
    assert any("no run there has its difficulty recorded" in reason for reason in report.skipped)
    assert all(b"<svg" in path.read_bytes() for path in (runs / "report" / "figures").glob("*.svg"))


def test_equal_runs_give_equal_bytes(report: make.Report, runs: Path, tmp_path: Path) -> None:
    again = make.make(runs, tmp_path / "again", tmp_path / "page.html", Quiet())
    first = {path.name: sha256(path) for path in report.files}
    assert {path.name: sha256(path) for path in again.files if path.name != "page.html"} == first
    assert sha256(tmp_path / "page.html") == first["index.html"]


def test_figures_of_an_earlier_report_that_are_no_more_go(tmp_path: Path) -> None:
    made_up.make(tmp_path, Made("dm", "digits", [0.5]))
    folder = tmp_path / "report" / "figures"
    folder.mkdir(parents=True)
    (folder / "accuracy-gone-ipc1.svg").write_text("old")
    (folder / "notes.txt").write_text("mine")
    make.make(tmp_path, tmp_path / "report", None, Quiet())
    assert (folder / "accuracy-digits-ipc1.svg").exists()
    assert not (folder / "accuracy-gone-ipc1.svg").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_terminal_shows_the_tables(runs: Path, sdc: Sdc, tmp_path: Path) -> None:
    outcome = sdc("report", runs, "--out", tmp_path / "out")
    assert outcome.code == 0
    cells = set(_cells(outcome.out))
    assert {"dm 2", "[+2.00, +2.00]", "+2.00, s = 3", "higher", "auto:0.1", "chosen"} <= cells
    assert f"runs; tables, figures and page: {tmp_path / 'out'}" in outcome.out


def _cells(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from (cell.strip() for cell in line.split("│"))
