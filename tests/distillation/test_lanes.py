"""Experts that are trained side by side: the bits of one process, whoever trains them and whatever is killed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from filelock import FileLock
from torch import Tensor

from sdc.adapters.registry import ADAPTERS
from sdc.distillation import experts, jobs, process
from sdc.ground import paths
from sdc.ground.watch import Quiet
from sdc.plan.request import Plan, Request, plan
from tests import benches, fake
from tests.conftest import Outcome, Sdc

COUNT, EPOCHS, STEPS = 5, 6, 3
CHANGES = ("limit_per_class=3", "model=ConvNetD1", f"num_experts={COUNT}", f"train_epochs={EPOCHS}")
"""Of a few networks some epochs each, of three steps."""
Bits = list[list[list[Tensor]]]


@dataclass(frozen=True)
class House:
    """Where experts for the method `matcher` are trained, with a cache of its own."""

    made: fake.Fake
    folder: Path
    call: Sdc

    def train(self, *settings: str) -> Outcome:
        """The command, in this process."""
        return self.call(*_words(*settings), "--json")

    def start(self, *settings: str) -> subprocess.Popen[str]:
        """The command, in a process of its own."""
        command = [sys.executable, "-m", "tests.fake", str(self.made.patch.parent), *_words(*settings)]
        return subprocess.Popen(
            command, cwd=paths.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def lanes(self) -> list[psutil.Process]:
        """The processes that train experts here."""
        return [each for each in benches.marked(str(self.folder)) if "sdc.launcher" in each.cmdline()]

    def file(self, number: int) -> Path:
        """Where an expert is while others are still trained."""
        (unfinished,) = paths.experts().glob(".*.partial")
        return unfinished / "made" / f"replay_buffer_{number}.pt"

    def finished(self) -> list[int]:
        """Which are."""
        files = paths.experts().glob(".*.partial/made/replay_buffer_*.pt")
        return sorted(int(re.findall(r"\d+", file.name)[0]) for file in files)

    def log(self) -> str:
        """What the processes said of the one complete set."""
        return (self._kept() / "log.txt").read_text()

    def bits(self) -> Bits:
        (file,) = self._kept().rglob("replay_buffer_*.pt")
        found: Bits = torch.load(file, weights_only=True)
        return found

    def _kept(self) -> Path:
        (record,) = paths.experts().glob("[!.]*/experts.json")
        return record.parent


def _words(*settings: str) -> list[str]:
    words = [word for setting in (*CHANGES, *settings) for word in ("--set", setting)]
    return ["experts", "train", "matcher", "--dataset", "digits", *words]


def planned(*settings: str) -> Plan:
    return plan(Request("matcher", 0.0, "digits", changes=(*CHANGES, *settings)), Quiet())


@pytest.fixture
def house(fake_upstream: fake.Fake, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdc: Sdc) -> House:
    data = shared / "cache" / "data"
    data.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data").symlink_to(data)
    monkeypatch.setenv("SDC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ADAPTERS, "matcher", fake.matcher(fake_upstream.adapter))
    monkeypatch.setenv(benches.MARK, str(tmp_path))
    return House(fake_upstream, tmp_path, sdc)


Workers = Callable[[int], None]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return lambda count: monkeypatch.setenv("SDC_WORKERS", str(count))


@pytest.fixture
def alone(house: House, sdc: Sdc, shared: Path, tmp_path: Path) -> Bits:
    """What one process makes that goes through the script's whole loop, as the upstream's own would; made once."""
    kept = shared / "trained alone.pt"
    with FileLock(shared / "trained alone.lock"):
        if not kept.is_file():
            assert sdc("apply", "fake").code == 0
            work = tmp_path / "alone"
            work.mkdir()
            process.launch(jobs.training(planned(), work), work, work / "log.txt", Quiet(), {})
            files = [work / "made" / f"replay_buffer_{number}.pt" for number in range(COUNT)]
            torch.save([one for file in files for one in torch.load(file, weights_only=True)], kept)
    found: Bits = torch.load(kept, weights_only=True)
    return found


def same(first: Bits, second: Bits) -> bool:
    def flat(found: Bits) -> list[Tensor]:
        return [tensor for one in found for state in one for tensor in state]

    return len(first) == len(second) and all(p.equal(q) for p, q in zip(flat(first), flat(second), strict=True))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_experts_are_those_of_one_process_whoever_trains_them(
    count: int, house: House, workers: Workers, alone: Bits
) -> None:
    workers(count)

    outcome = house.train("pace=slow")

    assert outcome.code == 0, outcome
    assert same(house.bits(), alone)
    assert not alone[0][-1][0].equal(alone[1][-1][0])
    assert house.log().count("$ trainer.py") == count
    assert re.findall(r"^\$ network (\d+)$", house.log(), re.MULTILINE) == [str(number) for number in range(COUNT)]
    spoken = [line for line in house.log().splitlines() if line.startswith("network")]
    assert spoken == [f"network {number} epoch {epoch}" for number in range(COUNT) for epoch in range(EPOCHS)]
    assert (f", {count} at a time" in outcome.err) == (count > 1)
    assert outcome.json["threads"] == int(os.environ["OMP_NUM_THREADS"])
    assert outcome.json["peak_memory_mib"] > 0
    kept = Path(outcome.json["folder"])
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, f".{kept.name}.lock"}
    assert {path.name for path in kept.iterdir()} == {"made", "experts.json", "log.txt"}


def test_there_are_no_more_processes_than_experts_are_missing(house: House, workers: Workers) -> None:
    workers(9)
    assert house.train("num_experts=2").code == 0
    assert house.log().count("$ trainer.py") == 2


def test_a_slow_expert_keeps_no_other_waiting_and_progress_is_of_all(house: House, workers: Workers, sdc: Sdc) -> None:
    seen: list[tuple[int, list[int]]] = []

    class Seeing(Quiet):
        def stage(self, name: str, total: int | None) -> None:  # noqa: ARG002
            seen.append((total or 0, []))

        def progress(self, done: int, note: str = "") -> None:  # noqa: ARG002
            seen.append((done, house.finished()))

    workers(2)
    experts.ready(planned("pace=uneven", "train_epochs=60"), Seeing())

    (total, _), *told = seen
    assert total == COUNT * 60 * STEPS
    assert [1, 2, 3, 4] in [there for _, there in told]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done >= len(there) * 60 * STEPS for done, there in told[-1:])
    assert told[-1][0] == total


def test_a_process_that_is_killed_costs_the_one_expert_that_it_was_at(
    house: House, workers: Workers, alone: Bits
) -> None:
    workers(2)

    outcome = house.train("pace=killed")

    assert outcome.code == 0, outcome
    assert outcome.err.count("a process that trains experts was lost") == 1
    assert same(house.bits(), alone)
    assert house.log().count("$ trainer.py") == 3
    begun = re.findall(r"^\$ network (\d+)$", house.log(), re.MULTILINE)
    assert begun == ["0", "1", "1", "2", "3", "4"]


@pytest.mark.parametrize("count", [1, 2])
def test_an_expert_whose_process_is_always_killed_is_tried_three_times(
    count: int, house: House, workers: Workers
) -> None:
    workers(count)

    outcome = house.train("pace=deadly")

    assert outcome.code == 1
    assert "the upstream script ended with signal 9" in outcome.json["error"]
    assert f"network 1 epoch {EPOCHS - 1}" in outcome.json["error"]
    logs = [log.read_text() for log in paths.experts().glob(".*.partial/lane-*/log.txt")]
    assert sum(text.count("$ network 1\n") for text in logs) == 3
    assert len(logs) == count
    assert house.lanes() == []


def test_memory_that_does_not_suffice_for_two_processes_is_enough_for_one(
    house: House, workers: Workers, alone: Bits
) -> None:
    workers(2)

    outcome = house.train("pace=memory")

    assert outcome.code == 0, outcome
    assert 1 <= outcome.err.count("a process that trains experts was lost") <= 2
    assert same(house.bits(), alone)


@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_a_command_that_ends_leaves_no_process_and_the_next_goes_on_behind_any_of_the_experts(
    how: str, house: House, workers: Workers, alone: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(2)
    child = house.start("pace=slow")
    benches.wait(lambda: len(house.finished()) >= 2, child)
    if how == "Ctrl-C":
        os.killpg(child.pid, signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode == 130
        assert house.lanes() == []
    else:
        child.kill()
        child.communicate(timeout=60)
        benches.wait(lambda: not house.lanes(), seconds=20)
    numbers = house.finished()
    assert house.call("experts", "--json").json["experts"][0]["done"] == len(numbers)
    house.file(numbers[0]).unlink()  # a gap
    whole = house.file(numbers[-1]).read_bytes()
    house.file(COUNT - 1).write_bytes(whole[: len(whole) // 2])
    there = [number for number in numbers[1:] if number != COUNT - 1]

    workers(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # a set keeps the number of threads that it was begun with
    outcome = house.train("pace=slow")

    assert outcome.code == 0, outcome
    assert f"going on behind {len(there)} of {COUNT} plain experts" in outcome.err
    assert same(house.bits(), alone)
    assert [house.log().count(f"$ network {number}\n") for number in there] == [1] * len(there)
    assert house.log().count(f"$ network {numbers[0]}\n") == 2
    assert outcome.json["threads"] == 1


def test_a_script_that_fails_ends_the_others_too(house: House, workers: Workers) -> None:
    workers(2)

    outcome = house.train("pace=error", "train_epochs=40")

    assert outcome.code == 1
    assert "the fake trainer was told to fail" in outcome.json["error"]
    assert "exit code 1" in outcome.json["error"]
    assert "was lost" not in outcome.err
    assert house.lanes() == []


def test_a_number_of_workers_that_is_none_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_WORKERS", "many")
    outcome = house.train()
    assert outcome.code == 1
    assert "SDC_WORKERS=many: give a number of processes, 1 or more" in outcome.json["error"]


@pytest.mark.slow
def test_the_workers_of_a_benchmark_fill_the_cores_and_train_one_after_another(
    bench_fake: fake.Fake, house: House, workers: Workers, tmp_path: Path
) -> None:
    workers(3)
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'methods = ["matcher"]\ndatasets = ["digits"]\nweights = [0]\n[evaluate]\nfloor = false\n'
        '[set]\nlimit_per_class = 3\nmodel = "ConvNetD1"\nnetworks = 1\nepochs = 1\npace = "slow"\n'
    )

    outcome = house.call("bench", spec, "--runs", tmp_path / "runs", "--json")

    assert outcome.json["states"] == {"done": 1}, outcome
    assert house.log().count("$ trainer.py") == 1
