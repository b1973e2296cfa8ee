"""Difficulty over the steps is measured where a run is made, and kept; a report over such runs only reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdc.analysis.difficulty import course
from sdc.ground import paths
from tests import runs as made_up
from tests.benches import in_this_process
from tests.conftest import Outcome, Sdc
from tests.runs import Made

pytestmark = pytest.mark.usefixtures("fake_upstream")
FEW = [word for name in ("limit_per_class=3", "steps=4", "networks=1") for word in ("--set", name)]
SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = [0, 0.5]
[set]
limit_per_class = 3
steps = 4
networks = 1
[evaluate]
floor = false
"""
Distil = Callable[..., Outcome]


@pytest.fixture
def distil(sdc: Sdc, tmp_path: Path) -> Distil:
    """`distil(...)`: a short run of the fake on digits, in `runs`."""
    return lambda *more: sdc("run", "fake", "--weight", 0.5, "--runs", tmp_path / "runs", "--json", *FEW, *more)


@pytest.fixture
def bench(sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`bench(...)`: a benchmark of two cells, one after another in this process, in `runs`."""
    in_this_process(monkeypatch)
    (tmp_path / "spec.toml").write_text(SPEC)
    return lambda *more: sdc("bench", tmp_path / "spec.toml", "--runs", tmp_path / "runs", "--json", *more)


def found(outcome: Outcome) -> Path:
    assert outcome.code == 0, outcome
    return Path(outcome.json["run"])


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """What the files there hold, and when they were written; a report is none of them."""
    own = (file for file in folder.rglob("*") if file.is_file() and "report" not in file.relative_to(folder).parts)
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in own}


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "by_network", lambda *_: pytest.fail("norms were measured"))


def test_a_run_holds_what_a_report_would_measure(distil: Distil, sdc: Sdc, tmp_path: Path) -> None:
    run = found(distil())
    kept = (run / "difficulty.json").read_bytes()
    steps = sorted(int(file.stem) for file in (run / "history").iterdir())
    assert json.loads(kept)["steps"] == sorted({*steps, 4})
    (run / "difficulty.json").unlink()

    left_out = sdc("report", tmp_path / "runs", "--no-difficulty")
    assert left_out.code == 0
    assert "difficulty" not in left_out.err
    assert not (run / "difficulty.json").exists()

    asked = sdc("report", tmp_path / "runs", "--difficulty")
    assert asked.code == 0
    assert "difficulty over the steps was not measured for 1 run: about " in asked.err
    assert (run / "difficulty.json").read_bytes() == kept


def test_a_report_over_runs_that_were_measured_writes_nothing_into_them(
    distil: Distil, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        found(distil("--seed", seed))
    before = files(tmp_path / "runs")
    no_measuring(monkeypatch)
    for options in ((), ("--difficulty",), ("--no-difficulty",)):
        outcome = sdc("report", tmp_path / "runs", *options)
        assert outcome.code == 0
        assert "difficulty" not in outcome.err
    assert files(tmp_path / "runs") == before
    drawn = tmp_path / "runs" / "report" / "figures" / "difficulty-digits-ipc1.png"
    assert drawn.is_file()


def test_a_report_over_runs_that_were_measured_loads_no_torch(tmp_path: Path) -> None:
    for weight in (0.0, 2.0):
        for seed in (0, 1):
            run = made_up.make(tmp_path, Made("dm", "digits", [0.5, 0.6], weight=weight, seed=seed))
            (run / "history").mkdir()
            made_up.difficulty(run, [0, 20, 40], [16.0, 15.5, 15.0])
    line = "import sys; from sdc import cli; sys.exit(cli.call(sys.argv[1:]) or 'torch' in sys.modules)"
    command = [sys.executable, "-c", line, "report", str(tmp_path)]
    subprocess.run(command, check=True, cwd=paths.ROOT, capture_output=True, timeout=120)


def test_without_a_history_nothing_is_measured(distil: Distil, monkeypatch: pytest.MonkeyPatch) -> None:
    no_measuring(monkeypatch)
    assert not (found(distil("--set", "history=0")) / "difficulty.json").exists()


def test_a_run_that_cannot_be_measured_is_complete_and_the_same_command_tries_again(
    distil: Distil, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(course, "by_network", fails)
        outcome = distil()
    run = found(outcome)
    assert outcome.json["state"] == "complete"
    assert f"no difficulty over the steps for {run.name}: RuntimeError: out of memory" in outcome.err
    assert not (run / "difficulty.json").exists()
    result = (run / "result.json").read_bytes()
    assert found(distil()) == run
    assert (run / "difficulty.json").is_file()
    assert (run / "result.json").read_bytes() == result


def test_a_run_that_is_repeated_is_measured_anew(distil: Distil) -> None:
    run = found(distil())
    kept = (run / "difficulty.json").read_bytes()
    (run / "difficulty.json").write_text('{"steps": [0], "mean": [1], "networks": "stale", "images": 1}')
    found(distil())
    assert b"stale" in (run / "difficulty.json").read_bytes()
    found(distil("--again"))
    assert (run / "difficulty.json").read_bytes() == kept


def test_the_workers_of_a_benchmark_measure_and_what_was_cut_short_there_is_made_up_for(
    bench: Callable[..., Outcome], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    assert bench().json["states"] == {"done": 2}
    first, second = sorted(runs.glob("fake-*/difficulty.json"))
    kept = first.read_bytes()
    assert bench().json["ran"] == 0

    first.unlink()  # as if the worker had been killed behind the run's result
    with monkeypatch.context() as patch:
        patch.setattr(course, "by_network", lambda *_: 1 / 0)
        outcome = bench()
    assert (outcome.code, outcome.json["ran"], outcome.json["states"]) == (0, 1, {"done": 2})
    reason = f"no difficulty over the steps for {first.parent.name}: ZeroDivisionError"
    assert reason in outcome.err
    assert bench().json["ran"] == 0  # it would fail again
    assert reason in sdc("report", runs).err
    assert not first.exists()
    assert bench("--retry-failed").json["ran"] == 1
    assert first.read_bytes() == kept
    assert second.is_file()
