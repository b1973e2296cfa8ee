"""The live table of a benchmark: what it reads off the run folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdc.bench.cells import Cell
from sdc.bench.live import Board
from sdc.plan.request import Request


def test_what_was_done_before_does_not_shorten_the_time_left(tmp_path: Path) -> None:
    cells = [Cell(Request("fake", 0.0, "digits", seed=n), 0.0, f"r{n}", None, "ConvNetW32", 1) for n in range(4)]
    board = Board(tmp_path)
    assert board.look().counts == {}  # the table is drawn before the spec is read

    def done(number: int) -> None:
        (tmp_path / f"r{number}").mkdir()
        (tmp_path / f"r{number}" / "result.json").write_text(json.dumps({"state": "complete"}))

    done(0)
    board.cells = cells
    first = board.look()
    assert (first.counts, first.left) == ({"done": 1, "to do": 3}, None)
    done(1)
    (tmp_path / "r2").mkdir()
    lines = [{"kind": "step", "step": n, "loss": 1.0, "seconds": n / 4} for n in (1, 8)]
    (tmp_path / "r2" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    second = board.look()
    assert second.counts == {"done": 2, "started": 1, "to do": 1}
    assert second.left is not None
    (running,) = second.running
    assert (running.stage, running.done, running.rate) == ("distils", 8, pytest.approx(4.0))
