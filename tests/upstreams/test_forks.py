"""Forks of true upstreams with a change of their own: what they run is that change, and the pin is left alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdc.adapters.registry import ADAPTERS
from tests.conftest import Outcome, Sdc
from tests.forked import commit, everything, git

pytestmark = [pytest.mark.upstream, pytest.mark.slow]
BRIEF = {
    "dm": ("Iteration=2", "limit_per_class=16", "batch_real=16", "networks=1", "epochs=3"),
    "mtt": (
        *("limit_per_class=16", "num_experts=2", "train_epochs=3", "expert_batch=32", "max_start_epoch=2", "lr_img=10"),
        *("Iteration=2", "syn_steps=3", "expert_epochs=1", "networks=1", "epochs=3", "lr_lr=1e-7", "model=ConvNetD1"),
    ),
}
Forked = Callable[[str, str, str, str], Path]


@pytest.fixture
def forked(upstream_tree: Callable[[str], Path], sdc: Sdc, tmp_path: Path) -> Forked:
    """`forked(method, file, pattern, text)`: a patched fork of its upstream in which the pattern is the text."""

    def make(method: str, file: str, pattern: str, text: str) -> Path:
        folder = tmp_path / f"my {method}"
        shutil.copytree(upstream_tree(method), folder)  # the clone of the pin, a repository as any
        content = (folder / file).read_text()
        changed, count = re.subn(pattern, text, content)
        assert count == 1, (file, count)
        (folder / file).write_text(changed)
        commit(folder)
        assert sdc("apply", method, "--to", folder).code == 0
        return folder

    return make


@pytest.fixture
def short(sdc: Sdc, archives: Path, tmp_path: Path) -> Callable[..., Outcome]:
    def distil(method: str, *more: object, weight: float = 0.0) -> Outcome:
        asked = ("run", method, "--data", archives / "cifar10.tar.xz", "--weight", weight, "--runs", tmp_path / "runs")
        outcome = sdc(*asked, *(w for each in BRIEF[method] for w in ("--set", each)), "--json", *more)
        assert outcome.code == 0, outcome
        return outcome

    return distil


def images(outcome: Outcome) -> torch.Tensor:
    return load_file(Path(outcome.json["run"]) / "distilled.safetensors")["images"]


def states(outcome: Outcome) -> list[torch.Tensor]:
    """The images at the start, and after the first and the second update."""
    kept = Path(outcome.json["run"]) / "history"
    return [load_file(kept / f"{step:06}.safetensors")["images"] for step in range(3)]


def cell(outcome: Outcome) -> Any:
    return json.loads((Path(outcome.json["run"]) / "cell.json").read_text())


def test_a_fork_of_dm_runs_its_own_momentum(forked: Forked, short: Callable[..., Outcome]) -> None:
    folder = forked("dm", "main_DM.py", r"momentum=0\.5", "momentum=0.9")
    before = everything(folder)
    of_fork, with_term, of_pin = short("dm", "--to", folder), short("dm", "--to", folder, weight=1.0), short("dm")

    assert everything(folder) == before
    assert cell(of_fork)["fork"]["commit"] == git(folder, "rev-parse", "HEAD")
    # The first update knows no momentum. In the second, the images that it finds and all draws are still the same, so
    # that it goes (0.9 - 0.5) times the first update farther.
    (start, first, second), (own_start, own_first, own_second) = states(of_pin), states(of_fork)
    assert own_start.equal(start)
    assert own_first.equal(first)
    torch.testing.assert_close(own_second - second, 0.4 * (first - start), atol=1e-5, rtol=1e-3)
    assert not images(with_term).equal(images(of_fork))
    assert "fork" not in cell(of_pin)
    assert ADAPTERS["dm"].upstream.commit == cell(of_fork)["commit"]


def test_a_fork_of_mtt_trains_experts_of_its_own_where_its_buffer_script_is_its_own(
    forked: Forked, short: Callable[..., Outcome]
) -> None:
    folder = forked("mtt", "distill.py", r"\Z", "# mine\n")
    of_pin = short("mtt")
    shared = short("mtt", "--to", folder)
    assert cell(shared)["experts"] == cell(of_pin)["experts"]
    assert images(shared).equal(images(of_pin))

    buffer = (folder / "buffer.py").read_text()
    assert "momentum=args.mom" in buffer
    (folder / "buffer.py").write_text(buffer.replace("momentum=args.mom", "momentum=0.5"))
    commit(folder)
    before = everything(folder)
    own = short("mtt", "--to", folder)
    assert cell(own)["experts"] != cell(of_pin)["experts"]
    assert not images(own).equal(images(of_pin))
    assert everything(folder) == before
