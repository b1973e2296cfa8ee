"""A crew: processes that do tasks beside this one. Its members here square numbers, or do worse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdc.ground import crew
from sdc.ground.crew import Crew, Task

MEMBER = """
import os, signal, sys, time
from pathlib import Path
from sdc.ground import crew

def do(task, tell):
    tell(2)
    print("this is no answer", flush=True)
    once = Path(task.get("once", ""))
    if "once" in task and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task.get("always"):
        sys.exit(3)
    if "sleep" in task:
        time.sleep(task["sleep"])
    tell(1)
    return [task["n"] ** 2, os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]]

crew.serve(do)
"""


class Told:
    """A crew's tasks, outcomes and progress."""

    def __init__(self, tasks: list[Task]) -> None:
        self.waiting, self.done, self.progress = deque(tasks), dict[int, Any](), 0
        self.crew = Crew("square", (), self.waiting, 2, self._done, self._more)

    def _done(self, task: Task, outcome: Any) -> None:
        self.done[task["n"]] = outcome

    def _more(self, more: int) -> None:
        self.progress += more

    def carry_out(self) -> None:
        self.crew.tend()
        while self.crew.at_work:
            self.crew.tend(wait=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "square.py").write_text(MEMBER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setattr(crew.cores, "cores", lambda: 6)  # of two threads each: two beside this process
    monkeypatch.delenv("SDC_WORKERS", raising=False)
    yield tmp_path
    assert children() == Counter()


def children() -> Counter[str]:
    """The processes that this one started and that have not ended, by their state."""
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "stat=,args="], capture_output=True, text=True, check=False
    )
    return Counter(line.split()[0] for line in listed.stdout.splitlines() if "square" in line)


def test_every_task_is_done_once_by_processes_with_their_own_threads(folder: Path) -> None:
    told = Told([{"n": n} for n in range(7)])
    told.carry_out()
    assert told.done == {n: [n * n, "2", "PASSIVE"] for n in range(7)}
    assert (told.progress, list(told.waiting)) == (0, [])


def test_whoever_made_it_may_do_tasks_too(folder: Path) -> None:
    told = Told([{"n": n, "sleep": 0.5} for n in range(4)])
    told.crew.tend()
    own = told.waiting.popleft()
    told.carry_out()
    assert sorted([own["n"], *told.done]) == [0, 1, 2, 3]


def test_one_that_is_killed_costs_its_task_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told([{"n": 1, "once": str(folder / "once")}, {"n": 2, "sleep": 1.0}, {"n": 3}])
    told.carry_out()
    assert {n: outcome[0] for n, outcome in told.done.items()} == {1: 1, 2: 4, 3: 9}
    assert told.progress == 0
    assert caplog.messages == ["a process that worked beside this one ended with exit code -9: another does its part"]


def test_a_task_that_kills_whoever_does_it_is_left_to_whoever_made_the_crew(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told([{"n": 1, "always": True}])
    for _ in range(5):
        told.carry_out()
    assert (told.done, list(told.waiting), told.progress) == ({}, [{"n": 1, "always": True}], 0)
    assert [message.split(": ")[1] for message in caplog.messages] == [
        "another does its part",
        "another does its part",
        "going on without such processes",
    ]


def test_its_end_leaves_no_process(folder: Path) -> None:
    told = Told([{"n": n, "sleep": 60} for n in range(4)])
    told.crew.tend()
    assert sum(children().values()) == 2
    told.crew.end()


def test_members_end_when_this_process_is_killed(folder: Path) -> None:
    maker = (
        "import sys\nfrom collections import deque\nfrom sdc.ground.crew import Crew\n"
        "crew = Crew('square', (), deque({'n': n, 'sleep': 1.0} for n in range(50)), 1, print, lambda _: None)\n"
        "crew.tend()\nprint(*(member.process.pid for member in crew._members), flush=True)\nsys.stdin.readline()\n"
    )
    environment = os.environ | {"SDC_WORKERS": "2"}
    with subprocess.Popen(
        [sys.executable, "-c", maker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        members = [int(number) for number in process.stdout.readline().split()]
        assert len(members) == 1 if len(os.sched_getaffinity(0)) > 1 else True
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{member}").exists() for member in members):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_none_is_started_without_memory_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "room", lambda: False)
    told = Told([{"n": 1}])
    told.carry_out()
    assert (told.done, len(told.waiting)) == ({}, 1)
