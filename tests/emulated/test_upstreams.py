"""All methods on emulated GPUs, their scripts without the device bridge: what fails there alone is found here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdc.adapters.registry import ADAPTERS
from tests.emulated.conftest import Machine, result
from tests.emulated.test_runs import KILLED

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
BRIEF = ("--recipe", "trial", "--set", "networks=1", "--set", "epochs=1", "--set", "limit_per_class=12")
MakeMachine = Callable[..., Machine]


@pytest.mark.parametrize("method", sorted(ADAPTERS))
def test_a_method_runs_at_one_image_a_class_on_the_gpu_that_it_is_given(
    method: str, machine: MakeMachine, upstream_tree: Callable[[str], Path]
) -> None:
    upstream_tree(method)
    four = machine(4, CUDA_VISIBLE_DEVICES="3,1")
    found = result(four.sdc("run", method, "--dataset", "digits", "--weight", 0.1, *BRIEF, "--json"))

    assert found["state"] == "complete"
    for script in four.scripts:  # of experts, too; DATM's script asks for another GPU than the one that it was given
        assert script["first_use"] == {"variable": "3", "visible": ["3"]}
        assert script["devices"] == ["3"]
    assert four.scripts
    cell = json.loads((Path(found["run"]) / "cell.json").read_text())
    assert cell["device"]["kind"] == "cuda"
    assert cell["device"].keys() >= {"name", "cuda", "cudnn", "driver", "capability", "tf32"}
    images = load_file(Path(found["run"]) / "distilled.safetensors")["images"]
    assert bool(torch.isfinite(images).all())


def test_two_images_a_class_and_more_gpus_if_they_are_asked_for(
    machine: MakeMachine, upstream_tree: Callable[[str], Path]
) -> None:
    upstream_tree("mtt")
    two = machine(2)
    asked = ("run", "mtt", "--dataset", "digits", "--ipc", 2, "--weight", 0, *BRIEF, "--json")
    alone = result(two.sdc(*asked))
    assert [script["first_use"]["visible"] for script in two.scripts][-1:] == [["0"]]  # after that of its experts
    both = result(two.sdc(*asked, "--set", "gpus=2"))
    assert [script["first_use"]["visible"] for script in two.scripts] == [["0", "1"]]
    assert both["key"] != alone["key"]


@pytest.mark.parametrize("method", ["dm", "datm"])
def test_a_distillation_that_is_cut_short_goes_on_on_the_gpu(
    method: str, machine: MakeMachine, upstream_tree: Callable[[str], Path]
) -> None:
    upstream_tree(method)
    one = machine()
    iterations = ("--set", "Iteration=6", "--set", "snapshot_every=1")
    asked = ("run", method, "--dataset", "digits", "--weight", 0.1, *BRIEF, *iterations, "--json")
    cut = one.python("-c", KILLED, *asked)
    assert cut.code == 130, cut
    found = result(one.sdc(*asked))
    assert [each["stage"] for each in found["resumed"]] == ["distil"]
    assert found["resumed"][0]["step"] >= 1
    assert [script["devices"] for script in one.scripts] == [["0"]]


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu(
    machine: MakeMachine, upstream_tree: Callable[[str], Path]
) -> None:
    upstream_tree("datm")
    one = machine()
    outcome = one.sdc("run", "dm", "--dataset", "digits", "--weight", 0, *BRIEF, "--device", "cpu", "--json")
    run = Path(result(outcome)["run"])
    assert "computing on cpu" in outcome.err
    assert [report["devices"] for report in one.reports] == [[]] * len(one.reports)
    stages = json.loads((run / "result.json").read_text())["stages"]
    assert all(stage["peak_memory_mib"] > 0 for stage in stages.values())  # of the CPU, not the idle GPU's
    assert json.loads((run / "cell.json").read_text())["device"]["kind"] == "cpu"


def test_claims_about_code_hold_on_a_gpu_whose_kernels_do_not_repeat(
    machine: MakeMachine, upstream_tree: Callable[[str], Path]
) -> None:
    upstream_tree("dm")
    noisy = machine(SDC_TEST_CUDA_NOISE="1")
    assert noisy.sdc("apply", "dm").code == 0
    proved = noisy.sdc("verify", "dm", "--behaviour")

    assert proved.code == 0, proved
    assert "two runs of the untouched script differ by up to" in proved.out
    on_gpu = [each for each in noisy.reports if each["devices"] and each["argv"][0].endswith("main_DM.py")]
    assert len(on_gpu) == 2  # those whose spread is told
    assert "grid_sampler_2d_backward" in str([report["nondeterministic"] for report in noisy.reports])


def test_calibration_and_difficulty_run_on_the_gpu(machine: MakeMachine, upstream_tree: Callable[[str], Path]) -> None:
    upstream_tree("mtt")
    one = machine()
    weights = result(one.sdc("calibrate", "mtt", "--dataset", "digits", *BRIEF[:2], *BRIEF[-2:], "--json"))
    assert weights["balance"] > 0
    assert all(script["devices"] == ["0"] for script in one.scripts)
    whitened = ("run", "mtt", "--dataset", "digits", "--weight", 0, *BRIEF, "--set", "zca=1", "--set", "history=2")
    run = result(one.sdc(*whitened, "--json"))["run"]
    assert all(script["devices"] == ["0"] for script in one.scripts)
    for networks in ("fresh", "trained", "experts"):
        few = ("--count", 1, "--epochs", 1, "--limit", 2, "--dataset", "digits")
        found = result(one.sdc("difficulty", run, "--networks", networks, *few, "--json"))
        assert found["sources"]
        assert [report["devices"] for report in one.reports] == [["0"]]
