"""A script that is forked from a process with torch in it (tests/warm.py) does what a fresh one does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdc.distillation import process
from sdc.ground import paths
from tests import fake, warm
from tests.conftest import Outcome, Sdc

Both = Callable[..., list[Outcome]]
TIMES = ("seconds", "peak_memory_mib")


@pytest.fixture(scope="module")
def forks() -> Iterator[warm.Warm]:
    starts = warm.Warm(at_once=True)
    yield starts
    starts.end()


@pytest.fixture
def both(fake_upstream: fake.Fake, forks: warm.Warm, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """`both(*settings)`: a run, its script started afresh, and the same in another folder, its script forked."""

    def call(*settings: str) -> list[Outcome]:
        words = [word for setting in ("limit_per_class=3", "networks=1", *settings) for word in ("--set", setting)]
        outcomes = []
        for name, starts in (("fresh", subprocess), ("forked", forks)):
            monkeypatch.setattr(process, "subprocess", starts)
            asked = ("run", "fake", "--weight", 0.5, *words, "--runs", tmp_path / name, "--json")
            outcomes.append(sdc(*asked))
        return outcomes

    return call


def left(folder: Path) -> dict[str, Any]:
    """What a run has left, but for how long it took."""
    found: dict[str, Any] = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    found["log"] = (folder / "log.txt").read_text()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return found | {"metrics": [{name: line[name] for name in line if name not in TIMES} for line in lines]}


def test_it_leaves_the_same_bits(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[int] = []
    real = warm.Forked.__init__
    monkeypatch.setattr(warm.Forked, "__init__", lambda self, pid: (forked.append(pid), real(self, pid))[-1])

    outcomes = both("steps=4", "history=2")

    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert len(forked) == 1
    fresh, other = (left(Path(outcome.json["run"])) for outcome in outcomes)
    assert "distilled.safetensors" in fresh
    assert fresh == other
    assert outcomes[0].json["accuracy"] == outcomes[1].json["accuracy"]


@pytest.mark.parametrize(("end", "said"), [("error", "exit code 1"), ("nan", "exit code 4")])
def test_it_ends_badly_in_the_same_way(end: str, said: str, both: Both) -> None:
    outcomes = both(f"end={end}")

    fresh, other = (outcome.json["error"].replace("/fresh/", "/forked/") for outcome in outcomes)
    assert said in fresh
    assert (fresh.splitlines()[0], fresh.splitlines()[-1]) == (other.splitlines()[0], other.splitlines()[-1])


PRINTED = """
import json, os, sys
hooks = [type(each).__module__ for each in sys.meta_path]
print(json.dumps([os.getcwd(), sys.argv, dict(os.environ), "torch" in sys.modules, "sitecustomize" in hooks]))
"""


def test_a_fork_is_told_what_a_fresh_process_is_and_what_imports_look_at_was_so_from_the_start(
    forks: warm.Warm, tmp_path: Path
) -> None:
    site = os.pathsep.join([str(paths.ROOT / "tests" / "site"), str(paths.ROOT)])
    usual = {"PATH": os.environ["PATH"], "PYTHONPATH": site, "LC_CTYPE": "C.UTF-8"}
    for more in ({"COLUMNS": "7"}, {"COLUMNS": "8"}, {"COLUMNS": "7", "SDC_TEST_FAKE": str(tmp_path)}):
        told = usual | more
        done = forks.run(["-c", PRINTED, "a", "b"], tmp_path, told)
        assert done.returncode == 0, done
        assert json.loads(done.stdout) == [str(tmp_path), ["-c", "a", "b"], told, True, "SDC_TEST_FAKE" in told]
