"""`sdc run` and `sdc evaluate` on a fake upstream: what a run leaves, that it repeats, and how it ends badly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import history, process
from sdc.evaluation import scoring
from sdc.ground import paths
from tests import fake
from tests.conftest import Outcome, Sdc

pytestmark = pytest.mark.usefixtures("fake_upstream")
FILES = [
    ".lock",
    "cell.json",
    "difficulty.json",
    "distilled.safetensors",
    "history",
    "images.png",
    "log.txt",
    "metrics.jsonl",
    "result.json",
]

Run = Callable[..., Outcome]


@pytest.fixture
def distil(sdc: Sdc, tmp_path: Path) -> Run:
    """`distil("--seed", 1)`: a short run of the fake on digits, in `runs` unless another folder is named."""

    def short(*more: object, weight: object = 0.5, runs: str = "runs") -> Outcome:
        asked = ["run", "fake", "--dataset", "digits", "--weight", weight, "--runs", tmp_path / runs, "--json"]
        return sdc(*asked, "--set", "limit_per_class=3", "--set", "steps=4", *more)

    return short


def bits(outcome: Outcome) -> bytes:
    assert outcome.code == 0, outcome
    return (Path(outcome.json["run"]) / "distilled.safetensors").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_a_complete_folder(distil: Run, tmp_path: Path) -> None:
    outcome = distil("--ipc", 2, "--seed", 5, "--schedule", "linear", "--set", "snapshot_every=1")

    folder = Path(outcome.json["run"])
    cell, result = (json.loads((folder / f"{name}.json").read_text()) for name in ("cell", "result"))
    assert outcome.code == 0
    assert folder.parent == tmp_path / "runs"
    assert re.fullmatch(r"fake-digits-ipc2-[0-9a-f]{10}", folder.name)
    assert names(folder) == FILES
    assert outcome.json == result | {"run": str(folder)}
    assert folder.name.endswith(cell["key"])
    asked = {"method": "fake", "dataset": "digits", "ipc": 2, "weight": 0.5, "schedule": "linear", "seed": 5}
    assert cell | asked == cell
    assert result | asked == result
    assert cell["settings"] | {"limit_per_class": 3, "steps": 4} == cell["settings"]
    assert cell["commit"] == ADAPTERS["fake"].upstream.commit
    assert cell["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert cell["device"]["kind"] in ("cpu", "cuda")


def test_the_folders_files_say_what_was_distilled(distil: Run) -> None:
    outcome = distil("--ipc", 2)

    folder = Path(outcome.json["run"])
    with safe_open(folder / "distilled.safetensors", framework="np") as stored:
        facts, images, labels = stored.metadata(), stored.get_tensor("images"), stored.get_tensor("labels")
    assert (images.dtype, images.shape) == (np.float32, (20, 3, 32, 32))
    assert (labels.dtype, labels.tolist()) == (np.int64, [digit for digit in range(10) for _ in range(2)])
    assert (facts["dataset"], facts["method"], facts["key"]) == ("digits", "fake", outcome.json["key"])
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == ([0.5] * 3, [0.25] * 3)
    picture = np.asarray(Image.open(folder / "images.png"), dtype=np.float32) / 255
    first = (images[0] * 0.25 + 0.5).clip(0, 1).transpose(1, 2, 0)
    assert picture.shape == (10 * 34 + 2, 2 * 34 + 2, 3)
    np.testing.assert_allclose(picture[2:34, 2:34], first, atol=0.5 / 255 + 1e-6)
    log = (folder / "log.txt").read_text().splitlines()
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert log[0].startswith("$ distil.py ")
    assert "--sdc_lambda 0.5 --sdc_schedule constant --sdc_every 1" in log[0]
    assert "training begins" in log
    assert [line["step"] for line in steps if line["kind"] == "step"] == [1, 2, 3, 4]
    assert all(np.isfinite(line["loss"]) for line in steps if line["kind"] == "step")


def test_at_an_interval_the_first_step_has_the_term_that_many_times_over(distil: Run) -> None:
    every_third = distil("--schedule", "constant/3", "--set", "steps=1", weight=0.5)
    three_times = distil("--set", "steps=1", weight=1.5)
    assert Path(every_third.json["run"]) != Path(three_times.json["run"])
    found, expected = (
        load_file(Path(each.json["run"]) / "distilled.safetensors") for each in (every_third, three_times)
    )
    assert found["images"].equal(expected["images"])


def test_the_scores_are_those_of_the_networks(distil: Run) -> None:
    result = distil("--set", "networks=3").json

    accuracies = [score["accuracy"] for score in result["accuracy"]]
    assert (len(accuracies), result["n"]) == (3, 3)
    assert len({score["seed"] for score in result["accuracy"]}) == 3
    assert {score["model"] for score in result["accuracy"]} == {"ConvNetW32"}
    assert result["mean"] == pytest.approx(np.mean(accuracies))
    assert result["std"] == pytest.approx(np.std(accuracies))
    assert result["protocol"] | {"lr": 0.01, "epochs": 3, "augment": ""} == result["protocol"]
    for stage in ("distil", "evaluate"):
        assert result["stages"][stage]["seconds"] > 0
        assert result["stages"][stage]["peak_memory_mib"] > 0


def test_a_run_leaves_the_upstream_tree_patched_and_otherwise_untouched(distil: Run, sdc: Sdc) -> None:
    assert distil().code == 0
    assert next(m for m in sdc("status", "--json").json["methods"] if m["method"] == "fake")["state"] == "patched"
    tree = paths.upstream() / "fake"
    assert names(tree / "train") == ["distil.py", "helpers.py"]


def test_the_same_command_twice_gives_the_same_bits_and_accuracies_and_other_inputs_give_others(distil: Run) -> None:
    first, second = distil(runs="a"), distil(runs="b")
    other_seed, without = distil("--seed", 1), distil(weight=0)

    assert bits(first) == bits(second)
    assert first.json["accuracy"] == second.json["accuracy"]
    different = [bits(outcome)[-10 * 3 * 32 * 32 * 4 :] for outcome in (first, other_seed, without)]
    assert len(set(different)) == 3
    seeds = [[score["seed"] for score in outcome.json["accuracy"]] for outcome in (first, without)]
    assert seeds[0] == seeds[1]
    assert other_seed.json["accuracy"] != first.json["accuracy"]


def test_a_complete_run_is_read_and_not_repeated_unless_asked(distil: Run) -> None:
    first = distil()
    file = Path(first.json["run"]) / "distilled.safetensors"
    content, made = file.read_bytes(), file.stat().st_mtime_ns

    again = distil()
    assert again.json == first.json
    assert "complete already" in again.err
    assert file.stat().st_mtime_ns == made
    repeated = distil("--again")
    assert file.stat().st_mtime_ns > made
    assert (file.read_bytes(), repeated.json["accuracy"]) == (content, first.json["accuracy"])


def test_states_of_the_images_are_kept_on_the_way_and_change_nothing(distil: Run) -> None:
    few, none = distil("--set", "history=2", "--set", "steps=5"), distil("--set", "history=0", "--set", "steps=5")

    folder = Path(few.json["run"]) / "history"
    assert names(folder) == ["000000.safetensors", "000003.safetensors"]
    start, later, end = (
        load_file(file)["images"] for file in (*sorted(folder.iterdir()), folder.parent / "distilled.safetensors")
    )
    assert (start.dtype, start.shape) == (torch.float32, (10, 3, 32, 32))
    assert not start.equal(later)
    assert not later.equal(end)
    assert not (Path(none.json["run"]) / "history").exists()
    assert load_file(Path(none.json["run"]) / "distilled.safetensors")["images"].equal(end)
    assert none.json["accuracy"] == few.json["accuracy"]


def test_a_run_that_is_repeated_keeps_no_state_of_the_one_before(distil: Run) -> None:
    folder = Path(distil().json["run"]) / "history"
    assert names(folder) == [f"{step:06}.safetensors" for step in range(5)]
    (folder / "000099.safetensors").write_bytes(b"of another run")

    assert distil("--again").code == 0
    assert names(folder) == [f"{step:06}.safetensors" for step in range(5)]


def test_fewer_states_are_kept_where_one_is_large_and_the_run_says_so(
    distil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * 10 * (3 * 32 * 32 + 10)
    for limit, kept in ((3 * size, ["000000", "000002", "000004"]), (2 * size - 1, [])):
        monkeypatch.setattr(history, "LIMIT", limit)
        outcome = distil("--again")

        folder = Path(outcome.json["run"]) / "history"
        assert sorted(file.stem for file in folder.glob("*")) == kept
        assert sum(file.stat().st_size for file in folder.glob("*")) < limit
        assert f"a state takes 0 MB; {2 if kept else 'none'} of 8 kept" in outcome.err


def test_an_interrupted_evaluation_goes_on_from_the_distilled_set(distil: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate_all", interrupted)
        assert distil().code == 130
    (folder,) = paths.upstream().parent.glob("runs/*")
    made = (folder / "distilled.safetensors").stat().st_mtime_ns
    assert not (folder / "result.json").exists()

    outcome = distil()
    assert outcome.code == 0
    assert "distilled already" in outcome.err
    assert (folder / "distilled.safetensors").stat().st_mtime_ns == made
    assert names(folder) == FILES
    assert outcome.json["stages"]["distil"]["seconds"] > 0


def test_a_foreign_set_is_evaluated_from_its_file_alone(sdc: Sdc, tmp_path: Path) -> None:
    images = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    facts = {
        "dataset": "digits",
        "classes": json.dumps([str(digit) for digit in range(10)]),
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.5, 0.5, 0.5]",
        "protocol": json.dumps({"lr": 0.01, "epochs": 2}),
    }
    save_file({"images": images, "labels": torch.arange(10).repeat_interleave(2)}, tmp_path / "mine.safetensors", facts)

    outcome = sdc("evaluate", tmp_path / "mine.safetensors", "--model", "MLP,LeNet", "--networks", 2, "--json")

    assert outcome.code == 0, outcome
    assert [score["model"] for score in outcome.json["accuracy"]] == ["MLP", "MLP", "LeNet", "LeNet"]
    assert {model: row["n"] for model, row in outcome.json["by_model"].items()} == {"MLP": 2, "LeNet": 2}
    assert outcome.json["protocol"]["epochs"] == 2


def test_a_run_folder_is_evaluated_as_the_run_did_or_as_asked(distil: Run, sdc: Sdc) -> None:
    made = distil()
    folder = made.json["run"]

    same = sdc("evaluate", folder, "--json")
    assert same.json["accuracy"] == made.json["accuracy"]
    uniform = sdc("evaluate", folder, "--protocol", "uniform", "--set", "epochs=1", "--networks", 1, "--json")
    assert uniform.json["protocol"]["augment"].startswith("dsa:")
    assert (uniform.json["protocol"]["epochs"], uniform.json["n"]) == (1, 1)
    assert names(Path(folder)) == FILES
    assert "mean %" in sdc("evaluate", folder, "--networks", 1).out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "images"),
        ({"images": torch.zeros(10, 3, 32, 32), "labels": torch.full((10,), 10)}, "labels"),
        ({"images": torch.full((10, 3, 32, 32), float("nan")), "labels": torch.arange(10)}, "not finite"),
        ({"images": torch.zeros(10, 3 * 32), "labels": torch.arange(10)}, "not enough values"),
    ],
    ids=["no images", "label out of range", "pixels not finite", "no images but vectors"],
)
def test_a_file_that_is_no_distilled_set_is_refused(
    content: dict[str, torch.Tensor], said: str, sdc: Sdc, tmp_path: Path
) -> None:
    facts = {"dataset": "digits", "classes": json.dumps(list("0123456789"))} | {
        "mean": "[0, 0, 0]",
        "std": "[1, 1, 1]",
        "protocol": json.dumps({"lr": 0.01, "epochs": 2}),
    }
    save_file(content, tmp_path / "bad.safetensors", facts)
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04K\x01.")

    for name, words in (("bad", said), ("pickle", "SafetensorError"), ("none", "does not exist")):
        outcome = sdc("evaluate", tmp_path / f"{name}.safetensors")
        assert outcome.code == 1
        assert f"{name}.safetensors" in outcome.err
        assert words in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "dcc", "--weight", "0"), "unknown method 'dcc'. Known: "),
        (("run", "fake", "--weight", "0", "--dataset", "cifar"), "cifar"),
        (("run", "fake", "--weight", "0", "--recipe", "slow"), "unknown recipe of fake 'slow'. Known: quick"),
        (("run", "fake", "--weight", "0", "--set", "stepps=3"), "unknown setting of fake 'stepps'. Known: "),
        (("run", "fake", "--weight", "0", "--set", "steps"), "--set steps: give key=value"),
        (("run", "fake", "--weight", "0", "--set", "steps=many"), "takes a whole number, such as 6"),
        (("run", "fake", "--weight", "0", "--set", "rate=-1"), "takes a finite number, 0 or more"),
        (("run", "fake", "--weight", "0", "--set", "end=soon"), "unknown value of end 'soon'. Known: well, "),
        (("run", "fake", "--weight", "0", "--model", "ConvNot"), "unknown model of fake 'ConvNot'. Known: "),
        (("run", "fake", "--weight", "0", "--ipc", "3"), "fake cannot do this: it takes ipc 1 and 2 only"),
        (("run", "fake", "--weight", "0", "--ipc", "0"), "--ipc 0: at least one image a class"),
        (("run", "fake", "--weight", "0", "--seed", "-1"), "--seed -1: 0 or more"),
        (("run", "fake", "--weight", "0", "--schedule", "cosine"), "unknown schedule 'cosine'. Known: constant, "),
        (("run", "fake", "--weight", "0", "--schedule", "linear/0"), "a whole number of 2 or more, as in linear/5"),
        (("run", "fake", "--weight", "0", "--schedule", "log/"), "a whole number of 2 or more, as in log/5"),
        (("run", "fake", "--weight=-0.1"), "--weight -0.1: the weight is a finite number, 0 (no SDC) or more"),
        (("run", "fake", "--weight", "nan"), "--weight nan"),
        (("run", "fake", "--weight", "inf"), "--weight inf"),
        (("run", "fake", "--weight", "0", "--data", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    arguments: tuple[str, ...], said: str, sdc: Sdc, tmp_path: Path
) -> None:
    outcome = sdc(*arguments, "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 1, outcome
    assert said in outcome.json["error"]
    assert not (tmp_path / "runs").exists()
    assert not paths.upstream().exists()


def _tree(folder: Path, classes: int = 10, missing: str = "") -> Path:
    for part in ("train", "test"):
        for number in range(classes):
            if f"{part}/{number}" != missing:
                (folder / part / str(number)).mkdir(parents=True)
                Image.new("RGB", (32, 32), (20 * number % 256,) * 3).save(folder / part / str(number) / "a.png")
    return folder


def test_too_few_classes_are_named_and_another_method_only_if_there_is_one(sdc: Sdc, tmp_path: Path) -> None:
    said = {}
    for count in (9, 100):
        path = _tree(tmp_path / f"of{count}", classes=count)
        said[count] = sdc("run", "fake", "--weight", 0, "--data", path, "--runs", tmp_path / "runs", "--json").json[
            "error"
        ]
    assert said[9].splitlines() == [
        "fake takes datasets of 10 classes; of9 has 9: 0, 1, 2, 3, 4 and 4 more.",
        "No method here takes 9. Leave out classes, or add some, until there are 10",
    ]
    first, second = said[100].splitlines()
    assert first == "fake takes datasets of 10 classes; of100 has 100: 0, 1, 2, 3, 4 and 95 more."
    named = second.removeprefix("Take another method: ").split(", ")
    assert {"mtt", "ftd"} <= set(named)
    assert "fake" not in named


def test_bad_images_are_refused_before_anything_is_made(sdc: Sdc, tmp_path: Path) -> None:
    lacking = _tree(tmp_path / "lacking", missing="test/7")
    few = _tree(tmp_path / "few", classes=9)
    broken = _tree(tmp_path / "broken")
    (broken / "train" / "3" / "a.png").write_bytes(b"no image")
    cut = tmp_path / "cut.tar.xz"
    subprocess.run(["tar", "cJf", cut, "-C", _tree(tmp_path / "whole"), "train", "test"], check=True)
    cut.write_bytes(cut.read_bytes()[:-200])

    for path, said in ((lacking, "7"), (few, "10 classes; few has 9"), (broken, "3/a.png"), (cut, "cut.tar.xz")):
        outcome = sdc("run", "fake", "--weight", 0, "--data", path, "--runs", tmp_path / "runs", "--json")
        assert outcome.code == 1, outcome
        assert said in outcome.json["error"]
        assert not (tmp_path / "runs").exists()
        assert not list((paths.data()).glob("**/*.partial"))


def test_more_images_a_class_than_there_are_is_refused(sdc: Sdc, tmp_path: Path) -> None:
    outcome = sdc("run", "fake", "--weight", 0, "--ipc", 2, "--data", _tree(tmp_path / "set"), "--json")

    assert outcome.code == 1
    assert "class 0 of set has only 1 training images" in outcome.json["error"]


def test_a_script_that_ends_with_an_error_shows_its_last_lines(distil: Run, tmp_path: Path) -> None:
    outcome = distil("--set", "end=error")

    (folder,) = (tmp_path / "runs").iterdir()
    assert outcome.code == 1
    assert "ValueError: the fake script was told to fail" in outcome.json["error"]
    assert str(folder / "log.txt") in outcome.json["error"]
    assert names(folder) == [".lock", "cell.json", "history", "log.txt", "metrics.jsonl", "snapshot.safetensors"]


def test_a_diverging_script_is_stopped_with_advice_and_its_last_good_images_are_kept(
    distil: Run, tmp_path: Path
) -> None:
    outcome = distil("--set", "end=nan", "--set", "steps=1000000", "--set", "snapshot_every=1")

    (folder,) = (tmp_path / "runs").iterdir()
    assert outcome.code == 1
    assert "Training diverged. Lower --set rate=..." in outcome.json["error"]
    assert bool(load_file(folder / "snapshot.safetensors")["images"].isfinite().all())
    assert names(folder) == [".lock", "cell.json", "history", "log.txt", "metrics.jsonl", "snapshot.safetensors"]


def test_a_script_that_makes_no_steps_is_noticed(distil: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STALL", 0.2)
    outcome = distil()

    assert outcome.code == 0
    assert len(re.findall("no step for 0 s", outcome.err)) >= 1


def _start(made: fake.Fake, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-m", "tests.fake", str(made.patch.parent), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=paths.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def test_ctrl_c_during_distillation_keeps_a_snapshot(fake_upstream: fake.Fake, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    options = ("--weight", 1, "--set", "limit_per_class=3", "--set", "end=slow", "--set", "steps=100000")
    child = _start(fake_upstream, "run", "fake", *options, "--runs", runs)
    _wait(lambda: any(path.read_text().count("\n") > 5 for path in runs.glob("*/metrics.jsonl")), child)

    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)

    (folder,) = runs.iterdir()
    assert child.returncode == 130
    assert names(folder) == [".lock", "cell.json", "history", "log.txt", "metrics.jsonl", "snapshot.safetensors"]
    assert str(folder / "snapshot.safetensors") in said
    assert load_file(folder / "snapshot.safetensors")["images"].shape == (10, 3, 32, 32)
    assert not subprocess.run(["pgrep", "-f", str(folder)], check=False, capture_output=True).stdout


def _wait(ready: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not ready():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("size", "full", "options"),
    [("2m", "runs", ()), ("1m", "cache", ()), ("32m", "runs", ("--set", "end=disk"))],
    ids=["while the images are served", "while the data are prepared", "while the script writes"],
)
def test_a_full_disk_ends_with_a_clear_error_and_no_half_made_file(
    size: str,
    full: str,
    options: tuple[str, ...],
    fake_upstream: fake.Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small disk of its own, in a mount namespace that ends with the process; what is left is listed inside it."""
    disk = tmp_path / full
    disk.mkdir()
    inside = (
        f'mount -t tmpfs -o size={size} tmpfs {disk} && {{ "$@"; code=$?; cp -r {disk} {tmp_path}/left; exit $code; }}'
    )
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a user mount a small disk (unshare -rm)")

    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    asked = ("run", "fake", "--dataset", "digits", "--weight", 0, *options, "--runs", tmp_path / "runs", "--json")
    child = _start(fake_upstream, *asked, prefix=("unshare", "-rm", "sh", "-c", inside, "sh"))
    out, said = child.communicate(timeout=120)

    assert child.returncode == 1, said
    assert "no space left" in json.loads(out)["error"].lower()
    left = [path for path in (tmp_path / "left").rglob("*") if path.is_file() and path.suffix != ".lock"]
    states = [path for path in left if path.parent.name == "history"]
    assert all("images" in load_file(state) for state in states)  # each of them whole
    named = {path.name for path in left if path not in states and path.name != ".lock"}
    assert named <= {"cell.json", "log.txt", "metrics.jsonl", "snapshot.safetensors"}
