"""GraDN: the gradient norm of single samples, and how it moves over the steps of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from analysis import difficulty
from runner import distilled
from runner.distilled import DistilledSet
from runner.errors import FatalError
from runner.networks import Network, build
from runner.protocol import Protocol
from runner.view import View
from runner.watch import Quiet

CLASSES = 3


def samples(count: int, channels: int = 3, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=noise), torch.arange(count) % CLASSES


def one_at_a_time(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The definition, by plain autograd."""
    norms = []
    for image, target in zip(images, targets, strict=True):
        gradient = torch.autograd.grad(F.cross_entropy(network(image[None]), target[None]), list(network.parameters()))
        norms.append(torch.cat([part.flatten() for part in gradient]).norm())
    return torch.stack(norms)


class Judge(nn.Module):
    """Uses one layer twice, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.last = nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N,K] of images [N,3,H,W]."""
        features = self.twice(self.twice(self.first(images)).relu()).relu()
        logits: Tensor = self.last(self.scale * features.mean((2, 3)))
        return logits


# The norm of a sample


@pytest.mark.parametrize(
    ("model", "channels", "size"),
    [
        ("ConvNetW32", 3, 16),
        ("ConvNetW32", 1, 28),
        ("ConvNetLN", 3, 16),
        ("ConvNetNN", 3, 16),
        ("LeNet", 3, 32),
        ("MLP", 1, 28),
        ("ConvNetBN", 3, 16),
    ],
)
def test_samples_side_by_side_have_the_norms_they_have_alone(model: str, channels: int, size: int) -> None:
    network = build(model, channels, CLASSES, size, 1).double().eval()
    images, labels = samples(5, channels, size)
    images = images.double()
    expected = one_at_a_time(network, images, labels)

    for chunk in (0, 1, 2, 5, 9):
        found = difficulty.sample_norms(network, images, labels, chunk)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 1e-3


def test_layers_that_are_used_twice_count_once_with_their_whole_gradient() -> None:
    torch.manual_seed(0)
    network = Judge().double()
    images, labels = samples(4)
    expected = one_at_a_time(network, images.double(), labels)
    torch.testing.assert_close(
        difficulty.sample_norms(network, images.double(), labels), expected, rtol=1e-10, atol=1e-10
    )


def test_soft_labels_are_logits() -> None:
    network = build("ConvNetW32", 3, CLASSES, 16, 1).double()
    images, labels = samples(4)
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3)).double()
    found = difficulty.sample_norms(network, images.double(), logits)
    torch.testing.assert_close(
        found, one_at_a_time(network, images.double(), logits.softmax(1)), rtol=1e-10, atol=1e-10
    )
    sure = difficulty.sample_norms(network, images.double(), 1000.0 * F.one_hot(labels, CLASSES).double())
    torch.testing.assert_close(sure, difficulty.sample_norms(network, images.double(), labels))


def test_the_network_is_left_as_it_was_and_gradients_lead_nowhere() -> None:
    network = build("ConvNetBN", 3, CLASSES, 16, 1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    norms = difficulty.sample_norms(network, *samples(4))
    assert not norms.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_batch_norm_that_mixes_samples_is_refused() -> None:
    with pytest.raises(FatalError, match=r"^batch norm in training mode mixes the samples"):
        difficulty.sample_norms(build("ConvNetBN", 3, CLASSES, 16, 1), *samples(4))


def test_gradn_is_the_mean_over_networks_that_differ_and_repeat() -> None:
    images, labels = samples(4)
    networks = difficulty.fresh("ConvNetW32", 3, CLASSES, 16, count=3, seed=7)
    each = [difficulty.sample_norms(network, images, labels) for network in networks]
    torch.testing.assert_close(difficulty.gradn(images, labels, networks), (each[0] + each[1] + each[2]) / 3)
    assert not torch.allclose(each[0], each[1])
    again = difficulty.fresh("ConvNetW32", 3, CLASSES, 16, count=2, seed=7)
    assert all(_weights(one).equal(_weights(two)) for one, two in zip(networks, again, strict=False))
    assert not _weights(networks[0]).equal(_weights(difficulty.fresh("ConvNetW32", 3, CLASSES, 16, 1, 8)[0]))


def _weights(network: nn.Module) -> Tensor:
    assert isinstance(network, Network)
    return network.classifier.weight


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
    course = difficulty.over_steps(run_folder(tmp_path / "run", made))

    networks = difficulty.fresh("ConvNetW32", 3, CLASSES, 16, 5, difficulty.SEED)
    expected = [
        torch.stack([one_at_a_time(network, state.images, state.labels) for network in networks]).mean()
        for state in made
    ]
    assert course is not None
    assert list(course.steps) == [0, 10, 20, 30]
    torch.testing.assert_close(torch.tensor(course.mean), torch.stack(expected).detach())
    assert min(abs(one - two) for one, two in zip(course.mean, course.mean[1:], strict=False)) > 0.01
    stored = json.loads((tmp_path / "run" / "difficulty.json").read_text())
    assert stored == {
        "steps": course.steps,
        "mean": course.mean,
        "networks": "5 freshly initialised ConvNetW32",
        "images": 6,
    }


def test_what_was_measured_is_kept_and_a_run_without_a_history_has_none(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(2))
    kept = {"steps": [0], "mean": [1.5], "networks": "2 of another kind", "images": 3}
    (run / "difficulty.json").write_text(json.dumps(kept))
    assert difficulty.over_steps(run) == difficulty.Course([0], [1.5], "2 of another kind", 3)
    bare = run_folder(tmp_path / "bare", states(1))
    (bare / "history").rmdir()
    assert difficulty.over_steps(bare) is None
    assert not (bare / "difficulty.json").exists()


def test_the_outcome_stands_for_its_own_update(tmp_path: Path) -> None:
    made = states(3)
    run = run_folder(tmp_path / "run", [*made, made[0]], updates=20)
    course = difficulty.over_steps(run)
    assert course is not None
    assert list(course.steps) == [0, 10, 20]
    assert course.mean[2] == course.mean[0] != course.mean[1]


def test_learned_labels_are_those_of_their_state(tmp_path: Path) -> None:
    first, last = states(2)
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(1))
    final = DistilledSet(first.images, logits, last.view, last.protocol)
    run = run_folder(tmp_path / "run", [first, final])
    save_file({"images": first.images, "labels": 3 * logits}, run / "history" / "000000.safetensors")
    save_file({"images": first.images, "labels": logits}, run / "history" / "000005.safetensors")
    course = difficulty.over_steps(run)
    assert course is not None
    assert course.mean[1] == course.mean[2] != course.mean[0]


def test_of_a_large_set_some_are_measured_evenly_spread(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", states(1), updates=1)
    course = difficulty.over_steps(run, networks=2, most=3)
    networks = difficulty.fresh("ConvNetW32", 3, CLASSES, 16, 2, difficulty.SEED)
    final = distilled.load(run)
    assert course is not None
    expected = difficulty.gradn(final.images[[0, 2, 4]], final.labels[[0, 2, 4]], networks).mean()
    assert (course.images, course.networks) == (3, "2 freshly initialised ConvNetW32")
    assert course.mean == pytest.approx([float(expected)])


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
        difficulty.over_steps(run)
    assert str(raised.value).startswith(f"{run}/history/{name}.safetensors {says}")
    assert not (run / "difficulty.json").exists()


# All runs of a folder


class Heard(Quiet):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def test_runs_that_wait_for_it_are_measured_once_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    for name in ("a", "b", "running", "damaged"):
        run_folder(tmp_path / name, states(2))
    (tmp_path / "running" / "result.json").unlink()
    (tmp_path / "damaged" / "history" / "000001.safetensors").write_text("no tensors")
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "notes.txt").write_text("not a run")
    watch = Heard()

    assert difficulty.fill(tmp_path, watch) == 2
    assert sorted(file.parent.name for file in tmp_path.rglob("difficulty.json")) == ["a", "b"]
    assert len(watch.said) == 1
    assert watch.said[0].startswith("no difficulty over the steps for damaged: ")
    assert difficulty.fill(tmp_path, Heard()) == 0
    assert difficulty.fill(tmp_path / "nowhere", watch) == 0


def test_two_thousand_runs_with_nothing_to_do_take_no_time(tmp_path: Path) -> None:
    for number in range(2000):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        (run / "result.json").write_text('{"state": "complete"}')
        if number % 2:
            (run / "history").mkdir()
            (run / "difficulty.json").touch()
    began = time.process_time()
    assert difficulty.fill(tmp_path, Quiet()) == 0
    assert time.process_time() - began < 0.5
