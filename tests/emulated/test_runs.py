"""What runs and benchmarks do on emulated GPUs, shown on the fake upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from tests.emulated.conftest import Machine, result

MakeMachine = Callable[..., Machine]
BRIEF = ("run", "fake", "--dataset", "digits", "--weight", 0.5, "--set", "limit_per_class=3", "--set", "networks=1")


def test_a_run_that_is_cut_short_goes_on_to_the_same_bits(machine: MakeMachine, with_fake: dict[str, str]) -> None:
    one = machine(**with_fake)
    steps = ("--set", "steps=8", "--set", "snapshot_every=2")
    whole = result(one.sdc(*BRIEF, *steps, "--runs", "whole", "--json"))
    cut = one.python("-c", KILLED, *BRIEF, *steps, "--runs", "cut", "--json")
    assert cut.code == 130, cut
    after = result(one.sdc(*BRIEF, *steps, "--runs", "cut", "--json"))

    assert [each["stage"] for each in after["resumed"]] == ["distil"]
    assert after["resumed"][0]["step"] > 0
    one_set, other = (load_file(Path(found["run"]) / "distilled.safetensors") for found in (whole, after))
    assert all(one_set[name].equal(other[name]) for name in one_set)
    assert whole["accuracy"] == after["accuracy"]


KILLED = """
from sdc.launcher import job
from sdc.distillation import process
real = process._follow
def stopped(lines, log, watch):
    def some():
        for line in lines:
            yield line
            if line and line["kind"] == "step" and line["step"] == 3 and line["loss"] is not None:
                raise KeyboardInterrupt
    return real(some(), log, watch)
process._follow = stopped
from sdc.cli import main
main()
"""
"""The command line, interrupted after the third step."""


def test_looking_at_a_step_takes_one_wait_for_the_device(machine: MakeMachine, with_fake: dict[str, str]) -> None:
    one, waits = machine(**with_fake), []
    for steps in (40, 60):  # between them, no snapshot is due
        result(one.sdc(*BRIEF, "--set", f"steps={steps}", "--set", "history=0", "--json"))
        (script,) = one.scripts
        waits.append(script["counts"]["syncs"] + script["counts"]["to_host"])
    assert (waits[1] - waits[0]) / 20 <= 1


ESTIMATED = """
import json, torch
from sdc.distillation import training_time
from sdc.ground.watch import Quiet
from sdc.plan.request import Request, plan
told = []
torch.cuda.empty_cache = lambda: told.append("emptied")
found = training_time.estimate(plan(Request("mtt", 0.0, "digits", recipe="trial"), Quiet()))
print(json.dumps([found.seconds > 0, told]))
"""


def test_an_estimate_leaves_no_memory_taken(machine: MakeMachine) -> None:
    one = machine()
    told = one.python("-c", ESTIMATED)
    assert json.loads(told.out) == [True, ["emptied"]], told
    assert [report["devices"] for report in one.reports] == [["0"]]


def test_the_workers_of_a_benchmark_each_give_their_scripts_another_gpu(
    machine: MakeMachine, with_fake: dict[str, str], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'methods = ["fake"]\ndatasets = ["digits"]\nweights = [0, 0.5, 1]\n'
        'recipe = "trial"\n[set]\nnetworks = 1\nsteps = 30\nend = "slow"\n[evaluate]\nfloor = false\n'
    )
    eight = machine(8, CUDA_VISIBLE_DEVICES="6,2", **with_fake)
    outcome = eight.sdc("bench", spec, "--runs", "runs", "--json")

    assert result(outcome)["states"] == {"done": 3}
    assert "computing on cuda (" in outcome.err
    assert "2 at a time" in outcome.err
    seen = [tuple(script["first_use"]["visible"]) for script in eight.scripts]
    assert len(seen) == 3
    assert set(seen) == {("6",), ("2",)}
    for file in (tmp_path / "runs").glob("*/cell.json"):
        assert json.loads(file.read_text())["device"]["kind"] == "cuda"
