"""Cells of a benchmark that are evaluated together: each comes to what it would come to alone, and fails alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from sdc.bench import cells, dispatch, losses, planning, spec, tasks, work
from sdc.bench.cells import Cell
from sdc.bench.work import More
from sdc.evaluation import distilled, stacked
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View
from sdc.ground.watch import Quiet
from sdc.plan.request import Request
from tests import fake
from tests.benches import in_this_process
from tests.conftest import Sdc

SPEC = """\
methods = ["fake"]
datasets = ["digits"]
weights = [0, 0.5]
seeds = [0, 1]
[set]
limit_per_class = 3
steps = 4
model = "ConvNetD1"
networks = 2
[evaluate]
floor = false
together = true
"""
TOGETHER = More(together=True)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many networks have been trained side by side, stack by stack."""
    true, found = stacked.train, list[int]()

    def train(members: Sequence[stacked.Member], *others: Any) -> None:
        found.append(len(members))
        true(members, *others)

    monkeypatch.setattr(stacked, "train", train)
    return found


@pytest.fixture
def made(fake_upstream: fake.Fake, tmp_path: Path) -> list[Cell]:
    """The four cells of a spec, with sets that are there already: what is under test is what comes after."""
    (tmp_path / "spec.toml").write_text(SPEC)
    found = planning.of(spec.read(tmp_path / "spec.toml"), tmp_path / "runs", Quiet()).cells
    for number, cell in enumerate(found):
        noise = torch.Generator().manual_seed(number)
        view = View("digits", tuple("0123456789"), 3, 32, mean=(0.5,) * 3, std=(0.25 + 0.1 * number,) * 3)
        protocol = Protocol(lr=0.01 / (1 + number), epochs=2, networks=2)  # as methods that learn their rate
        images = torch.randn(10, 3, 32, 32, generator=noise)
        where = tmp_path / "runs" / cell.folder
        where.mkdir(parents=True)
        distilled.save(DistilledSet(images, torch.arange(10), view, protocol), where / "distilled.safetensors")
        (where / "distil.json").write_text(json.dumps({"distil": {"seconds": 1.0}}))
    return list(found)


def accuracies(runs: Path, cell: Cell) -> dict[int, float]:
    result = json.loads((runs / cell.folder / "result.json").read_text())
    return {score["seed"]: score["accuracy"] for score in result["accuracy"]}


def alone(sdc: Sdc, runs: Path, cell: Cell) -> Any:
    """The same by a command that knows of no other cell."""
    found = sdc("evaluate", runs / cell.folder, "--seed", cell.request.seed, "--json").json
    return pytest.approx({score["seed"]: score["accuracy"] for score in found["accuracy"]}, abs=1.5 / 360)


def test_cells_are_evaluated_in_one_stack_and_each_comes_to_what_it_would_come_to_alone(
    made: list[Cell], sizes: list[int], sdc: Sdc, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"

    assert work.evaluate(made, runs, TOGETHER) == ["done"] * 4

    assert sizes == [8]
    found = [accuracies(runs, cell) for cell in made]
    assert found == [alone(sdc, runs, cell) for cell in made]
    assert len({accuracy for of_cell in found for accuracy in of_cell.values()}) > 4
    for cell in made:
        result = json.loads((runs / cell.folder / "result.json").read_text())
        assert result["stages"]["distil"] == {"seconds": 1.0}
        assert result["stages"]["evaluate"]["seconds"] > 0
        assert not list((runs / cell.folder).glob("*.json.*"))
        assert not (runs / cell.folder / "scores.json").exists()


def test_a_cell_whose_set_is_damaged_fails_alone(made: list[Cell], sdc: Sdc, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / made[1].folder / "distilled.safetensors").write_bytes(b"damaged")

    assert work.evaluate(made[:3], runs, TOGETHER) == ["done", "failed", "done"]

    assert "is not a distilled set" in cells.failure(made[1], runs)
    assert [accuracies(runs, cell) for cell in (made[0], made[2])] == [alone(sdc, runs, c) for c in (made[0], made[2])]


def test_what_was_killed_goes_on_behind_the_networks_that_it_has(
    made: list[Cell], sizes: list[int], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setattr(stacked, "fitting", lambda *_: 3)  # so a stack ends within the second cell
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        true, stacks = stacked.train, 0

        def killed(*members: Any) -> None:
            nonlocal stacks
            stacks += 1
            if stacks == 2:
                raise KeyboardInterrupt
            true(*members)

        patch.setattr(stacked, "train", killed)
        work.evaluate(made[:3], runs, TOGETHER)
    kept = [runs / cell.folder / "scores.json" for cell in made[:3]]
    assert [len(json.loads(file.read_text())) if file.exists() else 0 for file in kept] == [2, 1, 0]
    sizes.clear()

    assert work.evaluate(made[:3], runs, TOGETHER) == ["done"] * 3

    assert sizes == [3]
    assert [accuracies(runs, cell) for cell in made[:3]] == [alone(sdc, runs, cell) for cell in made[:3]]
    (resumed,) = json.loads((runs / made[1].folder / "result.json").read_text())["resumed"]
    assert resumed == {"stage": "evaluate", "network": 1}


def test_a_benchmark_distils_each_cell_and_evaluates_all_at_the_end(
    fake_upstream: fake.Fake, sizes: list[int], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    (tmp_path / "spec.toml").write_text(SPEC.replace("seeds = [0, 1]", "seeds = [3]").replace("floor = false\n", ""))
    asked = ("bench", tmp_path / "spec.toml", "--runs", tmp_path / "runs", "--workers", 1, "--json")

    outcome = sdc(*asked)

    assert outcome.code == 0, outcome
    assert (outcome.json["states"], outcome.json["ran"]) == ({"done": 2}, 2)
    assert sizes[0] == 4  # and then the floor of the cell at weight 0
    asked_for = planning.of(spec.read(tmp_path / "spec.toml"), tmp_path / "runs", Quiet()).cells
    for cell in asked_for:
        assert accuracies(tmp_path / "runs", cell) == alone(sdc, tmp_path / "runs", cell)
        assert (tmp_path / "runs" / cell.folder / "floor.json").is_file() == (cell.request.weight == 0)
    assert sdc(*asked).json["ran"] == 0


def test_whether_cells_are_evaluated_together_is_said_by_the_spec_or_where_it_pays(
    made: list[Cell], sizes: list[int], sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    file = tmp_path / "spec.toml"
    file.write_text(SPEC.replace("together = true", ""))
    asked = ("bench", file, "--runs", tmp_path / "runs", "--workers", 1, "--json")
    (tmp_path / "runs" / made[0].folder / "distilled.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr(tasks, "distilled", None)  # on a CPU a cell is one task

    assert sdc(*asked).json["states"] == {"done": 3, "failed": 1}
    assert sizes == []


class Workers:
    """So many workers that take an hour for anything, in the order in which they are given it; told of what each does."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given: list[tuple[str, list[str]]] = []
        self.lose: set[str] = set()
        self._waiting: list[Callable[[], None]] = []

    def submit(self, does: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        whole = arguments[0] if isinstance(arguments[0], list) else [arguments[0]]
        self.given.append((does.__name__, [cell.folder for cell in whole]))

        def end() -> None:
            if does.__name__ in self.lose:
                future.set_exception(losses.WorkerLost(0, "node"))
            else:
                future.set_result(
                    {"distilled": "distilled", "carried_out": "done", "evaluated": ["done"] * len(whole)}[does.__name__]
                )

        self._waiting.append(end)
        return future

    def an_hour_passes(self) -> None:
        now, self._waiting = self._waiting[: self.count], self._waiting[self.count :]
        for end in now:
            end()


def dispatched(workers: Workers, count: int, tmp_path: Path, kinds: int = 1) -> dict[str, str]:
    """What becomes of `count` cells of so many kinds."""
    todo = [Cell(Request("fake", 0.0), 0.0, f"c{n}", None, "ConvNet", 2, kind=(n % kinds,)) for n in range(count)]
    ended: dict[str, str] = {}

    def on_end(task: Any, became: str) -> None:
        assert task.folder not in ended
        ended[task.folder] = became

    to_workers = dispatch.Dispatch(workers.submit, workers.count, tmp_path, TOGETHER, on_end, together=True)
    to_workers.carry_out(todo, [], workers.an_hour_passes)
    return ended


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch.time, "sleep", lambda _: None)


def test_one_worker_distils_all_and_then_evaluates_each_kind_at_once(tmp_path: Path) -> None:
    workers = Workers(1)
    assert dispatched(workers, 5, tmp_path, kinds=2) == {f"c{n}": "done" for n in range(5)}
    assert [does for does, _ in workers.given] == ["distilled"] * 5 + ["evaluated"] * 2
    assert [sets for _, sets in workers.given[5:]] == [["c0", "c2", "c4"], ["c1", "c3"]]


def test_no_worker_is_idle_while_sets_wait(tmp_path: Path) -> None:
    workers = Workers(2)
    assert len(dispatched(workers, 5, tmp_path)) == 5
    # After two hours one cell is left to distil: the other worker evaluates what is there; the fifth comes last.
    assert workers.given[5:] == [("evaluated", ["c0", "c1", "c2", "c3"]), ("evaluated", ["c4"])]
    many = Workers(2)
    assert len(dispatched(many, 6, tmp_path)) == 6
    assert many.given[6:] == [("evaluated", ["c0", "c2", "c4"]), ("evaluated", ["c1", "c3", "c5"])]


def test_of_cells_whose_worker_is_lost_each_is_tried_alone(tmp_path: Path) -> None:
    workers = Workers(1)
    workers.lose = {"evaluated"}
    assert dispatched(workers, 3, tmp_path) == {f"c{n}": "done" for n in range(3)}
    assert workers.given[3:] == [("evaluated", ["c0", "c1", "c2"]), *(("carried_out", [f"c{n}"]) for n in range(3))]
    workers = Workers(1)
    workers.lose = {"evaluated", "carried_out"}
    assert dispatched(workers, 2, tmp_path) == {"c0": "failed", "c1": "failed"}
    assert "its worker was lost" in json.loads((tmp_path / "c1" / "failed.json").read_text())["error"]


def test_how_far_cells_have_come_together_is_what_each_has(tmp_path: Path) -> None:
    lost = losses.Losses(tmp_path)
    pair = [Cell(Request("fake", 0.0), 0.0, name, None, "ConvNet", 2) for name in ("a", "b")]
    costs = []
    for name, text in (("a", "[1]"), ("b", "[1]"), ("b", "[1]"), ("b", "[1, 2]")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "scores.json").write_text(text)
        costs.append(lost.cost(losses.WorkerLost(0, "node"), {"id": 1, "args": (pair,)}))
    assert costs == [0, 0, 1, 0]
