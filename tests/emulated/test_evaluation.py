"""Networks trained on distilled sets, views and difficulty: on a GPU they come to what they come to on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdc.analysis.difficulty import judges
from sdc.analysis.difficulty.gradn import by_network, together
from sdc.evaluation import distilled
from sdc.evaluation.distilled import DistilledSet
from sdc.evaluation.protocol import AUGMENTATIONS, UNIFORM, Protocol, override
from sdc.evaluation.training import Trial, evaluate, evaluate_all
from sdc.evaluation.view import View, Whitening, normalised
from tests.emulated import call, run
from tests.evaluation.test_training import stripes
from tests.fakecuda import DEVICE

CUDA = "cuda"
SHORT = Protocol(lr=0.002, epochs=3, batch=4, networks=2)
"""Six images of a protocol so short that its networks are better and worse."""
EVERY = [
    "",
    *(f"{family}:{name}" for family, names in AUGMENTATIONS.items() for name in names),
    *(f"{family}:{'_'.join(names)}" for family, names in AUGMENTATIONS.items()),
]
TEST_IMAGES = 100
ROUNDING = 2 / TEST_IMAGES
"""Rounding may decide on an image or two, where two classes are nearly as likely."""


def scores(augment: str, device: str, stack: bool, soft: bool = False) -> list[float]:
    images, labels = stripes(6, 1)
    if soft:
        labels = torch.nn.functional.one_hot(labels, 3).float() * 3
    protocol = override(SHORT, {"augment": augment})
    made = evaluate(images, labels, *stripes(TEST_IMAGES, 2), "ConvNetW32", protocol, 0, device=device, stack=stack)
    return [score.accuracy for score in made]


def every_score() -> dict[str, dict[str, list[float]]]:
    ways = {"cpu": ("cpu", False), "alone": (CUDA, False), "stacked": (CUDA, True)}
    return {augment: {way: scores(augment, *how) for way, how in ways.items()} for augment in EVERY}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    told = call(every_score, tmp_path_factory.mktemp("scored"))
    assert not told.problems
    assert told.reports[0]["devices"] == ["0"]
    assert told.reports[0]["nondeterministic"] == []
    return told.json


def near(one: list[float], other: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= ROUNDING


@pytest.mark.parametrize("augment", EVERY)
def test_networks_come_to_the_cpus_scores(scored: Any, augment: str) -> None:
    found = scored[augment]
    assert near(found["alone"], found["cpu"]), found
    assert near(found["stacked"], found["cpu"]), found


def test_the_scores_are_not_all_alike(scored: Any) -> None:
    assert len({accuracy for found in scored.values() for accuracy in found["cpu"]}) > len(EVERY)


def waits(augment: str) -> list[list[int]]:
    """How often the host waited for the device in trainings of different length; alone, then side by side."""
    return [[_waits(augment, stack, epochs) for epochs in (1, 5)] for stack in (False, True)]


def _waits(augment: str, stack: bool, epochs: int) -> int:
    protocol = override(SHORT, {"augment": augment, "epochs": epochs})
    DEVICE.counts.reset()
    evaluate(*stripes(6, 1), *stripes(9, 2), "ConvNetW32", protocol, 0, device=CUDA, stack=stack)
    return DEVICE.counts.syncs + DEVICE.counts.to_host


def test_training_never_waits_for_the_device(tmp_path: Path) -> None:
    for short, long in call(waits, tmp_path, UNIFORM.augment).json:
        assert 0 < short == long


def soft_scores(device: str, stack: bool) -> list[float]:
    return scores(UNIFORM.augment, device, stack, soft=True)


def several_sets(device: str, stack: bool | None) -> list[list[float]]:
    """Two of one kind at rates of their own, one of another kind."""
    test_images, test_labels = stripes(TEST_IMAGES, 2)
    given = [(stripes(6, 1), 0.002, 2), (stripes(6, 3), 0.004, 3), (stripes(9, 4), 0.002, 1)]
    trials = [
        Trial(*shown, test_images, test_labels, override(SHORT, {"lr": lr, "networks": networks}), seed)
        for seed, (shown, lr, networks) in enumerate(given)
    ]
    return [[score.accuracy for score in of] for of in evaluate_all(trials, "ConvNetW32", device=device, stack=stack)]


def test_soft_labels_and_several_sets_come_to_the_cpus_scores(tmp_path: Path) -> None:
    told = call(others, tmp_path)
    assert not told.problems
    for on_cuda, on_cpu in told.json:
        assert near(on_cuda, on_cpu), told.json


def others() -> list[tuple[list[float], list[float]]]:
    soft = soft_scores("cpu", False)
    sets = [accuracy for of_set in several_sets("cpu", None) for accuracy in of_set]
    return [
        *((soft_scores(CUDA, stack), soft) for stack in (False, True)),
        *(([score for of_set in several_sets(CUDA, stack) for score in of_set], sets) for stack in (False, None)),
    ]


def whitened(device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(48, 48, generator=generator)
    whitening = Whitening(torch.rand(48, generator=generator), matrix + matrix.T)
    view = View("x", ("a", "b"), 3, 4, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), whitening)
    images = torch.randint(256, (5, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return normalised(images.to(device), view).cpu()


def gradients(device: str) -> list[list[float]]:
    """GraDN over fresh networks: of each sample, and of all together."""
    view = View("stripes", ("a", "b", "c"), 1, 16, (0.0,), (1.0,))
    images, labels = stripes(20, 1)
    networks = [network.to(device) for network in judges.fresh("ConvNetW32", 1, len(view.classes), 16, 2, 0)]
    logits = torch.nn.functional.one_hot(labels, 3).float()
    return [
        by_network(images, labels, networks).flatten().tolist(),
        by_network(images, logits, networks).flatten().tolist(),
        [together(network, images, labels) for network in networks],
    ]


def views_and_difficulty() -> tuple[bool, list[list[list[float]]]]:
    return whitened(CUDA).equal(whitened("cpu")), [gradients(CUDA), gradients("cpu")]


def test_views_and_difficulty_are_the_cpus(tmp_path: Path) -> None:
    told = call(views_and_difficulty, tmp_path)
    same, found = told.json
    assert same
    for on_cuda, on_cpu in zip(*found, strict=True):
        torch.testing.assert_close(torch.tensor(on_cuda), torch.tensor(on_cpu))
    assert not told.problems


# By command


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A distilled set that is made of noise."""
    images = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    view = View("digits", tuple("0123456789"), 1, 28, (0.2,), (0.3,))
    found = DistilledSet(images, distilled.hard_labels(10, 1), view, SHORT)
    distilled.save(found, tmp_path / "digits.safetensors")
    return tmp_path / "digits.safetensors"


def test_commands_use_the_device_that_they_are_told(digits: Path, tmp_path: Path) -> None:
    words = ("-m", "sdc", "evaluate", digits, "--dataset", "digits", "--model", "ConvNetW32", "--json")
    on_cuda, on_cpu = (run(tmp_path, *words, SDC_DEVICE=device) for device in (CUDA, "cpu"))
    assert [report["devices"] for report in on_cuda.reports] == [["0"]]
    assert on_cpu.reports[0]["devices"] == []
    assert on_cpu.reports[0]["counts"]["launches"] == 0
    assert not on_cuda.problems
    (one, other) = ([score["accuracy"] for score in told.json["accuracy"]] for told in (on_cuda, on_cpu))
    assert near(one, other)


def test_difficulty_by_command_is_the_cpus(digits: Path, tmp_path: Path) -> None:
    words = ("-m", "sdc", "difficulty", digits, "--networks", "fresh", "--model", "ConvNetW32", "--count", 2, "--json")
    on_cuda, on_cpu = (run(tmp_path, *words, SDC_DEVICE=device) for device in (CUDA, "cpu"))
    assert [report["devices"] for report in on_cuda.reports] == [["0"]]
    assert not on_cuda.problems
    assert on_cuda.json == on_cpu.json
