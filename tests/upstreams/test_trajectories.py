"""The methods that match trajectories, on their true upstreams: what they learn, what they share, what they claim."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import experts, jobs, process
from sdc.evaluation import distilled, view
from sdc.ground import paths
from sdc.ground.watch import Quiet
from sdc.plan.request import Request, plan
from tests.conftest import Outcome, Sdc

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
METHODS = ("mtt", "ftd", "tesla", "datm")
ADDED = {"mtt": 5, "ftd": 5, "tesla": 3, "datm": 6}
BRIEF = (
    *("limit_per_class=16", "num_experts=2", "train_epochs=3", "expert_batch=32", "max_start_epoch=2", "lr_img=10"),
    *("Iteration=2", "syn_steps=3", "expert_epochs=1", "networks=1", "epochs=5", "lr_lr=1e-7", "model=ConvNetD1"),
)
"""Two experts of three short epochs, three steps, one network; the smallest that all four know, so experts are shared."""

Short = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _reached(upstream_tree: Callable[[str], Path]) -> None:
    for method in METHODS:
        upstream_tree(method)


def changes(method: str) -> tuple[str, ...]:
    """What runs of a method set: such short experts are matched badly, and DATM would take no step."""
    return (*BRIEF, *(["threshold=10"] if method == "datm" else []))


def settings(method: str, *more: str) -> list[str]:
    return [word for setting in (*changes(method), *more) for word in ("--set", setting)]


@pytest.fixture
def short(sdc: Sdc, archives: Path, tmp_path: Path) -> Short:
    """`short("mtt", weight, *more)`: three steps on sixteen real images a class, evaluated briefly."""

    def distil(method: str, weight: float, *more: object, runs: str = "runs", data: str = "cifar10") -> Outcome:
        asked = ("run", method, "--data", archives / f"{data}.tar.xz", "--weight", weight, "--runs", tmp_path / runs)
        outcome = sdc(*asked, "--json", *settings(method), *more)
        assert outcome.code == 0, outcome
        return outcome

    return distil


@pytest.fixture
def fresh_cache(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`fresh_cache("name")`: no experts are there any more; the prepared data stay, since those take longest."""

    def take(name: str) -> None:
        data = shared / "cache" / "data"
        data.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(data)
        monkeypatch.setenv("SDC_CACHE", str(tmp_path / name))

    return take


def tensors(outcome: Outcome) -> dict[str, Tensor]:
    return load_file(Path(outcome.json["run"]) / "distilled.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(tensor.equal(second[name]) for name, tensor in first.items())


def untouched(method: str, tree: Path, outcome: Outcome, archive: Path, work: Path) -> dict[str, Tensor]:
    """What the script of a pristine clone makes of the same run, without the options of SDC."""
    work.mkdir()
    asked = Request(method, 0.0, data=archive, seed=outcome.json["seed"], changes=changes(method))
    planned = plan(asked, Quiet())
    trained = experts.ready(planned, Quiet())
    assert trained is not None
    (work / "buffers").symlink_to(trained.folder)
    job = jobs.distillation(planned, work, work)
    argv = job.argv[: job.argv.index("--sdc_lambda")]
    script = tree / ADAPTERS[method].patch.script
    original = dataclasses.replace(job, script=str(script), tree=str(tree), argv=argv)
    process.launch(original, work, work / "log.txt", Quiet(), {})
    return load_file(original.output)


def test_few_lines_in_one_file_come_and_go(sdc: Sdc) -> None:
    applied = sdc("apply", *METHODS, "--json")
    assert [change["after"] for change in applied.json["methods"]] == ["patched"] * 4

    proved = sdc("verify", *METHODS, "--json")
    assert (proved.code, proved.json["ok"]) == (0, True)
    assert {proof["method"]: (proof["added"], proof["removed"]) for proof in proved.json["methods"]} == {
        method: (lines, 0) for method, lines in ADDED.items()
    }
    assert sdc("revert", *METHODS).code == 0
    states = {row["method"]: row["state"] for row in sdc("status", "--json").json["methods"]}
    assert states | dict.fromkeys(METHODS, "pristine") == states


@pytest.mark.parametrize("method", ["datm"])  # each by `sdc verify --behaviour`: test_verify.py
def test_weight_zero_is_the_untouched_script_bit_for_bit_and_another_weight_is_not(
    method: str, short: Short, upstream_tree: Callable[[str], Path], archives: Path, tmp_path: Path
) -> None:
    without, again, with_term, other = (
        *(short(method, 0), short(method, 0, runs="again")),
        *(short(method, 0.02), short(method, 0.02, "--seed", 1)),
    )

    original = untouched(method, upstream_tree(method), without, archives / "cifar10.tar.xz", tmp_path / "untouched")

    assert set(original) == {"images", "lr", *(["labels"] if method == "datm" else [])}
    found = tensors(without)
    assert same({name: found[name] for name in original}, original)
    assert same(found, tensors(again))
    assert without.json["accuracy"] == again.json["accuracy"]
    for outcome in (with_term, other):
        assert not tensors(outcome)["images"].equal(original["images"])
        assert all(tensor.isfinite().all() for tensor in tensors(outcome).values() if tensor.is_floating_point())
    assert not tensors(other)["images"].equal(tensors(with_term)["images"])
    assert without.json["stages"]["distil"]["steps"] == 3
    assert without.json["protocol"]["lr"] == pytest.approx(float(found["lr"]), rel=1e-6)
    soft = found["labels"].shape == (10, 10)
    assert soft == (method == "datm")


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls_also_on_digits_in_the_slot_of_ten_classes_with_its_shape_and_constants(
    method: str, short: Short
) -> None:
    # Every step starts where the experts start: which epoch is drawn changes the loss more than forty steps do.
    longer = ("Iteration=39", "lr_img=10000", "lr_teacher=0.005", "max_start_epoch=1")
    outcome = short(method, 0.001, *[word for setting in longer for word in ("--set", setting)], data="mnist10k")

    lines = map(json.loads, (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert len(losses) == 40
    assert sum(losses[-10:]) < sum(losses[:10])
    found = distilled.load(Path(outcome.json["run"]))
    assert (found.view.dataset, found.images.shape) == ("mnist10k", (10, 3, 32, 32))
    assert found.view.mean == pytest.approx((0.4914, 0.4822, 0.4465))
    assert found.view.std == pytest.approx((0.2023, 0.1994, 0.2010))


def test_methods_share_experts_and_their_time_steps_differ(
    short: Short, sdc: Sdc, tmp_path: Path, fresh_cache: Callable[[str], None]
) -> None:
    fresh_cache("cache")
    outcomes = {method: short(method, 0) for method in ("mtt", "tesla", "ftd", "datm")}
    listed = sdc("experts", "--runs", tmp_path / "runs", "--json").json["experts"]

    assert sorted(row["kind"] for row in listed) == ["flat", "sgd"]
    users = {row["kind"]: sorted(name.split("-")[0] for name in row["runs"]) for row in listed}
    assert users == {"sgd": ["mtt", "tesla"], "flat": ["datm", "ftd"]}
    for row in listed:
        (file,) = Path(row["folder"]).rglob("*.pt")
        trajectories = torch.load(file, weights_only=True)
        assert [len(trajectory) for trajectory in trajectories] == [4, 4]  # three epochs, and the start
        for trajectory in trajectories:
            for before, after in itertools.pairwise(trajectory):
                assert any(not p.equal(q) for p, q in zip(before, after, strict=True))
        assert row["bytes"] >= file.stat().st_size
        assert row["settings"]["num_experts"] == 2
    for method, outcome in outcomes.items():
        key = outcome.json["stages"]["experts"]["key"]
        assert key == json.loads((Path(outcome.json["run"]) / "cell.json").read_text())["experts"]
        assert key in {row["key"] for row in listed}, method
    assert "training 2 sgd experts, 3 epochs each: about " not in sdc("experts").out

    gone = sdc("experts", "delete", listed[0]["key"], "--json").json["deleted"]
    assert [row["key"] for row in gone] == [listed[0]["key"]]
    assert not Path(gone[0]["folder"]).exists()
    assert len(sdc("experts", "--json").json["experts"]) == 1
    assert sdc("experts", "delete", "nonsense").code == 1
    assert sdc("experts", "delete", "--all").code == 0
    assert sdc("experts", "--json").json == {"experts": []}


def _start(archives: Path, *more: str) -> subprocess.Popen[str]:
    words = [Path(sys.executable).with_name("sdc"), "experts", "train", "mtt", "--data", archives / "cifar10.tar.xz"]
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [str(word) for word in (*words, *settings("mtt", *more), "--json")]
    return subprocess.Popen(command, env=dict(os.environ), start_new_session=True, **usual)


def test_two_at_once_train_them_once_and_a_killed_one_leaves_none(
    archives: Path, sdc: Sdc, fresh_cache: Callable[[str], None]
) -> None:
    fresh_cache("cache")
    long = _start(archives, "train_epochs=1000")
    end = time.monotonic() + 200
    while not list(paths.experts().glob(".*.partial/metrics.jsonl")):
        assert long.poll() is None, long.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(long.pid, signal.SIGKILL)
    long.wait(60)
    while subprocess.run(["pgrep", "-f", str(paths.experts())], check=False, capture_output=True).stdout:
        assert time.monotonic() < end, "the script goes on without the process that started it"
        time.sleep(0.05)

    (left,) = sdc("experts", "--json").json["experts"]
    assert (left["state"], left["done"]) == ("unfinished", 0)
    assert "0 of 2" in sdc("experts").out
    assert sdc("experts", "delete", left["key"]).code == 0
    assert not list(paths.experts().glob(".*.partial"))

    both = [_start(archives), _start(archives)]
    said = [child.communicate(timeout=200) for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    assert said[0][0] == said[1][0] or json.loads(said[0][0])["key"] == json.loads(said[1][0])["key"]
    assert sum("training 2 sgd experts, 3 epochs each: about" in err for _, err in said) == 1
    assert len(sdc("experts", "--json").json["experts"]) == 1


def test_experts_whose_training_is_killed_go_on_to_the_same_bits_and_the_run_says_so(
    archives: Path, sdc: Sdc, short: Short, fresh_cache: Callable[[str], None]
) -> None:
    many = ("num_experts=3", "train_epochs=12")
    more = [word for setting in many for word in ("--set", setting)]
    fresh_cache("cache")
    child = _start(archives, *many)
    end = time.monotonic() + 200
    while not list(paths.experts().glob(".*.partial/**/replay_buffer_1.pt")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    for pid in _children(child.pid):
        os.kill(pid, signal.SIGKILL)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)

    outcome = short("mtt", 0, *more)

    (resumed,) = outcome.json["resumed"]
    assert resumed["stage"] == "experts"
    assert 1 <= resumed["expert"] < 3
    (listed,) = sdc("experts", "--json").json["experts"]
    assert listed["state"] == "complete"
    assert not list(paths.experts().glob(".*.partial"))
    (file,) = Path(listed["folder"]).rglob("*.pt")
    killed = torch.load(file, weights_only=True)
    fresh_cache("another")
    whole = short("mtt", 0, *more, runs="whole")
    (file,) = paths.experts().rglob("*.pt")
    for trajectory, other in zip(killed, torch.load(file, weights_only=True), strict=True):
        assert len(trajectory) == 13
        for step, same_step in zip(trajectory, other, strict=True):
            assert all(p.equal(q) for p, q in zip(step, same_step, strict=True))
    assert not killed[0][-1][0].equal(killed[1][-1][0])
    assert same(tensors(outcome), tensors(whole))


@pytest.mark.parametrize("method", ["mtt", "ftd"])
def test_experts_that_are_trained_side_by_side_are_those_of_one_process(
    method: str, archives: Path, sdc: Sdc, fresh_cache: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("experts", "train", method, "--data", archives / "cifar10.tar.xz", "--json")
    trained = {}
    for workers in ("1", "3"):
        fresh_cache(workers)
        monkeypatch.setenv("SDC_WORKERS", workers)
        outcome = sdc(*asked, *settings(method, "num_experts=3"))
        assert outcome.code == 0, outcome
        folder = Path(outcome.json["folder"])
        assert (folder / "log.txt").read_text().count("$ buffer") == int(workers)
        (file,) = folder.rglob("*.pt")
        trained[workers] = [state for one in torch.load(file, weights_only=True) for state in one]

    assert len(trained["1"]) == 12
    for state, other in zip(trained["1"], trained["3"], strict=True):
        assert all(p.equal(q) for p, q in zip(state, other, strict=True))
    assert not trained["1"][3][0].equal(trained["1"][7][0])


def test_experts_that_were_trained_elsewhere_give_the_same_bits(
    short: Short, archives: Path, sdc: Sdc, fresh_cache: Callable[[str], None]
) -> None:
    fresh_cache("theirs")
    whole = short("mtt", 0)
    (file,) = paths.experts().rglob("*.pt")
    for number, one in enumerate(torch.load(file, weights_only=True)):
        torch.save([one], file.with_name(f"replay_buffer_{number}.pt"))  # as the script itself saves them here
    fresh_cache("ours")

    given = ("--data", archives / "cifar10.tar.xz", "--json", "--unchecked")  # after so few steps they know little
    taken = sdc("experts", "import", file.parent, "mtt", *given, *settings("mtt"))

    assert taken.code == 0, taken
    outcome = short("mtt", 0, runs="with")
    assert "training 2 sgd experts" not in outcome.err
    assert outcome.json["stages"]["experts"]["imported_from"] == str(file.parent)
    assert same(tensors(outcome), tensors(whole))


def _children(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], check=False, capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("method", ["ftd", "datm"])  # a moving average; soft labels, and steps that are not taken
def test_a_distillation_that_is_stopped_goes_on_with_all_that_it_learned(
    method: str, short: Short, archives: Path, tmp_path: Path
) -> None:
    longer = [word for setting in ("Iteration=40",) for word in ("--set", setting)]
    asked = ("run", method, "--data", archives / "cifar10.tar.xz", "--weight", 0.02, "--runs", tmp_path / "runs")
    command = [str(w) for w in (Path(sys.executable).with_name("sdc"), *asked, *settings(method), *longer)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 200
    while not any(file.read_text().count('"kind": "step"') > 5 for file in (tmp_path / "runs").glob("*/metrics.jsonl")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    (folder,) = (tmp_path / "runs").iterdir()
    kept = load_file(folder / "snapshot.safetensors")

    outcome = short(method, 0.02, *longer)

    (resumed,) = outcome.json["resumed"]
    assert resumed["stage"] == "distil"
    assert resumed["step"] == resumed["iteration"] >= 5
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 42))
    rates = {line["step"]: line["lr"] for line in steps}
    # The rate that the next step moved is the one kept: its path has no break.
    assert float(kept["lr"]) == pytest.approx(rates[resumed["step"]], rel=1e-6)
    moved = [abs(rates[step + 1] - rates[step]) for step in range(1, 41)]
    assert abs(rates[resumed["step"] + 1] - rates[resumed["step"]]) <= 3 * max(moved[: resumed["step"] - 1])


def test_a_set_is_of_the_scripts_own_moving_average(
    short: Short, upstream_tree: Callable[[str], Path], archives: Path, tmp_path: Path
) -> None:
    """The script's average is written by the script's own class, at every update."""
    outcome = short("ftd", 0, "--set", "ema_decay=0.75")
    tree, work = upstream_tree("ftd"), tmp_path / "watched"
    work.mkdir()
    asked = Request("ftd", 0.0, data=archives / "cifar10.tar.xz", changes=(*BRIEF, "ema_decay=0.75"))
    planned = plan(asked, Quiet())
    trained = experts.ready(planned, Quiet())
    assert trained is not None
    (work / "buffers").symlink_to(trained.folder)
    job = jobs.distillation(planned, work, work)
    watching = f"""
import sys, torch
sys.path[:0] = [{str(tree / "distill")!r}, {str(tree)!r}]
import model_ema, runpy
real = model_ema.ModelEmaV2.update
def update(self, images):
    real(self, images)
    torch.save([self.module[0].detach().clone(), images[0].detach().clone()], {str(work / "average.pt")!r})
model_ema.ModelEmaV2.update = update
runpy.run_path({str(tree / "distill" / "distill_FTD.py")!r}, run_name="__main__")
"""
    (work / "watching.py").write_text(watching)
    argv = job.argv[: job.argv.index("--sdc_lambda")]
    # The tree stays the clone's, so that only its code reads the run's clock.
    process.launch(
        dataclasses.replace(job, script=str(work / "watching.py"), tree=str(tree), argv=argv, loop=""),
        work,
        work / "log.txt",
        Quiet(),
        {},
    )

    average, images = torch.load(work / "average.pt", weights_only=True)
    assert tensors(outcome)["images"].equal(average)
    assert not average.equal(images)


def test_whitened_images_are_evaluated_against_test_images_whitened_alike_and_shown_unwhitened(
    short: Short, archives: Path, fresh_cache: Callable[[str], None]
) -> None:
    fresh_cache("cache")

    outcome = short("mtt", 0, "--set", "zca=1", "--set", "lr_img=0")

    folder = Path(outcome.json["run"])
    found = distilled.load(folder)
    planned = plan(Request("mtt", 0.0, data=archives / "cifar10.tar.xz", changes=(*BRIEF, "zca=1")), Quiet())
    real = planned.dataset.train.images.double() / 255
    few = planned.dataset.test.images[:50]
    assert view.normalised(few, found.view).sub(whitened(real, few.double() / 255)).abs().max() < 1e-4
    shown = distilled.pixels(found)
    # Nothing moved the images, so each is a training image of its class again, once un-whitened.
    for label, image in zip(found.labels, shown, strict=True):
        of_class = real[planned.dataset.train.labels == label]
        assert (of_class - image).abs().amax((1, 2, 3)).min() < 1e-3
    assert found.view.mean == (0.0, 0.0, 0.0)
    assert (folder / "images.png").stat().st_size > 1000
    # The script that trained the experts fitted the transform, and the one that distilled found it.
    assert len(list(paths.whitening().glob("*.images.safetensors"))) == 1
    assert len(list(paths.whitening().iterdir())) == 2


def whitened(real: Tensor, images: Tensor, eps: float = 0.1) -> Tensor:
    """ZCA by the singular vectors of the few real images, in double precision: along all others, 1 / sqrt(eps)."""
    mean = real.flatten(1).mean(0)
    _, sizes, axes = torch.linalg.svd(real.flatten(1) - mean, full_matrices=False)
    centred = images.flatten(1) - mean
    along = centred @ axes.T
    scales = (sizes.square() / (len(real) - 1) + eps).rsqrt() - eps**-0.5
    return (centred * eps**-0.5 + (along * scales) @ axes).view_as(images)


@pytest.mark.parametrize(
    ("change", "advice"),
    [("lr_img=1e30", "--set lr_img="), ("lr_lr=1", "--set lr_lr=")],
)
def test_a_run_that_diverges_stops_within_a_few_steps_with_advice_and_a_snapshot(
    change: str, advice: str, sdc: Sdc, archives: Path, tmp_path: Path
) -> None:
    asked = ("run", "mtt", "--data", archives / "cifar10.tar.xz", "--weight", 0, "--runs", tmp_path / "runs", "--json")
    outcome = sdc(*asked, *settings("mtt", "Iteration=200", change))

    assert outcome.code == 1, outcome
    assert "Training diverged" in outcome.json["error"]
    assert advice in outcome.json["error"]
    (folder,) = (tmp_path / "runs").iterdir()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "step" for line in lines) < 20
    kept = load_file(folder / "snapshot.safetensors")
    assert {"images", "lr"} <= set(kept)
    assert all(tensor.isfinite().all() for name, tensor in kept.items() if not name.startswith("random."))
    assert kept["lr"] > 0


def test_what_no_method_of_trajectories_can_do_is_refused_before_anything_is_trained(
    sdc: Sdc, archives: Path, tmp_path: Path, fresh_cache: Callable[[str], None]
) -> None:
    fresh_cache("cache")
    late = sdc("run", "mtt", "--weight", 0, "--set", "max_start_epoch=6", "--runs", tmp_path / "runs")
    assert late.code == 1
    assert "max_start_epoch - 1 + expert_epochs" in late.err
    idle = sdc(
        *("run", "datm", "--data", archives / "cifar10.tar.xz", "--weight", 0, "--runs", tmp_path / "runs"),
        *settings("datm", "threshold=0.000001"),
    )
    assert idle.code == 1
    assert "Raise --set threshold=" in idle.err
