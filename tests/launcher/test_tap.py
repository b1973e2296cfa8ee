"""What the launcher sees of a script's synthetic images, and how a script's end becomes an exit code and files.

Every script pulls images that begin as ones towards zero. The loss is the mean of their squares and the learning rate
a quarter of their number, so each step halves them: after step k they are 2**-k, and the loss that moved them there
was 4**-(k - 1), without rounding.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.launcher.conftest import TIMEOUT, Child, Launch

SHAPE = (4, 3, 8, 8)
HALVING = """\
import json
import os
import shutil
import signal
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

images = torch.ones(4, 3, 8, 8, requires_grad=True)
optimizer = torch.optim.SGD([images], lr=images.numel() / 4)


def backward():
    optimizer.zero_grad()
    loss = (images**2).mean()
    loss.backward()
    return loss

"""
WELL = (
    HALVING
    + """
network = torch.nn.Conv2d(3, 2, 3)
training = torch.optim.SGD(network.parameters(), lr=0.01)
rate = torch.tensor(0.5, requires_grad=True)
optimizer = torch.optim.SGD([{"params": [rate]}, {"params": [images], "lr": images.numel() / 4}], lr=0.1)
snapshot = Path("snapshot.safetensors")


def train():
    training.zero_grad()
    (1000 + network(images.detach()).sum()).backward()
    training.step()


for step in range(1, 6):
    train()
    backward()
    optimizer.step()
    train()
    train()
    if snapshot.exists():
        shutil.copy(snapshot, f"after{step}.safetensors")
with torch.no_grad():
    images[0] = 7
save_file({"live": images.detach()}, "found.safetensors")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
json.dump({"peak_kib": int(peak.split()[1])}, open("found.json", "w"))
"""
)
BAD_IMAGES = (
    HALVING
    + """
for step in range(1, 9):
    backward()
    if step == 3:
        images.grad[0, 0, 0, 0] = float("nan")
    optimizer.step()
"""
)
BAD_LOSS = (
    HALVING
    + """
for step in range(1, 9):
    optimizer.zero_grad()
    ((images**2).mean() + (float("nan") if step == 3 else 0)).backward()
    optimizer.step()
"""
)
EXPLODING = (
    HALVING
    + """
for step in range(1, 9):
    optimizer.zero_grad()
    loss = (images**2).mean() / (images**2).mean().detach() * (1e4 if step == 5 else 1.0)
    loss.backward()
    images.grad = 2 * images.detach() / images.numel()
    optimizer.step()
"""
)
ERROR = (
    HALVING
    + """
for step in range(1, 4):
    backward()
    optimizer.step()
raise LookupError("no such pixel")
"""
)
NO_IMAGES = """\
import torch

network = torch.nn.Conv2d(3, 2, 3)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
network(torch.ones(1, 3, 8, 8)).sum().backward()
optimizer.step()
"""
WAITING = (
    HALVING
    + """
for step in range(1, 4):
    backward()
    optimizer.step()
Path("waiting").touch()
end = time.monotonic() + 60
while not Path("go").exists() and time.monotonic() < end:
    time.sleep(0.02)
backward()
optimizer.step()
"""
)


def kept(path: Path) -> tuple[Tensor, int]:
    """The images in a file of the tap, and the number of steps it claims for them."""
    with safe_open(path, framework="pt") as file:
        assert {"images"} <= set(file.keys()) <= {"images", "lr"}
        return file.get_tensor("images"), int(file.metadata()["steps"])


def halved(steps: int) -> Tensor:
    return torch.full(SHAPE, 0.5**steps)


@pytest.fixture
def well(launch: Launch) -> Child:
    child = launch("well", WELL)
    assert child.code == 0, child.said
    return child


def test_every_update_of_the_images_is_a_step_with_the_loss_that_moved_them(well: Child) -> None:
    steps = [(line["step"], line["loss"]) for line in well.lines("step")]

    assert steps == [(step, 0.25 ** (step - 1)) for step in range(1, 6)]


def test_a_snapshot_of_the_start_the_first_and_every_second_step_is_written_once_the_next_loss_shows_it_sound(
    well: Child,
) -> None:
    for step, of_step in ((1, 0), (2, 1), (3, 2), (4, 2), (5, 4)):
        images, steps = kept(well.work / f"after{step}.safetensors")
        assert steps == of_step
        assert images.equal(halved(of_step))


def test_the_final_set_is_the_live_tensor_as_the_script_left_it(well: Child) -> None:
    images, steps = kept(well.output)

    expected = halved(5)
    expected[0] = 7
    assert images.equal(expected)
    assert images.equal(well.tensors["live"])
    assert (images.dtype, steps) == (torch.float32, 5)


def test_nothing_half_written_stays_behind(well: Child) -> None:
    assert not list(well.folder.rglob("*.partial"))


def test_the_peak_memory_of_the_process_ends_the_metrics(well: Child) -> None:
    (end,) = well.lines("end")

    assert end["peak_memory_mib"] >= well.found["peak_kib"] // 1024
    assert isinstance(end["peak_memory_mib"], int)


@pytest.mark.parametrize(
    ("name", "script", "problem", "good"),
    [
        ("bad-images", BAD_IMAGES, "images: not finite any more", 2),
        ("bad-loss", BAD_LOSS, "the loss is nan", 1),
        ("exploding", EXPLODING, "the loss is 1e+04, and was at most 1 in the first 3 steps", 2),
    ],
)
def test_images_or_a_loss_of_no_use_end_the_run_with_exit_code_4_and_the_last_good_images(
    name: str, script: str, problem: str, good: int, launch: Launch
) -> None:
    child = launch(name, script)

    assert child.code == 4, child.said
    assert child.said.endswith(f": {problem}\n")
    assert "Traceback" not in child.said
    assert [line["step"] for line in child.lines("step")] == ([1, 2, 3, 4] if name == "exploding" else [1, 2])
    assert not child.output.exists()
    images, steps = kept(child.snapshot)
    assert (images.equal(halved(good)), steps) == (True, good)


@pytest.mark.parametrize(("gradient", "rate"), [(1.0, -0.5), (-100.0, 100.5)])
def test_a_learned_rate_that_runs_away_ends_the_run(gradient: float, rate: float, launch: Launch) -> None:
    learning = f"""
rate = torch.tensor(0.5, requires_grad=True)
learner = torch.optim.SGD([rate], lr=1.0)
for step in range(1, 9):
    backward()
    rate.grad = torch.tensor({gradient} if step == 2 else 0.0)
    learner.step()
    optimizer.step()
"""
    child = launch(f"rate{rate}", HALVING + learning)

    assert child.code == 4, child.said
    assert child.said == f"step 2: the learned rate is {rate:.4g}, and started from 0.5\n"
    assert kept(child.snapshot)[1] == 1


def test_what_is_learned_with_the_images_is_kept_with_them(launch: Launch) -> None:
    learning = """
rate = torch.tensor(0.5, requires_grad=True)
logits = torch.zeros(4, 2, requires_grad=True)
learners = [torch.optim.SGD([rate], lr=1.0), torch.optim.SGD([logits], lr=1.0)]
for step in range(1, 4):
    backward()
    rate.grad, logits.grad = torch.tensor(0.125), torch.full((4, 2), -2.0)
    for learner in learners:
        learner.step()
    optimizer.step()
"""
    child = launch("learning", HALVING + learning)

    found = load_file(child.output)
    assert sorted(found) == ["images", "labels", "lr"]
    assert found["lr"].equal(torch.tensor(0.125))
    assert found["labels"].equal(torch.full((4, 2), 6.0))
    assert [line["lr"] for line in child.lines("step")] == [0.375, 0.25, 0.125]


LOGGING = (
    HALVING
    + """
import wandb

rate = torch.tensor(0.5, requires_grad=True)
learner = torch.optim.SGD([rate], lr=1.0)
for step in range(1, 6):
    loss = backward()
    rate.grad = torch.tensor(0.0625)
    if step != 3:
        optimizer.step()
        learner.step()
    wandb.log({"Progress": step})
    wandb.log({"Grand": 2 * loss.detach(), "Start": 1})
"""
)


def test_a_script_that_logs_its_loss_has_done_a_step_when_it_does(launch: Launch) -> None:
    child = launch("logging", LOGGING, loss="Grand")

    steps = [(line["step"], line["loss"], line["lr"]) for line in child.lines("step")]
    assert steps == [(1, 2, 0.4375), (2, 0.5, 0.375), (3, 0.125, 0.375), (4, 0.125, 0.3125), (5, 0.03125, 0.25)]
    images, count = kept(child.output)
    assert (images.equal(halved(4)), count) == (True, 5)


def test_the_moving_average_of_the_images_is_the_outcome_where_it_is_asked_for(launch: Launch) -> None:
    child = launch("average", HALVING + "for _ in range(3):\n    backward()\n    optimizer.step()\n", average=0.75)

    expected = 1.0
    for step in range(1, 4):
        expected = 0.75 * expected + 0.25 * 0.5**step
    assert load_file(child.output)["images"].allclose(torch.full(SHAPE, expected))


def states(child: Child) -> dict[str, dict[str, Tensor]]:
    return {file.name: load_file(file) for file in (child.work / "history").iterdir()}


def test_the_set_is_kept_as_it_was_at_the_start_and_behind_every_so_many_steps(launch: Launch) -> None:
    asked = {"history": "history", "history_every": 2}
    child = launch("history", HALVING + "for _ in range(5):\n    backward()\n    optimizer.step()\n", **asked)

    found = states(child)
    assert sorted(found) == ["000000.safetensors", "000002.safetensors", "000004.safetensors"]
    for name, state in found.items():
        assert state.keys() == {"images"}
        assert state["images"].equal(halved(int(name[:6])))
    assert load_file(child.output)["images"].equal(halved(5))


def test_what_is_kept_on_the_way_is_the_average_where_that_is_the_outcome(launch: Launch) -> None:
    asked = {"history": "history", "history_every": 1, "average": 0.75}
    script = HALVING + "for _ in range(2):\n    backward()\n    optimizer.step()\n"
    found = states(launch("history-average", script, **asked))

    first = 0.75 + 0.25 * 0.5
    expected = {"000000": 1.0, "000001": first, "000002": 0.75 * first + 0.25 * 0.25}
    assert {name[:6]: float(state["images"].mean()) for name, state in found.items()} == pytest.approx(expected)


SKIPPING = (
    HALVING
    + """
import wandb

rate = torch.tensor(0.5, requires_grad=True)
logits = torch.zeros(4, 2, requires_grad=True)
learners = [torch.optim.SGD([rate], lr=1.0), torch.optim.SGD([logits], lr=1.0)]
for step in range(1, 5):
    loss = backward()
    rate.grad, logits.grad = torch.tensor(0.125), torch.full((4, 2), -2.0)
    if step > 2:
        optimizer.step()
        for learner in learners:
            learner.step()
    wandb.log({"Grand": loss.detach()})
"""
)


def test_steps_that_are_not_taken_at_first_leave_the_start_as_it_is(launch: Launch) -> None:
    child = launch("skipping", SKIPPING, loss="Grand", history="history", history_every=1)

    assert child.code == 0, child.said
    found = states(child)
    taken = {"000000": 0, "000001": 0, "000002": 0, "000003": 1, "000004": 2}
    assert {name[:6]: len(state) for name, state in found.items()} == dict.fromkeys(taken, 3)
    for name, updates in taken.items():
        state = found[f"{name}.safetensors"]
        assert state["images"].equal(halved(updates))
        assert state["labels"].equal(torch.full((4, 2), 2.0 * updates))
        assert float(state["lr"]) == 0.5 - 0.125 * updates


def test_a_script_that_fails_shows_its_traceback_and_leaves_no_final_set(launch: Launch) -> None:
    child = launch("error", ERROR)

    assert child.code not in (0, 4, 130)
    assert "Traceback (most recent call last)" in child.said
    assert child.said.endswith("LookupError: no such pixel\n")
    assert str(child.job.script) in child.said
    assert not child.output.exists()
    assert kept(child.snapshot)[1] == 2
    assert not child.lines("end")


def test_a_script_that_trains_only_a_network_fails_and_is_told_why(launch: Launch) -> None:
    child = launch("no-images", NO_IMAGES)

    assert child.code not in (0, 4, 130)
    assert "the script never updated any synthetic images" in child.said
    assert not child.output.exists()
    assert child.lines("step") == []


@contextmanager
def waiting(child: Child, *before: str) -> Iterator[subprocess.Popen[str]]:
    """The child after its third step, which waits for a file `go` before it takes the fourth."""
    process = child.start(*before)
    end = time.monotonic() + TIMEOUT
    try:
        while not (child.work / "waiting").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_an_interruption_keeps_the_images_between_two_snapshots_and_exits_with_130(write: Launch) -> None:
    child = write(WAITING)
    with waiting(child) as process:
        assert kept(child.snapshot)[1] == 2
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 130, said
    images, steps = kept(child.snapshot)
    assert (images.equal(halved(3)), steps) == (True, 3)
    assert not child.output.exists()
    assert not child.lines("end")


def test_a_script_whose_starter_is_gone_stops_at_its_next_step(write: Launch) -> None:
    child = write(WAITING)
    with waiting(child, "sh", "-c", '"$@" & wait', "sh") as starter:
        starter.kill()
        starter.wait(TIMEOUT)
        (child.work / "go").touch()
        _, said = starter.communicate(timeout=TIMEOUT)  # its stderr is the script's too, open until both have ended

    assert "the process that started this one is gone" in said
    assert [line["step"] for line in child.lines("step")] == [1, 2, 3]
    assert not child.output.exists()


@pytest.mark.parametrize(("words", "code", "saved"), [("", 0, True), ("0", 0, True), ("3", 3, False)])
def test_a_script_may_end_itself(launch: Launch, words: str, code: int, saved: bool) -> None:
    child = launch(f"exit{words}", HALVING + f"import sys\nbackward()\noptimizer.step()\nsys.exit({words})\n")

    assert child.code == code, child.said
    assert child.output.exists() == saved
    assert len(child.lines("end")) == saved


def test_a_script_that_differentiates_by_hand_has_steps_without_a_loss(launch: Launch) -> None:
    by_hand = "for _ in range(3):\n    images.grad = 2 * images.detach() / images.numel()\n    optimizer.step()\n"
    child = launch("by-hand", HALVING + by_hand)

    assert child.code == 0, child.said
    assert [(line["step"], line["loss"]) for line in child.lines("step")] == [(1, None), (2, None), (3, None)]
