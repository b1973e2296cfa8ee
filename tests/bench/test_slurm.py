"""Benchmarks on a real Slurm on this machine: the same bits as without it, and what goes wrong there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sdc.bench import slurm as profiles
from sdc.ground.errors import FatalError
from tests import benches, fake, slurm
from tests.conftest import Sdc

PROFILE = """\
time = "00:10:00"
gpus = 2
cores = 2
threads = 1
address = "127.0.0.1"
poll = 1
patience = 6
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := slurm.lacking():
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as config:
        yield config


@pytest.fixture
def on_slurm(cluster: Path, bench_fake: fake.Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm is this cluster; behind a test it has no job."""
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    yield cluster
    benches.wait(lambda: not slurm.jobs(cluster), seconds=30)


def profile(folder: Path, **changed: str) -> Path:
    """A profile for this cluster, with other lines."""
    lines = dict(line.split(" = ") for line in PROFILE.splitlines()) | changed
    file = folder / "profile.toml"
    file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    return file


def results(runs: Path) -> dict[str, object]:
    found = [json.loads(file.read_text()) for file in runs.glob("*/result.json")]
    return {result["key"]: result["accuracy"] for result in found}


@pytest.mark.slow
def test_cells_on_slurm_give_the_bits_that_they_give_here_and_one_that_fails_fails_alone(
    on_slurm: Path, sdc: Sdc, tmp_path: Path
) -> None:
    spec = benches.spec(tmp_path, weights="[1e30, 0, 0.5]")
    here, there = tmp_path / "here", tmp_path / "there"
    assert sdc("bench", spec, "--runs", here).code == 1

    outcome = sdc("bench", spec, "--runs", there, "--on", "slurm", "--profile", profile(tmp_path), "--json")

    assert outcome.code == 1
    assert outcome.json["states"] == {"failed": 1, "done": 2}, outcome
    (failed,) = (cell for cell in outcome.json["cells"] if cell["state"] == "failed")
    assert "Training diverged" in failed["error"]
    assert results(there) == results(here)
    assert len(results(there)) == 2
    for file in here.glob("*/distilled.safetensors"):
        ours, theirs = load_file(file), load_file(there / file.relative_to(here))
        assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}


@pytest.mark.slow
def test_a_job_that_is_lost_is_asked_for_again_and_ctrl_c_leaves_none(on_slurm: Path, sdc: Sdc, tmp_path: Path) -> None:
    runs, spec = tmp_path / "runs", benches.spec(tmp_path, steps=200, end="slow")
    asked = ("bench", spec, "--runs", runs, "--on", "slurm", "--profile", profile(tmp_path))
    child = benches.start(*asked)
    down = ["scontrol", "update", f"nodename={slurm.host()}", "state=down", "reason=test"]  # it comes back by itself
    jobs: list[str] = []
    for count, lose in enumerate([lambda job: ["scancel", job], lambda _: down]):
        benches.wait(lambda: len(resumed(runs)) == count and further(runs), child)  # noqa: B023 - used at once
        jobs += slurm.jobs(on_slurm)
        slurm.said(on_slurm, *lose(jobs[-1]))
    benches.wait(lambda: len(resumed(runs)) == 2 and further(runs), child)
    jobs += slurm.jobs(on_slurm)

    os.killpg(child.pid, signal.SIGINT)

    child.communicate(timeout=60)
    assert child.returncode == 130
    benches.wait(lambda: not slurm.jobs(on_slurm), seconds=30)
    assert len(set(jobs)) == 3
    before, stopped = resumed(runs), benches.made(runs)
    outcome = sdc(*asked, "--json")
    assert outcome.json["states"] == {"done": 1}, outcome
    (result,) = runs.glob("*/result.json")
    again = {"stage": "distil", "step": stopped, "iteration": stopped}
    assert json.loads(result.read_text())["resumed"] == [*before, again]


def resumed(runs: Path) -> list[dict[str, object]]:
    """Where the one run went on."""
    file = next(runs.glob("*/resumed.json"), None)
    return json.loads(file.read_text()) if file else []


def further(runs: Path) -> bool:
    """Whether the one run has made some steps since it began or went on."""
    return benches.made(runs) > int(str(([{"step": 10}, *resumed(runs)])[-1]["step"])) + 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"partition": '"nope"'}, "invalid partition specified: nope"),
        ({"time": '"2-00:00:00"'}, "PartitionTimeLimit"),
        ({"init": '["echo no such module >&2", "exit 7"]'}, "no such module"),
    ],
    ids=["refused", "never started", "no workers"],
)
def test_a_profile_with_which_no_job_comes_to_work_ends_with_the_reason(
    changed: dict[str, str], said: str, on_slurm: Path, sdc: Sdc, tmp_path: Path
) -> None:
    asked = profile(tmp_path, **changed)

    outcome = sdc("bench", benches.spec(tmp_path), "--runs", tmp_path / "runs", "--on", "slurm", "--profile", asked)

    assert outcome.code == 1
    assert said in outcome.err
    assert f"Mend {asked}" in outcome.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gpu = 2", "unknown 'gpu'. Known: account, address, cores, exclusive, gpu_type"),
        ("gpus = -1", "gpus is -1; give a whole number from 0 on"),
        ("jobs = 0", "jobs is 0; give a whole number from 1 on"),
        ("cores = true", "cores is True; give a whole number from 1 on"),
        ('time = "90"', "time is '90'; give hours, minutes and seconds"),
        ('time = "00:00:30"', "at least a minute"),
        ('partition = "a b"', "partition is 'a b'; give a text without spaces"),
        ('exclusive = "yes"', "exclusive is 'yes'; give true or false"),
        ('sbatch = ["qos=high"]', "sbatch is ['qos=high']; give a list of options of sbatch"),
        ('init = "module load cuda"', "init is 'module load cuda'; give a list of lines"),
        ("jobs = ", "cannot read"),
    ],
)
def test_a_profile_is_checked_field_by_field(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "profile.toml"
    file.write_text(line + "\n")
    with pytest.raises(FatalError) as raised:
        profiles.read(file)
    assert said in str(raised.value)
    assert str(file) in str(raised.value)


def test_the_example_says_what_holds_where_a_field_is_left_out(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    example = profiles.read(benches.paths.ROOT / profiles.EXAMPLE)
    assert vars(example) | {"file": 0} == vars(profiles.read(empty)) | {"file": 0}
    text = (benches.paths.ROOT / profiles.EXAMPLE).read_text()
    assert all(f"\n{name} = " in text for name in vars(example) if name != "file")


def test_without_slurm_it_says_where_to_go(
    bench_fake: fake.Fake, sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to("/usr/bin/git")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    outcome = sdc(
        "bench", benches.spec(tmp_path), "--runs", tmp_path / "r", "--on", "slurm", "--profile", profile(tmp_path)
    )

    assert outcome.code == 1
    assert "there is no sbatch here" in outcome.err


def test_a_profile_and_slurm_come_together(bench_fake: fake.Fake, sdc: Sdc, tmp_path: Path) -> None:
    assert sdc("bench", benches.spec(tmp_path), "--on", "slurm").code == 2
    assert sdc("bench", benches.spec(tmp_path), "--profile", profile(tmp_path)).code == 2
