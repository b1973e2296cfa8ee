"""Runs that were not measured when they were made: what a report does about them, and what it says before."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdc.analysis.difficulty import backlog, course
from sdc.ground import paths
from sdc.ground.watch import Quiet
from tests.analysis.difficulty.test_course import run_folder, states


class Heard(Quiet):
    """Keeps what was said, and the last stage with a known end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.total = self.done = 0

    def stage(self, name: str, total: int | None) -> None:  # noqa: ARG002
        """Keep its length."""
        self.total, self.done = total or 0, 0

    def progress(self, done: int, note: str = "") -> None:  # noqa: ARG002
        """Keep how far it is."""
        self.done = done

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def measured(runs: Path) -> list[str]:
    return sorted(file.parent.name for file in runs.rglob("difficulty.json"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs that wait, one that is not complete, one with a state that is none, and what is no run."""
    for name in ("a", "b", "running", "damaged"):
        run_folder(tmp_path / name, states(3))
    (tmp_path / "running" / "result.json").unlink()
    (tmp_path / "damaged" / "history" / "000001.safetensors").write_text("no tensors")
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "notes.txt").write_text("not a run")
    return tmp_path


def test_what_is_asked_for_is_measured_once_behind_a_word_on_its_time_and_the_rest_is_left_alone(runs: Path) -> None:
    watch = Heard()
    assert backlog.fill(runs, True, watch) == 2
    assert measured(runs) == ["a", "b"]
    assert json.loads((runs / "a" / "difficulty.json").read_text())["steps"] == [0, 10, 20]
    first, failed = watch.said
    assert first.startswith("difficulty over the steps was not measured for 3 runs: about ")
    assert failed.startswith(f"no difficulty over the steps for damaged: {runs}/damaged/history/000001.safetensors is ")
    # 3 states of 6 images over 5 networks for each, and one state more of the damaged one, which is never reached
    assert (watch.total, watch.done) == (3 * 3 * 6 * 5 + 6 * 5, 2 * 3 * 6 * 5 + 6 * 5)

    again = Heard()
    assert backlog.fill(runs, None, again) == 0
    assert [text.partition(":")[0] for text in again.said] == ["no difficulty over the steps for damaged"]
    (runs / "damaged" / "history" / "000001.safetensors").unlink()
    assert backlog.fill(runs, True, Heard()) == 1
    assert backlog.fill(runs, None, silent := Heard()) == 0
    assert silent.said == []
    assert backlog.fill(runs / "nowhere", True, Heard()) == 0


def test_unasked_a_moment_is_spent_and_no_more_is_begun(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOMENT", 0.0)
    watch = Heard()
    assert backlog.fill(runs, None, watch) == 0
    assert measured(runs) == []
    assert len(watch.said) == 1
    assert watch.said[0].startswith("difficulty over the steps was not measured for 3 runs: about ")
    assert watch.said[0].endswith(f"so it is left out. Measure it: sdc report {runs} --difficulty")

    monkeypatch.undo()
    assert backlog.fill(runs, None, Heard()) == 2
    assert measured(runs) == ["a", "b"]


def test_what_takes_longer_than_was_said_is_stopped(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOMENT", 0.0)
    monkeypatch.setattr(backlog, "_estimate", lambda todo: (100, 0.0))
    watch = Heard()
    assert backlog.fill(runs, None, watch) == 0
    assert watch.said[1] == "3 runs took longer than was said, and wait: sdc report --difficulty measures them"
    assert list(runs.rglob("difficulty*.json")) == []


def test_nothing_is_measured_where_that_is_asked_for(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "work", lambda *_, **__: pytest.fail("a run was opened"))
    watch = Heard()
    assert backlog.fill(runs, False, watch) == 0
    assert (watch.said, measured(runs)) == ([], [])


def test_the_estimate_follows_the_number_of_states_and_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_seconds", lambda work: 2.0 * len(work.judges.networks))  # of one norm
    run_folder(tmp_path / "one", states(2))
    run_folder(tmp_path / "two", states(5))
    assert backlog._estimate([tmp_path / "one"]) == (2 * 6 * 5, 2 * 6 * 5 * 2.0)
    assert backlog._estimate([tmp_path / "one", tmp_path / "two"]) == (7 * 6 * 5, 7 * 6 * 5 * 2.0)


def test_a_run_on_held_out_images_asks_for_nothing(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(2))
    (run / "cell.json").write_text(json.dumps({"model": "ConvNetW32", "settings": {"validation": 20}}))
    assert backlog.fill(tmp_path, True, Heard()) == 0
    course.keep(run, Heard())
    assert measured(tmp_path) == []


def test_two_thousand_runs_with_nothing_to_do_take_no_time_and_no_torch(tmp_path: Path) -> None:
    for number in range(2000):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        (run / "result.json").write_text('{"state": "complete"}')
        if number % 2:
            (run / "history").mkdir()
            (run / "difficulty.json").touch()
    began = time.process_time()
    assert backlog.fill(tmp_path, None, Quiet()) == 0
    assert time.process_time() - began < 0.5
    lines = [
        "import sys; from pathlib import Path; from sdc.analysis.difficulty import backlog",
        "from sdc.ground.watch import Quiet; backlog.fill(Path(sys.argv[1]), None, Quiet())",
        "sys.exit('torch' in sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines), str(tmp_path)], check=True, cwd=paths.ROOT, timeout=60)


# Behind a run


def test_a_run_that_cannot_be_measured_stays_complete_and_says_why(runs: Path) -> None:
    before = {file: file.read_bytes() for file in (runs / "damaged").rglob("*.*")}
    watch = Heard()
    course.keep(runs / "damaged", watch)
    assert len(watch.said) == 1
    assert watch.said[0].startswith("no difficulty over the steps for damaged: ")
    reason = json.loads((runs / "damaged" / "difficulty.failed.json").read_text())["error"]
    assert watch.said[0].endswith(reason)
    assert {file: file.read_bytes() for file in before} == before
    (runs / "damaged" / "history" / "000001.safetensors").unlink()
    course.keep(runs / "damaged", watch)
    assert sorted(file.name for file in (runs / "damaged").glob("difficulty*")) == ["difficulty.json"]


def test_what_it_takes_is_said_where_that_is_more_than_a_little(tmp_path: Path) -> None:
    for name, seconds, said in (("long", 1e6, 0), ("short", 0.001, 1)):
        run = run_folder(tmp_path / name, states(2))
        stages = {"distil": {"seconds": seconds}, "experts": {"seconds": 1e9}, "evaluate": {"seconds": 0}}
        (run / "result.json").write_text(json.dumps({"state": "complete", "stages": stages}))
        watch = Heard()
        course.keep(run, watch)
        assert len(watch.said) == said, name
        assert all("--set history=0 leaves it out" in text for text in watch.said)
        assert watch.done == watch.total == 2 * 6 * 5
