"""Benchmarks that are cut short, however hard: nothing is left running, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from sdc.bench import losses
from sdc.ground import hardware
from sdc.plan.request import Request
from tests import benches, fake
from tests.conftest import Sdc

STEPS = 80


@pytest.fixture
def mark(bench_fake: fake.Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Marks what commands start."""
    monkeypatch.setenv(benches.MARK, str(tmp_path))
    monkeypatch.setenv("SPT_NOENV", "1")  # Parsl names a process so that its environment is overwritten
    return str(tmp_path)


def started(tmp_path: Path) -> subprocess.Popen[str]:
    """A benchmark of one cell that has made some steps."""
    runs, spec = tmp_path / "runs", benches.spec(tmp_path, steps=STEPS, end="slow")
    child = benches.start("bench", spec, "--runs", runs)
    benches.wait(lambda: benches.made(runs) > 20, child)
    return child


@pytest.mark.slow
def test_ctrl_c_ends_all_and_loses_no_step(mark: str, tmp_path: Path, sdc: Sdc) -> None:
    child = started(tmp_path)

    os.killpg(child.pid, signal.SIGINT)

    child.communicate(timeout=60)
    assert child.returncode == 130
    benches.wait(lambda: not benches.marked(mark), seconds=20)
    (folder,) = (tmp_path / "runs").glob("fake-*")
    stopped = benches.steps(folder)[-1]
    outcome = sdc("bench", benches.spec(tmp_path, steps=STEPS, end="slow"), "--runs", tmp_path / "runs", "--json")
    assert outcome.json["states"] == {"done": 1}, outcome
    resumed = json.loads((folder / "result.json").read_text())["resumed"]
    assert resumed == [{"stage": "distil", "step": stopped, "iteration": stopped}]


@pytest.mark.slow
def test_kill_9_leaves_nothing_running_and_the_same_command_goes_on(mark: str, tmp_path: Path, sdc: Sdc) -> None:
    child = started(tmp_path)

    child.kill()

    benches.wait(lambda: not benches.marked(mark), seconds=20)
    child.communicate(timeout=10)
    outcome = sdc("bench", benches.spec(tmp_path, steps=STEPS, end="slow"), "--runs", tmp_path / "runs", "--json")
    assert outcome.json["states"] == {"done": 1}, outcome
    (folder,) = (tmp_path / "runs").glob("fake-*")
    (resumed,) = json.loads((folder / "result.json").read_text())["resumed"]
    assert resumed["step"] > 10


@pytest.mark.slow
def test_a_cell_whose_worker_is_killed_goes_on_in_another(mark: str, tmp_path: Path) -> None:
    child = started(tmp_path)
    (script,) = [process for process in benches.marked(mark) if "sdc.launcher" in process.cmdline()]

    script.parent().kill()

    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, out + err
    (folder,) = (tmp_path / "runs").glob("fake-*")
    (resumed,) = json.loads((folder / "result.json").read_text())["resumed"]
    assert resumed["step"] > 10
    benches.wait(lambda: not benches.marked(mark), seconds=20)


@pytest.mark.slow
def test_an_engine_that_is_broken_is_told_of_and_leaves_nothing_running(mark: str, tmp_path: Path) -> None:
    child = started(tmp_path)
    (interchange,) = psutil.Process(child.pid).children()

    interchange.kill()

    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "interchange has ended" in err
    benches.wait(lambda: not benches.marked(mark), seconds=20)


class TestLosses:
    def test_a_task_that_gets_further_each_time_is_tried_again_for_ever_and_another_thrice(
        self, tmp_path: Path
    ) -> None:
        group = group_in(tmp_path)
        lost = losses.Losses(tmp_path)
        metrics = tmp_path / ".experts.partial" / "metrics.jsonl"
        metrics.parent.mkdir()
        costs = []
        for lines in (1, 2, 9, 9, 9):
            metrics.write_text("{}\n" * lines)
            costs.append(lost.cost(losses.ManagerLost(b"m", "node"), {"id": 7, "args": (group,)}))
        assert costs == [0, 0, 0, 1, 1]

    def test_what_fails_by_itself_is_not_tried_again(self, tmp_path: Path) -> None:
        cost = losses.Losses(tmp_path).cost(ValueError("no"), {"id": 7, "args": (group_in(tmp_path),)})
        assert cost > losses.TRIES - 1


def group_in(folder: Path) -> losses.Group:
    return losses.Group(folder / "experts", Request("fake", 0), 1, ready=False, estimate=None)


@pytest.mark.parametrize(
    ("rank", "per_gpu", "visible", "expected"),
    [
        (0, 1, None, "0"),
        (3, 2, None, "1"),
        (1, 1, "5,7", "7"),
        (1, 2, "5,7", "5"),
        (0, 1, "GPU-abc", "GPU-abc"),
    ],
)
def test_a_worker_sees_one_of_the_gpus_that_may_be_used(
    rank: int, per_gpu: int, visible: str | None, expected: str
) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    assert hardware.shown(environ, first=rank // per_gpu) == {"CUDA_VISIBLE_DEVICES": expected}
