"""How difficult the images of a run were on their way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sdc.analysis.difficulty import course, gradn, judges
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import Protocol
from sdc.evaluation.view import View
from sdc.ground.errors import FatalError
from tests.analysis.difficulty.samples import CLASSES, one_at_a_time, samples

# Over the steps of a run


def states(count: int) -> list[DistilledSet]:
    """Images that become others, step by step (a mere change of contrast would not tell: instance norm undoes it)."""
    view = View("digits", ("a", "b", "c"), 3, 16, (0.5,) * 3, (0.25,) * 3)
    (images, labels), (others, _) = samples(6), samples(6, seed=1)
    protocol = Protocol(lr=0.01, epochs=1)
    return [DistilledSet(images + step * others, labels, view, protocol) for step in range(count)]


def run_folder(folder: Path, made: list[DistilledSet], every: int = 10, updates: int | None = None) -> Path:
    """A complete run with a history of all states but the last, which is the outcome."""
    (folder / "history").mkdir(parents=True)
    for number, state in enumerate(made[:-1]):
        save_file({"images": state.images}, folder / "history" / f"{number * every:06d}.safetensors")
    distilled.save(made[-1], folder / "distilled.safetensors")
    (folder / "cell.json").write_text(json.dumps({"model": "ConvNetW32"}))
    (folder / "result.json").write_text(json.dumps({"state": "complete"}))
    steps = (len(made) - 1) * every if updates is None else updates
    lines = [{"step": step, "loss": 1.0, "kind": "step"} for step in range(1, steps + 1)]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 10**6, "kind": "logged"}])
    (folder / "metrics.jsonl").write_text(text + '{"step": 1')
    return folder


def test_the_mean_at_each_state_of_the_history_and_at_the_end(tmp_path: Path) -> None:
    made = states(4)
    found = course.over_steps(run_folder(tmp_path / "run", made))

    networks = judges.fresh("ConvNetW32", 3, CLASSES, 16, 5, judges.SEED)
    expected = [
        torch.stack([one_at_a_time(network, state.images, state.labels) for network in networks]).mean()
        for state in made
    ]
    assert found is not None
    assert list(found.steps) == [0, 10, 20, 30]
    torch.testing.assert_close(torch.tensor(found.mean), torch.stack(expected).detach())
    assert min(abs(one - two) for one, two in zip(found.mean, found.mean[1:], strict=False)) > 0.01
    stored = json.loads((tmp_path / "run" / "difficulty.json").read_text())
    assert stored == {
        "steps": found.steps,
        "mean": found.mean,
        "networks": "5 freshly initialised ConvNetW32",
        "images": 6,
    }


def test_what_was_measured_is_kept_and_a_run_without_a_history_has_none(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(2))
    kept = {"steps": [0], "mean": [1.5], "networks": "2 of another kind", "images": 3}
    (run / "difficulty.json").write_text(json.dumps(kept))
    assert course.over_steps(run) == course.Course([0], [1.5], "2 of another kind", 3)
    bare = run_folder(tmp_path / "bare", states(1))
    (bare / "history").rmdir()
    assert course.over_steps(bare) is None
    assert not (bare / "difficulty.json").exists()


def test_the_outcome_stands_for_its_own_update(tmp_path: Path) -> None:
    made = states(3)
    run = run_folder(tmp_path / "run", [*made, made[0]], updates=20)
    found = course.over_steps(run)
    assert found is not None
    assert list(found.steps) == [0, 10, 20]
    assert found.mean[2] == found.mean[0] != found.mean[1]


def test_learned_labels_are_those_of_their_state(tmp_path: Path) -> None:
    first, last = states(2)
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    final = DistilledSet(first.images, logits, last.view, last.protocol)
    run = run_folder(tmp_path / "run", [first, final])
    save_file({"images": first.images, "labels": 3 * logits}, run / "history" / "000000.safetensors")
    save_file({"images": first.images, "labels": logits}, run / "history" / "000005.safetensors")
    found = course.over_steps(run)
    assert found is not None
    assert found.mean[1] == found.mean[2] != found.mean[0]


def test_of_a_large_set_some_are_measured_evenly_spread(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(1), updates=1)
    found = course.over_steps(run, networks=2, most=3)
    networks = judges.fresh("ConvNetW32", 3, CLASSES, 16, 2, judges.SEED)
    final = distilled.load(run)
    assert found is not None
    expected = gradn.by_network(final.images[[0, 2, 4]], final.labels[[0, 2, 4]], networks).mean()
    assert (found.images, found.networks) == (3, "2 freshly initialised ConvNetW32")
    assert found.mean == pytest.approx([float(expected)])


@pytest.mark.parametrize(
    ("name", "tensors", "says"),
    [
        ("000004", {"images": torch.zeros(2, 3, 16, 16)}, "holds images [2, 3, 16, 16], the run's are [6, 3, 16, 16]"),
        ("000004", {"pixels": torch.zeros(2)}, "is no state of a run: KeyError"),
        ("best", {"images": torch.zeros(6, 3, 16, 16)}, "is not named by a step"),
    ],
)
def test_a_state_that_is_none_is_named(name: str, tensors: dict[str, Tensor], says: str, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(2))
    save_file(tensors, run / "history" / f"{name}.safetensors")
    with pytest.raises(FatalError) as raised:
        course.over_steps(run)
    assert str(raised.value).startswith(f"{run}/history/{name}.safetensors {says}")
    assert not (run / "difficulty.json").exists()
