"""Networks of an evaluation in several processes: scores, order and progress are those of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdc.evaluation import beside
from sdc.evaluation.protocol import UNIFORM, override
from sdc.evaluation.training import Score, Trial, evaluate_all
from sdc.evaluation.trial import known_of, trial_of
from sdc.ground import cores
from tests.conftest import Sdc

SHORT = override(UNIFORM, {"epochs": "12", "batch": "8"})


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEST_IMAGES, TEST_LABELS = drawn(40, 3, 32, 32, seed=9), torch.arange(40) % 4


def trials(*, networks: int = 3, soft: bool = False) -> list[Trial]:
    """Two sets of one kind with rates of their own, and one of another protocol."""
    labels = drawn(8, 4, seed=5) if soft else torch.arange(8) % 4
    made = []
    for number, changes in enumerate([{"lr": "0.02"}, {"lr": "0.005"}, {"augment": ""}]):
        protocol = override(SHORT, {**changes, "networks": str(networks)})
        made.append(Trial(drawn(8, 3, 32, 32, seed=number), labels, TEST_IMAGES, TEST_LABELS, protocol, seed=number))
    return made


def results(found: list[list[Score]]) -> list[list[tuple[str, int, float]]]:
    return [[(score.model, score.seed, score.accuracy) for score in of_set] for of_set in found]


@pytest.fixture(autouse=True)
def _of_three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 3)
    monkeypatch.setattr(beside, "WORTH", 0.0)
    monkeypatch.setattr(beside, "_LOOK", 0.0)
    monkeypatch.delenv(cores.SHARES, raising=False)


@pytest.mark.parametrize("soft", [False, True], ids=["hard labels", "soft labels"])
def test_scores_do_not_depend_on_the_number_of_processes(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for workers in ("1", "3") if soft else ("1", "2", "3"):
        monkeypatch.setenv(cores.WORKERS, workers)
        seen = list[tuple[int, int]]()
        found.append(results(evaluate_all(trials(soft=soft), "ConvNetW32", lambda *s, seen=seen: seen.append(s))))
        assert seen[-1] == (9 * 13, 9 * 13)
        assert max(seen) == seen[-1]
    assert all(each == found[0] for each in found)
    assert len({score for of_set in found[0] for *_, score in of_set}) > 1


def test_each_score_is_kept_as_soon_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cores.WORKERS, "3")
    (first, *_) = trials(networks=6)
    kept = list[Score]()
    (found,) = evaluate_all([Trial(**{**vars(first), "on_score": kept.append})], "ConvNetW32")
    assert {score.seed for score in kept} == {score.seed for score in found}
    assert len(kept) == 6
    (again,) = evaluate_all([Trial(**{**vars(first), "scored": kept[:4]})], "ConvNetW32")
    assert results([again]) == results([found])


def test_a_process_that_is_killed_costs_its_networks_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(cores.WORKERS, "1")
    expected = results(evaluate_all(trials(networks=8), "ConvNetW32"))
    monkeypatch.setenv(cores.WORKERS, "3")
    killed = threading.Event()
    threading.Thread(target=kill_a_member, args=(killed,), daemon=True).start()
    found = results(evaluate_all(trials(networks=8), "ConvNetW32"))
    assert killed.is_set()
    assert found == expected
    assert "exit code -9: another does its part" in caplog.text


def members(parent: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "--ppid", str(parent), "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "sdc.evaluation.member" in line]


def kill_a_member(killed: threading.Event) -> None:
    for _ in range(600):
        if found := members(os.getpid()):
            os.kill(found[0], signal.SIGKILL)
            killed.set()
            return
        time.sleep(0.02)


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import torch\nfrom sdc.evaluation import beside\nfrom sdc.ground import cores\n"
        "from tests.evaluation.test_beside import trials\nfrom sdc.evaluation.training import evaluate_all\n"
        "cores.cores, beside.WORTH = lambda: 3, 0.0\n"
        "evaluate_all(trials(networks=400), 'ConvNetW32')\n"
    )
    environment = os.environ | {cores.WORKERS: "3"}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while len(found := members(process.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert len(found) == 2
    assert not any(Path(f"/proc/{member}").exists() for member in found)


def test_without_room_for_what_they_share_one_process_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(cores.WORKERS, "1")
    expected = results(evaluate_all(trials(), "ConvNetW32"))
    monkeypatch.setenv(cores.WORKERS, "3")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beside, "save_file", full)
    assert results(evaluate_all(trials(), "ConvNetW32")) == expected
    assert "one after the other: [Errno 28] No space left on device" in caplog.text


def test_little_work_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "WORTH", 1e6)
    monkeypatch.setattr(beside, "Crew", None)
    evaluate_all(trials(), "ConvNetW32")


def test_what_is_shared_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    known = known_of([replace(each, test_images=TEST_IMAGES) for each in trials()])
    with beside._file(known) as file:
        assert list(tmp_path.iterdir()) == []
        read = beside._read(file)
    for one, other in zip([trial_of(read, number) for number in range(3)], trials(), strict=True):
        assert (one.protocol, one.seed) == (other.protocol, other.seed)
        for name in ("images", "labels", "test_images", "test_labels"):
            assert getattr(one, name).equal(getattr(other, name))
    assert len(read.tensors) == 6  # three times images; the others are shared


def test_the_command_scores_alike_and_tells_the_time_that_passed(
    tmp_path: Path, sdc: Sdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"data": [[drawn(10, 3, 32, 32, seed=1), torch.arange(10)]]}, tmp_path / "res_DM_set.pt")
    asked = ("evaluate", tmp_path / "res_DM_set.pt", "--dataset", "digits", "--model", "ConvNetW32", "--networks", 6,
             "--set", "epochs=40", "--json")  # fmt: skip
    told = []
    for workers in ("1", "3"):
        monkeypatch.setenv(cores.WORKERS, workers)
        began = time.monotonic()
        told.append(json.loads(sdc(*asked).out))
        assert 0 < told[-1]["stages"]["evaluate"]["seconds"] < time.monotonic() - began
    assert told[0]["accuracy"] == told[1]["accuracy"]
