"""Each method on its true upstream: the patch is all that changed, and runs on real images are what they claim."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdc.adapters.registry import ADAPTERS
from sdc.data import sets, store
from sdc.evaluation import distilled
from sdc.evaluation.view import resized
from sdc.ground import paths
from sdc.launcher.job import Job
from tests.conftest import Outcome, Sdc
from tests.fake import _commit

pytestmark = [pytest.mark.upstream, pytest.mark.slow, pytest.mark.usefixtures("true_upstream")]
METHODS = ("dc", "dsa", "dm")
LIMIT = 16


@pytest.fixture
def short(sdc: Sdc, archives: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """`short("dc", weight, *more)`: three iterations on sixteen real images a class, evaluated briefly."""

    def distil(method: str, weight: float, *more: object, runs: str = "runs", data: str = "cifar10") -> Outcome:
        asked = ("run", method, "--data", archives / f"{data}.tar.xz", "--weight", weight, "--runs", tmp_path / runs)
        steps = ("outer_loop=2", "outer_warmup=1") if method == "dsac" else ("Iteration=2",)
        settings = (*steps, f"limit_per_class={LIMIT}", f"batch_real={LIMIT}", "networks=2", "epochs=5")
        outcome = sdc(*asked, "--json", *[word for setting in settings for word in ("--set", setting)], *more)
        assert outcome.code == 0, outcome
        return outcome

    return distil


def images(outcome: Outcome) -> Tensor:
    return load_file(Path(outcome.json["run"]) / "distilled.safetensors")["images"]


def git(tree: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", tree, *arguments], check=True, capture_output=True, text=True).stdout


def test_three_lines_in_one_file_come_and_go(sdc: Sdc) -> None:
    assert sdc("apply", *METHODS).code == 0
    before = {method: git(paths.upstream() / method, "diff", "--unified=0") for method in METHODS}
    again = sdc("apply", *METHODS, "--json")
    assert [change["before"] for change in again.json["methods"]] == ["patched"] * 3
    assert {method: git(paths.upstream() / method, "diff", "--unified=0") for method in METHODS} == before
    assert sdc("status").code == 0
    states = {row["method"]: row["state"] for row in sdc("status", "--json").json["methods"]}
    assert states | dict.fromkeys(METHODS, "patched") == states

    proved = sdc("verify", *METHODS, "--json")
    assert (proved.code, proved.json["ok"]) == (0, True)
    for proof in proved.json["methods"]:
        script = ADAPTERS[proof["method"]].patch.script
        assert (proof["files"], proof["added"], proof["removed"], proof["ok"]) == ([script], 3, 0, True)
        lines = before[proof["method"]].splitlines()
        assert sum(line.startswith("+") and not line.startswith("+++") for line in lines) == 3
        assert not any(line.startswith("-") and not line.startswith("---") for line in lines)

    assert sdc("revert", *METHODS).code == 0
    for method in METHODS:
        tree, upstream = paths.upstream() / method, ADAPTERS[method].upstream
        assert git(tree, "rev-parse", "HEAD").strip() == upstream.commit
        blobs = dict(line.split("\t")[::-1] for line in git(tree, "ls-tree", "-r", "HEAD").splitlines())
        on_disk = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
        on_disk = [name for name in on_disk if not name.startswith(".git/")]
        assert {"main.py", "main_DM.py", "networks.py", "utils.py"} <= set(on_disk)
        for name in on_disk:
            assert blobs[name].split()[2] == git(tree, "hash-object", "--no-filters", name).strip(), name


def _as_torchvision_keeps_mnist(archive: Path, folder: Path, per_class: int) -> None:
    """The four files that torchvision reads, so that a script finds MNIST where it would have downloaded it."""
    dataset = sets.limited(store.load("mnist10k", archive), per_class)
    few = dataset.test.labels.argsort(stable=True)[::50]
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, split, kept in (("train", dataset.train, slice(None)), ("t10k", dataset.test, few)):
        pictures, labels = resized(split.images[kept], 1, 28)[:, 0], split.labels[kept].to(torch.uint8)
        for name, tensor in (("images-idx3-ubyte", pictures), ("labels-idx1-ubyte", labels)):
            header = np.array([0x800 + tensor.dim(), *tensor.shape], dtype=">i4").tobytes()
            (raw / f"{part}-{name}").write_bytes(header + tensor.numpy().tobytes())


ByHand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def by_hand(archives: Path, tmp_path: Path) -> ByHand:
    """`by_hand(tree, method, *options)`: a script as its own readme says, one iteration on few images of MNIST."""
    _as_torchvision_keeps_mnist(archives / "mnist10k.tar.xz", tmp_path / "data", LIMIT)

    def run(tree: Path, method: str, *options: object) -> subprocess.CompletedProcess[str]:
        # Without the bridges DM's augmentation needs a GPU: without one, its in-place writes overlap and break.
        own = ["--dsa_strategy", "none"] if method == "dm" else ["--method", method.upper()]
        usual = ["--dataset", "MNIST", "--model", "ConvNetW32", "--ipc", 1, "--Iteration", 1, "--batch_real", LIMIT]
        brief = ["--num_exp", 1, "--num_eval", 0, "--data_path", tmp_path / "data", "--save_path", tmp_path / "result"]
        words = [sys.executable, ADAPTERS[method].patch.script, *own, *usual, *brief, *options]
        return subprocess.run([str(w) for w in words], cwd=tree, check=False, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("method", ["dc", "dm"])  # dsa is an option of the script of dc
def test_a_patched_script_runs_by_hand_without_the_launcher(
    method: str, sdc: Sdc, by_hand: ByHand, tmp_path: Path
) -> None:
    sdc("apply", method)
    tree = paths.upstream() / method
    for options in ((), ("--sdc_lambda", 0.1, "--sdc_schedule", "log", "--sdc_every", 2)):
        done = by_hand(tree, method, *options)
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "result").glob("*.pt")), done.stdout
    refused = by_hand(tree, method, "--sdc_lambda", "-1")
    assert refused.returncode == 2
    assert "the SDC weight must be a finite number >= 0, got '-1'" in refused.stderr


@pytest.mark.parametrize(
    ("theirs", "vendor"), [("plugins/__init__.py", ()), ("plugins.py", ("--vendor",))], ids=["package", "vendored"]
)
def test_a_fork_that_has_plugins_of_its_own_runs_by_hand_and_is_proved(
    theirs: str,
    vendor: tuple[str, ...],
    sdc: Sdc,
    by_hand: ByHand,
    upstream_tree: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    fork = tmp_path / "fork"
    shutil.copytree(upstream_tree("dm"), fork, ignore=shutil.ignore_patterns(".git"))
    (fork / theirs).parent.mkdir(exist_ok=True)
    (fork / theirs).write_text("MINE = 1\n")
    script = fork / ADAPTERS["dm"].patch.script
    script.write_bytes(b"import plugins\r\nassert plugins.MINE\r\n" + script.read_bytes())
    _commit(fork, {})
    applied = sdc("apply", "dm", "--to", fork, *vendor)
    assert (applied.code, (fork / "sdc.py").exists()) == (0, bool(vendor)), applied

    done = by_hand(fork, "dm", "--sdc_lambda", 0.1)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "result").glob("*.pt")), done.stdout
    proof = sdc("verify", "dm", "--to", fork, "--behaviour", "--json")
    assert (proof.code, proof.json["methods"][0]["added"]) == (0, 3), proof


def _untouched(tree: Path, outcome: Outcome, dataset: sets.Dataset, work: Path) -> Tensor:
    """What the script of a pristine clone makes of the command that a run gave it, less the options of SDC."""
    work.mkdir()
    log = (Path(outcome.json["run"]) / "log.txt").read_text().splitlines()[0].removeprefix("$ ")
    script, *argv = shlex.split(log)
    argv = argv[: argv.index("--sdc_lambda")]  # behind all of the script's own
    served = work / "served.safetensors"
    save_file(sets.tensors(dataset), served)
    Job(
        script=str(tree / script),
        argv=tuple(argv),
        seed=outcome.json["seed"],
        device="cuda" if torch.cuda.is_available() else "cpu",
        slot="CIFAR10",
        data=str(served),
        classes=dataset.classes,
        output=str(work / "final.safetensors"),
        snapshot=str(work / "snapshot.safetensors"),
        metrics=str(work / "metrics.jsonl"),
        view=str(work / "view.json"),
        snapshot_every=1000,
        tree=str(tree),
        test_per_class=1,
    ).write(work / "job.json")
    command = [sys.executable, "-P", "-m", "sdc.launcher", str(work / "job.json")]
    subprocess.run(command, cwd=work, check=True, capture_output=True, env=_environment())
    return load_file(work / "final.safetensors")["images"]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("method", ["dsa"])  # each by `sdc verify --behaviour`: test_verify.py
def test_weight_zero_is_the_untouched_script_bit_for_bit_and_another_weight_is_not(
    method: str,
    short: Callable[..., Outcome],
    upstream_tree: Callable[[str], Path],
    archives: Path,
    tmp_path: Path,
) -> None:
    without, with_term = short(method, 0), short(method, 0.5)
    dataset = sets.limited(store.load("cifar10", archives / "cifar10.tar.xz"), LIMIT)

    original = _untouched(upstream_tree(method), without, dataset, tmp_path / "untouched")

    assert images(without).equal(original)
    assert not images(with_term).equal(original)
    assert images(with_term).isfinite().all()


@pytest.mark.parametrize("method", ["dm"])  # the others: by `sdc verify --behaviour` and when they are interrupted
def test_the_same_command_gives_the_same_bits_and_another_seed_gives_others(
    method: str, short: Callable[..., Outcome]
) -> None:
    first, second, other = short(method, 0.5, runs="a"), short(method, 0.5, runs="b"), short(method, 0.5, "--seed", 1)

    files = [(Path(outcome.json["run"]) / "distilled.safetensors").read_bytes() for outcome in (first, second)]
    assert files[0] == files[1]
    assert first.json["accuracy"] == second.json["accuracy"]
    assert not images(other).equal(images(first))
    assert other.json["accuracy"] != first.json["accuracy"]


@pytest.mark.parametrize("method", ["dc", "dm"])
def test_mnist_runs_in_its_own_shape(method: str, short: Callable[..., Outcome]) -> None:
    outcome = short(method, 0.5, "--dataset", "mnist", data="mnist10k")

    folder = Path(outcome.json["run"])
    found = distilled.load(folder)
    assert folder.name.startswith(f"{method}-mnist-ipc1-")
    assert found.images.shape == (10, 1, 28, 28)
    assert found.view.mean == pytest.approx((0.1307,))
    assert found.view.std == pytest.approx((0.3081,))
    augmented = "dc:crop_scale_rotate" if method == "dc" else "dsa:color_crop_cutout_scale_rotate"
    assert outcome.json["protocol"]["augment"] == augmented
    assert outcome.json["n"] == 2
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "step" for line in steps) == outcome.json["stages"]["distil"]["steps"] == 3


def test_an_archive_of_ten_classes_of_another_shape_takes_the_slot_of_its_shape(
    short: Callable[..., Outcome], archives: Path
) -> None:
    found = distilled.load(Path(short("dm", 0, data="mnist10k").json["run"]))

    assert (found.view.dataset, found.images.shape) == ("mnist10k", (10, 1, 28, 28))
    assert ADAPTERS["dm"].datasets.get("mnist10k") is None


@pytest.mark.parametrize("method", ["dsa"])  # dm: benchmarks/faults.py
def test_ctrl_c_keeps_a_snapshot_and_the_same_command_then_completes_to_the_same_bits(
    method: str, sdc: Sdc, archives: Path, tmp_path: Path
) -> None:
    data, runs = archives / "mnist10k.tar.xz", tmp_path / "runs"
    brief = ("limit_per_class=16", "batch_real=16", "networks=1", "epochs=1", "Iteration=60", "snapshot_every=5")
    asked = ("run", method, "--data", data, "--weight", 1, "--runs", runs, "--json")
    command = [Path(sys.executable).with_name("sdc"), *asked]
    words = [str(word) for word in command] + [word for setting in brief for word in ("--set", setting)]

    def start() -> subprocess.Popen[str]:
        usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env=_environment(), start_new_session=True, **usual)

    child = start()
    end = time.monotonic() + 200
    while not list(runs.glob("*/snapshot.safetensors")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)

    (folder,) = runs.iterdir()
    assert child.returncode == 130, said
    assert load_file(folder / "snapshot.safetensors")["images"].isfinite().all()
    assert not (folder / "result.json").exists()
    assert not (folder / "distilled.safetensors").exists()
    assert f"snapshot of the distilled set is {folder / 'snapshot.safetensors'}" in said.replace("\n", "")
    child = start()
    out, said = child.communicate(timeout=200)
    assert child.returncode == 0, said
    assert json.loads(out)["run"] == str(folder)
    assert not (folder / "snapshot.safetensors").exists()
    assert json.loads(out)["resumed"][0]["stage"] == "distil"
    whole = sdc(*asked[:-2], tmp_path / "whole", "--json", *[word for setting in brief for word in ("--set", setting)])
    assert whole.json["resumed"] == []
    kept = [Path(run) / "distilled.safetensors" for run in (folder, whole.json["run"])]
    assert kept[0].read_bytes() == kept[1].read_bytes()
