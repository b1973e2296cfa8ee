"""Runs that are cut short, however hard: the same command goes on, ends as if nothing had been, and says where it was."""

from __future__ import annotations

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
from safetensors.torch import load_file, save_file

from sdc.evaluation import scoring
from sdc.ground import paths
from sdc.patching import clones
from tests import fake
from tests.conftest import Outcome, Sdc

STEPS, EVERY = 60, 5
SLOW = ("--weight", 0.5, "--set", "limit_per_class=3", "--set", "end=slow", "--set", f"steps={STEPS}")
ASKED = ("run", "fake", *SLOW, "--set", f"snapshot_every={EVERY}", "--set", "networks=2")


@pytest.fixture
def whole(fake_upstream: fake.Fake, sdc: Sdc, shared: Path) -> Outcome:
    """The same run, never interrupted; once for all tests."""
    return finished(sdc(*ASKED, "--runs", shared / "whole", "--json"))


def finished(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    return outcome


def start(made: fake.Fake, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fake", str(made.patch.parent), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=paths.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def wait(ready: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not ready():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def scripts(runs: Path) -> list[int]:
    """The processes of scripts whose runs are there."""
    found = subprocess.run(["pgrep", "-f", f"sdc.launcher {runs}"], check=False, capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def steps(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    lines = (json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines())
    return [line["step"] for line in lines if line["kind"] == "step"]


def kill(who: str, child: subprocess.Popen[str], runs: Path) -> None:
    victims = {"the script": scripts(runs), "the command": [child.pid], "both": [child.pid, *scripts(runs)]}[who]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    child.communicate(timeout=60)


def same(first: Path, second: Path) -> bool:
    tensors, others = (load_file(folder / "distilled.safetensors") for folder in (first, second))
    return tensors.keys() == others.keys() and all(tensor.equal(others[name]) for name, tensor in tensors.items())


def states(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "history").iterdir()}


@pytest.mark.parametrize("who", ["the script", "both"])
def test_a_distillation_that_is_killed_goes_on_from_its_last_snapshot_to_the_same_bits(
    who: str, whole: Outcome, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    child = start(fake_upstream, *ASKED, "--runs", runs)
    wait(lambda: any(len(steps(folder)) > 25 for folder in runs.glob("*/")), child)
    kill(who, child, runs)
    (folder,) = runs.iterdir()
    made = len(steps(folder))
    assert not (folder / "result.json").exists()

    outcome = finished(sdc(*ASKED, "--runs", runs, "--json"))

    (resumed,) = outcome.json["resumed"]
    assert (resumed["stage"], resumed["step"]) == ("distil", resumed["iteration"])
    assert resumed["step"] >= made - EVERY
    assert f"going on from step {resumed['step']}" in outcome.err
    assert steps(folder) == list(range(1, STEPS + 1))
    assert same(folder, Path(whole.json["run"]))
    assert outcome.json["accuracy"] == whole.json["accuracy"]
    assert outcome.json["stages"]["distil"]["steps"] == STEPS
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in Path(whole.json["run"]).iterdir()
    )
    assert states(folder) == states(Path(whole.json["run"]))
    assert sorted(states(folder)) == [f"{step:06}.safetensors" for step in range(0, STEPS, 8)]
    assert whole.json["resumed"] == []
    assert json.loads((folder / "result.json").read_text())["resumed"] == [resumed]


def test_ctrl_c_loses_no_step_and_another_one_is_counted_too(
    whole: Outcome, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    asked = ("run", "fake", *SLOW, "--set", "snapshot_every=1000", "--set", "networks=2")
    stopped = []
    for count in (10, 30):
        child = start(fake_upstream, *asked, "--runs", runs)
        wait(lambda: any(len(steps(folder)) > count for folder in runs.glob("*/")), child)  # noqa: B023 - used at once
        os.killpg(child.pid, signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode == 130
        (folder,) = runs.iterdir()
        stopped.append(steps(folder)[-1])

    outcome = finished(sdc(*asked, "--runs", runs, "--json"))

    assert outcome.json["resumed"] == [{"stage": "distil", "step": step, "iteration": step} for step in stopped]
    assert same(folder, Path(whole.json["run"]))


def test_an_evaluation_that_is_killed_goes_on_behind_the_networks_that_it_has(
    fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    asked = ("run", "fake", "--weight", 0, "--set", "limit_per_class=3", "--set", "networks=4", "--set", "epochs=40")
    whole = finished(sdc(*asked, "--runs", tmp_path / "whole", "--json"))
    runs = tmp_path / "runs"
    child = start(fake_upstream, *asked, "--runs", runs)
    wait(lambda: any(runs.glob("*/scores.json")), child)
    kill("the command", child, runs)
    (folder,) = runs.iterdir()
    known = json.loads((folder / "scores.json").read_text())
    made = (folder / "distilled.safetensors").stat().st_mtime_ns

    outcome = finished(sdc(*asked, "--runs", runs, "--json"))

    assert outcome.json["resumed"] == [{"stage": "evaluate", "network": len(known)}]
    assert outcome.json["accuracy"] == whole.json["accuracy"]
    assert (folder / "distilled.safetensors").stat().st_mtime_ns == made
    assert outcome.json["stages"]["evaluate"]["seconds"] >= sum(score["seconds"] for score in known)


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", None], ids=["a pickle", "images alone"])
def test_a_snapshot_that_cannot_be_gone_on_from_is_not(
    content: bytes | None, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    asked = ("run", "fake", "--weight", 0, "--set", "limit_per_class=3", "--runs", tmp_path / "runs", "--json")
    whole = finished(sdc(*asked))
    folder = Path(whole.json["run"])
    images = load_file(folder / "distilled.safetensors")["images"]
    for name in ("result.json", "distilled.safetensors"):
        (folder / name).unlink()
    if content is None:
        save_file({"images": torch.zeros(10, 3, 32, 32)}, folder / "snapshot.safetensors", {"steps": "7"})
    else:
        (folder / "snapshot.safetensors").write_bytes(content)

    outcome = finished(sdc(*asked))

    assert outcome.json["resumed"] == []
    assert load_file(folder / "distilled.safetensors")["images"].equal(images)


@pytest.mark.parametrize("change", ["a script that was edited", "a patch that was taken out"])
def test_a_tree_that_is_changed_under_a_run_is_noticed_before_the_next_stage(
    change: str, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    child = start(fake_upstream, *ASKED, "--runs", runs)
    wait(lambda: any(len(steps(folder)) > 3 for folder in runs.glob("*/")), child)
    helpers = clones.clone_path(fake_upstream.adapter) / "train" / "helpers.py"
    content = helpers.read_bytes()
    if change == "a script that was edited":
        helpers.write_bytes(content + b"# changed\n")
    else:
        assert sdc("revert", "fake").code == 0
    _, said = child.communicate(timeout=120)

    (folder,) = runs.iterdir()
    assert child.returncode == 1, said
    assert str(clones.clone_path(fake_upstream.adapter)) in said
    assert "sdc apply fake" in said
    assert not (folder / "result.json").exists()
    made = (folder / "distilled.safetensors").stat().st_mtime_ns
    helpers.write_bytes(content)
    assert finished(sdc(*ASKED, "--runs", runs, "--json")).json["state"] == "complete"
    assert (folder / "distilled.safetensors").stat().st_mtime_ns == made


def test_a_script_without_memory_ends_with_what_takes_less(fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path) -> None:
    outcome = sdc("run", "fake", "--weight", 0, "--set", "end=memory", "--runs", tmp_path / "runs", "--json")

    assert outcome.code == 1
    assert "CUDA out of memory" in outcome.json["error"]
    assert "Memory ran out, it seems. Lower --ipc" in outcome.json["error"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_an_evaluation_without_memory_ends_with_what_takes_less_and_keeps_the_set(
    error: Exception, fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*_: object, **__: Any) -> None:
        raise error

    monkeypatch.setattr(scoring, "evaluate_all", evaluate)
    outcome = sdc("run", "fake", "--weight", 0, "--set", "limit_per_class=3", "--runs", tmp_path / "runs", "--json")

    (folder,) = (tmp_path / "runs").iterdir()
    assert outcome.code == 1, outcome
    assert "--set batch=64" in outcome.json["error"]
    assert (folder / "distilled.safetensors").is_file()
