"""`sdc bench` on a fake upstream, its tasks done in this process: what a spec asks for, what is done, what is left."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from PIL import Image

from sdc.adapters.registry import ADAPTERS
from sdc.bench import engine, tasks, work
from sdc.bench.choices import Candidate, decide
from sdc.data import store
from sdc.ground import paths
from sdc.patching import clones
from sdc.plan.request import Request
from tests import fake
from tests.benches import in_this_process
from tests.conftest import Outcome, Sdc

SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = [0, 0.5]
seeds = [0, 1]
[set]
limit_per_class = 3
steps = 4
networks = 2
"""
Bench = Callable[..., Outcome]


@pytest.fixture
def bench(sdc: Sdc, fake_upstream: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`bench(text, *options)`: a spec with that text, its runs in `runs`, one task after another in this process."""
    in_this_process(monkeypatch)

    def call(text: str, *options: object) -> Outcome:
        (tmp_path / "spec.toml").write_text(text)
        return sdc("bench", tmp_path / "spec.toml", "--runs", tmp_path / "runs", *options, "--json")

    return call


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """`idle()`: from now on, a benchmark that starts a worker fails."""

    def started(*_: object, **__: object) -> None:
        pytest.fail("a worker was started")

    return lambda: monkeypatch.setattr(engine, "carry_out", started)


def another_method(name: str, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake under a second name."""
    monkeypatch.setitem(ADAPTERS, name, dataclasses.replace(fake_upstream.adapter, method=name))


def cell_of(runs: Path, folder: str) -> Any:
    return json.loads((runs / folder / "cell.json").read_text())


def test_every_point_of_a_spec_is_a_run_and_what_is_done_is_not_done_again(
    bench: Bench, idle: Callable[[], None], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    outcome = bench(SPEC)

    assert outcome.code == 0, outcome
    assert outcome.json["states"] == {"done": 4}
    assert outcome.json["ran"] == 4
    assert outcome.err.count("images of digits (8x8 grey) are shown as 32x32 RGB") == 1, "once, for all cells"
    points = {(cell["weight"], cell["seed"]) for cell in (cell_of(runs, c["folder"]) for c in outcome.json["cells"])}
    assert points == {(0.0, 0), (0.0, 1), (0.5, 0), (0.5, 1)}
    for path in runs.glob("*/result.json"):
        result = json.loads(path.read_text())
        assert (result["state"], result["n"]) == ("complete", 2)
        assert (path.parent / "floor.json").is_file() == (result["weight"] == 0)
    _check_pairs(runs)
    _check_floors(runs)
    bits = {path: path.read_bytes() for path in runs.rglob("*.safetensors")}

    idle()
    again = bench(SPEC)
    assert (again.code, again.json["ran"], again.json["states"]) == (0, 0, {"done": 4})
    assert {path: path.read_bytes() for path in runs.rglob("*.safetensors")} == bits


def _check_pairs(runs: Path) -> None:
    """Base and +SDC of a seed are evaluated with the same networks, those of another seed with others."""
    seeds: dict[int, set[tuple[int, ...]]] = {}
    for path in runs.glob("*/result.json"):
        result = json.loads(path.read_text())
        seeds.setdefault(result["seed"], set()).add(tuple(score["seed"] for score in result["accuracy"]))
    assert [len(of_seed) for of_seed in seeds.values()] == [1, 1]
    assert seeds[0] != seeds[1]


def _check_floors(runs: Path) -> None:
    """Random real images, others for each seed, are trained on as the set is, by the same networks."""
    floors = {}
    for path in runs.glob("*/floor.json"):
        floor, result = (json.loads((path.parent / name).read_text()) for name in ("floor.json", "result.json"))
        assert floor["protocol"] == result["protocol"]
        assert [score["seed"] for score in floor["accuracy"]] == [score["seed"] for score in result["accuracy"]]
        floors[result["seed"]] = floor["mean"]
    assert floors[0] != floors[1]


def test_a_larger_spec_does_only_what_is_missing(bench: Bench, tmp_path: Path) -> None:
    assert bench(SPEC.replace("seeds = [0, 1]", "seeds = [0]")).json["ran"] == 2
    assert bench(SPEC).json["ran"] == 2
    more = bench(SPEC + '[evaluate]\nmodels = ["ConvNetD1"]\nnetworks = 1\n')
    assert (more.json["ran"], more.json["states"]) == (4, {"done": 4})  # each evaluated with one more model
    found = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/evaluations/*.json")]
    assert len(found) == 4
    assert all(list(each["by_model"]) == ["ConvNetD1"] and each["n"] == 1 for each in found)


def test_a_dry_run_says_what_is_to_come_and_writes_nothing(
    bench: Bench, tmp_path: Path, idle: Callable[[], None]
) -> None:
    idle()
    outcome = bench(SPEC, "--dry-run")
    assert outcome.code == 0, outcome
    assert outcome.json["states"] == {"to do": 4}
    assert [cell["name"] for cell in outcome.json["cells"]] == [
        "fake digits ipc 1 weight 0 seed 0",
        "fake digits ipc 1 weight 0 seed 1",
        "fake digits ipc 1 weight 0.5 seed 0",
        "fake digits ipc 1 weight 0.5 seed 1",
    ]
    assert not (tmp_path / "runs").exists()


def test_what_a_method_cannot_do_is_left_out_with_the_reason(bench: Bench) -> None:
    outcome = bench("ipc = [1, 4]\n" + SPEC, "--dry-run")
    assert outcome.json["left_out"] == [
        {"method": "fake", "dataset": "digits", "ipc": 4, "reason": "fake cannot do this: it takes ipc 1 and 2 only"}
    ]
    assert outcome.json["states"] == {"to do": 4}
    nothing = bench("ipc = [4]\n" + SPEC, "--dry-run")
    assert nothing.code == 1
    assert (
        "no cell of this benchmark can be run:\n  fake on digits, ipc 4: fake cannot do this" in nothing.json["error"]
    )


def test_a_failed_cell_is_recorded_with_its_logs_end_and_stops_no_other(
    bench: Bench, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_method("bad", fake_upstream, monkeypatch)
    spec = SPEC.replace('["fake"]', '["bad", "fake"]').replace("seeds = [0, 1]", "seeds = [0]")
    spec += '[method.bad]\nset = { end = "error" }\n'
    outcome = bench(spec)

    assert outcome.code == 1
    assert outcome.json["states"] == {"failed": 2, "done": 2}
    failed = [cell for cell in outcome.json["cells"] if cell["state"] == "failed"]
    assert sorted(cell["folder"] for cell in failed) == sorted(outcome.json["failed"])
    for cell in failed:
        assert cell["name"].startswith("bad ")
        assert "ValueError: the fake script was told to fail" in cell["error"]

    unasked = bench(spec)
    assert (unasked.code, unasked.json["ran"]) == (1, 0)
    retried = bench(spec, "--retry-failed")
    assert (retried.code, retried.json["ran"]) == (1, 2)


def test_an_upstream_that_cannot_be_had_fails_its_own_cells_alone(
    bench: Bench, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_method("gone", fake_upstream, monkeypatch)
    adapter = ADAPTERS["gone"]
    away = dataclasses.replace(adapter.upstream, url="https://upstream.invalid/owner/gone")
    monkeypatch.setitem(ADAPTERS, "gone", dataclasses.replace(adapter, upstream=away))
    outcome = bench(SPEC.replace('["fake"]', '["gone", "fake"]').replace("seeds = [0, 1]", "seeds = [0]"))

    assert outcome.code == 1
    assert outcome.json["states"] == {"failed": 2, "done": 2}
    errors = [cell["error"] for cell in outcome.json["cells"] if cell["state"] == "failed"]
    assert all("https://upstream.invalid/owner/gone" in error for error in errors)
    assert clones.status(ADAPTERS["fake"]).state == "patched"


def test_a_method_may_have_its_own_weights_models_and_settings(
    bench: Bench, fake_upstream: fake.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_method("other", fake_upstream, monkeypatch)
    own = '[method.other]\nweights = [3]\nmodels = ["ConvNetD1"]\nset = { steps = 2 }\n'
    outcome = bench(SPEC.replace('["fake"]', '["fake", "other"]') + own, "--dry-run")
    assert [c["name"] for c in outcome.json["cells"] if c["name"].startswith("other")] == [
        "other digits ipc 1 weight 3 seed 0 ConvNetD1",
        "other digits ipc 1 weight 3 seed 1 ConvNetD1",
    ]
    assert len(outcome.json["cells"]) == 6


def test_schedules_share_the_base(bench: Bench) -> None:
    outcome = bench(
        'schedules = ["constant", "linear/3"]\n' + SPEC.replace("seeds = [0, 1]", "seeds = [0]"), "--dry-run"
    )
    assert [cell["name"] for cell in outcome.json["cells"]] == [
        "fake digits ipc 1 weight 0 seed 0",
        "fake digits ipc 1 weight 0.5 seed 0",
        "fake digits ipc 1 weight 0.5 seed 0 linear/3",
    ]


ONE_SEED = SPEC.replace("seeds = [0, 1]", "seeds = [3]").replace("networks = 2", "networks = 1")
AUTO = ONE_SEED.replace("weights = [0, 0.5]", 'weights = [0, "auto:0.1", "auto:0.5"]')


def test_a_weight_may_be_a_fraction_of_the_balance_which_is_measured_once(
    bench: Bench, idle: Callable[[], None], tmp_path: Path
) -> None:
    dry = bench(AUTO, "--dry-run")
    assert dry.json["states"] == {"to do": 1, "waiting": 2}
    assert [each["name"] for each in dry.json["calibrations"]] == ["calibrate fake digits ipc 1 seed 3"]
    assert "fake digits ipc 1 weight auto:0.1 seed 3" in [cell["name"] for cell in dry.json["cells"]]

    outcome = bench(AUTO)

    assert outcome.code == 0, outcome
    assert (outcome.json["states"], outcome.json["ran"]) == ({"done": 3}, 4)
    (file,) = (tmp_path / "runs" / "calibrations").glob("*.json")
    balance = json.loads(file.read_text())["calibration"]["balance"]
    weights = sorted({cell_of(tmp_path / "runs", cell["folder"])["weight"] for cell in outcome.json["cells"]})
    assert weights == [0.0, float(f"{0.1 * balance:.3g}"), float(f"{0.5 * balance:.3g}")]
    assert f"fake digits ipc 1 weight {weights[1]:g} seed 3 (auto:0.1)" in [c["name"] for c in outcome.json["cells"]]
    idle()
    assert bench(AUTO).json["ran"] == 0


def test_a_calibration_that_fails_is_told_and_its_cells_wait(bench: Bench) -> None:
    outcome = bench(AUTO + 'end = "error"\n')
    assert outcome.code == 1
    assert outcome.json["states"] == {"failed": 1, "waiting": 2}
    (calibration,) = outcome.json["calibrations"]
    assert calibration["state"] == "failed"
    assert "the fake script was told to fail" in calibration["error"]
    assert bench(AUTO + 'end = "error"\n').json["ran"] == 0


CHOICE = ONE_SEED.replace("weights = [0, 0.5]", 'weights = [0, "chosen"]').replace("class = 3", "class = 5")
CHOICE += '[choose]\nweights = [0.5, "auto:20"]\nvalidation = 30\n'


def test_a_weight_is_chosen_on_held_out_training_images_alone(
    bench: Bench, idle: Callable[[], None], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    outcome = bench(CHOICE)

    assert outcome.code == 0, outcome
    cells = [cell_of(runs, cell["folder"]) for cell in outcome.json["cells"]]
    tried = [cell for cell in cells if cell["settings"]["validation"] == 30]
    final = [cell for cell in cells if not cell["settings"]["validation"]]
    assert (len(tried), len(final)) == (3, 2)
    assert {cell["data_sha256"] for cell in tried}.isdisjoint({cell["data_sha256"] for cell in final})

    (file,) = (runs / "choices").glob("*.json")
    choice = json.loads(file.read_text())
    assert (choice["validation"], choice["seeds"]) == (30, [3])
    assert [row["asked"] for row in choice["candidates"]] == ["0.0", "0.5", "auto:20"]
    means = {}
    for row in choice["candidates"]:
        results = [json.loads((runs / folder / "result.json").read_text()) for folder in row["runs"]]
        accuracies = [score["accuracy"] for result in results for score in result["accuracy"]]
        assert row["mean"] == pytest.approx(sum(accuracies) / len(accuracies))
        assert (row["n"], row["low"]) == (1, None)  # one seed gives no interval
        means[row["weight"]] = row["mean"]
    best = max((weight for weight in means if weight), key=lambda weight: (means[weight], -weight))
    assert choice["chosen"]["weight"] == best
    assert {cell["weight"] for cell in final} == {0.0, best}
    idle()
    assert bench(CHOICE).json["ran"] == 0


@pytest.mark.usefixtures("fake_upstream")
def test_a_run_on_held_out_images_is_tested_on_those_alone(sdc: Sdc, tmp_path: Path) -> None:
    settings = [word for name in ("validation=30", "steps=4", "networks=2") for word in ("--set", name)]
    run = sdc("run", "fake", "--weight", 0, *settings, "--runs", tmp_path / "runs", "--json").json
    again = sdc("evaluate", run["run"], "--networks", 2, "--json").json
    assert again["accuracy"] == run["accuracy"]
    # Every accuracy is a whole number of the images that are held out, 30 % of each class: not of the test images.
    held_out = sum(int(count) * 30 // 100 for count in store.load("digits").train.labels.bincount())
    right = [score["accuracy"] * held_out for score in run["accuracy"]]
    assert right == pytest.approx([round(count) for count in right])
    assert held_out != len(store.load("digits").test.labels)


def test_the_choice_is_the_best_mean_and_its_record_holds_every_candidate_with_its_interval(tmp_path: Path) -> None:
    reached = {0.0: ([0.5, 0.6], [0.7, 0.8]), 2.0: ([0.6, 0.6], [0.9, 0.8]), 1.0: ([0.9, 0.6], [0.6, 0.8])}
    candidates = []
    for weight, of_seeds in reached.items():
        folders = tuple(f"w{weight:g}s{seed}" for seed in (5, 9))
        candidates.append(Candidate(weight, weight, folders))
        for folder, accuracies in zip(folders, of_seeds, strict=True):
            facts = {"method": "fake", "dataset": "digits", "ipc": 1, "model": "ConvNetW32", "recipe": "quick"}
            scores = [{"model": "ConvNetW32", "seed": n, "accuracy": a} for n, a in enumerate(accuracies)]
            (tmp_path / folder).mkdir()
            result = {"state": "complete", **facts, "accuracy": scores}
            (tmp_path / folder / "result.json").write_text(json.dumps(result))
    asked = Request("fake", 0.0, "digits")
    assert decide(asked, 20, (5, 9), [*candidates, Candidate(3.0, 3.0, ("absent",))], tmp_path) is None

    choice = decide(asked, 20, (5, 9), candidates, tmp_path)

    assert choice is not None
    assert choice.chosen.weight == 1.0  # 2 has the same mean: the smaller weight is taken
    record = json.loads(choice.record(tmp_path).read_text())
    assert record["chosen"] == {"asked": "1.0", "weight": 1.0}
    base, two, one = record["candidates"]
    assert (base["mean"], base["n"], base["difference"]) == (pytest.approx(0.65), 4, None)
    for row, differences in ((two, (0.05, 0.1)), (one, (0.2, -0.05))):
        expected = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert row["difference"] == pytest.approx(sum(differences) / 2)
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods = 3", "methods is 3; give a list such as"),
        ('datasets = ["digits"]', "methods is missing; give a list such as"),
        (SPEC + "color = 1\n", "unknown setting"),
        ("color = 1\n" + SPEC, "unknown 'color'. Known: "),
        (SPEC.replace("fake", "fade"), "unknown method in"),
        (SPEC.replace("[0, 0.5]", "[0, -1]"), "weight -1: give a number of 0 or more"),
        (SPEC.replace("[0, 0.5]", '["auto:0"]'), "weight 'auto:0': give a number of 0 or more"),
        (SPEC.replace("[0, 0.5]", '["chosen"]'), 'the weight "chosen" needs candidates'),
        (SPEC.replace("[0, 1]", "[0, 0]"), "seeds is [0, 0]; give a list such as [0, 1, 2], nothing twice"),
        (SPEC + "[choose]\nweights = [0, 1]\n", "weights are candidates: numbers above 0"),
        (SPEC + "[choose]\nweights = [1]\nvalidation = 100\n", "validation is 100; give a percentage"),
        (SPEC + "[evaluate]\nfloor = 1\n", "evaluate.floor is 1; give true or false"),
        (SPEC + "[evaluate]\ntogether = 1\n", "evaluate.together is 1; give true or false"),
        (SPEC + '[evaluate]\nprotocol = "mine"\n', "unknown protocol"),
        (SPEC + "[method.dm]\nweights = [1]\n", "[method.dm] is of none of its methods: fake"),
        ("methods = [", "cannot read"),
    ],
)
def test_a_spec_that_is_wrong_is_refused_with_its_place(text: str, said: str, bench: Bench, tmp_path: Path) -> None:
    outcome = bench(text)
    assert outcome.code == 1, outcome
    assert said in outcome.json["error"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "cells"), [("quick", 42), ("choose", 42 + 84)])
def test_the_examples_ask_for_seven_methods_and_train_experts_twice_for_all(
    name: str, cells: int, sdc: Sdc, tmp_path: Path
) -> None:
    spec = paths.ROOT / "examples" / f"{name}.toml"
    outcome = sdc("bench", spec, "--runs", tmp_path / "runs", "--dry-run", "--json")

    assert outcome.code == 0, outcome
    assert len(outcome.json["cells"]) == cells
    assert outcome.json["left_out"] == []
    matched = {cell["name"].split()[0]: cell["experts"] for cell in outcome.json["cells"] if cell["experts"]}
    assert sorted(matched) == ["datm", "ftd", "mtt", "tesla"]
    assert (matched["mtt"], matched["ftd"]) == (matched["tesla"], matched["datm"])
    trained = {Path(group["folder"]).name.split("-")[0] for group in outcome.json["experts"]}
    assert trained == {"sgd", "flat"}
    # On held-out images they must not have seen those: so two more.
    assert len(outcome.json["experts"]) == (4 if name == "choose" else 2)


def read_lines(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("reading ")]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The prepared files that are read, and hashed, from now on."""
    seen: list[Path] = []
    read = store._read

    def counted(file: Path) -> store.Dataset | None:
        found = read(file)
        seen.extend([file] if found else [])  # it is looked for before it is prepared, too
        return found

    monkeypatch.setattr(store, "_read", counted)
    tasks._library.cache_clear()  # what the workers of other tests have read, whose part this process plays
    return seen


def test_a_benchmark_of_several_rounds_reads_its_data_once(bench: Bench, loads: list[Path]) -> None:
    outcome = bench(CHOICE)  # calibrates, then runs candidates, then what was chosen

    assert (outcome.code, outcome.json["states"]) == (0, {"done": 5}), outcome
    assert outcome.err.count("planning") == 4
    assert read_lines(outcome) == ["reading digits"]
    assert len(loads) == 2  # once by the command, once by its worker


@pytest.mark.usefixtures("fake_upstream")
def test_a_task_alone_reads_its_data_once(sdc: Sdc, tmp_path: Path, loads: list[Path]) -> None:
    (tmp_path / "spec.toml").write_text(ONE_SEED + '[evaluate]\nmodels = ["ConvNetD1"]\nnetworks = 1\n')
    asked = ("--stage", "cells", "--number", 0)
    outcome = sdc("bench", tmp_path / "spec.toml", "--runs", tmp_path / "runs", *asked)
    assert outcome.code == 0, outcome
    assert len(list((tmp_path / "runs").glob("*/evaluations/*.json"))) == 1
    assert len(loads) == 1


OWN = AUTO.replace('["digits"]', '["own"]').replace('weights = [0, "auto:0.1", "auto:0.5"]', 'weights = ["auto:0.5"]')


def own_images(folder: Path, shade: int) -> None:
    """A dataset of five images a class."""
    for split, label, number in itertools.product(("train", "test"), range(10), range(5)):
        (folder / split / str(label)).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (32, 32), (25 * label, shade, 40 * number))
        picture.save(folder / split / str(label) / f"{number}.png")


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_data_that_change_between_rounds_are_read_again_and_those_that_stay_are_not(
    form: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    path = own if form == "folder" else tmp_path / "own.tar.xz"

    def images(shade: int) -> None:
        own_images(own, shade)
        if form == "archive":
            with tarfile.open(path, "w:xz", preset=0) as packed:
                packed.add(own, "own")

    images(10)
    measure = work.calibrate.measure

    def measured(*arguments: Any, **more: Any) -> Any:
        found = measure(*arguments, **more)
        images(200)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(work.calibrate, "measure", measured)
        # Other data ask for another calibration, which then changes nothing more.
        outcome = bench(OWN + f'[data]\nown = "{path}"\n')

    assert (outcome.code, outcome.json["states"]) == (0, {"done": 1}), outcome
    seen = [line for line in outcome.err.splitlines() if line in ("planning", "reading own")]
    assert seen[:4] == ["planning", "reading own", "planning", "reading own"]
    files = (tmp_path / "runs" / "calibrations").glob("*.json")
    calibrated = {json.loads(file.read_text())["cell"]["data_sha256"] for file in files}
    (cell,) = outcome.json["cells"]
    assert len(calibrated) == 2
    assert cell_of(tmp_path / "runs", cell["folder"])["data_sha256"] in calibrated
    again = bench(OWN + f'[data]\nown = "{path}"\n')
    assert (again.json["ran"], read_lines(again)) == (0, ["reading own"])
