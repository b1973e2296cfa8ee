"""How many processes work side by side, with how many threads each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdc.ground import cores
from sdc.ground.errors import FatalError


@pytest.fixture(autouse=True)
def _of_64_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores without limits, and a user who says nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_OWN_GROUP", tmp_path / "own")
    for name in (cores.THREADS, cores.WORKERS, cores.SHARES):
        monkeypatch.delenv(name, raising=False)


def group(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # the time of one and a half: two are never idle
        ("0::/user/job\n", {"user/job/cpu.max": "max 100000\n", "user/cpu.max": "300000 100000\n"}, 3),
        ("0::/user/job\n", {"user/job/cpu.max": "100000 100000\n", "user/cpu.max": "300000 100000\n"}, 1),
        ("4:cpu,cpuacct:/docker/a\n", {"cpu/docker/a/cpu.cfs_quota_us": "400000\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("", {}, 64),
    ],
    ids=["v2", "v2, no limit", "v2, a part", "v2, above", "v2, both", "v1", "v1, no limit", "none"],
)  # fmt: skip
def test_a_container_gets_the_cores_whose_time_it_gets(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    group(tmp_path, own, files)
    assert cores.cores() == expected


def test_threads_go_by_the_work_within_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    small, wide = 4e7, 13e9  # multiply-adds: ConvNetW32 on 10 images, ConvNet on 256
    assert [cores.threads(small), cores.threads(wide)] == [1, 26]
    assert [cores.threads(wide, beside=beside) for beside in (5, 20, 100)] == [12, 3, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 7})
    assert [cores.threads(wide), cores.threads(wide, beside=5)] == [2, 1]


@pytest.mark.parametrize("told", ["3", "3,2", " 3 "])
def test_what_the_user_says_of_threads_rules(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert [cores.threads(1.0), cores.threads(1e12, beside=64)] == [3, 3]
    assert cores.workers(3) == 21


def test_workers_fill_the_cores_or_are_as_many_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [cores.workers(1), cores.workers(12), cores.workers(100)] == [64, 5, 1]
    monkeypatch.setenv("SDC_WORKERS", "3")
    assert [cores.workers(1), cores.workers(32)] == [3, 3]
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("SDC_WORKERS", wrong)
        with pytest.raises(FatalError, match=f"SDC_WORKERS={wrong}: give"):
            cores.workers(1)


def test_spare_cores_are_taken_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDC_WORKERS", "3")
    spare = cores.Spare(1)
    first, second = spare.take(), spare.take()
    assert first
    assert second
    assert spare.take() is None
    spare.back(first)
    again = spare.take()
    assert again
    assert spare.take() is None


def test_workers_of_a_benchmark_use_what_others_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores.share_out(tmp_path / "shares", 3)
    monkeypatch.setenv("SDC_SHARES", str(tmp_path / "shares"))
    holds = (
        "import sys\nfrom sdc.ground import cores\n"
        "with cores.busy():\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    with (
        cores.busy(),
        subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        spare = cores.Spare(1)
        one = spare.take()
        assert one
        assert spare.take() is None
        other.kill()  # however it ends, its share is free
        other.wait()
        two = spare.take()
        assert two
        assert spare.take() is None


def test_more_workers_than_shares_do_their_tasks_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores.share_out(tmp_path / "shares", 1)
    monkeypatch.setenv("SDC_SHARES", str(tmp_path / "shares"))
    with cores.busy(), cores.busy():
        assert cores.Spare(1).take() is None


def test_threads_wait_quietly_unless_the_user_says_how() -> None:
    told: dict[str, str] = {}
    cores.wait_quietly(told)
    assert told == {"OMP_WAIT_POLICY": "PASSIVE"}
    told = {"OMP_WAIT_POLICY": "ACTIVE"}
    cores.wait_quietly(told)
    assert told == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_the_command_line_says_so_before_torch_is_there() -> None:
    code = (
        "import os, sys\n"
        "from sdc import cli\n"
        "assert 'torch' not in sys.modules\n"
        "sys.argv = ['sdc', 'list']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "sys.exit(os.environ['OMP_WAIT_POLICY'] != 'PASSIVE')\n"
    )
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    assert subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, check=False).returncode == 0
