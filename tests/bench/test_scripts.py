"""`sdc bench --export`: plain array scripts, by stage and number, that end as the benchmark itself would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdc.ground import paths
from tests import fake
from tests.conftest import Outcome, Sdc

SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = [0, "auto:0.5"]
set = { limit_per_class = 3, steps = 4, networks = 1 }
"""
PROFILE = 'partition = "long"\naccount = "mine"\ntime = "01:30:00"\ncores = 2\njobs = 3\nsbatch = ["--qos=low"]\ninit = ["echo ready"]\n'
SBATCH = """\
#!{python}
# A scheduler of the test's own: each job of an array runs at once, one after another.
import os, re, subprocess, sys
script = sys.argv[-1]
first, last = map(int, re.search(r"#SBATCH --array=(\\d+)-(\\d+)", open(script).read()).groups())
for number in range(first, last + 1):
    with open({log!r}, "a") as log:
        print(" ".join(sys.argv[1:]), number, file=log)
    subprocess.run(["bash", script], env=os.environ | {{"SLURM_ARRAY_TASK_ID": str(number)}}, stdout=sys.stderr)
print(1000 + len(open({log!r}).readlines()))
"""


@pytest.fixture
def spec(tmp_path: Path, fake_upstream: fake.Fake) -> Path:
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "profile.toml").write_text(PROFILE)
    return tmp_path / "spec.toml"


def exported(sdc: Sdc, spec: Path) -> Outcome:
    folder = spec.parent
    where = ("--profile", folder / "profile.toml", "--export", folder / "jobs", "--runs", folder / "runs")
    return sdc("bench", spec, *where, "--json")


def test_the_scripts_ask_for_what_the_profile_says_and_wait_for_the_stage_before(sdc: Sdc, spec: Path) -> None:
    outcome = exported(sdc, spec)

    folder = spec.parent / "jobs"
    assert outcome.code == 0, outcome
    assert [Path(file).name for file in outcome.json["files"]] == ["submit.sh", "calibrate.sbatch", "cells.sbatch"]
    cells = (folder / "cells.sbatch").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in cells if line.startswith("#SBATCH")}
    assert {"--array=0-1%6", "--partition=long", "--account=mine", "--time=01:30:00", "--qos=low"} <= asked
    assert {"--cpus-per-task=1", "--ntasks=1"} <= asked
    assert {"export OMP_NUM_THREADS=1", "export SDC_WORKERS=1"} <= set(cells)
    assert cells.index("echo ready") < len(cells) - 1
    assert cells[-1].endswith('--stage cells --number "$SLURM_ARRAY_TASK_ID"')
    submit = (folder / "submit.sh").read_text()
    assert 'cells="$(sbatch --parsable --dependency=afterany:$calibrate cells.sbatch)"' in submit
    for script in folder.glob("*.s*"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    again = exported(sdc, spec)
    assert again.code == 1
    assert f"{folder} is not empty: name another folder, or remove it" in again.json["error"]


def test_an_array_longer_than_slurm_takes_is_cut(sdc: Sdc, spec: Path) -> None:
    spec.write_text(SPEC.replace('[0, "auto:0.5"]', f"{list(range(12))}") + f"seeds = {list(range(100))}\n")
    spec.write_text("\n".join(sorted(spec.read_text().splitlines(), key=lambda line: line.startswith("set"))) + "\n")
    outcome = exported(sdc, spec)

    assert [Path(f).name for f in outcome.json["files"]] == ["submit.sh", "cells-0.sbatch", "cells-1.sbatch"], outcome
    first, second = ((spec.parent / "jobs" / f"cells-{n}.sbatch").read_text() for n in (0, 1))
    assert "--array=0-999%" in first
    assert "--array=0-199%" in second
    assert '--number "$((1000 + SLURM_ARRAY_TASK_ID))"' in second


def test_a_task_keeps_its_number_and_one_whose_weight_is_not_known_is_refused(sdc: Sdc, spec: Path) -> None:
    runs = spec.parent / "runs"

    def one(stage: str, number: int) -> Outcome:
        return sdc("bench", spec, "--runs", runs, "--stage", stage, "--number", number, "--json")

    early = one("cells", 1)
    assert early.code == 1
    assert "the weight of fake digits ipc 1 weight auto:0.5 seed 0 is not known" in early.json["error"]
    assert not list(runs.glob("fake-*"))
    assert one("calibrate", 0).json == {"state": "done"}
    assert one("cells", 1).json == {"state": "done"}
    (run,) = runs.glob("fake-*/cell.json")
    assert json.loads(run.read_text())["weight"] > 0
    beyond = one("cells", 2)
    assert "stage cells of this benchmark has 2 tasks: give --number 0 to 1" in beyond.json["error"]
    assert "has 0 tasks" in one("experts", 0).json["error"]
    assert "unknown stage 'cell'" in one("cell", 0).json["error"]


def test_submitting_the_scripts_ends_as_the_benchmark_would(
    sdc: Sdc, spec: Path, fake_upstream: fake.Fake, tmp_path: Path
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "submitted"
    exported(sdc, spec)
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(SBATCH.format(python=sys.executable, log=str(log)))
    sbatch.chmod(0o755)
    site = os.pathsep.join([str(paths.ROOT / "tests" / "site"), str(paths.ROOT)])
    own = {"PATH": f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": site}
    own |= {"SDC_TEST_FAKE": str(fake_upstream.path.parents[2])}
    done = subprocess.run(
        [tmp_path / "jobs" / "submit.sh"], check=False, capture_output=True, text=True, env=os.environ | own
    )

    assert done.returncode == 0, done
    assert [line.split()[-2:] for line in log.read_text().splitlines()] == [
        ["calibrate.sbatch", "0"],
        ["cells.sbatch", "0"],
        ["cells.sbatch", "1"],
    ]
    outcome = sdc("bench", spec, "--runs", runs, "--dry-run", "--json")
    assert outcome.json["states"] == {"done": 2}, done
    assert len(list(runs.glob("*/result.json"))) == 2
